"""What orders do with coupons: take them, give them back. Inside the caller's transaction on one shard."""

from collections.abc import Collection, Sequence
from datetime import datetime

from apps.promotions import coupon_statements
from apps.promotions.errors import CouponsChanged
from apps.promotions.types import Redemption


def redeem_coupons(alias: str, redemptions: Sequence[Redemption], *, now: datetime) -> None:
    """Let orders have coupons, each coupon named once; all of them or CouponsChanged (the caller rolls back).

    Concurrency: compare-and-set of each coupon from held to redeemed, so that of any number of orders one has it.
    """
    if coupon_statements.redeem_coupons(alias, redemptions, now=now) != len(redemptions):
        raise CouponsChanged(f"some of {len(redemptions)} coupons on {alias} are not held any more")


def restore_coupons(alias: str, redeemed: Collection[tuple[int, int, int]], *, now: datetime) -> None:
    """Give coupons back, each named by (user, coupon, order). One that its order does not have is left alone."""
    if redeemed:
        coupon_statements.restore_coupons(alias, redeemed, now=now)
