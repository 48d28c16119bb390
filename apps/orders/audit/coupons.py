"""Coupons: what was claimed against what is held, and what orders took off against the coupons that they have."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings

from apps.orders.audit.findings import BACKLOG_BOUND_S, Finding
from apps.orders.audit.reading import (
    MAX_FINDINGS,
    MAX_SLOTS_READ,
    MonthTables,
    differing_slots,
    fetch,
    months_of,
    utc,
)
from apps.orders.models import OrderKind
from apps.promotions.models import CouponClaimState, HeldCouponState
from apps.promotions.services import settle_claims
from infra.sharding.ids import first_id_at
from infra.sharding.places import shard_aliases

_PROMOTIONS: Final = "promotions"
_BUCKET: Final = "CRC32(id) & 1023"
_SUM: Final = "COUNT(*), SUM(CRC32(CONCAT(id, ':', template_id, ':', user_id)))"
_THERE: Final = f"state <> {HeldCouponState.VOID:d}"
_REDEEMED: Final = f"c.state = {HeldCouponState.REDEEMED:d}"
_ENDED: Final = "'cancelled', 'expired', 'refunded'"
# Imported orders had their discounts elsewhere.
_OURS: Final = f"o.kind = {OrderKind.REAL:d} AND o.source = ''"


def counters_are_what_is_claimed(alias: str, now: datetime) -> Iterator[Finding]:
    """What each coupon template has counted is the number of its claims, and within its total."""
    for template_id, counted, total, claims in fetch(
        alias,
        "SELECT t.id, t.claimed_count, t.total_limit, COALESCE(c.claims, 0) FROM promotions_coupon_template t "
        "LEFT JOIN (SELECT template_id, COUNT(*) AS claims FROM promotions_coupon_claim GROUP BY template_id) c "
        "ON c.template_id = t.id WHERE t.purged_at IS NULL "
        f"AND (t.claimed_count <> COALESCE(c.claims, 0) OR t.claimed_count > t.total_limit) LIMIT {MAX_FINDINGS}",
    ):
        limit = "without a limit" if total is None else f"of {total}"
        yield Finding("coupons", alias, f"template {template_id}", f"{counted} counted, {claims} claimed, {limit}")


def claims_end(alias: str, now: datetime) -> Iterator[Finding]:
    """No claim of a coupon stays half done."""
    for coupon_id, deadline_at in fetch(
        alias,
        f"SELECT id, deadline_at FROM promotions_coupon_claim WHERE state = {CouponClaimState.PENDING:d} "
        f"ORDER BY deadline_at LIMIT {MAX_FINDINGS}",
    ):
        yield Finding(
            "coupons",
            alias,
            f"claim of coupon {coupon_id}",
            f"still pending, {deadline_at:%Y-%m-%d %H:%M:%S} was its time",
            since=utc(deadline_at),
            bound_s=BACKLOG_BOUND_S,
            mend=_settle,
        )


def coupons_are_what_is_claimed(_: str, now: datetime) -> Iterator[Finding]:
    """Each coupon on a shard has its claim, and each finished claim its coupon."""
    # Cleared at different times: what ended long ago is left out.
    floor = first_id_at(now - timedelta(days=settings.COUPON_RETENTION_DAYS - 1))
    claimed, held = _sums(floor)
    buckets = sorted(each for each in claimed.keys() | held.keys() if claimed.get(each) != held.get(each))
    for bucket in buckets[:MAX_SLOTS_READ]:
        yield from _compare_bucket(bucket, floor)
    if len(buckets) > MAX_SLOTS_READ:
        yield Finding("coupons", "all", "further coupons", f"{len(buckets) - MAX_SLOTS_READ} more buckets differ")


def _sums(floor: int) -> tuple[dict[int, tuple[int, int]], dict[int, tuple[int, int]]]:
    """Return count and checksum by bucket: of finished claims, and of coupons on all shards."""
    done = f"SELECT {_BUCKET}, {_SUM} FROM promotions_coupon_claim WHERE state = {CouponClaimState.DONE:d} AND id >= %s"
    claimed = {
        bucket: (count, int(checksum)) for bucket, count, checksum in fetch(_PROMOTIONS, f"{done} GROUP BY 1", [floor])
    }
    held: dict[int, tuple[int, int]] = {}
    for alias in shard_aliases():
        there = f"SELECT {_BUCKET}, {_SUM} FROM promotions_coupon WHERE {_THERE} AND id >= %s GROUP BY 1"
        for bucket, count, checksum in fetch(alias, there, [floor]):
            known_count, known_checksum = held.get(bucket, (0, 0))
            held[bucket] = known_count + count, known_checksum + int(checksum)
    return claimed, held


def _compare_bucket(bucket: int, floor: int) -> Iterator[Finding]:
    """Compare a bucket row by row. The claims are read last: each is written before its coupon."""
    held: dict[int, tuple[str, int, int, datetime]] = {}
    condition = f"{_BUCKET} = %s AND id >= %s"
    for alias in shard_aliases():
        for coupon_id, template_id, user_id, claimed_at in fetch(
            alias,
            f"SELECT id, template_id, user_id, claimed_at FROM promotions_coupon WHERE {_THERE} AND {condition}",
            [bucket, floor],
        ):
            held[coupon_id] = alias, template_id, user_id, claimed_at
    claimed = {
        coupon_id: (state, template_id, user_id, deadline_at)
        for coupon_id, state, template_id, user_id, deadline_at in fetch(
            _PROMOTIONS,
            f"SELECT id, state, template_id, user_id, deadline_at FROM promotions_coupon_claim WHERE {condition}",
            [bucket, floor],
        )
    }
    for coupon_id, (alias, template_id, user_id, claimed_at) in held.items():
        claim = claimed.get(coupon_id)
        if claim is None or claim[1:3] != (template_id, user_id):
            what = "nobody has claimed it" if claim is None else "its claim is for another template or user"
            yield Finding("coupons", alias, f"coupon {coupon_id}", f"held since {claimed_at:%Y-%m-%d %H:%M:%S}: {what}")
    for coupon_id, (state, _, user_id, deadline_at) in claimed.items():
        if state == CouponClaimState.DONE and coupon_id not in held:
            # A claim that was finished between the two readings has its coupon by the next one.
            yield Finding(
                "coupons",
                _PROMOTIONS,
                f"coupon {coupon_id}",
                f"claimed by user {user_id}, and on no shard",
                since=utc(deadline_at),
            )


def coupons_agree_with_orders(alias: str, now: datetime) -> Iterator[Finding]:
    """Each redeemed coupon is one of its order's, which has not ended; each such order has all of its coupons."""
    floor = first_id_at(now - timedelta(days=settings.COUPON_RETENTION_DAYS - 1))
    for month in months_of(alias):
        yield from _misplaced(alias, month)
        yield from _unlike_their_coupons(alias, month, floor)


def _misplaced(alias: str, month: MonthTables) -> Iterator[Finding]:
    """Find coupons that are redeemed for an order that is not there, does not name them, or has ended."""
    for coupon_id, order_id, status, names_it in fetch(
        alias,
        "SELECT c.id, c.order_id, o.status, FIND_IN_SET(c.id, o.coupons) > 0 AND o.user_id = c.user_id "
        f"FROM promotions_coupon c LEFT JOIN {month.order} o ON o.slot = c.slot AND o.id = c.order_id "
        f"AND o.kind = {OrderKind.REAL:d} "
        f"WHERE {_REDEEMED} AND c.order_id >= %s AND c.order_id < %s AND (o.id IS NULL "
        f"OR FIND_IN_SET(c.id, o.coupons) = 0 OR o.user_id <> c.user_id OR o.status IN ({_ENDED})) "
        f"LIMIT {MAX_FINDINGS}",
        [month.month.first_id, month.month.next().first_id],
    ):
        what = "which is not there" if status is None else f"which is {status}" if names_it else "which is without it"
        yield Finding("coupons", alias, f"coupon {coupon_id}", f"redeemed for order {order_id}, {what}")


def _unlike_their_coupons(alias: str, month: MonthTables, floor: int) -> Iterator[Finding]:
    """Find orders whose coupons, or what these take off, are not what the order says."""
    named = "IF(o.coupons = '', 0, 1 + LENGTH(o.coupons) - LENGTH(REPLACE(o.coupons, ',', '')))"
    for order_id, coupons, discount, count, taken in fetch(
        alias,
        f"SELECT o.id, o.coupons, o.discount, COALESCE(c.coupons, 0), COALESCE(c.taken, 0) FROM {month.order} o "
        "LEFT JOIN (SELECT c.slot, c.order_id, COUNT(*) AS coupons, SUM(c.discount) AS taken FROM promotions_coupon c "
        f"WHERE {_REDEEMED} GROUP BY c.slot, c.order_id) c ON c.slot = o.slot AND c.order_id = o.id "
        f"WHERE {_OURS} AND o.id >= %s AND (o.coupons <> '' OR o.discount <> 0) AND o.status NOT IN ({_ENDED}) "
        f"AND (COALESCE(c.coupons, 0) <> {named} OR COALESCE(c.taken, 0) <> o.discount) LIMIT {MAX_FINDINGS}",
        [floor],
    ):
        yield Finding(
            "coupons",
            alias,
            f"order {order_id}",
            f"discount {discount:f} by {coupons or 'no coupon'}; it has {count}, which take off {taken:f}",
        )


def line_shares_sum_to_the_order(alias: str, now: datetime) -> Iterator[Finding]:
    """The lines' shares of discount and points sum to the order's, and no line costs less than nothing."""
    for month in months_of(alias):
        for order_id, line in fetch(
            alias,
            f"SELECT order_id, line FROM {month.line} WHERE discount < 0 OR points_value < 0 "
            f"OR discount + points_value > line_total LIMIT {MAX_FINDINGS}",
        ):
            yield Finding("coupons", alias, f"order {order_id}, line {line}", "its shares are more than it costs")
        shared = f"SELECT slot, order_id, SUM(discount) AS discounts, SUM(points_value) AS points FROM {month.line}"
        slots = differing_slots(
            alias,
            f"SELECT o.slot, COUNT(*), SUM(CRC32(CONCAT(o.id, ':', o.discount, ':', o.points_value))) "
            f"FROM {month.order} o WHERE {_OURS} AND (o.discount <> 0 OR o.points_value <> 0) GROUP BY o.slot",
            "SELECT slot, COUNT(*), SUM(CRC32(CONCAT(order_id, ':', discounts, ':', points))) "
            f"FROM ({shared} WHERE discount <> 0 OR points_value <> 0 GROUP BY slot, order_id) l GROUP BY slot",
        )
        if not slots:
            continue
        for order_id, discount, points, discounts, point_shares in fetch(
            alias,
            f"SELECT o.id, o.discount, o.points_value, COALESCE(l.discounts, 0), COALESCE(l.points, 0) "
            f"FROM {month.order} o LEFT JOIN ({shared} WHERE slot IN ({slots}) GROUP BY slot, order_id) l "
            f"ON l.slot = o.slot AND l.order_id = o.id WHERE o.slot IN ({slots}) AND {_OURS} "
            "AND (o.discount <> COALESCE(l.discounts, 0) OR o.points_value <> COALESCE(l.points, 0)) "
            f"LIMIT {MAX_FINDINGS}",
        ):
            yield Finding(
                "coupons",
                alias,
                f"order {order_id}, shares",
                f"discount {discount:f} and points {points:f}; its lines {discounts:f} and {point_shares:f}",
            )


def _settle(now: datetime) -> None:
    settle_claims(now=now)
