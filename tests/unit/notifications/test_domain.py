"""When a delivery is tried again, what a receiver's wish counts for, and what an event looks like."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import jsonschema
import pytest
from django.conf import settings as project

from apps.notifications.domain import (
    LONGEST_DELAY_S,
    event_body,
    example_body,
    next_attempt_at,
    retry_after_s,
    retry_delay_s,
)
from apps.orders import events
from tests.factories.events import TestOrder
from tests.factories.notifications import order_event

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
PERIOD = timedelta(days=3)


def test_the_waits_grow_fourfold_up_to_six_hours_and_are_spread_downwards():
    assert [retry_delay_s(count, spread=lambda: 0.0) for count in (1, 2, 3, 4)] == [5, 20, 80, 320]
    assert retry_delay_s(50, spread=lambda: 0.0) == LONGEST_DELAY_S == 21_600
    assert retry_delay_s(10**6, spread=lambda: 1.0) == 16_200
    assert 3.75 <= retry_delay_s(1) <= 5


def test_a_delivery_is_tried_for_three_days_and_the_last_time_at_their_end():
    # given an event whose receiver never answers
    at, attempts = NOW, []
    while at is not None:
        attempts.append(at)
        at = next_attempt_at(attempt_count=len(attempts), first_at=NOW, retry_after="", period=PERIOD, now=at)

    # then
    assert attempts[-1] == NOW + PERIOD
    assert 15 < len(attempts) < 30
    assert attempts == sorted(attempts)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7), (" 7 ", 7), ("0", 0), ("", 0), ("-1", 0), ("1.5", 0), ("soon", 0), ("9" * 40, 0), ("١٢", 0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0),
        ("Thu, 99 Nov 2026 12:00:00 GMT", 0), ("Thu, 26 Nov 99999 12:00:00 GMT", 0),
    ],
)  # fmt: skip
def test_what_a_retry_after_header_asks_for(text, seconds):
    assert retry_after_s(text, now=NOW) == seconds


@pytest.mark.parametrize(
    ("retry_after", "delay_s"), [("1", 5), ("60", 60), ("999999999", 21_600)], ids=["sooner", "later", "far too late"]
)
def test_a_receivers_wish_counts_between_the_own_wait_and_six_hours(retry_after, delay_s):
    again_at = next_attempt_at(
        attempt_count=1, first_at=NOW, retry_after=retry_after, period=PERIOD, now=NOW, spread=lambda: 0.0
    )
    assert again_at == NOW + timedelta(seconds=delay_s)


def test_all_that_happens_to_orders_is_told():
    kinds = {
        value
        for name, value in vars(events).items()
        if name.isupper() and isinstance(value, str) and name not in {"AGGREGATE", "IMPORTED"}
    }
    assert {f"order.{kind}" for kind in kinds} == events.ORDER_EVENTS


def test_an_event_is_what_its_schema_says():
    schema = json.loads((Path(project.BASE_DIR) / "docs" / "schemas" / "event.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validate = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate
    order = TestOrder(alias="shard_0", user_id=2**61, order_id=2**60 + 7)
    body = json.loads(event_body(order_event(order, 3, type="order.paid", status="paid", user_id="of the payload")))
    validate(body)
    assert body["data"] == {"status": "paid", "order_id": str(order.order_id), "user_id": str(order.user_id)}
    assert (body["type"], body["version"], body["aggregate_id"]) == ("order.paid", 3, str(order.order_id))
    validate(json.loads(example_body("0" * 32, subscription_id=7, now=NOW)))
    with pytest.raises(jsonschema.ValidationError):
        validate({**body, "version": "3"})
