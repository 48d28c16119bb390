"""Keys of clients: two at most, shown once, encrypted; the staff's pages; races."""

import threading

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone

from infra.signing import services as steps
from infra.signing import verification
from infra.signing.canonical import Credentials
from infra.signing.errors import NoSuchKey, RequestSignatureInvalid, TooManyKeys
from infra.signing.models import ApiClient, ApiClientKey
from infra.signing.services import IssuedKey, issue_key, revoke_key
from tests.factories.clients import make_client, make_key
from tests.factories.threads import at_once

CLIENTS = "/admin/signing/apiclient/"
in_the_databases = pytest.mark.django_db(databases=list(settings.DATABASES))


def good_keys(client: ApiClient) -> int:
    return ApiClientKey.objects.filter(client=client, position__isnull=False).count()


@in_the_databases
def test_a_client_has_two_good_keys_at_most() -> None:
    client = make_client()
    first, _ = make_key(client), make_key(client)
    with pytest.raises(TooManyKeys):
        make_key(client)
    revoke_key(client_id=client.id, key_id=first.key_id, actor="mia", now=timezone.now())
    with pytest.raises(NoSuchKey):
        revoke_key(client_id=client.id, key_id=first.key_id, actor="mia", now=timezone.now())
    make_key(client)
    assert good_keys(client) == 2


@in_the_databases
def test_a_secret_is_stored_encrypted_and_forgotten_when_it_is_revoked() -> None:
    client = make_client()
    issued = make_key(client)
    rows = ApiClientKey.objects.filter(key_id=issued.key_id).extra(select={"raw": "secret"})
    assert issued.secret not in rows.values_list("raw", flat=True)[0]
    assert rows.get().secret == issued.secret
    revoke_key(client_id=client.id, key_id=issued.key_id, actor="mia", now=timezone.now())
    assert rows.get().secret == ""


@pytest.mark.usefixtures("committed")
def test_of_many_keys_asked_for_at_once_two_are_made() -> None:
    client = make_client()
    outcomes = at_once(6, lambda _: issue_key(client_id=client.id, actor="mia", now=timezone.now()))
    assert 1 <= sum(isinstance(outcome, IssuedKey) for outcome in outcomes) <= 2
    assert all(isinstance(outcome, IssuedKey | TooManyKeys) for outcome in outcomes)
    assert good_keys(client) <= 2


@pytest.mark.usefixtures("committed")
def test_without_the_unique_position_there_would_be_more(monkeypatch: pytest.MonkeyPatch) -> None:
    # negative control: rows whose position nobody holds unique
    client, barrier = make_client(), threading.Barrier(3)
    save = ApiClientKey.save

    def unnumbered(self: ApiClientKey, **options: object) -> None:
        barrier.wait()
        self.position = None
        save(self, **options)

    monkeypatch.setattr(ApiClientKey, "save", unnumbered)
    outcomes = at_once(3, lambda _: issue_key(client_id=client.id, actor="mia", now=timezone.now()))
    assert sum(isinstance(outcome, IssuedKey) for outcome in outcomes) == 3
    assert steps.MAX_KEYS == 2


@pytest.mark.usefixtures("committed")
def test_of_one_nonce_at_once_one_is_used() -> None:
    credentials = Credentials(make_key(make_client()).key_id, int(timezone.now().timestamp()), "n" * 16, "")
    outcomes = at_once(6, lambda _: verification._use_nonce(credentials))
    assert sum(isinstance(outcome, RequestSignatureInvalid) for outcome in outcomes) == 5
    assert sum(outcome is None for outcome in outcomes) == 1


@in_the_databases
def test_a_client_is_made_and_its_key_shown_once(staff: Client) -> None:
    form = {
        "name": "Warehouse",
        "is_active": "on",
        "scopes": ["orders:read", "orders:write"],
        "acts_for": "anybody",
        "per_second": "50",
        "burst": "100",
        "users-TOTAL_FORMS": "0",
        "users-INITIAL_FORMS": "0",
    }
    assert staff.post(CLIENTS + "add/", form).status_code == 302
    client = ApiClient.objects.get(name="Warehouse")
    assert client.scopes == "orders:read orders:write"
    page = staff.get(f"{CLIENTS}{client.pk}/issue-key/")
    assert (page.status_code, good_keys(client)) == (200, 0)
    shown = staff.post(f"{CLIENTS}{client.pk}/issue-key/", {"reason": "go live"})
    key = ApiClientKey.objects.get(client=client)
    assert "no-store" in shown.headers["Cache-Control"]
    assert key.secret in shown.content.decode()
    assert key.created_by == "mia"
    listed = staff.get(f"{CLIENTS}{client.pk}/change/").content.decode()
    assert key.key_id in listed
    assert key.secret not in listed
    assert staff.get(f"{CLIENTS}{client.pk}/revoke-key/{key.key_id}/").status_code == 200
    assert staff.post(f"{CLIENTS}{client.pk}/revoke-key/{key.key_id}/", {"reason": "leaked"}).status_code == 302
    assert good_keys(client) == 0
    log = LogEntry.objects.filter(object_id=str(client.pk)).order_by("id").values_list("change_message", flat=True)
    assert list(log)[-2:] == [f"made key {key.key_id}: go live", f"revoked key {key.key_id}: leaked"]
    assert key.secret not in "".join(log)


@in_the_databases
def test_a_key_needs_a_reason_and_the_right_to_change_clients(staff: Client) -> None:
    client = make_client()
    assert staff.post(f"{CLIENTS}{client.pk}/issue-key/", {"reason": " "}).status_code == 200
    assert good_keys(client) == 0
    assert staff.get(f"{CLIENTS}{client.pk}/revoke-key/nonsense/").status_code == 404
    assert staff.get(f"{CLIENTS}{client.pk}/delete/").status_code == 403


@in_the_databases
def test_a_scope_that_does_not_exist_is_refused(staff: Client) -> None:
    form = {"name": "W", "scopes": ["moon:write"], "acts_for": "nobody", "per_second": "1", "burst": "1"}
    answer = staff.post(CLIENTS + "add/", form | {"users-TOTAL_FORMS": "0", "users-INITIAL_FORMS": "0"})
    assert answer.status_code == 200
    assert not ApiClient.objects.filter(name="W").exists()
