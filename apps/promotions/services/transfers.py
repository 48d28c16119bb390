"""The rows of a transfer: what the debtor writes with its debit, and the creditor with its credit.

    1. debit    the debtor's counter falls and the transfer is written, in one transaction; from here on it is owed
    2. credit   the creditor's counter rises and the receipt is written, in one transaction; the receipt's key is the
                transfer's id, so that a second credit writes nothing
    3. done     the debtor notes that the creditor has it

Whoever is killed between two of them leaves an open transfer, which the debtor's sweeper brings on from step 2.
"""

from datetime import datetime

from django.db import IntegrityError, connections

from apps.promotions.models import TransferReceipt, TransferRow, TransferState
from apps.promotions.types import ItemKey, Transfer
from infra.mysql.retry import is_duplicate_key
from infra.sharding.workers import new_id


def record_debit(alias: str, item: ItemKey, units: int, *, creditor: str, now: datetime) -> Transfer:
    """Write a transfer as open; call it in the transaction that takes the units from the debtor's counter."""
    sale_id, sku = item
    transfer = Transfer(id=new_id(), alias=alias, creditor=creditor, sale_id=sale_id, sku=sku, quantity=units)
    TransferRow(
        id=transfer.id,
        sale_id=sale_id,
        sku=sku,
        quantity=units,
        creditor=creditor,
        state=TransferState.OPEN,
        created_at=now,
    ).save(using=alias, force_insert=True)
    return transfer


def record_receipt(alias: str, transfer: Transfer, *, now: datetime) -> bool:
    """Write the receipt of a transfer, in the transaction that adds the units to the creditor's counter.

    False when the creditor has the units already: the caller adds nothing. Concurrency: a second credit of the same
    transfer waits here until the first has ended, and is then told so.
    """
    if TransferReceipt.objects.using(alias).filter(id=transfer.id).exists():
        return False
    connection = connections[alias]
    with connection.cursor() as cursor:
        try:
            cursor.execute(
                "INSERT INTO promotions_receipt (id, sale_id, sku, quantity, received_at) VALUES (%s, %s, %s, %s, %s)",
                [
                    transfer.id,
                    transfer.sale_id,
                    transfer.sku,
                    transfer.quantity,
                    connection.ops.adapt_datetimefield_value(now),
                ],
            )
        except IntegrityError as error:
            if is_duplicate_key(error):
                return False
            raise
    return True


def mark_done(transfer: Transfer) -> None:
    """Note at the debtor that the creditor has the units. Idempotent."""
    TransferRow.objects.using(transfer.alias).filter(id=transfer.id, state=TransferState.OPEN).update(
        state=TransferState.DONE
    )
