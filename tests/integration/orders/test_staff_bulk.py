"""Many orders at once: counted, confirmed, done one by one over both shards, taken up again after a kill."""

from datetime import timedelta

import pytest
from django.conf import settings
from django.db import OperationalError
from django.utils import timezone

from apps.orders.selectors import find_order
from apps.orders.services.address import correct_address
from apps.orders.services.cancellation import cancel_order_as_staff
from apps.orders.staff import bulk as bulk_page
from infra.staff import bulk
from infra.staff.bulk import bulk_kinds, count_bulk, run_bulk_jobs, start_bulk
from infra.staff.models import BulkItem, BulkJob, StaffAction
from tests.factories.orders import make_buyer, make_sku, placed_order
from tests.factories.staff import logged_in, make_operator, make_superuser

pytestmark = [
    pytest.mark.django_db(databases=list(settings.DATABASES)),
    pytest.mark.usefixtures("staff_site"),
]


@pytest.fixture
def orders():
    return [placed_order(make_buyer(shard=number % 2), [(make_sku(), 1)]) for number in range(3)]


def status_of(order) -> str:
    return find_order(order.id).status


def states(job) -> list[str]:
    return list(BulkItem.objects.filter(job_id=job.id).order_by("id").values_list("state", flat=True))


def started(orders) -> BulkJob:
    kind = bulk_kinds()["order-cancel"]
    job = count_bulk(make_superuser("ann"), kind=kind, target_ids=[each.id for each in orders], now=timezone.now())
    start_bulk(job, reason="recall")
    return job


def test_orders_are_counted_confirmed_and_done_one_by_one(staff, orders):
    # given three orders, one of which is cancelled, and a number that is none
    cancel_order_as_staff(order_id=orders[0].id, reason="", actor="staff:1", now=timezone.now())
    numbers = "\n".join(str(order.id) for order in orders) + f", 17 {orders[1].id}"
    answer = staff.post("/admin/bulk/", {"kind": "order-cancel", "numbers": numbers})
    job = BulkJob.objects.get()
    assert answer.headers["Location"] == f"/admin/bulk/{job.id}/"
    assert states(job) == ["unfit", "waiting", "waiting", "unfit"]
    assert "2 orders. Nothing has been done yet" in staff.get(f"/admin/bulk/{job.id}/").content.decode()
    assert run_bulk_jobs(now=timezone.now()) == 0

    # when it is started, and one of the orders has moved on meanwhile
    correct_address(order_id=orders[2].id, changes={"city": "Leeds"}, actor="staff:1", now=timezone.now())
    token = staff.get(f"/admin/bulk/{job.id}/").content.decode().split('name="token" value="')[1][:32]
    staff.post(f"/admin/bulk/{job.id}/", {"token": token, "reason": "recall"})
    assert run_bulk_jobs(now=timezone.now()) == 2

    # then each has its own result
    assert states(job) == ["unfit", "done", "refused", "unfit"]
    assert [status_of(order) for order in orders] == ["cancelled", "cancelled", "pending_payment"]
    assert "changed since it was counted" in staff.get(f"/admin/bulk/{job.id}/").content.decode()
    assert BulkJob.objects.get().state == "done"
    assert StaffAction.objects.get(target=f"order:{orders[1].id}").reason == "recall"
    assert (
        "started before"
        in staff.post(f"/admin/bulk/{job.id}/", {"token": token[::-1], "reason": "again"}, follow=True).content.decode()
    )


def test_a_killed_worker_s_item_is_taken_up_again_and_the_rest_goes_on(orders):
    # given a worker that died with the first item begun
    job, now = started(orders), timezone.now()
    first = BulkItem.objects.filter(job_id=job.id).order_by("id")[0]
    assert bulk._take(first, now=now)

    # then others leave it alone at first, and take it up after a while
    assert run_bulk_jobs(now=now) == 2
    assert states(job) == ["begun", "done", "done"]
    assert run_bulk_jobs(now=now + timedelta(seconds=200)) == 1
    assert states(job) == ["done", "done", "done"]
    assert run_bulk_jobs(now=now) == 0


def test_an_item_is_done_by_one_worker(orders):
    job, now = started(orders), timezone.now()
    first, again = (BulkItem.objects.filter(job_id=job.id).order_by("id")[0] for _ in range(2))
    assert bulk._take(first, now=now)
    assert not bulk._take(again, now=now)


def test_a_shard_that_is_away_holds_the_job_up_and_loses_nothing(orders, monkeypatch):
    job = started(orders)
    tell_story = bulk_page.tell_story

    def away(order_id):
        raise OperationalError(2003, "no server")

    monkeypatch.setattr(bulk_page, "tell_story", away)
    assert run_bulk_jobs(now=timezone.now()) == 0
    assert states(job) == ["waiting"] * 3
    monkeypatch.setattr(bulk_page, "tell_story", tell_story)
    assert run_bulk_jobs(now=timezone.now()) == 3


def test_who_lost_the_permission_has_nothing_more_done(orders):
    user = make_operator("cancel_order", username="joe")
    kind = bulk_kinds()["order-cancel"]
    job = count_bulk(user, kind=kind, target_ids=[orders[0].id], now=timezone.now())
    start_bulk(job, reason="x")
    user.user_permissions.clear()
    run_bulk_jobs(now=timezone.now())
    assert states(job) == ["refused"]
    assert status_of(orders[0]) == "pending_payment"


@pytest.mark.parametrize("numbers", ["", "x", "1 2 x3", "9" * 20, ",".join(str(n) for n in range(1, 1102))])
def test_numbers_that_make_no_sense_are_told(staff, numbers):
    answer = staff.post("/admin/bulk/", {"kind": "order-cancel", "numbers": numbers})
    assert answer.status_code == 200
    assert "errorlist" in answer.content.decode()
    assert not BulkJob.objects.exists()


def test_a_job_is_its_owner_s_and_its_actions_those_of_the_role(staff, orders):
    job = started(orders)
    assert staff.get(f"/admin/bulk/{job.id}/").status_code == 404
    assert staff.get(f"/admin/bulk/{2**63}/").status_code == 404
    holder = logged_in(make_operator("bulk_orders", "hold_order", username="kim"))
    page = holder.get("/admin/bulk/").content.decode()
    assert "order-hold" in page
    assert "order-cancel" not in page
    refused = holder.post("/admin/bulk/", {"kind": "order-cancel", "numbers": str(orders[0].id)})
    assert refused.status_code == 200
