"""The reaper of holds, alone and killed between its own two commits."""

from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone

from apps.inventory import services as inventory
from apps.inventory.selectors import holds_of
from apps.orders.models import OrderKind
from apps.orders.selectors import states_of
from apps.orders.services import placement
from apps.orders.services.reaper import HoldReaper, reap_stale_holds
from infra.errors import OutcomeUnknown
from infra.sharding.places import place_of_user
from tests.factories.inventory import counters
from tests.factories.orders import complete_draft, make_buyer, make_sku, order_request, order_rows, placed_order

pytestmark = pytest.mark.usefixtures("committed")


def held_draft(*, shard=0, sku=None):
    """Claim the stock of an order and stop there, as a process does that is killed between its two commits."""
    request = order_request(make_buyer(shard=shard), [(sku or make_sku(5), 2)])
    draft = complete_draft(request)
    assert inventory.reserve([draft.claim], now=timezone.now()) == {draft.order.id: ()}
    return draft


def write(draft):
    placement._write(place_of_user(draft.order.user_id).alias, [draft], now=timezone.now())


def state(draft_or_order):
    order_id = getattr(draft_or_order, "order", draft_or_order).id
    return [hold.state for hold in holds_of("inventory", [order_id])]


def past_the_deadline():
    return timezone.now() + timedelta(seconds=settings.ORDER_WRITE_DEADLINE_S + 1)


@pytest.mark.parametrize("shard", [0, 1])
def test_a_hold_without_an_order_comes_back_behind_a_tombstone(shard):
    sku = make_sku(5)
    draft = held_draft(shard=shard, sku=sku)

    reap_stale_holds(now=timezone.now())
    assert state(draft) == ["held"]
    reap_stale_holds(now=past_the_deadline())

    assert (state(draft), counters(sku)) == (["released"], (5, 0))
    assert [row.status for row in order_rows(draft.order.id)] == ["void"]


def test_a_hold_is_back_within_sixty_seconds():
    intervals = [
        entry["schedule"] for name, entry in settings.CELERY_BEAT_SCHEDULE.items() if name == "orders.reap_holds"
    ]

    assert settings.ORDER_WRITE_DEADLINE_S + 2 * intervals[0] < 60


def test_the_hold_of_a_real_order_is_confirmed_and_never_released():
    sku = make_sku(5)
    order = placed_order(items=[(sku, 2)])

    for _ in range(2):
        reap_stale_holds(now=past_the_deadline())

    assert (state(order), counters(sku)) == (["confirmed"], (5, 2))


def test_what_stands_under_the_ids_of_a_shard_is_read_in_one_statement(django_assert_num_queries):
    orders = [placed_order(make_buyer(shard=0), items=[(make_sku(5), 1)]) for _ in range(3)]
    void = held_draft(shard=0)
    reap_stale_holds(now=past_the_deadline())
    ids = [order.id for order in orders] + [void.order.id, orders[0].id + 1]

    with django_assert_num_queries(1, connection=connections["shard_0"]):
        states = states_of(ids)

    assert states == {order.id: (OrderKind.REAL, "pending_payment", "none") for order in orders} | {
        void.order.id: (OrderKind.VOID, "void", "none")
    }


def test_a_writer_that_comes_after_the_tombstone_is_refused():
    draft = held_draft()
    reap_stale_holds(now=past_the_deadline())

    outcomes = placement._record(place_of_user(draft.order.user_id).alias, [draft], now=timezone.now())

    assert type(outcomes[draft.order.id]).__name__ == "Overloaded"
    assert [row.status for row in order_rows(draft.order.id)] == ["void"]


class Killed(BaseException):
    """Stands for the end of the reaper's process."""


@pytest.mark.parametrize("step", ["insert_tombstone", "confirm", "release"])
def test_a_reaper_that_is_killed_before_a_step_is_taken_over_by_the_next(step):
    sku = make_sku(9)
    draft, order = held_draft(sku=sku), placed_order(items=[(sku, 1)])

    def killed(*args, **kwargs):
        raise Killed

    dying = HoldReaper()
    setattr(dying, step, killed)
    with pytest.raises(Killed):
        dying.reap(now=past_the_deadline())
    assert state(order if step == "confirm" else draft) == ["held"]

    reap_stale_holds(now=past_the_deadline())
    assert (state(draft), state(order), counters(sku)) == (["released"], ["confirmed"], (9, 1))


def test_between_tombstone_and_release_no_order_can_come(monkeypatch):
    draft = held_draft()
    between = []

    class Watching(HoldReaper):
        def release(self, order_ids, *, now):
            if draft.order.id in order_ids:
                between.append(type(attempt(draft)).__name__)
            super().release(order_ids, now=now)

    Watching().reap(now=past_the_deadline())

    assert between == ["Overloaded"]
    assert state(draft) == ["released"]


def attempt(draft):
    alias = place_of_user(draft.order.user_id).alias
    return placement._record(alias, [draft], now=timezone.now())[draft.order.id]


def test_without_the_tombstone_an_order_would_stand_without_stock():
    """The negative control: the same as above, with the guard taken out."""
    sku = make_sku(5)
    draft = held_draft(sku=sku)

    class Careless(HoldReaper):
        def insert_tombstone(self, place, hold, *, now):
            return True

    Careless().reap(now=past_the_deadline())
    write(draft)

    assert [row.status for row in order_rows(draft.order.id)] == ["pending_payment"]
    assert counters(sku) == (5, 0)


def test_an_unknown_outcome_is_settled_by_the_reaper(monkeypatch):
    sku = make_sku(5)
    draft = held_draft(sku=sku)

    def never_arrived(alias, held, *, now):
        raise OutcomeUnknown("lost")

    with monkeypatch.context() as patched:
        patched.setattr(placement, "_write", never_arrived)
        assert type(attempt(draft)).__name__ == "OutcomeUnknown"
    assert state(draft) == ["held"]

    reap_stale_holds(now=past_the_deadline())
    assert (state(draft), counters(sku)) == (["released"], (5, 0))
