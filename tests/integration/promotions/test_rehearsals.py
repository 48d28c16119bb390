"""Rehearsals: a sale that runs through everything with its testers, that nobody else sees, and that takes all back."""

from io import StringIO

import pytest
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

from apps.orders.selectors import get_order
from apps.orders.services import flash_placement
from apps.orders.services.flash_queue import QueueDrain, buy_in_sale, ticket_view
from apps.orders.services.flash_sales import end_sale, wind_up
from apps.orders.services.stock import sync_due_stock, sync_stock_of
from apps.promotions.api.reads import shown_sale
from apps.promotions.domain import SaleMode
from apps.promotions.errors import SaleNotFound, SaleRefused
from apps.promotions.selectors import forget_cached, get_sale, listed_sales
from apps.promotions.services import ticket_text
from tests.factories.orders import make_buyer, make_sku
from tests.factories.promotions import bought, buy, counters_of, flash_request, make_sale, pay

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))


@pytest.fixture(autouse=True)
def _look_again() -> None:
    flash_placement.forget_sold_out()
    forget_cached()


def test_nobody_but_its_testers_sees_or_buys():
    tester, other = make_buyer(), make_buyer()
    sale, real = make_sale(testers=(tester.user_id,)), make_sale()
    now = timezone.now()
    for who in (None, other.user_id):
        with pytest.raises(SaleNotFound):
            shown_sale(str(sale.id), user_id=who, now=now)
    assert shown_sale(str(sale.id), user_id=tester.user_id, now=now).id == sale.id
    assert {each.id for each in listed_sales()} & {sale.id, real.id} == {real.id}
    with pytest.raises(SaleNotFound):
        buy(sale, other)
    with pytest.raises(SaleNotFound):
        buy_in_sale(flash_request(sale, other), now=now)
    buy(sale, tester)


def test_its_orders_are_taken_back_at_the_end_paid_or_not():
    testers = [make_buyer(shard=shard) for shard in (0, 1)]
    sale = make_sale(quota=6, on_hand=10, testers=tuple(each.user_id for each in testers))
    paid, unpaid = (buy(sale, each) for each in testers)
    pay(paid)
    sync_stock_of([paid.id], now=timezone.now())
    assert counters_of(sale) == (9, 0, 5)

    assert end_sale(sale.id, now=timezone.now())
    sync_due_stock(now=timezone.now())

    assert counters_of(sale) == (10, 0, 0)
    assert get_order(user_id=paid.user_id, order_id=paid.id).status == "refunding"
    assert get_order(user_id=unpaid.user_id, order_id=unpaid.id).status == "cancelled"
    assert bought(sale, testers[1]) == 0
    assert get_sale(sale.id).state == "ended"


def test_a_real_sale_keeps_its_orders_at_the_end():
    """The negative control: what takes orders back is that the sale is a rehearsal."""
    sale = make_sale(quota=6, on_hand=10)
    order = buy(sale, make_buyer())
    end_sale(sale.id, now=timezone.now())
    sync_due_stock(now=timezone.now())
    assert counters_of(sale) == (10, 0, 1)
    assert get_order(user_id=order.user_id, order_id=order.id).status == "pending_payment"


def test_a_queued_rehearsal_ends_by_the_clock_and_takes_its_orders_back():
    tester = make_buyer(shard=0)
    sale = make_sale(mode=SaleMode.QUEUED, testers=(tester.user_id,), on_hand=10)
    ticket = buy_in_sale(flash_request(sale, tester), now=timezone.now()).ticket
    QueueDrain(sale.id, "shard_0").run(stop_at=float("inf"))
    view = ticket_view(ticket_text(ticket), user_id=tester.user_id, now=timezone.now())
    assert view.status == "ordered"

    assert wind_up(sale.id, now=sale.ends_at)
    sync_due_stock(now=sale.ends_at)

    assert get_order(user_id=tester.user_id, order_id=view.order_id).status == "cancelled"
    assert counters_of(sale) == (10, 0, 0)


def test_a_rehearsal_has_testers_and_a_real_sale_none():
    with pytest.raises(SaleRefused, match="testers"):
        make_sale(testers=())
    with pytest.raises(SaleRefused, match="testers"):
        make_sale(testers=tuple(range(1, 102)))


def test_a_script_makes_a_rehearsal():
    tester, sku, out = make_buyer(), make_sku(5, price="9.00"), StringIO()
    figures = ["--sku", sku, "--price", "5", "--quota", "2", "--per-user-limit", "1", "--lasts", "60"]
    call_command("flash_sale", "create", *figures, "--rehearse-with", str(tester.user_id), stdout=out)
    sale = get_sale(int(out.getvalue().splitlines()[-1]))
    assert (sale.rehearsal, sale.testers, sale.state) == (True, frozenset({tester.user_id}), "running")
