"""Callbacks: verified, stored beside their effect, and told to the staff where nobody else can settle them."""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import IntegrityError

from apps.payments import metrics
from apps.payments.errors import CallbackRepeated, PaymentNotFound
from apps.payments.models import Callback
from apps.payments.providers.registry import find_provider, get_provider
from apps.payments.types import CallbackNotice, CallbackResult
from infra.sharding.places import Place, shard_aliases

_log = logging.getLogger(__name__)

_DUPLICATE_ENTRY: Final = 1062


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
        if error.args and error.args[0] == _DUPLICATE_ENTRY:
            raise CallbackRepeated(notice.event_id) from error
        raise


def purge_callbacks(*, now: datetime, batch: int = 1000) -> int:
    """Delete one batch of deliveries older than their retention on each shard; return how many."""
    before = now - timedelta(days=settings.PAYMENT_CALLBACK_RETENTION_DAYS)
    deleted_count = 0
    for alias in shard_aliases():
        for slot, provider, account, event_id in list(
            Callback.objects.on_shard(alias)
            .filter(received_at__lt=before)
            .order_by("received_at")
            .values_list("slot", "provider", "account", "event_id")[:batch]
        ):
            deleted_count += (
                Callback.objects.on_shard(alias)
                .filter(slot=slot, provider=provider, account=account, event_id=event_id)
                .delete()[0]
            )
    return deleted_count


def count_callback(notice: CallbackNotice, result: str) -> None:
    """Count a delivery by what became of it, once that is committed."""
    metrics.CALLBACKS.labels(notice.provider, result).inc()


def alert_staff(*, provider: str, kind: str, reference: str, detail: str) -> None:
    """Tell the staff, by log and metric, of a provider's word that nobody but they can settle."""
    metrics.ALERTS.labels(provider, kind).inc()
    _log.error("payment alert: %s of %s at %s: %s", kind, reference, provider, detail)
