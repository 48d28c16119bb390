"""Buying in a flash sale: the order, the limit, the clock, the token, the repeat, and what becomes of the units."""

import time
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone

from apps.orders.audit import flash
from apps.orders.services import flash_placement
from apps.orders.services.cancellation import cancel_order
from apps.orders.services.expiry import expire_orders
from apps.orders.services.flash_sales import (
    cancel_sale,
    end_sale,
    extend_sale,
    pause_sale,
    purge_sales,
    raise_quota,
    resume_sale,
    sweep_sales,
)
from apps.orders.services.stock import sync_due_stock, sync_stock_of
from apps.promotions import services as promotions
from apps.promotions.errors import (
    PurchaseLimitReached,
    PurchaseTokenInvalid,
    SaleEnded,
    SaleNotFound,
    SaleNotStarted,
    SalePaused,
    SaleRefused,
    SoldOut,
)
from apps.promotions.selectors import get_sale
from apps.promotions.services import issue_purchase_token
from apps.promotions.types import CONSOLE, Sale
from infra.errors import LimitReached, ValidationFailed
from infra.idempotency.errors import IdempotencyKeyReused
from tests.factories.inventory import counters
from tests.factories.orders import event_versions, expire_at, make_buyer, make_sku, outbox_of
from tests.factories.promotions import (
    allotments,
    bought,
    buy,
    counters_of,
    flash_request,
    held_orders,
    make_sale,
    pay,
    quotas,
    sku_of,
    sold,
    transfers_under_way,
)

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture(autouse=True)
def look_again() -> None:
    """Have nothing believed to be sold out because of an earlier test."""
    flash_placement.forget_sold_out()


def test_the_units_of_a_sale_leave_normal_stock_and_are_spread_over_the_shards():
    sale = make_sale(quota=7, on_hand=10)

    assert quotas(sale) == [4, 3]
    assert counters_of(sale) == (10, 0, 7)
    assert transfers_under_way(sale) == 0
    assert sale.state == "running"


def test_a_sale_of_more_than_there_is_is_refused_and_leaves_nothing_allotted():
    sku = make_sku(5)

    with pytest.raises(SaleRefused, match="needs 6"):
        make_sale(quota=6, sku=sku)

    assert counters(sku) == (5, 0)


@pytest.mark.parametrize("shard", [0, 1])
def test_an_order_is_written_whole_with_its_claim(shard):
    buyer = make_buyer(shard=shard)
    sale = make_sale(quota=10, per_user_limit=3, price="1.25")

    order = buy(sale, buyer, quantity=2)

    assert (order.status, order.total, order.items[0].title) == ("pending_payment", Decimal("2.50"), "Lantern")
    assert event_versions(order.id) == [(1, "placed")]
    assert outbox_of(order.id) == [(1, "order.placed")]
    assert allotments(sale)[settings.SHARD_ALIASES[shard]].sold == 2
    assert bought(sale, buyer) == 2
    assert counters_of(sale) == (10, 0, 10)


def test_the_same_request_again_gets_the_first_order_also_after_the_end():
    sale, buyer = make_sale(), make_buyer()
    request = flash_request(sale, buyer)
    first = flash_placement.place_flash_order(request, now=timezone.now())
    again = flash_placement.place_flash_order(request, now=timezone.now())
    assert end_sale(sale.id, now=timezone.now())
    after_the_end = flash_placement.place_flash_order(request, now=timezone.now())

    assert (again.replayed, after_the_end.replayed) == (True, True)
    assert first.order == again.order == after_the_end.order
    assert sold(sale) == 1


def test_the_same_key_for_another_body_is_refused():
    sale, buyer = make_sale(per_user_limit=2), make_buyer()
    buy(sale, buyer, key="k-1")

    with pytest.raises(IdempotencyKeyReused):
        buy(sale, buyer, key="k-1", quantity=2)


def test_nobody_gets_more_than_the_limit():
    sale, buyer = make_sale(per_user_limit=2), make_buyer()
    buy(sale, buyer)

    with pytest.raises(PurchaseLimitReached):
        buy(sale, buyer, quantity=2)
    buy(sale, buyer)
    with pytest.raises(PurchaseLimitReached):
        buy(sale, buyer)

    assert bought(sale, buyer) == sold(sale) == 2


def test_the_limit_of_unpaid_orders_holds_here_too(settings):
    settings.ORDER_MAX_OPEN_UNPAID = 1
    sale, buyer = make_sale(per_user_limit=5), make_buyer()
    buy(sale, buyer, exempt=False)

    with pytest.raises(LimitReached):
        buy(sale, buyer, exempt=False)

    assert sold(sale) == 1


def test_the_last_unit_is_sold_wherever_it_lies():
    sale = make_sale(quota=2)
    on_shard_0 = [make_buyer(shard=0) for _ in range(3)]

    orders = [buy(sale, buyer) for buyer in on_shard_0[:2]]

    assert len({order.id for order in orders}) == 2
    assert quotas(sale) == [2, 0]
    with pytest.raises(SoldOut):
        buy(sale, on_shard_0[2])
    with pytest.raises(SoldOut):
        buy(sale, make_buyer(shard=1))
    assert transfers_under_way(sale) == 0


def test_a_wish_larger_than_what_is_left_is_refused_and_a_smaller_one_served():
    sale = make_sale(quota=4, per_user_limit=4)
    buy(sale, make_buyer(shard=1), quantity=2)

    with pytest.raises(SoldOut):
        buy(sale, make_buyer(shard=0), quantity=3)
    buy(sale, make_buyer(shard=0), quantity=2)

    assert sold(sale) == 4


def test_nothing_is_sold_before_the_start_after_the_end_or_while_paused():
    buyer = make_buyer()
    early = make_sale(starts_in_s=60)
    with pytest.raises(SaleNotStarted):
        buy(early, buyer)

    sale = make_sale()
    pause_sale(sale.id, now=timezone.now())
    with pytest.raises(SalePaused):
        buy(sale, buyer)
    resume_sale(sale.id, now=timezone.now())
    buy(sale, buyer)
    end_sale(sale.id, now=timezone.now())
    with pytest.raises(SaleEnded):
        buy(sale, make_buyer())
    with pytest.raises(SaleNotFound):
        buy(sale, buyer, sale_id=1)


def test_a_worker_that_has_not_heard_of_the_end_sells_nothing(monkeypatch):
    sale = make_sale()
    monkeypatch.setattr(flash_placement, "find_sale", lambda sale_id: sale)
    end_sale(sale.id, now=timezone.now())

    with pytest.raises(SaleEnded):
        buy(sale, make_buyer())

    assert sold(sale) == 0


def test_an_unknown_sku_or_address_is_told_by_its_field():
    sale, buyer = make_sale(), make_buyer()

    with pytest.raises(ValidationFailed) as unknown_sku:
        buy(sale, buyer, sku="NOT-IN-THE-SALE")
    with pytest.raises(ValidationFailed) as unknown_address:
        buy(sale, buyer, address_id=1)

    assert [error.field for error in unknown_sku.value.errors] == ["/sku"]
    assert [error.field for error in unknown_address.value.errors] == ["/address_id"]


def test_a_sale_that_asks_for_a_token_takes_only_its_own_buyers():
    now = timezone.now()
    sale, other_sale = make_sale(token_required=True), make_sale(token_required=True)
    buyer, other = make_buyer(), make_buyer()
    token, expires_at = issue_purchase_token(sale, user_id=buyer.user_id, now=now)
    late = expires_at + timedelta(seconds=1)

    for wrong in (
        None,
        "",
        "x" * 500,
        token[:-1] + ("A" if token[-1] != "A" else "B"),
        issue_purchase_token(sale, user_id=other.user_id, now=now)[0],
        issue_purchase_token(other_sale, user_id=buyer.user_id, now=now)[0],
    ):
        with pytest.raises(PurchaseTokenInvalid):
            buy(sale, buyer, token=wrong)
    with pytest.raises(PurchaseTokenInvalid):
        flash_placement.check_flash_request(
            flash_request(sale, buyer, token=token),
            extend_sale(sale.id, ends_at=late + timedelta(1), by=CONSOLE, now=now),
            now=late,
        )
    assert buy(sale, buyer, token=token).status == "pending_payment"


def test_tokens_are_handed_out_from_the_start_on():
    now = timezone.now()
    sale = make_sale(starts_in_s=60, token_required=True, now=now)

    with pytest.raises(SaleNotStarted):
        issue_purchase_token(sale, user_id=1, now=sale.starts_at - timedelta(microseconds=1))
    assert issue_purchase_token(sale, user_id=1, now=sale.starts_at)[1] > sale.starts_at
    with pytest.raises(SaleEnded):
        issue_purchase_token(sale, user_id=1, now=sale.ends_at)


# -- what becomes of the units ----------------------------------------------------------------------------------------


def expire(order) -> None:
    expire_at(order.id, timezone.now() - timedelta(seconds=1))
    expire_orders(now=timezone.now())
    sync_due_stock(now=timezone.now())


def cancel(order) -> None:
    cancel_order(user_id=order.user_id, order_id=order.id, reason="", now=timezone.now())
    sync_due_stock(now=timezone.now())


@pytest.mark.parametrize("close", [expire, cancel])
def test_a_unit_that_is_not_paid_for_goes_back_to_the_running_sale_and_its_buyer_may_buy_again(close):
    sale, buyer = make_sale(quota=1), make_buyer()
    close(buy(sale, buyer))

    assert (sold(sale), bought(sale, buyer)) == (0, 0)
    assert counters_of(sale) == (1, 0, 1)
    flash_placement.forget_sold_out()
    assert buy(sale, buyer).status == "pending_payment"


@pytest.mark.parametrize("close", [expire, cancel])
def test_a_unit_that_comes_back_after_the_end_goes_to_normal_stock(close):
    sale = make_sale(quota=5)
    order, kept = buy(sale, make_buyer(shard=0)), buy(sale, make_buyer(shard=1))
    assert end_sale(sale.id, now=timezone.now())
    assert counters_of(sale) == (5, 0, 2)
    assert quotas(sale) == [1, 1]

    close(order)

    assert counters_of(sale) == (5, 0, 1)
    assert quotas(sale) == [0, 1]
    assert transfers_under_way(sale) == 0
    assert sync_stock_of([order.id, kept.id], now=timezone.now()).total == 2
    assert counters_of(sale) == (5, 0, 1)


def test_a_unit_that_comes_back_is_sold_once_the_sold_out_flag_is_over(settings):
    settings.FLASH_SOLD_OUT_S = 0.3
    sale = make_sale(quota=1)
    first = buy(sale, make_buyer(shard=0))
    with pytest.raises(SoldOut):
        buy(sale, make_buyer(shard=0))
    told_at = time.monotonic()
    cancel(first)
    sync_due_stock(now=timezone.now())
    key = "shard_0", (sale.id, sku_of(sale))
    assert flash_placement._sold_out_until[key] - told_at <= 0.3
    flash_placement._sold_out_until[key] = told_at + 60
    with pytest.raises(SoldOut):  # the negative control: while the flag holds, nobody looks
        buy(sale, make_buyer(shard=0))
    flash_placement._sold_out_until[key] = told_at
    buy(sale, make_buyer(shard=0))


def test_a_paid_unit_leaves_the_stock_once():
    sale = make_sale(quota=3, on_hand=10)
    order = buy(sale, make_buyer())
    pay(order)

    for _ in range(2):
        sync_stock_of([order.id], now=timezone.now())

    assert counters_of(sale) == (9, 0, 2)
    assert sold(sale) == sum(allotment.settled for allotment in allotments(sale).values()) == 1


def test_a_refunded_unit_goes_to_normal_stock_once():
    sale = make_sale(quota=3, on_hand=10)
    order = buy(sale, make_buyer())
    pay(order)
    sync_stock_of([order.id], now=timezone.now())

    cancel(order)
    sync_stock_of([order.id], now=timezone.now())

    assert counters_of(sale) == (10, 0, 2)


def test_an_end_settles_with_paid_orders_and_gives_the_rest_back():
    sale = make_sale(quota=6, on_hand=10)
    paid, unpaid = buy(sale, make_buyer(shard=0)), buy(sale, make_buyer(shard=1))
    pay(paid)
    sync_due_stock(now=timezone.now())

    assert end_sale(sale.id, now=timezone.now())

    assert counters_of(sale) == (9, 0, 1)
    assert get_sale(sale.id).state == "ended"
    assert get_sale(sale.id).closed_at is not None
    expire(unpaid)
    assert counters_of(sale) == (9, 0, 0)


def test_a_sale_whose_time_is_over_is_ended_by_the_sweep():
    sale = make_sale(quota=4, lasts_s=60)

    sweep_sales(now=sale.ends_at - timedelta(seconds=1))
    assert get_sale(sale.id).state == "running"
    sweep_sales(now=sale.ends_at)

    assert get_sale(sale.id).state == "ended"
    assert counters_of(sale) == (4, 0, 0)


def test_a_cancelled_sale_cancels_its_orders_and_refunds_what_was_paid():
    sale = make_sale(quota=6, on_hand=10)
    paid, unpaid = buy(sale, make_buyer(shard=0)), buy(sale, make_buyer(shard=1))
    pay(paid)
    sync_due_stock(now=timezone.now())

    assert cancel_sale(sale.id, now=timezone.now())
    sync_due_stock(now=timezone.now())

    assert event_versions(unpaid.id)[-1][1] == "cancelled"
    assert event_versions(paid.id)[-1][1] == "refunding"
    assert counters_of(sale) == (10, 0, 0)
    with pytest.raises(SaleEnded):
        buy(sale, make_buyer())


def test_a_quota_is_raised_and_an_end_moved_while_the_sale_runs():
    sale = make_sale(quota=2, on_hand=10)
    later = sale.ends_at + timedelta(seconds=60)

    raise_quota(sale.id, sku_of(sale), 5, by=CONSOLE, now=timezone.now())
    raise_quota(sale.id, sku_of(sale), 5, by=CONSOLE, now=timezone.now())
    extend_sale(sale.id, ends_at=later, by=CONSOLE, now=timezone.now())

    assert sum(quotas(sale)) == 5
    assert counters_of(sale) == (10, 0, 5)
    assert get_sale(sale.id).ends_at == later
    with pytest.raises(SaleRefused):
        raise_quota(sale.id, sku_of(sale), 4, by=CONSOLE, now=timezone.now())
    with pytest.raises(SaleRefused, match="more units"):
        raise_quota(sale.id, sku_of(sale), 50, by=CONSOLE, now=timezone.now())


def test_a_change_by_someone_who_read_an_older_version_is_refused():
    sale = make_sale()
    pause_sale(sale.id, now=timezone.now())

    with pytest.raises(SaleRefused):
        pause_sale(sale.id, now=timezone.now())
    end_sale(sale.id, now=timezone.now())
    with pytest.raises(SaleRefused):
        resume_sale(sale.id, now=timezone.now())


def closed_long_ago(sale: Sale) -> datetime:
    """Return a moment at which the retention of the sale's rows is over."""
    closed_at = get_sale(sale.id).closed_at
    assert closed_at is not None
    return closed_at + timedelta(days=settings.FLASH_SALE_RETENTION_DAYS, seconds=1)


def test_a_sale_that_was_closed_long_ago_is_cleared_and_its_orders_can_still_be_refunded():
    sale = make_sale(quota=4, on_hand=10)
    paid, unpaid = buy(sale, make_buyer(shard=0)), buy(sale, make_buyer(shard=1))
    pay(paid)
    sync_due_stock(now=timezone.now())
    end_sale(sale.id, now=timezone.now())
    later = closed_long_ago(sale)

    purge_sales(now=later - timedelta(seconds=2))
    assert sold(sale) == 2
    purge_sales(now=later)
    assert sold(sale) == 1, "an order of it is undecided on the other shard"
    expire(unpaid)
    purge_sales(now=later)

    assert (allotments(sale), held_orders(sale), transfers_under_way(sale)) == ({}, [], 0)
    assert counters_of(sale) == (9, 0, 0)
    cancel(paid)
    assert counters_of(sale) == (10, 0, 0)
    assert get_sale(sale.id).state == "ended"


def test_the_audit_leaves_a_sale_alone_while_it_is_being_cleared():
    sale = make_sale(quota=4)
    order = buy(sale, make_buyer(shard=0))
    pay(order)
    sync_due_stock(now=timezone.now())
    end_sale(sale.id, now=timezone.now())
    checks = (flash.sold_is_what_is_claimed, flash.purchases_are_what_is_claimed, flash.quotas_are_what_was_transferred)

    def findings() -> list[str]:
        return [
            finding.subject
            for check in checks
            for finding in check("shard_0", timezone.now())
            if str(sale.id) in finding.subject
        ]

    def delete_claims() -> None:
        with connections["shard_0"].cursor() as cursor:
            cursor.execute("DELETE FROM promotions_claim WHERE sale_id = %s", [sale.id])

    assert sale.id in set(promotions.begin_purge(now=closed_long_ago(sale)))
    delete_claims()
    assert findings() == []
    promotions.finish_purge(sale.id, now=timezone.now())
    assert len(findings()) == 2
    purge_again = promotions.purge_on_shard("shard_0", sale.id)
    assert purge_again
    assert findings() == []
