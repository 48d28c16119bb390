"""The staff's page of coupon templates, the command, and what is cleared in the end."""

from datetime import timedelta
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from apps.promotions.models import CouponTemplate, HeldCouponState
from apps.promotions.selectors import get_template
from apps.promotions.services import purge_claims, purge_coupons
from infra.sharding.places import place_of_user
from tests.factories.coupons import claim, claims_of, coupon_row, make_template
from tests.factories.orders import make_buyer
from tests.factories.staff import logged_in, make_operator

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))
LIST = "/admin/promotions/coupontemplate/"
ADD = LIST + "add/"


def form(**changes):
    now = timezone.now()
    values = {
        "name": "Spring",
        "kind": "percent",
        "currency": "GBP",
        "amount": "0",
        "percent": "10",
        "max_discount": "5.00",
        "threshold": "20",
        "categories": "[]",
        "products": "[7]",
        "skus": '["A1"]',
        "stackable": "on",
        "starts_at_0": f"{now:%Y-%m-%d}",
        "starts_at_1": f"{now:%H:%M:%S}",
        "ends_at_0": f"{now + timedelta(days=30):%Y-%m-%d}",
        "ends_at_1": "12:00:00",
        "valid_days": "7",
        "total_limit": "100",
        "per_user_limit": "1",
        "is_listed": "on",
        "reason": "the spring campaign",
    }
    return {name: value for name, value in (values | changes).items() if value is not None}


def test_a_template_is_made_with_who_and_why(staff: Client):
    assert staff.get(ADD).status_code == 200
    answer = staff.post(ADD, form())

    assert answer.status_code == 302, answer.context["errors"]
    [row] = CouponTemplate.objects.filter(name="Spring")
    assert (row.updated_by, row.reason, row.claimed_count) == ("mia", "the spring campaign", 0)
    template = get_template(row.id)
    assert (template.terms.products, template.terms.skus) == (frozenset({7}), frozenset({"A1"}))
    assert (template.left, template.valid_days, template.terms.stackable) == (100, 7, True)
    assert b"Spring" in staff.get(LIST, {"q": "Spring"}).content


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"percent": "0"}, "percent"),
        ({"kind": "amount"}, "amount"),
        ({"products": '["x"]'}, "products"),
        ({"skus": '{"a": 1}'}, "skus"),
        ({"reason": ""}, "reason"),
        ({"ends_at_0": "2020-01-01"}, "ends_at"),
        ({"currency": "EUR"}, "currency"),
        ({"total_limit": "0"}, "total_limit"),
    ],
)
def test_what_makes_no_sense_is_told_at_its_field(staff: Client, changes, field):
    answer = staff.post(ADD, form(**changes))

    assert answer.status_code == 200
    assert field in answer.context["adminform"].form.errors
    assert not CouponTemplate.objects.filter(name="Spring").exists()


def test_bounds_of_a_template_are_changed_and_its_terms_are_not(staff: Client):
    template = make_template(total_limit=5)
    for _ in range(2):
        claim(make_buyer().user_id, template)
    page = f"{LIST}{template.id}/change/"
    assert staff.get(page).status_code == 200
    changes = form(name="Autumn", kind=None, amount="99", total_limit="3", is_active=None, is_listed=None)

    assert staff.post(page, changes | {"reason": "too many"}).status_code == 302

    row = CouponTemplate.objects.get(id=template.id)
    assert (row.name, row.total_limit, row.is_active, row.is_listed) == ("Autumn", 3, False, False)
    assert (row.amount, row.claimed_count, row.reason) == (template.terms.amount, 2, "too many")

    refused = staff.post(page, changes | {"total_limit": "1"}, follow=True)
    assert b"2 have been claimed already" in refused.content
    assert CouponTemplate.objects.get(id=template.id).total_limit == 3


def test_templates_are_made_by_those_who_may_and_deleted_by_nobody(staff: Client):
    template = make_template()
    reader = logged_in(make_operator("view_coupontemplate"))

    assert reader.get(LIST).status_code == 200
    assert reader.get(ADD).status_code == 403
    assert staff.post(f"{LIST}{template.id}/delete/", {"post": "yes"}).status_code == 403


def run(*arguments: object) -> list[str]:
    out = StringIO()
    call_command("coupon", *map(str, arguments), stdout=out)
    return out.getvalue().splitlines()


def test_a_script_makes_grants_and_stops():
    buyer = make_buyer()

    template_id = run(
        "create", "--kind", "amount", "--amount", "5", "--sku", "A", "--stackable", "--total", 2, "--unlisted"
    )[-1]
    coupon_id = run("grant", template_id, buyer.user_id, "--reason", "sorry")[-1]

    template = get_template(int(template_id))
    assert (template.terms.skus, template.is_listed, template.left) == (frozenset({"A"}), False, 1)
    assert coupon_row(buyer.user_id, int(coupon_id)).state == HeldCouponState.HELD
    assert [row.reason for row in claims_of(template)] == ["sorry"]
    with pytest.raises(CommandError):
        run("grant", template_id, buyer.user_id)
    run("stop", template_id)
    assert not get_template(int(template_id)).is_active
    with pytest.raises(CommandError):
        run("create", "--kind", "percent", "--percent", "101")


def test_coupons_and_claims_are_cleared_long_after_their_end():
    buyer, old, young = make_buyer(), make_template(lasts_s=3600), make_template(lasts_s=10**7)
    coupons = [claim(buyer.user_id, template) for template in (old, young)]
    later = timezone.now() + timedelta(hours=2, days=settings.COUPON_RETENTION_DAYS)

    purge_coupons(place_of_user(buyer.user_id).alias, now=later)
    purge_claims(now=later)
    purge_claims(now=later)

    assert [coupon_row(buyer.user_id, coupon) is None for coupon in coupons] == [True, False]
    assert [len(claims_of(template)) for template in (old, young)] == [0, 1]
    assert CouponTemplate.objects.get(id=old.id).purged_at is not None
    assert CouponTemplate.objects.get(id=young.id).purged_at is None
