"""Background work of the users app: scans for what a crash left undone, and retention."""

from datetime import UTC, datetime

from celery import shared_task

from apps.users.services.erasure import drive_erasures
from apps.users.services.exports import drive_exports, purge_exports
from apps.users.services.registration import reap_orphan_customers
from apps.users.services.retention import purge_directory, purge_shard
from apps.users.services.verification import settle_verifications
from infra.followups.rounds import round_over
from infra.sharding.places import shard_aliases


@shared_task(name="users.reap_orphan_customers")
def reap_orphans() -> None:
    """Confirm or take back registrations that stalled, on every shard."""
    round_over(
        shard_aliases(),
        "users.reap_orphan_customers",
        lambda alias: reap_orphan_customers(alias=alias, now=datetime.now(UTC)),
    )


@shared_task(name="users.settle_verifications")
def settle_accepted_verifications() -> None:
    """Tell the shards of verifications that a crash left half done."""
    settle_verifications(now=datetime.now(UTC))


@shared_task(name="users.purge_expired")
def purge_expired() -> None:
    """Delete expired sessions, old rows of the feed of ended ones, and codes that are over."""
    purge_directory(now=datetime.now(UTC))
    round_over(shard_aliases(), "users.purge_expired", lambda alias: purge_shard(alias=alias, now=datetime.now(UTC)))


@shared_task(name="users.drive_erasures")
def drive_due_erasures() -> None:
    """Go on with the erasures of accounts that were ended."""
    round_over(
        shard_aliases(), "users.drive_erasures", lambda alias: drive_erasures(alias=alias, now=datetime.now(UTC))
    )


@shared_task(name="users.drive_exports")
def drive_due_exports() -> None:
    """Go on with collecting the data that customers have asked for."""
    round_over(shard_aliases(), "users.drive_exports", lambda alias: drive_exports(alias=alias, now=datetime.now(UTC)))


@shared_task(name="users.purge_exports")
def purge_old_exports() -> None:
    """Delete the data that was kept for customers long enough."""
    round_over(shard_aliases(), "users.purge_exports", lambda alias: purge_exports(alias=alias, now=datetime.now(UTC)))
