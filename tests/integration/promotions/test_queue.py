"""Sales that queue their buyers: the ticket, its place, its end, and what becomes of it when something dies."""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.conf import settings
from django.db import OperationalError, connections
from django.utils import timezone

from apps.orders.services import flash_placement, flash_queue
from apps.orders.services.flash_queue import QueueDrain, buy_in_sale, drain_queues, ticket_view
from apps.orders.services.flash_sales import cancel_sale, end_sale, pause_sale, sweep_sales
from apps.promotions import services as promotions
from apps.promotions.domain import SaleMode
from apps.promotions.errors import (
    PurchaseLimitReached,
    PurchaseTokenInvalid,
    QueueUnavailable,
    SaleEnded,
    SaleNotStarted,
    TicketNotFound,
)
from apps.promotions.selectors import forget_cached, get_sale
from apps.promotions.services import SaleQueue, ticket_text
from apps.promotions.services import queue as queue_service
from apps.promotions.types import QueuedRequest, QueuePlace, Sale, Ticket, TicketEnd
from infra.errors import OutcomeUnknown
from infra.idempotency.errors import IdempotencyKeyReused
from infra.sharding.places import place_of_user
from tests.concurrency.test_orders import at_once, buyers, told
from tests.factories.orders import Buyer, make_buyer
from tests.factories.promotions import (
    counters_of,
    flash_request,
    held_orders,
    make_sale,
    quotas,
    sold,
)

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture(autouse=True)
def look_again() -> None:
    flash_placement.forget_sold_out()
    forget_cached()


def queued_sale(**changes: Any) -> Sale:
    return make_sale(mode=SaleMode.QUEUED, **changes)


def draw_ticket(sale: Sale, buyer: Buyer, **changes: Any) -> QueuePlace:
    place = buy_in_sale(flash_request(sale, buyer, **changes), now=timezone.now())
    assert isinstance(place, QueuePlace)
    return place


def drain(sale: Sale) -> None:
    """Serve all that waits for this sale, as the task does."""
    flash_placement.forget_sold_out()
    forget_cached()
    for alias in settings.SHARD_ALIASES:
        QueueDrain(sale.id, alias).run(stop_at=time.monotonic() + 5)


def ask(buyer: Buyer, place: QueuePlace, *, after_s: float = 0.0) -> Any:
    now = timezone.now() + timedelta(seconds=after_s)
    return ticket_view(ticket_text(place.ticket), user_id=buyer.user_id, now=now)


def empty_the_queue(sale: Sale, tickets: Sequence[Ticket]) -> None:
    """Do what a Redis that has lost its memory does."""
    for alias in settings.SHARD_ALIASES:
        queue = SaleQueue(sale.id, alias)
        queue.forget()
        queue._call("delete", *(queue._ticket(ticket) for ticket in tickets))


@pytest.mark.parametrize("shard", [0, 1])
def test_a_buyer_gets_a_ticket_then_the_order(shard):
    sale, buyer = queued_sale(), make_buyer(shard=shard)

    place = draw_ticket(sale, buyer)

    assert (place.is_new, place.position) == (True, 1)
    assert (ask(buyer, place).status, ask(buyer, place).position) == ("waiting", 1)
    assert sold(sale) == 0
    drain(sale)
    view = ask(buyer, place)
    assert view.status == "ordered"
    assert held_orders(sale) == [view.order_id]
    assert SaleQueue(sale.id, place_of_user(buyer.user_id).alias).length() == 0


def test_places_are_in_order_of_arrival_and_move_up(settings):
    settings.FLASH_QUEUE_BATCH = 2
    sale = queued_sale(quota=5)
    people = [make_buyer(shard=0) for _ in range(5)]
    places = [draw_ticket(sale, buyer) for buyer in people]
    assert [place.position for place in places] == [1, 2, 3, 4, 5]

    QueueDrain(sale.id, "shard_0")._serve_batch()

    assert [ask(buyer, place).status for buyer, place in zip(people, places, strict=True)] == [
        *["ordered"] * 2,
        *["waiting"] * 3,
    ]
    assert ask(people[4], places[4]).position == 3


def test_a_repeat_gets_the_same_ticket_at_any_time():
    sale, buyer = queued_sale(), make_buyer()
    first = draw_ticket(sale, buyer, key="k-1")
    again = draw_ticket(sale, buyer, key="k-1")
    drain(sale)
    after_the_order = draw_ticket(sale, buyer, key="k-1")
    end_sale(sale.id, now=timezone.now())
    after_the_end = draw_ticket(sale, buyer, key="k-1")
    empty_the_queue(sale, [first.ticket])
    from_the_shard = draw_ticket(sale, buyer, key="k-1")

    for repeat in (again, after_the_order, after_the_end, from_the_shard):
        assert not repeat.is_new
        assert ticket_text(repeat.ticket) == ticket_text(first.ticket)
    assert sold(sale) == 1
    with pytest.raises(SaleEnded):
        draw_ticket(sale, buyer, key="k-2")


def test_the_same_key_for_another_body_is_refused():
    sale, buyer = queued_sale(per_user_limit=2), make_buyer()
    draw_ticket(sale, buyer, key="k-1")

    with pytest.raises(IdempotencyKeyReused):
        draw_ticket(sale, buyer, key="k-1", quantity=2)


def test_what_can_be_refused_at_once_is():
    buyer = make_buyer()
    with pytest.raises(SaleNotStarted):
        draw_ticket(queued_sale(starts_in_s=60), buyer)
    with pytest.raises(PurchaseLimitReached):
        draw_ticket(queued_sale(), buyer, quantity=2)
    with pytest.raises(PurchaseTokenInvalid):
        draw_ticket(queued_sale(token_required=True), buyer)


def test_a_token_that_was_good_when_the_ticket_was_drawn_is_not_asked_again():
    sale, buyer = queued_sale(token_required=True), make_buyer()
    token, _ = promotions.issue_purchase_token(sale, user_id=buyer.user_id, now=timezone.now())
    place = draw_ticket(sale, buyer, token=token)
    drain(sale)
    assert ask(buyer, place).status == "ordered"


def test_a_refusal_is_told_with_its_code():
    sale = queued_sale(quota=1, per_user_limit=1)
    first, second = make_buyer(shard=0), make_buyer(shard=0)
    places = {
        "ordered": (first, draw_ticket(sale, first)),
        "purchase_limit_reached": (first, draw_ticket(sale, first)),
        "sold_out": (second, draw_ticket(sale, second)),
        "validation_error": (second, draw_ticket(sale, second, address_id=1)),
    }

    drain(sale)

    told_as = {name: ask(buyer, place) for name, (buyer, place) in places.items()}
    assert {name: view.code or view.status for name, view in told_as.items()} == {name: name for name in places}


def test_a_ticket_is_its_owners_only():
    sale, buyer = queued_sale(), make_buyer()
    text = ticket_text(draw_ticket(sale, buyer).ticket)
    now = timezone.now()

    for wrong in ("", "x", text[:-1] + ("A" if text[-1] != "A" else "B"), "." + text, text * 9, "é"):
        with pytest.raises(TicketNotFound):
            ticket_view(wrong, user_id=buyer.user_id, now=now)
    with pytest.raises(TicketNotFound):
        ticket_view(text, user_id=make_buyer().user_id, now=now)
    with pytest.raises(TicketNotFound):
        ticket_view(text, user_id=buyer.user_id, now=now + timedelta(days=7, seconds=1))


def test_a_queue_whose_answer_is_lost_is_settled_by_the_key(monkeypatch):
    sale, buyer = queued_sale(), make_buyer()
    run = SaleQueue._run

    def answer_lost(queue: SaleQueue, *args: Any) -> Any:
        run(queue, *args)
        raise QueueUnavailable("Timeout reading from socket")

    with monkeypatch.context() as patch:
        patch.setattr(SaleQueue, "_run", answer_lost)
        with pytest.raises(OutcomeUnknown):
            draw_ticket(sale, buyer, key="k-1")
    place = draw_ticket(sale, buyer, key="k-1")
    drain(sale)

    assert not place.is_new
    assert (ask(buyer, place).status, sold(sale)) == ("ordered", 1)


def test_a_queue_that_is_away_is_told_as_such(monkeypatch):
    sale, buyer = queued_sale(), make_buyer()
    place = draw_ticket(sale, buyer)
    away = redis.Redis.from_url("redis://127.0.0.1:1/0")
    monkeypatch.setattr(queue_service, "_client", lambda: away)

    with pytest.raises(OutcomeUnknown):
        draw_ticket(sale, buyer)
    assert ask(buyer, place).status == "waiting"
    assert drain_queues().total == 0


# -- the end of a ticket ----------------------------------------------------------------------------------------------


def test_an_emptied_queue_leaves_no_ticket_open():
    sale, buyer = queued_sale(), make_buyer()
    place = draw_ticket(sale, buyer)
    empty_the_queue(sale, [place.ticket])

    assert ask(buyer, place).status == "waiting", "it may be on its way through a drain"
    lost = ask(buyer, place, after_s=settings.FLASH_TICKET_LOST_S + 1)

    assert (lost.status, lost.code) == ("refused", "overloaded")
    assert ask(buyer, place).status == "refused"


def test_a_drain_that_comes_after_the_refusal_places_nothing():
    sale, buyer = queued_sale(), make_buyer()
    place = draw_ticket(sale, buyer)
    alias = place_of_user(buyer.user_id).alias
    [(_, request)] = SaleQueue(sale.id, alias).read(10)
    assert request is not None
    queue_drain = QueueDrain(sale.id, alias)
    draft = queue_drain._draft(sale, request)
    promotions.end_each(alias, [TicketEnd(place.ticket, None, "overloaded")], now=timezone.now())

    flash_placement.commit_flash_orders(alias, [draft], now=timezone.now())

    assert sold(sale) == 0
    drain(sale)
    assert (ask(buyer, place).status, SaleQueue(sale.id, alias).length()) == ("refused", 0)


def test_without_the_row_of_the_ticket_a_late_drain_would_place_a_refused_order(monkeypatch):
    """Negative control: the order does not end its ticket."""
    sale, buyer = queued_sale(), make_buyer()
    place = draw_ticket(sale, buyer)
    alias = place_of_user(buyer.user_id).alias
    [(_, request)] = SaleQueue(sale.id, alias).read(10)
    assert request is not None
    draft = QueueDrain(sale.id, alias)._draft(sale, request)
    promotions.end_each(alias, [TicketEnd(place.ticket, None, "overloaded")], now=timezone.now())
    monkeypatch.setattr(flash_placement, "_end_tickets", lambda alias, drafts, *, now: None)

    flash_placement.commit_flash_orders(alias, [draft], now=timezone.now())

    assert (sold(sale), ask(buyer, place).status) == (1, "refused")


def test_a_refusal_that_comes_after_the_order_changes_nothing():
    sale, buyer = queued_sale(), make_buyer()
    place = draw_ticket(sale, buyer)
    drain(sale)
    alias = place_of_user(buyer.user_id).alias
    other = Ticket(sale.id, buyer.user_id, b"\1" * 32, place.ticket.issued_ms)

    promotions.end_each(
        alias, [TicketEnd(place.ticket, None, "overloaded"), TicketEnd(other, None, "sold_out")], now=timezone.now()
    )

    assert ask(buyer, place).status == "ordered"
    assert ticket_view(ticket_text(other), user_id=buyer.user_id, now=timezone.now()).code == "sold_out"


@pytest.mark.parametrize("step", ["before the drop", "before the commit"])
def test_a_drain_that_dies_is_taken_over_and_makes_no_second_order(step, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*args: Any, **kwargs: Any) -> Any:
        raise Killed

    sale, buyer = queued_sale(), make_buyer(shard=0)
    place = draw_ticket(sale, buyer)
    with monkeypatch.context() as patch:
        if step == "before the drop":
            patch.setattr(SaleQueue, "drop", die)
        else:
            patch.setattr(flash_queue, "commit_flash_orders", die)
        with pytest.raises(Killed):
            QueueDrain(sale.id, "shard_0").run(stop_at=time.monotonic() + 5)

    drain(sale)
    drain(sale)

    assert (ask(buyer, place).status, sold(sale), len(held_orders(sale))) == ("ordered", 1, 1)


def test_a_queue_is_drained_by_one_at_a_time():
    sale, buyer = queued_sale(), make_buyer(shard=0)
    place = draw_ticket(sale, buyer)
    queue = SaleQueue(sale.id, "shard_0")
    assert queue.lease("another")

    drain(sale)
    assert ask(buyer, place).status == "waiting"
    queue.release("somebody else")
    drain(sale)
    assert ask(buyer, place).status == "waiting"
    queue.release("another")
    drain(sale)
    assert ask(buyer, place).status == "ordered"


def test_a_shard_that_is_away_keeps_its_queue(monkeypatch):
    sale, buyer = queued_sale(), make_buyer(shard=1)
    place = draw_ticket(sale, buyer)

    def away(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError(2002, "Can't connect")

    with monkeypatch.context() as patch:
        patch.setattr(flash_queue, "commit_flash_orders", away)
        assert QueueDrain(sale.id, "shard_1").run(stop_at=time.monotonic() + 5)["again"] == 1
    drain(sale)

    assert ask(buyer, place).status == "ordered"


def test_a_paused_sale_serves_nobody_until_it_goes_on():
    sale, buyer = queued_sale(), make_buyer()
    place = draw_ticket(sale, buyer)
    pause_sale(sale.id, now=timezone.now())
    drain(sale)
    assert ask(buyer, place).status == "waiting"


def test_an_entry_that_cannot_be_read_holds_up_nobody():
    sale, buyer = queued_sale(), make_buyer(shard=0)
    queue = SaleQueue(sale.id, "shard_0")
    queue._call("xadd", queue._stream, {"e": b"\xc1"})
    place = draw_ticket(sale, buyer)
    drain(sale)
    assert (ask(buyer, place).status, queue.length()) == ("ordered", 0)


def test_who_was_queued_before_the_end_is_served_after_it():
    sale = queued_sale(quota=2, lasts_s=60)
    buyer, late = make_buyer(shard=0), make_buyer(shard=0)
    place = draw_ticket(sale, buyer)

    sweep_sales(now=sale.ends_at + timedelta(seconds=1))
    assert get_sale(sale.id).state == "running"
    drain(sale)
    sweep_sales(now=sale.ends_at + timedelta(seconds=2))

    assert ask(buyer, place).status == "ordered"
    assert get_sale(sale.id).state == "ended"
    assert counters_of(sale) == (2, 0, 1)
    with pytest.raises(SaleEnded):
        buy_in_sale(flash_request(sale, late), now=sale.ends_at)


@pytest.mark.parametrize("stop", [end_sale, cancel_sale])
def test_who_waits_when_a_sale_is_stopped_is_refused_and_the_sale_closes(stop):
    sale, buyer, aliases = queued_sale(quota=4), make_buyer(), settings.SHARD_ALIASES
    place = draw_ticket(sale, buyer)

    assert not stop(sale.id, now=timezone.now()), "somebody waits"
    drain(sale)
    sweep_sales(now=timezone.now())

    assert (ask(buyer, place).status, ask(buyer, place).code) == ("refused", "sale_ended")
    assert get_sale(sale.id).closed_at is not None
    assert all(SaleQueue(sale.id, alias)._call("keys", f"*flash:{sale.id}:{alias}:stream") == [] for alias in aliases)
    assert (sum(quotas(sale)), counters_of(sale)) == (0, (4, 0, 0))


def test_every_ticket_has_ended_a_minute_after_the_sale():
    sale, buyer = queued_sale(lasts_s=60), make_buyer()
    place = draw_ticket(sale, buyer)
    after_s = (sale.ends_at - timezone.now()).total_seconds() + 59

    view = ask(buyer, place, after_s=after_s)

    assert (view.status, view.code) == ("refused", "sale_ended")


@pytest.mark.parametrize("batch", [8, 128])
def test_a_rush_on_a_queue_sells_exactly_the_quota_and_tells_everyone_else(batch, settings):
    settings.FLASH_QUEUE_BATCH = batch
    sale, people = queued_sale(quota=20), buyers(60)

    places = at_once([lambda buyer=buyer: draw_ticket(sale, buyer) for buyer in people])
    assert told(places) == {"QueuePlace": 60}
    at_once([lambda: drain(sale)] * 4)
    for _ in range(10):
        drain(sale)

    views = [ask(buyer, place) for buyer, place in zip(people, places, strict=True)]
    assert sorted({view.code or view.status for view in views}) == ["ordered", "sold_out"]
    assert sum(view.status == "ordered" for view in views) == sold(sale) == len(held_orders(sale)) == 20


def test_old_tickets_are_forgotten():
    sale, buyer = queued_sale(), make_buyer()
    place = draw_ticket(sale, buyer)
    drain(sale)
    alias = place_of_user(buyer.user_id).alias

    promotions.purge_tickets(alias, now=timezone.now())
    assert ask(buyer, place).status == "ordered"
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "UPDATE promotions_ticket SET ended_at = ended_at - INTERVAL 8 DAY WHERE user_id = %s", [buyer.user_id]
        )
    assert promotions.purge_tickets(alias, now=timezone.now()) == 1


def test_an_entry_is_read_as_it_was_written():
    request = QueuedRequest(Ticket(2**62, 2**62 + 1, b"\0\xff" * 16, 1_800_000_000_000), b"\1" * 32, "A-1", 3, 9, True)
    assert queue_service._decode(queue_service._encode(request)) == request
