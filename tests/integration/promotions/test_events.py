"""The events of sales: one for each version, in the transaction of the change, published by a relay of their own."""

import json
import threading
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone

from apps.orders.audit import outbox as audit
from apps.orders.services.flash_sales import (
    approve_sale,
    cancel_sale,
    end_sale,
    extend_sale,
    pause_sale,
    raise_quota,
    resume_sale,
)
from apps.promotions.domain import SaleState
from apps.promotions.errors import SaleChanged
from apps.promotions.selectors import get_sale
from apps.promotions.services import move_sale
from apps.promotions.types import CONSOLE, Sale
from infra.events.bus import Feed, Outgoing
from infra.events.envelope import decode
from infra.outbox.models import OutboxEvent, Relay
from infra.outbox.relay import OutboxRelay
from infra.sharding.slots import slot_of_user
from tests.factories.promotions import make_sale, sku_of


def events_of(sale: Sale) -> list[tuple[int, str]]:
    rows = OutboxEvent.objects.using("promotions").filter(aggregate="sale", aggregate_id=sale.id).order_by("id")
    return list(rows.values_list("aggregate_version", "type"))


def findings(sale: Sale) -> list[str]:
    checks = (audit.events_have_no_gaps, audit.sales_have_told_their_version)
    found = [finding for check in checks for finding in check("promotions", timezone.now())]
    return [finding.detail for finding in found if str(sale.id) in finding.subject]


@pytest.mark.django_db(databases=list(settings.DATABASES))
def test_every_change_of_a_sale_is_told_once_and_in_order():
    now = timezone.now()
    sale = make_sale(quota=2, on_hand=10, price="8.00")
    pause_sale(sale.id, now=now)
    resume_sale(sale.id, now=now)
    raise_quota(sale.id, sku_of(sale), 4, by=CONSOLE, now=now)
    extend_sale(sale.id, ends_at=sale.ends_at + timedelta(seconds=9), by=CONSOLE, now=now)
    end_sale(sale.id, now=now)
    told = ["made", "published", "started", "paused", "resumed", "quota_raised", "end_moved", "end_moved", "ended"]
    assert events_of(sale) == [(version, f"sale.{kind}") for version, kind in enumerate(told, start=1)]
    assert get_sale(sale.id).version == len(told)
    assert findings(sale) == []

    raised = OutboxEvent.objects.using("promotions").get(aggregate_id=sale.id, type="sale.quota_raised")
    assert json.loads(raised.payload)["quotas"] == {sku_of(sale): 4}
    assert (raised.user_id, raised.order_id, raised.slot) == (0, None, slot_of_user(sale.id))


@pytest.mark.django_db(databases=list(settings.DATABASES))
def test_a_sale_that_is_approved_and_called_off_tells_so():
    sale = make_sale(price="1.00", by=1)
    approve_sale(sale.id, version=sale.version, by=2, now=timezone.now())
    cancel_sale(sale.id, now=timezone.now())
    assert [kind for _, kind in events_of(sale)] == [
        f"sale.{kind}" for kind in ("made", "approved", "published", "started", "cancelled", "closed")
    ]


@pytest.mark.django_db(databases=list(settings.DATABASES))
def test_who_loses_against_another_change_tells_nothing_and_a_missing_event_is_found():
    sale = make_sale()
    pause_sale(sale.id, now=timezone.now())
    before = events_of(sale)
    with pytest.raises(SaleChanged):
        move_sale(sale, SaleState.CANCELLED, now=timezone.now())
    assert events_of(sale) == before
    OutboxEvent.objects.using("promotions").filter(aggregate_id=sale.id, aggregate_version=2).delete()
    OutboxEvent.objects.using("promotions").filter(aggregate_id=sale.id, aggregate_version=4).delete()
    assert len(findings(sale)) == 2


class Bus:
    """A bus that remembers what it was given."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    def publish(self, feed: Feed, batch: list[Outgoing]) -> None:
        self.sent += batch

    def trim(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_relay_publishes_what_promotions_tells(committed):
    sale = make_sale()
    Relay.objects.using("promotions").all().delete()
    bus = Bus()
    relay = OutboxRelay("promotions", publisher=bus, holder="test", stopped=threading.Event())

    while relay.turn():
        pass

    mine = [event for event in (decode(each.body) for each in bus.sent) if event.aggregate_id == sale.id]
    assert [(event.version, event.type) for event in mine] == events_of(sale)
    assert not OutboxEvent.objects.using("promotions").filter(sent_at__isnull=True).exists()
    relay._leave()
    connections["promotions"].close()
