"""Blocked buyers: whom a block covers, how soon a process knows it, what the blocked are told, what a repeat gets."""

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.orders.services import flash_placement
from apps.orders.services.flash_placement import place_flash_order
from apps.orders.services.flash_queue import QueueDrain, buy_in_sale, ticket_view
from apps.promotions.domain import Blocklist, SaleMode
from apps.promotions.errors import BuyerBlocked, SaleRefused
from apps.promotions.models import BuyerBlock
from apps.promotions.selectors import blocks, forget_cached
from apps.promotions.services import block_buyer, lift_block, ticket_text
from apps.promotions.services import blocks as module
from tests.factories.orders import Buyer, make_buyer
from tests.factories.promotions import buy, flash_request, make_sale, sold

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

ADA = 1


@pytest.fixture(autouse=True)
def _look_again() -> Iterator[None]:
    flash_placement.forget_sold_out()
    forget_cached()
    module.forget()
    yield
    module.forget()


def block(*, sale_id: int | None = None, user_id: int | None = None, network: str = "") -> int:
    return block_buyer(user_id=user_id, network=network, sale_id=sale_id, reason="a bot", by=ADA, now=timezone.now())


@pytest.mark.parametrize(
    ("blocked", "address", "covers"),
    [
        ((None, None, "203.0.113.0/24"), "203.0.113.77", True),
        ((None, None, "203.0.113.0/24"), "203.0.114.1", False),
        ((None, None, "203.0.113.0/24"), "::ffff:203.0.113.77", True),
        ((None, None, "203.0.113.7/32"), "203.0.113.7", True),
        ((None, None, "2001:db8::/48"), "2001:db8:0:9::1", True),
        ((None, None, "2001:db8::/48"), "2001:db8:1::1", False),
        ((None, None, "2001:db8::/48"), "32.1.13.184", False),
        ((None, None, "203.0.113.0/24"), "", False),
        ((None, None, "203.0.113.0/24"), "unix:", False),
        ((5, None, "203.0.113.0/24"), "203.0.113.7", True),
        ((6, None, "203.0.113.0/24"), "203.0.113.7", False),
        ((None, 9, ""), "", True),
        ((5, 9, ""), "", True),
        ((6, 9, ""), "", False),
        ((None, 8, ""), "", False),
    ],
)
def test_what_a_block_covers(blocked, address, covers):
    others = [(None, 7, ""), (None, None, "198.51.100.0/24"), (None, None, "2001:db8:ffff::/64")]
    assert Blocklist([*others, blocked]).covers(sale_id=5, user_id=9, address=address) is covers
    assert not Blocklist().covers(sale_id=5, user_id=9, address=address)


def test_a_blocked_user_buys_nothing_until_the_block_is_lifted():
    sale, other, buyer = make_sale(), make_sale(), make_buyer()
    block_id = block(user_id=buyer.user_id, sale_id=sale.id)
    with pytest.raises(BuyerBlocked) as refused:
        buy(sale, buyer)
    assert (refused.value.status, refused.value.code) == (403, "permission_denied")
    buy(other, buyer)
    buy(sale, make_buyer())
    assert sold(sale) == 1

    assert lift_block(block_id, by=ADA, now=timezone.now())
    assert not lift_block(block_id, by=ADA, now=timezone.now())
    module.refresh()
    buy(sale, buyer)


def test_a_blocked_network_buys_nothing_in_any_sale():
    sale, buyer = make_sale(), make_buyer()
    block(network="203.0.113.9/24")
    request = flash_request(sale, buyer, address="203.0.113.200")
    with pytest.raises(BuyerBlocked):
        place_flash_order(request, now=timezone.now())
    buy(sale, buyer)  # from elsewhere


def test_a_process_holds_what_it_has_read_and_reads_again_every_second(django_assert_num_queries):
    """The negative control of the bound: without the refresh the old list would hold for ever."""
    sale, buyer = make_sale(), make_buyer()
    module.refresh()
    block(user_id=buyer.user_id)
    with django_assert_num_queries(0, using="promotions"):
        module.check_not_blocked(sale.id, user_id=buyer.user_id, address="")
    assert module._refreshing.interval_s <= 1.0
    module._refreshing._fn()
    with django_assert_num_queries(0, using="promotions"), pytest.raises(BuyerBlocked):
        module.check_not_blocked(sale.id, user_id=buyer.user_id, address="")


def test_a_repeat_of_an_order_placed_before_the_block_gets_its_first_answer():
    sale, buyer = make_sale(per_user_limit=5), make_buyer()
    request = flash_request(sale, buyer, key="again")
    first = place_flash_order(request, now=timezone.now()).order
    block(user_id=buyer.user_id)
    module.refresh()
    assert place_flash_order(request, now=timezone.now()).order.id == first.id
    with pytest.raises(BuyerBlocked):
        buy(sale, buyer)


def test_a_user_who_was_queued_before_the_block_is_refused_by_the_drain():
    sale = make_sale(mode=SaleMode.QUEUED)
    bot, human = make_buyer(shard=0), make_buyer(shard=0)
    tickets = {each: buy_in_sale(flash_request(sale, each), now=timezone.now()).ticket for each in (bot, human)}
    block(user_id=bot.user_id)
    module.refresh()
    QueueDrain(sale.id, "shard_0").run(stop_at=float("inf"))

    def view(buyer: Buyer):
        return ticket_view(ticket_text(tickets[buyer]), user_id=buyer.user_id, now=timezone.now())

    assert (view(bot).status, view(bot).code) == ("refused", "permission_denied")
    assert view(human).status == "ordered"


@pytest.mark.parametrize(
    ("whom", "message"),
    [
        ({}, "either a user or a network"),
        ({"user_id": 1, "network": "203.0.113.1"}, "either a user or a network"),
        ({"network": "203.0.113"}, "no address or network"),
        ({"network": "0.0.0.0/0"}, "too wide"),
        ({"network": "2001::/15"}, "too wide"),
    ],
)
def test_a_block_that_makes_no_sense_is_refused(whom, message):
    with pytest.raises(SaleRefused, match=message):
        block(**whom)
    with pytest.raises(SaleRefused, match="Say why"):
        block_buyer(user_id=1, sale_id=None, reason=" ", by=ADA, now=timezone.now())
    assert not BuyerBlock.objects.exists()


def test_a_block_is_kept_once_and_its_record_stays():
    first = block(network="203.0.113.9")
    assert block(network="203.0.113.9/32") == first
    lift_block(first, by=2, now=timezone.now())
    second = block(network="203.0.113.9")
    assert [(each.id, each.network, each.reason, each.lifted_by) for each in blocks(limit=9)] == [
        (second, "203.0.113.9/32", "a bot", None),
        (first, "203.0.113.9/32", "a bot", 2),
    ]
    with pytest.raises(IntegrityError), transaction.atomic(using="promotions"):
        BuyerBlock.objects.filter(id=second).update(user_id=1)


def test_no_more_are_in_force_than_a_process_should_hold(monkeypatch):
    monkeypatch.setattr(module, "MAX_BLOCKS", 2)
    block(user_id=1)
    block(user_id=2)
    with pytest.raises(SaleRefused, match="lift some"):
        block(user_id=3)
