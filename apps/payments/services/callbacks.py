"""Callbacks: verified, stored beside their effect, and told to the staff where nobody else can settle them."""

import logging
import time
from collections.abc import Mapping
from datetime import datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, connections

from apps.payments import metrics
from apps.payments.errors import CallbackRepeated, PaymentNotFound
from apps.payments.models import Callback
from apps.payments.providers.registry import find_provider, get_provider
from apps.payments.types import CallbackNotice, CallbackResult
from infra.mysql.errors import is_duplicate_key
from infra.sharding.places import Place

_log = logging.getLogger(__name__)


def read_callback(provider_name: str, *, headers: Mapping[str, str], raw_body: bytes, now: datetime) -> CallbackNotice:
    """Verify a delivery and read it. Raises PaymentNotFound (no such provider), SignatureInvalid, CallbackMalformed."""
    provider = find_provider(provider_name)
    if provider is None:
        raise PaymentNotFound("There is no such provider.")
    return provider.parse_callback(headers, raw_body, now=now)


def is_own_account(notice: CallbackNotice) -> bool:
    """Tell whether a callback is for our merchant account at its provider."""
    return notice.account == get_provider(notice.provider).account


def callback_was_seen(place: Place, notice: CallbackNotice) -> bool:
    """Tell whether this delivery was stored before."""
    return (
        Callback.objects.at(place)
        .filter(provider=notice.provider, account=notice.account, event_id=notice.event_id)
        .exists()
    )


def store_callback(
    place: Place, notice: CallbackNotice, *, order_id: int, result: CallbackResult, now: datetime
) -> None:
    """Write a delivery beside its effect. Raises CallbackRepeated, upon which the caller rolls the effect back."""
    alert = result in (CallbackResult.CONTRADICTION, CallbackResult.MISMATCH)
    row = Callback(
        slot=place.slot,
        provider=notice.provider,
        account=notice.account,
        event_id=notice.event_id,
        order_id=order_id,
        reference=notice.reference,
        raw_body=notice.raw_body,
        result=result,
        alert=alert,
        received_at=now,
    )
    try:
        row.save(using=place.alias, force_insert=True)
    except IntegrityError as error:
        if is_duplicate_key(error):
            raise CallbackRepeated(notice.event_id) from error
        raise


def purge_callbacks(
    alias: str, *, now: datetime, batch_rows: int = 1000, pause_s: float = 0.05, deadline_s: float = 30.0
) -> int:
    """Delete a shard's deliveries that are older than their retention and return how many.

    Small batches with a pause between them, so that neither the shard nor its replicas notice; what is left after
    `deadline_s` seconds is for the next call.
    """
    retention = timedelta(days=settings.PAYMENT_CALLBACK_RETENTION_DAYS)
    before = connections[alias].ops.adapt_datetimefield_value(now - retention)
    stop_at = time.monotonic() + deadline_s
    deleted_count = 0
    while time.monotonic() < stop_at:
        with connections[alias].cursor() as cursor:
            cursor.execute("DELETE FROM payments_callback WHERE received_at < %s LIMIT %s", [before, batch_rows])
            batch_count = cursor.rowcount
        deleted_count += batch_count
        if batch_count < batch_rows:
            break
        time.sleep(pause_s)
    return deleted_count


def count_callback(notice: CallbackNotice, result: str) -> None:
    """Count a delivery by what became of it, once that is committed."""
    metrics.CALLBACKS.labels(notice.provider, result).inc()


def alert_staff(*, provider: str, kind: str, reference: str, detail: str) -> None:
    """Tell the staff, by log and metric, of a provider's word that nobody but they can settle."""
    metrics.ALERTS.labels(provider, kind).inc()
    _log.error("payment alert: %s of %s at %s: %s", kind, reference, provider, detail)
