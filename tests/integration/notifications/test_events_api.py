"""GET /events: who may read, how a client goes on, what it is told when it comes too late."""

from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.test import Client

from apps.notifications.models import LoggedEvent, Subscription
from apps.notifications.services.retention import purge_log
from apps.notifications.services.subscriptions import disable, issue_events_token
from apps.users.services import make_bench_shoppers
from tests.factories.notifications import make_subscription, record_some

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))


def get(token="", **query):
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return Client().get("/api/v1/events", query, headers=headers)


def test_a_client_reads_on_from_where_it_was():
    token = issue_events_token(make_subscription().id)
    ids = record_some("shard_0", 3) + record_some("shard_1", 2)
    seen, after = [], {}
    for _ in range(3):
        answer = get(token, limit=2, **after)
        assert answer.status_code == 200, answer.content
        assert answer["Cache-Control"] == "no-store"
        body = answer.json()
        assert body["more"] is (len(seen) + len(body["results"]) < 5)
        seen += [event["id"] for event in body["results"]]
        after = {"after": body["next"]}
    assert sorted(seen) == sorted(ids)
    idle = get(token, **after).json()
    assert (idle["results"], idle["more"]) == ([], False)
    after = {"after": idle["next"]}
    later = record_some("shard_0", 1)
    assert [event["id"] for event in get(token, **after).json()["results"]] == later


def test_a_reader_sees_the_types_of_its_subscription():
    token = issue_events_token(make_subscription(types=["order.cancelled"]).id)
    record_some("shard_0", 2, type="order.paid")
    wanted = record_some("shard_0", 1, type="order.cancelled")
    assert [event["id"] for event in get(token).json()["results"]] == wanted


@pytest.mark.parametrize("token", ["", "fgev_nonsense", "fgev_", "fgev_é", "Bearer", "a.b.c"])
def test_without_a_token_of_a_subscription_nothing_is_read(token):
    answer = get(token)
    assert answer.status_code == 401
    assert answer.json()["code"] in {"not_authenticated", "token_invalid"}
    assert answer["WWW-Authenticate"]


def test_a_shoppers_token_reads_no_events():
    record_some("shard_0", 1)
    [shopper] = make_bench_shoppers(1)
    answer = get(shopper.access)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")


def test_a_token_ends_with_its_successor_and_with_its_subscription():
    subscription = make_subscription()
    old = issue_events_token(subscription.id)
    new = issue_events_token(subscription.id)
    assert (get(old).status_code, get(new).status_code) == (401, 200)
    disable(subscription.id, reason="enough", now=datetime.now(UTC))
    assert get(new).status_code == 401


def test_a_token_is_not_stored():
    subscription = make_subscription()
    token = issue_events_token(subscription.id)
    stored = str(Subscription.objects.filter(id=subscription.id).values().get())
    assert token not in stored
    assert token.removeprefix("fgev_") not in stored


@pytest.mark.parametrize(
    "query", [{"after": "nonsense"}, {"after": ""}, {"limit": "0"}, {"limit": "101"}, {"limit": "x"}]
)
def test_what_is_no_position_or_limit_is_told(query):
    answer = get(issue_events_token(make_subscription().id), **query)
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    [error] = answer.json()["errors"]
    assert error["field"] == f"query:{next(iter(query))}"


def test_a_position_is_good_for_its_own_subscription_only_and_cannot_be_made_up():
    record_some("shard_0", 1)
    one, other = issue_events_token(make_subscription().id), issue_events_token(make_subscription().id)
    after = get(one).json()["next"]
    assert get(other, after=after).status_code == 400
    assert get(one, after=after[:-1] + ("a" if after[-1] != "a" else "b")).status_code == 400
    assert get(one, after=after).status_code == 200


def test_a_position_is_good_for_as_long_as_events_are_kept_and_then_the_client_is_told(settings, monkeypatch):
    token = issue_events_token(make_subscription().id)
    record_some("shard_0", 1)
    after = get(token).json()["next"]
    settings.CURSOR_MAX_AGE_S = 0
    assert get(token, after=after).status_code == 200

    record_some("shard_0", 1)
    LoggedEvent.objects.using("shard_0").update(logged_at=datetime.now(UTC) - timedelta(days=30))
    purge_log("shard_0", now=datetime.now(UTC))
    answer = get(token, after=after)
    assert answer.status_code == 400
    [error] = answer.json()["errors"]
    assert (error["field"], error["code"]) == ("query:after", "position_gone")
    assert get(token).status_code == 200
