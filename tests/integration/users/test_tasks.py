"""The background work of the users app, called as Celery calls it."""

from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.db import OperationalError

from apps.users import tasks
from apps.users.models import CustomerState, SentMessage, Verification
from apps.users.selectors import find_user_id, get_customer, last_sent_code
from apps.users.services import verification as steps
from apps.users.services.retention import purge_directory
from apps.users.services.verification import settle_verifications, verify_login
from infra.sharding.places import place_of_user, shard_aliases
from tests.factories.users import NOW, make_customer, new_email, registered

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

LATER = NOW + timedelta(seconds=11)


class Crash(BaseException):
    """Ends the code under test as `kill -9` would."""


def crash(*_: object) -> None:
    raise Crash


def test_the_reaper_goes_over_all_shards() -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    stalled = [make_customer(shard=shard, state=CustomerState.REGISTERING, registered_at=long_ago) for shard in (0, 1)]
    tasks.reap_orphans()
    assert [get_customer(customer.user_id).state for customer in stalled] == [CustomerState.LIVE] * 2


def test_every_task_that_beat_knows_is_there() -> None:
    scheduled = {
        entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values() if entry["task"].startswith("users.")
    }
    assert scheduled == {
        tasks.reap_orphans.name,
        tasks.settle_accepted_verifications.name,
        tasks.purge_expired.name,
        tasks.drive_due_erasures.name,
        tasks.drive_due_exports.name,
        tasks.purge_old_exports.name,
    }


def test_a_verification_that_died_between_the_databases_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a proof that became a login, and a crash before the shard was told
    email = new_email()
    user_id = registered(email)
    with monkeypatch.context() as patched:
        patched.setattr(steps, "tell_shard", crash)
        with pytest.raises(Crash):
            verify_login(login=email, code=last_sent_code(email), now=NOW)
    assert find_user_id(email) == user_id
    assert get_customer(user_id).email_verified_at is None
    # then the scan finishes it, once
    assert settle_verifications(now=LATER) >= 1
    customer = get_customer(user_id)
    assert (customer.email, customer.version) == (email.value, 2)
    assert customer.email_verified_at is not None
    assert not Verification.objects.filter(user_id=user_id).exists()
    settle_verifications(now=LATER)
    assert get_customer(user_id).version == 2


def test_a_dead_shard_does_not_hold_up_the_verifications_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    by_alias: dict[str, int] = {}
    with monkeypatch.context() as patched:
        patched.setattr(steps, "tell_shard", crash)
        while len(by_alias) < len(shard_aliases()):
            email = new_email()
            user_id = registered(email)
            by_alias[place_of_user(user_id).alias] = user_id
            with pytest.raises(Crash):
                verify_login(login=email, code=last_sent_code(email), now=NOW)
    dead, living = shard_aliases()
    tell_shard = steps.tell_shard

    def tell(verification: Verification, now: datetime) -> None:
        if place_of_user(verification.user_id).alias == dead:
            raise OperationalError(2003, "Can't connect")
        tell_shard(verification, now)

    monkeypatch.setattr(steps, "tell_shard", tell)
    settle_verifications(now=LATER)
    assert get_customer(by_alias[living]).email_verified_at is not None
    assert get_customer(by_alias[dead]).email_verified_at is None


def test_codes_are_cleared_a_day_after_they_expired() -> None:
    email = new_email()
    user_id = registered(email)
    SentMessage.objects.update(sent_at=NOW)
    purge_directory(now=NOW + timedelta(hours=1))
    assert last_sent_code(email) is not None
    assert Verification.objects.filter(user_id=user_id).exists()
    purge_directory(now=NOW + timedelta(days=2))
    assert not Verification.objects.filter(user_id=user_id).exists()
    assert last_sent_code(email) is None


def test_the_hourly_clearing_runs() -> None:
    tasks.settle_accepted_verifications()
    tasks.purge_expired()
