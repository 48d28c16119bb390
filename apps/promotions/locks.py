"""The only locking reads of promotions.

One global order, so that no two transactions wait for each other: customers (users), then allotments (sale and SKU
ascending), then purchases, then claims (slot and order ascending).
"""

from collections.abc import Collection

from django.db import connections

from apps.promotions import statements
from apps.promotions.errors import CouponNotFound
from apps.promotions.models import ClaimState, CouponTemplate
from apps.promotions.types import Allotment, ItemKey, SaleClaim


def lock_allotments(alias: str, items: Collection[ItemKey]) -> dict[ItemKey, Allotment]:
    """Lock the allotments of the items on one shard in ascending order and return those that exist."""
    return statements.read_allotments(alias, items, suffix=" FOR UPDATE")


def lock_claims(alias: str, order_ids: Collection[int], *, state: ClaimState) -> list[SaleClaim]:
    """Lock the claims of the orders and return those that are in the state."""
    if not order_ids:
        return []
    condition, parameters = statements.claim_keys(order_ids)
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT order_id, user_id, sale_id, sku, quantity, state FROM promotions_claim FORCE INDEX (PRIMARY) "  # noqa: S608
            f"WHERE {condition} ORDER BY slot, order_id FOR UPDATE",
            parameters,
        )
        return [claim for row in cursor.fetchall() if (claim := SaleClaim(*row)).state == state]


def lock_template(template_id: int) -> CouponTemplate:
    """Return a coupon template's row, locked until the transaction ends; raises CouponNotFound."""
    row = CouponTemplate.objects.using("promotions").select_for_update().filter(id=template_id).first()
    if row is None:
        raise CouponNotFound("There is no such coupon.")
    return row
