"""Background work of request signing."""

from datetime import UTC, datetime

from celery import shared_task

from infra.signing.services import purge_nonces


@shared_task(name="signing.purge_nonces")
def purge_old_nonces() -> None:
    """Delete the nonces that no request can use any more."""
    purge_nonces(now=datetime.now(UTC))
