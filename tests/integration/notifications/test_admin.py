"""Subscriptions and deliveries in the staff's admin."""

import re

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from apps.notifications.models import Replay, Subscription
from apps.notifications.selectors import reader_of_token
from apps.notifications.services.subscriptions import disable
from tests.factories.notifications import deliveries_of, make_subscription, record_some
from tests.factories.receivers import HOST, https_receiver
from tests.factories.staff import logged_in, make_operator

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

LIST = "/admin/notifications/subscription/"
URL = f"https://{HOST}/hook"


def act(staff, action, *rows, **fields):
    confirmed = {"confirmed": "yes", **fields} if fields else {}
    return staff.post(LIST, {"action": action, "_selected_action": [row.id for row in rows], **confirmed}, follow=True)


def logged(row):
    return list(LogEntry.objects.filter(object_id=str(row.id)).order_by("id").values_list("change_message", flat=True))


def test_a_subscription_is_made_and_its_secret_shown_once(staff, loopback):
    answer = staff.post(LIST + "add/", {"name": "shop", "url": URL, "event_types": ["order.paid"]})
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    row = Subscription.objects.get(name="shop")
    [shown] = re.findall(r"whsec_[A-Za-z0-9+/=]+", answer.content.decode())
    assert (row.secret, row.url, row.event_types, row.enabled) == (shown, URL, ["order.paid"], True)
    assert LogEntry.objects.filter(object_id=str(row.id)).count() == 1
    for page in (LIST, f"{LIST}{row.id}/change/"):
        content = staff.get(page).content.decode()
        assert "shop" in content
        assert shown not in content


@pytest.mark.parametrize(
    "url",
    ["http://shop.example/", "https://10.0.0.1/", "https://169.254.169.254/latest/meta-data", "https://localhost/"],
)
def test_an_address_inside_is_refused_when_it_is_entered(staff, url):
    answer = staff.post(LIST + "add/", {"name": "shop", "url": url})
    assert answer.status_code == 200
    assert "errorlist" in answer.content.decode()
    assert not Subscription.objects.exists()
    row = make_subscription("")
    staff.post(f"{LIST}{row.id}/change/", {"name": "shop", "url": url})
    row.refresh_from_db()
    assert row.url == ""


def test_a_change_is_saved_and_keeps_what_is_not_in_the_form(staff, loopback):
    row = make_subscription("")
    staff.post(f"{LIST}{row.id}/change/", {"name": "new name", "url": URL, "event_types": []})
    changed = Subscription.objects.get(id=row.id)
    assert (changed.name, changed.url, changed.secret) == ("new name", URL, row.secret)


def test_a_name_is_given_once(staff, loopback):
    make_subscription("", name="shop")
    answer = staff.post(LIST + "add/", {"name": "shop", "url": ""})
    assert "errorlist" in answer.content.decode()


def test_there_are_only_so_many(staff, settings):
    settings.WEBHOOK_MAX_SUBSCRIPTIONS = 1
    row = make_subscription("")
    answer = staff.post(LIST + "add/", {"name": "one more", "url": ""})
    assert "as many as may be" in answer.content.decode()
    assert staff.post(f"{LIST}{row.id}/change/", {"name": "renamed", "url": ""}).status_code == 302


def test_rotating_shows_the_new_secret_and_keeps_the_old_one_until_it_is_retired(staff):
    row = make_subscription(URL)
    assert "whsec_" not in act(staff, "rotate", row).content.decode()
    answer = act(staff, "rotate", row, reason="it leaked")
    [shown] = re.findall(r"whsec_[A-Za-z0-9+/=]+", answer.content.decode())
    rotated = Subscription.objects.get(id=row.id)
    assert (rotated.secret, rotated.previous_secret) == (shown, row.secret)
    act(staff, "retire", row, reason="they have changed over")
    assert Subscription.objects.get(id=row.id).previous_secret == ""
    assert logged(row) == [
        "rotated the signing secret: it leaked",
        "retired the old signing secret: they have changed over",
    ]


def test_a_token_is_issued_and_works(staff):
    row = make_subscription("")
    [token] = re.findall(r"fgev_[\w-]+", act(staff, "token", row, reason="they poll").content.decode())
    assert reader_of_token(token).subscription_id == row.id


def test_disabling_and_enabling_keep_who_and_why(staff):
    row = make_subscription(URL)
    act(staff, "disable", row, reason="they asked")
    off = Subscription.objects.get(id=row.id)
    assert (off.enabled, off.disabled_reason) == (False, "they asked")
    act(staff, "enable", row, reason="they are back")
    assert Subscription.objects.get(id=row.id).enabled
    assert logged(row) == ["disabled: they asked", "enabled: they are back"]


def test_a_replay_is_asked_for_with_a_time_and_a_reason(staff):
    row = make_subscription(URL)
    act(staff, "replay", row, reason="an outage", since=f"{timezone.now():%Y-%m-%dT00:00}")
    replay = Replay.objects.get()
    assert (replay.subscription_id, replay.reason, replay.requested_by) == (row.id, "an outage", "mia")
    assert "an outage" in staff.get("/admin/notifications/replay/").content.decode()
    refused = act(staff, "replay", row, reason="again", since=f"{timezone.now():%Y-%m-%dT00:00}")
    assert "under way" in refused.content.decode()


def test_a_test_event_is_sent_from_the_list(staff, loopback, authority):
    with https_receiver(authority) as receiver:
        row = make_subscription(receiver.url)
        assert "answered 200" in act(staff, "send_test", row).content.decode()
        receiver.status = 500
        assert "answered 500" in act(staff, "send_test", row).content.decode()
    assert len(receiver.requests) == 2


def test_deliveries_are_shown_and_one_is_sent_again(staff):
    row = make_subscription(URL)
    [event_id] = record_some("shard_1", 1)
    page = f"/admin/webhook-deliveries/?subscription={row.id}"
    assert event_id in staff.get(page).content.decode()
    assert event_id not in staff.get(page + "&state=dead").content.decode()
    [delivery] = deliveries_of(row)
    type(delivery).objects.using("shard_1").update(attempt_count=5)
    asked = {"alias": "shard_1", "position": delivery.position, "subscription": row.id}
    assert "Say why." in staff.post(page, asked, follow=True).content.decode()
    assert "sent again" in staff.post(page, {**asked, "reason": "they lost it"}, follow=True).content.decode()
    assert deliveries_of(row)[0].attempt_count == 0
    nothing = {**asked, "position": 999, "reason": "x"}
    assert "no such delivery" in staff.post(page, nothing, follow=True).content.decode()
    assert staff.get("/admin/webhook-deliveries/").status_code == 200
    assert "Webhook deliveries" in staff.get("/admin/").content.decode()


def test_who_may_not_does_not(staff_site):
    row = make_subscription(URL)
    viewer = logged_in(make_operator("view_subscription"))
    assert viewer.get(LIST).status_code == 200
    act(viewer, "disable", row, reason="no")
    assert viewer.post(LIST + "add/", {"name": "x", "url": ""}).status_code == 403
    assert viewer.post("/admin/webhook-deliveries/", {"reason": "x"}).status_code == 403
    assert Subscription.objects.get(id=row.id).enabled
    nobody = logged_in(make_operator(username="eve"))
    assert nobody.get(LIST).status_code == 403
    assert nobody.get("/admin/webhook-deliveries/").status_code == 403


def test_metrics_tell_what_is_owed_how_old_it_is_and_who_is_disabled(staff):
    row = make_subscription(URL, name="shop-metrics")
    record_some("shard_0", 3)
    off = make_subscription("")
    disable(off.id, reason="x", now=timezone.now())
    scraped = staff.get("/metrics").content.decode()
    assert 'floodgate_webhook_backlog{alias="shard_0",subscription="shop-metrics"} 3.0' in scraped
    assert re.search(r'floodgate_webhook_oldest_seconds\{alias="shard_0",subscription="shop-metrics"\} [0-9]', scraped)
    assert "floodgate_webhook_disabled 1.0" in scraped
    assert row
