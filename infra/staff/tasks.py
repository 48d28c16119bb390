"""Background work of the staff's site, run by beat."""

from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from infra.events.retention import delete_older
from infra.sharding.placement import HOME
from infra.staff.bulk import run_bulk_jobs
from infra.staff.exports import expire_exports, run_exports


@shared_task(name="staff.run_exports")
def write_exports() -> None:
    """Write what is asked for, and delete what is over."""
    now = timezone.now()
    run_exports(now=now)
    expire_exports(now=now)


@shared_task(name="staff.run_bulk_jobs")
def go_on_with_bulk_jobs() -> None:
    """Do what is left of the jobs that were started."""
    run_bulk_jobs(now=timezone.now())


@shared_task(name="staff.purge_log")
def purge_log() -> None:
    """Clear what the log has kept for its time, and who had taken what is long gone."""
    before = timezone.now() - timedelta(days=settings.STAFF_LOG_RETENTION_DAYS)
    delete_older(HOME, table="staff_action", column="at", before=before)
    delete_older(HOME, table="staff_queue_owner", column="taken_at", before=before)
    delete_older(HOME, table="staff_approval", column="asked_at", before=before)
    delete_older(HOME, table="staff_export", column="expires_at", before=before)
    delete_older(HOME, table="staff_bulk_item", column="made_at", before=before)
    delete_older(HOME, table="staff_bulk_job", column="made_at", before=before)
