"""A second person's approval: asked for above the bounds, never given by whoever made the figures, void by an edit."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.orders.services.flash_sales import (
    approve_sale,
    extend_sale,
    pause_sale,
    publish_sale,
    raise_quota,
    resume_sale,
    sweep_sales,
    warm_up,
)
from apps.promotions.domain import Phase, approval_reasons
from apps.promotions.errors import SaleChanged, SaleNotFound, SalePaused, SaleRefused
from apps.promotions.models import FlashSale
from apps.promotions.selectors import forget_cached, get_sale
from apps.promotions.types import CONSOLE, Sale
from infra.dynamic.definitions import DEFINED
from tests.factories.orders import make_buyer, make_sku
from tests.factories.promotions import buy, counters_of, make_sale, sku_of

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

ADA, BOB, CYD = 1, 2, 3


@pytest.fixture(autouse=True)
def _bounds() -> Iterator[None]:
    forget_cached()
    yield
    for name in ("min_price_percent", "max_worth"):
        definition = DEFINED[f"flash_sales.approval.{name}"]
        definition.value = definition.default


def set_bound(name: str, value: int) -> None:
    DEFINED[f"flash_sales.approval.{name}"].value = value


def approve(sale: Sale, *, by: int) -> Sale:
    return approve_sale(sale.id, version=get_sale(sale.id).version, by=by, now=timezone.now())


@pytest.mark.parametrize(
    ("price", "quota", "percent", "worth", "reasons"),
    [
        ("3.00", 10, 30, 100, []),
        ("2.99", 10, 30, 100, ["A: 2.99 is 29 % of 10.00"]),
        ("0.01", 10, 0, 0, []),
        ("9.00", 11, 30, 100, ["the units are worth 110.00, more than 100"]),
        ("1.00", 11, 30, 100, ["A: 1.00 is 10 % of 10.00", "the units are worth 110.00, more than 100"]),
    ],
)
def test_the_bounds_on_price_and_worth(price, quota, percent, worth, reasons):
    terms = [("A", Decimal(price), Decimal("10.00"), quota)]
    assert approval_reasons(terms, min_price_percent=percent, max_worth=worth) == reasons


def test_a_sale_beyond_the_bounds_stays_a_draft_until_another_approves_it():
    sale = make_sale(price="1.00", by=ADA)  # of 9.00
    assert (sale.state, sale.awaits_approval, counters_of(sale)) == ("draft", True, (10, 0, 0))
    assert sale.phase(timezone.now()) == Phase.HIDDEN
    for refused in (warm_up, publish_sale, lambda sale_id, now: approve(sale, by=ADA)):
        with pytest.raises(SaleRefused):
            refused(sale.id, now=timezone.now())
    with pytest.raises(SaleNotFound):
        buy(sale, make_buyer())

    approved = approve(sale, by=BOB)

    assert (approved.state, approved.approved_by, counters_of(sale)) == ("running", BOB, (10, 0, 10))
    forget_cached()
    buy(sale, make_buyer())


def test_without_the_note_of_who_made_it_the_maker_could_approve():
    """The negative control: what refuses the maker is `shaped_by`, not who asks or how."""
    sale = make_sale(price="1.00", by=ADA)
    FlashSale.objects.filter(id=sale.id).update(shaped_by=[])
    assert approve(sale, by=ADA).state == "running"


def test_the_database_itself_lets_no_sale_run_that_awaits_approval():
    sale = make_sale(price="1.00", by=ADA)
    for state in ("scheduled", "running"):
        with pytest.raises(IntegrityError), transaction.atomic(using="promotions"):
            FlashSale.objects.filter(id=sale.id).update(state=state)
    FlashSale.objects.filter(id=sale.id).update(state="running", approved_by=BOB)


@pytest.mark.parametrize("edit", ["quota", "end"])
def test_an_edit_voids_the_approval_and_pauses_the_sale(edit):
    sale = approve(make_sale(price="1.00", quota=5, on_hand=20, by=ADA), by=BOB)
    now = timezone.now()

    if edit == "quota":
        raise_quota(sale.id, sku_of(sale), 9, by=BOB, now=now)
    else:
        extend_sale(sale.id, ends_at=sale.ends_at + timedelta(hours=1), by=BOB, now=now)

    edited = get_sale(sale.id)
    assert (edited.state, edited.awaits_approval, counters_of(sale)) == ("paused", True, (20, 0, 5))
    forget_cached()
    with pytest.raises(SalePaused):
        buy(sale, make_buyer())
    for refused in (lambda: approve(sale, by=BOB), lambda: resume_sale(sale.id, now=now)):
        with pytest.raises(SaleRefused):
            refused()
    assert approve(sale, by=ADA).state == "paused"  # whoever paused it may have had a second reason
    assert counters_of(sale) == (20, 0, 9 if edit == "quota" else 5)
    assert resume_sale(sale.id, now=now).state == "running"


def test_an_edit_within_the_bounds_changes_nothing_and_one_beyond_them_pauses():
    sale = make_sale(price="8.00", quota=5, on_hand=100, by=ADA)
    assert raise_quota(sale.id, sku_of(sale), 6, by=ADA, now=timezone.now()).state == "running"
    set_bound("max_worth", 60)
    assert raise_quota(sale.id, sku_of(sale), 7, by=ADA, now=timezone.now()).state == "paused"  # 63.00
    earlier = sale.ends_at - timedelta(seconds=60)
    assert extend_sale(sale.id, ends_at=earlier, by=CYD, now=timezone.now()).shaped_by == (ADA,)
    set_bound("max_worth", 0)
    assert not raise_quota(sale.id, sku_of(sale), 8, by=ADA, now=timezone.now()).awaits_approval


def test_nobody_approves_an_edit_of_theirs_among_those_of_others():
    sale = make_sale(price="1.00", on_hand=99, by=ADA)
    raise_quota(sale.id, sku_of(sale), 11, by=BOB, now=timezone.now())
    raise_quota(sale.id, sku_of(sale), 12, by=ADA, now=timezone.now())
    for by in (ADA, BOB):
        with pytest.raises(SaleRefused):
            approve(sale, by=by)
    assert approve(sale, by=CYD).state == "running"


def test_an_approval_is_of_what_was_looked_at():
    sale = make_sale(price="1.00", on_hand=99, by=ADA)
    raise_quota(sale.id, sku_of(sale), 90, by=ADA, now=timezone.now())
    with pytest.raises(SaleChanged):
        approve_sale(sale.id, version=sale.version, by=BOB, now=timezone.now())
    approve(sale, by=BOB)
    pause_sale(sale.id, now=timezone.now())
    with pytest.raises(SaleRefused, match="nothing to approve"):
        approve(sale, by=BOB)


def test_an_approved_draft_that_stock_is_too_small_for_can_be_published_later():
    sale = make_sale(price="1.00", on_hand=3, by=ADA)
    with pytest.raises(SaleRefused, match="more units"):
        approve(sale, by=BOB)
    approved = get_sale(sale.id)
    assert (approved.state, approved.approved_by) == ("draft", BOB)


def test_a_draft_that_nobody_approves_ends_as_cancelled():
    sale = make_sale(price="1.00", by=ADA, lasts_s=2.0)
    sweep_sales(now=timezone.now())
    assert get_sale(sale.id).state == "draft"
    sweep_sales(now=sale.ends_at)
    lapsed = get_sale(sale.id)
    assert (lapsed.state, lapsed.closed_at is not None) == ("cancelled", True)


@pytest.mark.parametrize("approves", [True, False])
def test_the_console_approves_for_itself_only_where_it_is_set_to(settings, approves):
    settings.FLASH_CONSOLE_APPROVES = approves
    sku = make_sku(5, price="9.00")
    out = StringIO()
    call_command("flash_sale", "create", *item(sku, price="0.50"), "--lasts", "60", stdout=out)
    sale = get_sale(int(out.getvalue().splitlines()[-1]))
    assert (sale.state, sale.approved_by) == (("running", CONSOLE) if approves else ("draft", None))
    assert ("until somebody approves it" in out.getvalue()) is not approves
    if not approves:
        assert approve(sale, by=ADA).state == "running"


def test_a_script_makes_a_sale_of_several_skus():
    skus = [make_sku(5, price="9.00") for _ in range(2)]
    out = StringIO()
    several = [*item(skus[0], price="8.00"), *item(skus[1], price="7.50", quota=3)]
    call_command("flash_sale", "create", *several, "--lasts", "60", "--mode", "queued", stdout=out)
    sale = get_sale(int(out.getvalue().splitlines()[-1]))
    assert [(each.sku, each.price, each.quota) for each in sale.items.values()] == sorted(
        [(skus[0], Decimal("8.00"), 5), (skus[1], Decimal("7.50"), 3)]
    )
    for uneven in (["--sku", skus[0]], ["--price", "1.00"]):
        with pytest.raises(CommandError, match="once for each SKU"):
            call_command("flash_sale", "create", *several, *uneven, "--lasts", "60", stdout=out)


def item(sku: str, *, price: str, quota: int = 5) -> list[str]:
    return ["--sku", sku, "--price", price, "--quota", str(quota), "--per-user-limit", "1"]
