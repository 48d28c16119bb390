"""The statements over coupons on the shards, written as SQL: one round trip for a whole batch of orders.

They run on one shard, the writes inside the caller's transaction.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from django.db import connections

from apps.promotions.models import HeldCouponState
from apps.promotions.types import CouponKey, HeldCoupon, Redemption
from infra.sharding.slots import slot_of_user

_COLUMNS: Final = "id, user_id, template_id, state, order_id, discount, claimed_at, expires_at"


def read_coupons(alias: str, keys: Collection[CouponKey]) -> dict[CouponKey, HeldCoupon]:
    """Return those of the coupons that their users have; without locks."""
    if not keys:
        return {}
    rows = " OR ".join([_key_literal(user_id, coupon_id) for user_id, coupon_id in keys])
    with connections[alias].cursor() as cursor:
        cursor.execute(
            f"SELECT {_COLUMNS} FROM promotions_coupon FORCE INDEX (PRIMARY) "  # noqa: S608 - numbers
            f"WHERE ({rows}) AND state <> {HeldCouponState.VOID:d}"
        )
        return {(row[1], row[0]): _coupon(row) for row in cursor.fetchall()}


def usable_coupons(alias: str, user_id: int, *, now: datetime, limit: int) -> list[HeldCoupon]:
    """Return coupons of a user that are held and not over, those that end first at the front."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {_COLUMNS} FROM promotions_coupon FORCE INDEX (PRIMARY) "  # noqa: S608 - constants
            f"WHERE slot = %s AND user_id = %s AND state = {HeldCouponState.HELD:d} AND expires_at > %s "
            "ORDER BY expires_at, id LIMIT %s",
            [slot_of_user(user_id), user_id, connection.ops.adapt_datetimefield_value(now), limit],
        )
        return [_coupon(row) for row in cursor.fetchall()]


def redeem_coupons(alias: str, redemptions: Sequence[Redemption], *, now: datetime) -> int:
    """Let the orders have their coupons, if these are held and not over; return how many were.

    Locks the rows in the order of their keys. Fewer than asked means that the caller must roll back.
    """
    ordered = sorted(redemptions, key=lambda each: (slot_of_user(each.user_id), each.user_id, each.coupon_id))
    orders = " ".join([f"WHEN {each.coupon_id:d} THEN {each.order_id:d}" for each in ordered])
    discounts = " ".join([f"WHEN {each.coupon_id:d} THEN {each.discount:f}" for each in ordered])
    rows = " OR ".join([_key_literal(each.user_id, each.coupon_id) for each in ordered])
    connection = connections[alias]
    at = connection.ops.adapt_datetimefield_value(now)
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE promotions_coupon FORCE INDEX (PRIMARY) SET state = {HeldCouponState.REDEEMED:d}, "  # noqa: S608
            f"order_id = CASE id {orders} END, discount = CASE id {discounts} END, updated_at = %s "
            f"WHERE ({rows}) AND state = {HeldCouponState.HELD:d} AND expires_at > %s",
            [at, at],
        )
        return cursor.rowcount


def restore_coupons(alias: str, redeemed: Collection[tuple[int, int, int]], *, now: datetime) -> int:
    """Give coupons, named by (user, coupon, order), back to their users, where that order has them; return how many."""
    rows = " OR ".join(
        [
            f"({_key_literal(user_id, coupon_id)} AND order_id = {order_id:d})"
            for user_id, coupon_id, order_id in sorted(redeemed, key=lambda each: (slot_of_user(each[0]), each))
        ]
    )
    connection = connections[alias]
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE promotions_coupon FORCE INDEX (PRIMARY) SET state = {HeldCouponState.HELD:d}, "  # noqa: S608
            "order_id = NULL, discount = 0, updated_at = %s "
            f"WHERE ({rows}) AND state = {HeldCouponState.REDEEMED:d}",
            [connection.ops.adapt_datetimefield_value(now)],
        )
        return cursor.rowcount


def _key_literal(user_id: int, coupon_id: int) -> str:
    return f"(slot = {slot_of_user(user_id)} AND user_id = {user_id:d} AND id = {coupon_id:d})"


def _coupon(row: Sequence[Any]) -> HeldCoupon:
    coupon_id, user_id, template_id, state, order_id, discount, claimed_at, expires_at = row
    return HeldCoupon(
        id=coupon_id,
        user_id=user_id,
        template_id=template_id,
        state=state,
        order_id=order_id,
        discount=discount,
        claimed_at=claimed_at.replace(tzinfo=UTC),
        expires_at=expires_at.replace(tzinfo=UTC),
    )
