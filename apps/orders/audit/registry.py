"""The list of all checks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from apps.inventory.places import inventory_aliases
from apps.orders.audit import (
    coupons,
    customers,
    flash,
    orders,
    outbox,
    payments,
    placement,
    points,
    reservations,
    shipments,
    stock,
)
from apps.orders.audit.findings import Finding
from infra.outbox.services import outbox_aliases
from infra.sharding.places import shard_aliases


@dataclass(frozen=True, slots=True)
class Check:
    """A check, run once for each alias that it is for; its first argument is the alias."""

    find: Callable[[str, datetime], Iterator[Finding]]
    aliases: Callable[[], Sequence[str]]

    @property
    def title(self) -> str:
        """What the check makes sure of, as its docstring says."""
        return (self.find.__doc__ or self.find.__name__).splitlines()[0]


def _across() -> Sequence[str]:
    """Stand for all databases at once: the check compares them."""
    return ("all",)


def _holders_of_units() -> Sequence[str]:
    """Return the databases between which units of flash sales are moved."""
    return (*inventory_aliases(), *shard_aliases())


CHECKS: Final = (
    Check(stock.counters_within_bounds, inventory_aliases),
    Check(stock.reserved_is_what_is_held, inventory_aliases),
    Check(reservations.reservations_agree_with_orders, _across),
    Check(flash.allotments_within_bounds, shard_aliases),
    Check(flash.quotas_are_what_was_transferred, shard_aliases),
    Check(flash.sold_is_what_is_claimed, shard_aliases),
    Check(flash.purchases_are_what_is_claimed, shard_aliases),
    Check(flash.claims_agree_with_orders, shard_aliases),
    Check(flash.tickets_agree_with_orders, shard_aliases),
    Check(flash.transfers_end, _holders_of_units),
    Check(flash.transfers_have_their_receipts, _across),
    Check(flash.allotted_is_what_the_shards_have, _across),
    Check(flash.sales_end_in_time, _across),
    Check(coupons.counters_are_what_is_claimed, lambda: ("promotions",)),
    Check(coupons.claims_end, lambda: ("promotions",)),
    Check(coupons.coupons_are_what_is_claimed, _across),
    Check(coupons.coupons_agree_with_orders, shard_aliases),
    Check(coupons.line_shares_sum_to_the_order, shard_aliases),
    Check(orders.totals_add_up, shard_aliases),
    Check(orders.lines_sum_to_the_subtotal, shard_aliases),
    Check(orders.versions_have_no_gaps, shard_aliases),
    Check(orders.payments_have_their_order, shard_aliases),
    Check(orders.orders_have_their_customer, shard_aliases),
    Check(orders.unpaid_orders_expire, shard_aliases),
    Check(payments.money_agrees_with_the_order, shard_aliases),
    Check(payments.holds_agree_with_the_order, shard_aliases),
    Check(payments.refunds_within_capture, shard_aliases),
    Check(payments.refunds_agree_with_the_lines, shard_aliases),
    Check(payments.open_payments_are_followed, shard_aliases),
    Check(payments.refunding_ends, shard_aliases),
    Check(points.entries_are_allowed, shard_aliases),
    Check(points.balances_are_what_was_booked, shard_aliases),
    Check(points.lots_are_what_was_booked, shard_aliases),
    Check(points.points_agree_with_orders, shard_aliases),
    Check(points.lots_expire, shard_aliases),
    Check(shipments.shipped_is_within_what_was_bought, shard_aliases),
    Check(shipments.shipments_have_their_order, shard_aliases),
    Check(shipments.fulfillment_agrees_with_shipments, shard_aliases),
    Check(shipments.bookings_are_followed, shard_aliases),
    Check(shipments.returns_are_refunded_and_restocked, shard_aliases),
    Check(payments.reconciliation_goes_on, lambda: ("default",)),
    Check(placement.month_rows_are_where_their_id_says, shard_aliases),
    Check(placement.slots_are_on_their_shard, shard_aliases),
    Check(placement.customers_are_in_their_slot, shard_aliases),
    Check(placement.fences_agree_with_the_map, shard_aliases),
    Check(placement.partitions_are_as_registered, shard_aliases),
    Check(placement.partitions_are_small, shard_aliases),
    Check(placement.months_are_made_ahead, shard_aliases),
    Check(outbox.events_have_no_gaps, outbox_aliases),
    Check(outbox.orders_have_told_their_version, shard_aliases),
    Check(outbox.customers_have_told_their_version, shard_aliases),
    Check(outbox.sales_have_told_their_version, lambda: ("promotions",)),
    Check(outbox.events_leave_in_time, outbox_aliases),
    Check(outbox.follow_ups_are_done_in_time, shard_aliases),
    Check(customers.registrations_end, shard_aliases),
    Check(customers.accounts_end, shard_aliases),
    Check(customers.customers_agree_with_the_directory, _across),
)
