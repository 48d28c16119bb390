"""What a shard may sell: debits, credits and the closing of allotments. One transaction on one shard each."""

from collections.abc import Collection
from datetime import datetime
from functools import partial

from django.db import IntegrityError, transaction

from apps.promotions import locks, statements
from apps.promotions.errors import TransferMismatch
from apps.promotions.models import AllotmentRow
from apps.promotions.services.transfers import record_debit, record_receipt
from apps.promotions.types import STOCK, ItemKey, Transfer
from infra.mysql.retry import is_duplicate_key, with_deadlock_retry


def debit_allotment(alias: str, item: ItemKey, units: int, *, creditor: str, now: datetime) -> Transfer | None:
    """Take unsold units from an open allotment, to be credited elsewhere; None if it has fewer by now.

    Concurrency: one guarded UPDATE, so that units which are being sold are never given away.
    """

    def debit() -> Transfer | None:
        with transaction.atomic(using=alias):
            if statements.take_quota(alias, item, units) != 1:
                return None
            return record_debit(alias, item, units, creditor=creditor, now=now)

    return with_deadlock_retry(debit)


def receive(alias: str, transfer: Transfer, *, now: datetime) -> Transfer | None:
    """Add a transfer's units to the shard's allotment, once; return the transfer that sends them on, if any.

    A closed allotment sells nothing more: what still comes for it goes on to stock in the same transaction.
    """
    return with_deadlock_retry(partial(_receive, alias, transfer, now))


def _receive(alias: str, transfer: Transfer, now: datetime) -> Transfer | None:
    item = transfer.sale_id, transfer.sku
    try:
        with transaction.atomic(using=alias):
            if not record_receipt(alias, transfer, now=now):
                return None
            if statements.add_quota(alias, item, transfer.quantity):
                return None
            if item in locks.lock_allotments(alias, [item]):
                return record_debit(alias, item, transfer.quantity, creditor=STOCK, now=now)
            AllotmentRow(sale_id=transfer.sale_id, sku=transfer.sku, quota=transfer.quantity).save(
                using=alias, force_insert=True
            )
            return None
    except IntegrityError as error:
        if not is_duplicate_key(error):
            raise
        return _receive(alias, transfer, now)  # another credit has just made the row


def close_allotments(alias: str, items: Collection[ItemKey], *, now: datetime) -> list[Transfer]:
    """Let the shard sell nothing more of the items; return what goes back to stock.

    Idempotent: closed allotments are left as they are. An item that has no row here gets a closed one, so that a
    credit which is still to come finds the sale closed. Concurrency: under the rows' locks, quota := sold in one
    guarded write each.
    """
    return [
        transfer
        for item in sorted(items)
        if (transfer := with_deadlock_retry(partial(_close, alias, item, now))) is not None
    ]


def _close(alias: str, item: ItemKey, now: datetime) -> Transfer | None:
    sale_id, sku = item
    try:
        with transaction.atomic(using=alias):
            allotment = locks.lock_allotments(alias, [item]).get(item)
            if allotment is None:
                AllotmentRow(sale_id=sale_id, sku=sku, quota=0, closed=True).save(using=alias, force_insert=True)
                return None
            if allotment.closed:
                return None
            if statements.close_allotment(alias, item, unsold=allotment.unsold) != 1:
                raise TransferMismatch(f"The allotment of {sku} in sale {sale_id} changed under its lock.")
            if allotment.unsold == 0:
                return None
            return record_debit(alias, item, allotment.unsold, creditor=STOCK, now=now)
    except IntegrityError as error:
        if not is_duplicate_key(error):
            raise
        return _close(alias, item, now)  # a credit has just made the row
