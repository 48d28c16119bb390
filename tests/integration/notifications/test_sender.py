"""A sender at work against local receivers: what arrives, what is retried, who waits for whom, what is told."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.db import OperationalError
from standardwebhooks import Webhook

from apps.notifications.models import Delivery, Subscription
from apps.notifications.services import sender as module
from apps.notifications.services.sender import WebhookSender
from apps.notifications.services.subscriptions import retire_secret, rotate_secret, send_test_event
from tests.factories.notifications import deliveries_of, make_subscription, record_some
from tests.factories.receivers import HOST, https_receiver

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))


@pytest.fixture
def receiver(loopback, authority):
    with https_receiver(authority) as receiver:
        yield receiver


@pytest.fixture
def other(loopback, authority):
    with https_receiver(authority) as receiver:
        yield receiver


@pytest.fixture
def sender():
    sender = WebhookSender(threading.Event())
    yield sender
    sender._leave()


def work(sender, condition, *, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        sender.turn(wait_s=0.02)


def states(subscription):
    return {row.state for row in deliveries_of(subscription)}


def test_what_happens_arrives_signed_by_both_active_secrets(receiver, sender):
    subscription = make_subscription(receiver.url)
    old = subscription.secret
    new = rotate_secret(subscription.id, now=datetime.now(UTC))
    ids = record_some("shard_0", 3) + record_some("shard_1", 2)
    work(sender, lambda: states(subscription) == {"delivered"})
    assert sorted(receiver.ids()) == sorted(ids)
    for request in receiver.requests:
        assert request.headers["content-type"] == "application/json"
        assert Webhook(old).verify(request.body, request.headers)["id"] == request.headers["webhook-id"]
        Webhook(new).verify(request.body, request.headers)
    assert len(receiver.requests[0].headers["webhook-signature"].split()) == 2

    retire_secret(subscription.id)
    record_some("shard_0", 1)
    work(sender, lambda: len(receiver.requests) == 6)
    assert len(receiver.requests[-1].headers["webhook-signature"].split()) == 1


def test_what_fails_comes_again_with_the_same_id_and_body(receiver, sender):
    receiver.status = 500
    subscription = make_subscription(receiver.url)
    [event_id] = record_some("shard_0", 1)
    work(sender, lambda: [row.attempt_count for row in deliveries_of(subscription)] == [1])
    assert deliveries_of(subscription)[0].last_status == 500

    receiver.status = 204
    Delivery.objects.using("shard_0").update(due_at=datetime.now(UTC) - timedelta(seconds=1))
    work(sender, lambda: states(subscription) == {"delivered"})
    assert receiver.ids() == [event_id, event_id]
    assert receiver.requests[0].body == receiver.requests[1].body


def test_a_receiver_that_asks_to_wait_is_waited_for(receiver, sender):
    receiver.status, receiver.headers = 429, {"Retry-After": "3600"}
    subscription = make_subscription(receiver.url)
    record_some("shard_0", 1)
    work(sender, lambda: [row.attempt_count for row in deliveries_of(subscription)] == [1])
    [row] = deliveries_of(subscription)
    assert timedelta(minutes=59) < row.due_at - datetime.now(UTC) <= timedelta(hours=1)


def test_a_slow_subscriber_holds_up_nobody_else_and_gets_no_more_than_its_places(receiver, other, sender, settings):
    settings.WEBHOOK_SUBSCRIPTION_CONCURRENCY = 2
    receiver.delay_s = 1.5
    slow, quick = make_subscription(receiver.url), make_subscription(other.url)
    record_some("shard_0", 8)
    began_at = time.monotonic()
    work(sender, lambda: states(quick) == {"delivered"})
    assert time.monotonic() - began_at < 1.4
    assert "pending" in states(slow)
    assert receiver.most_at_once == 2


def test_without_the_bound_a_slow_subscriber_takes_all_places(receiver, other, settings):
    """The control: with as many places for one as there are in all, the quick one waits for the slow one."""
    settings.WEBHOOK_CONCURRENCY = settings.WEBHOOK_SUBSCRIPTION_CONCURRENCY = 2
    receiver.delay_s = 0.4
    slow = make_subscription(receiver.url)
    record_some("shard_0", 4)
    sender = WebhookSender(threading.Event())
    sender.turn(wait_s=0.0)
    quick = make_subscription(other.url)
    record_some("shard_0", 1)
    began_at = time.monotonic()
    work(sender, lambda: states(quick) == {"delivered"})
    assert time.monotonic() - began_at > 0.3
    assert slow
    sender._leave()


def test_a_subscription_to_which_nothing_gets_through_for_three_days_is_disabled(receiver, sender):
    receiver.status = 500
    subscription = make_subscription(receiver.url)
    record_some("shard_0", 1)
    work(sender, lambda: Subscription.objects.get(id=subscription.id).failing_since is not None)
    assert Subscription.objects.get(id=subscription.id).enabled

    Subscription.objects.update(failing_since=datetime.now(UTC) - settings.WEBHOOK_RETRY_PERIOD)
    module.note_outcomes({}, [], now=datetime.now(UTC))
    record_some("shard_1", 1)
    work(sender, lambda: not Subscription.objects.get(id=subscription.id).enabled)
    assert Subscription.objects.get(id=subscription.id).disabled_reason == "nothing got through for 3 days"
    count = len(receiver.requests)
    Delivery.objects.using("shard_0").update(due_at=datetime.now(UTC))
    sender.turn(wait_s=0.1)
    sender.turn(wait_s=0.1)
    assert len(receiver.requests) == count


def test_one_success_ends_a_time_of_failures(receiver, sender):
    subscription = make_subscription(receiver.url)
    Subscription.objects.filter(id=subscription.id).update(failing_since=datetime.now(UTC) - timedelta(days=30))
    record_some("shard_0", 1)
    work(sender, lambda: Subscription.objects.get(id=subscription.id).failing_since is None)
    assert Subscription.objects.get(id=subscription.id).enabled


def test_a_receiver_that_says_it_is_gone_is_sent_nothing_more(receiver, sender):
    receiver.status = 410
    subscription = make_subscription(receiver.url)
    record_some("shard_0", 1)
    work(sender, lambda: not Subscription.objects.get(id=subscription.id).enabled)
    assert "410" in Subscription.objects.get(id=subscription.id).disabled_reason


def test_an_address_that_turns_private_is_not_sent_to(loopback, receiver, sender):
    subscription = make_subscription(receiver.url)
    loopback.say(HOST, ["10.0.0.1"])
    record_some("shard_0", 1)
    work(sender, lambda: [row.attempt_count for row in deliveries_of(subscription)] == [1])
    [row] = deliveries_of(subscription)
    assert "not public" in row.last_error
    assert receiver.requests == []


def test_a_sender_that_stood_still_sends_nothing_whose_claim_has_run_out(receiver, sender, settings, monkeypatch):
    subscription = make_subscription(receiver.url)
    record_some("shard_0", 1)
    settings.WEBHOOK_LEASE_S = 1.0
    sender.turn(wait_s=0.0)
    sender.turn(wait_s=0.5)
    assert receiver.requests == []
    settings.WEBHOOK_LEASE_S = 30.0
    work(sender, lambda: states(subscription) == {"delivered"})
    assert len(receiver.requests) == 1


def test_what_cannot_be_written_is_kept_and_written_later(receiver, sender, monkeypatch):
    subscription = make_subscription(receiver.url)
    record_some("shard_0", 1)
    settle, failures = module.settle, []

    def settle_later(*args, **kwargs):
        if len(failures) < 2:
            failures.append(1)
            raise OperationalError(1205, "lock wait timeout")
        return settle(*args, **kwargs)

    monkeypatch.setattr(module, "settle", settle_later)
    monkeypatch.setattr(settings, "SHARD_PAUSE_S", 0.05)
    monkeypatch.setattr("infra.followups.rounds.connections.close_all", lambda: None)
    work(sender, lambda: states(subscription) == {"delivered"})
    assert len(failures) == 2
    assert len(receiver.requests) == 1


def test_a_test_event_is_sent_at_once_and_what_came_of_it_told(receiver):
    subscription = make_subscription(receiver.url)
    outcome = send_test_event(subscription.id, now=datetime.now(UTC))
    assert (outcome.status, outcome.succeeded) == (200, True)
    [request] = receiver.requests
    assert json.loads(request.body)["type"] == "webhook.test"
    Webhook(subscription.secret).verify(request.body, request.headers)
    receiver.status = 500
    assert send_test_event(subscription.id, now=datetime.now(UTC)).error == "answered 500"


def test_a_sender_ends_in_order(receiver):
    stopped = threading.Event()
    sender = WebhookSender(stopped)
    stopped.set()
    sender.run()


def test_no_shard_waits_for_the_end_of_another_ones_backlog(receiver, sender, settings):
    settings.WEBHOOK_SUBSCRIPTION_CONCURRENCY = 1
    receiver.delay_s = 0.02
    make_subscription(receiver.url)
    record_some("shard_0", 20)
    [event_id] = record_some("shard_1", 1)
    work(sender, lambda: event_id in receiver.ids())
    assert len(receiver.requests) < 20
