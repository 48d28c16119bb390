"""Much money is given back by two persons only, on the order that the first one looked at, and once."""

from decimal import Decimal

import pytest
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.orders.selectors import find_order
from apps.orders.staff import order_actions
from apps.orders.staff.order_actions import is_above_four_eyes
from infra.errors import InvalidState
from infra.staff.actions import new_token
from infra.staff.approvals import ask_approval, decide
from infra.staff.bulk import bulk_kinds, count_bulk
from infra.staff.models import Approval, BulkItem, StaffAction
from tests.factories.orders import make_buyer, make_sku, placed_order
from tests.factories.staff import confirm, logged_in, make_operator, make_superuser

pytestmark = [
    pytest.mark.django_db(databases=list(settings.DATABASES)),
    pytest.mark.usefixtures("staff_site"),
]


@pytest.fixture
def order(monkeypatch):
    """An order whose cancelling counts as giving much money back."""
    monkeypatch.setattr(settings, "STAFF_FOUR_EYES", {"GBP": Decimal(1)})
    action = order_actions.find_action("cancel")
    monkeypatch.setitem(
        order_actions._actions,
        "cancel",
        order_actions.OrderAction(
            **{
                **{name: getattr(action, name) for name in action.__dataclass_fields__},
                "asks_second": lambda story: is_above_four_eyes(story.order.total, story.order.currency),
            }
        ),
    )
    return placed_order(make_buyer(), [(make_sku(), 1)])


def status_of(order) -> str:
    return find_order(order.id).status


def answer_to(client, word="approve"):
    page = client.get("/admin/approvals/").content.decode()
    token = page.split('name="token" value="')[1][:32] if 'name="token"' in page else new_token()
    asked = {"approval": Approval.objects.get().id, "token": token, word: "1"}
    return client.post("/admin/approvals/", asked, follow=True)


def test_it_is_done_once_a_second_person_has_agreed(staff, order):
    # given somebody who asks
    assert "second person has to agree" in staff.get(f"/admin/orders/{order.id}/do/cancel/").content.decode()
    confirm(staff, f"/admin/orders/{order.id}/do/cancel/", reason="fraud")
    assert status_of(order) == "pending_payment"

    # then it is not they who can agree
    assert "Agree, and do it" not in staff.get("/admin/approvals/").content.decode()
    assert "Somebody else" in answer_to(staff).content.decode()
    assert status_of(order) == "pending_payment"

    # but somebody else can, once
    second = logged_in(make_superuser("cyd"))
    assert "is cancelled" in answer_to(second).content.decode()
    assert status_of(order) == "cancelled"
    assert "decided already" in answer_to(logged_in(make_superuser("dan"))).content.decode()
    kinds = list(StaffAction.objects.filter(target=f"order:{order.id}", outcome="done").values_list("kind", flat=True))
    assert sorted(kinds) == ["order.cancel", "order.cancel.approve"]


def test_what_is_rejected_is_not_done(staff, order):
    confirm(staff, f"/admin/orders/{order.id}/do/cancel/")
    answer_to(logged_in(make_superuser("cyd")), "reject")
    assert (status_of(order), Approval.objects.get().state) == ("pending_payment", "rejected")


def test_an_order_that_has_moved_on_is_left_alone(staff, order):
    confirm(staff, f"/admin/orders/{order.id}/do/cancel/")
    approval = Approval.objects.get()
    Approval.objects.update(version=approval.version + 1)
    assert "changed meanwhile" in answer_to(logged_in(make_superuser("cyd"))).content.decode()
    assert status_of(order) == "pending_payment"


def test_who_may_not_cancel_may_not_agree_to_it(staff, order):
    confirm(staff, f"/admin/orders/{order.id}/do/cancel/")
    other = logged_in(make_operator("approve_order_action", username="joe"))
    assert "Agree, and do it" not in other.get("/admin/approvals/").content.decode()
    assert answer_to(other).status_code == 403


def test_many_at_once_leave_it_to_its_own_page(order):
    job = count_bulk(
        make_superuser("ann"), kind=bulk_kinds()["order-cancel"], target_ids=[order.id], now=timezone.now()
    )
    assert BulkItem.objects.get(job_id=job.id).state == "unfit"


def test_the_database_refuses_one_person_s_two_words():
    ann, now = make_superuser("ann"), timezone.now()
    approval = ask_approval(ann, kind="cancel", target_id=1, version=1, reason="x", now=now)
    with pytest.raises(InvalidState):
        ask_approval(ann, kind="cancel", target_id=1, version=1, reason="x", now=now)
    with pytest.raises(IntegrityError), transaction.atomic(using="default"):
        Approval.objects.filter(id=approval.id).update(decided_by=ann.pk)
    decide(approval, make_superuser("cyd"), is_approved=True, now=now)
    with pytest.raises(InvalidState):
        decide(approval, make_superuser("dan"), is_approved=False, now=now)


def test_a_currency_without_a_bound_has_the_least(settings):
    settings.STAFF_FOUR_EYES = {"GBP": Decimal(100), "EUR": Decimal(50)}
    assert not is_above_four_eyes(Decimal(100), "GBP")
    assert is_above_four_eyes(Decimal("100.01"), "GBP")
    assert is_above_four_eyes(Decimal(51), "JPY")
    settings.STAFF_FOUR_EYES = {}
    assert not is_above_four_eyes(Decimal(10**6), "GBP")
