"""Celery tasks of orders: each is a scan for what is undone, run by beat (config/settings/celery.py)."""

from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from apps.orders.services.expiry import expire_orders
from apps.orders.services.figures import purge_figures, sum_up_figures
from apps.orders.services.flash_queue import drain_queues
from apps.orders.services.flash_sales import purge_sales, sweep_sales
from apps.orders.services.flash_transfers import resume_transfers
from apps.orders.services.free_orders import settle_free_orders
from apps.orders.services.payment_sweeps import drive_due_refunds, poll_due_payments
from apps.orders.services.reaper import reap_stale_holds
from apps.orders.services.receipt import complete_due_orders
from apps.orders.services.reconciliation import reconcile_day_before
from apps.orders.services.returns import restock_due_returns
from apps.orders.services.stock import sync_due_stock
from apps.orders.services.tracking import book_due_shipments
from infra.followups.rounds import shard_round


@shared_task(name="orders.sync_stock")
def sync_stock() -> None:
    """Settle, release or restock what paid and closed orders owe the stock."""
    sync_due_stock(now=timezone.now())


@shared_task(name="orders.expire_orders")
def expire_unpaid_orders() -> None:
    """End the orders that nobody paid in time."""
    expire_orders(now=timezone.now())


@shared_task(name="orders.reap_holds")
def reap_holds() -> None:
    """Give back the holds of attempts that never became an order."""
    reap_stale_holds(now=timezone.now())


@shared_task(name="payments.poll_attempts")
def poll_attempts() -> None:
    """Ask the providers about the attempts whose time has come."""
    poll_due_payments(now=timezone.now())


@shared_task(name="payments.drive_refunds")
def drive_refunds() -> None:
    """Bring refunds forward until they have ended."""
    drive_due_refunds(now=timezone.now())


@shared_task(name="orders.book_shipments")
def book_shipments() -> None:
    """Bring carriers in line with the shipments that are booked with them."""
    book_due_shipments(now=timezone.now())


@shared_task(name="orders.complete_orders")
def complete_shipped_orders() -> None:
    """Complete the orders that have been under way for long enough."""
    complete_due_orders(now=timezone.now())


@shared_task(name="orders.restock_returns")
def restock_returns() -> None:
    """Put back into stock what returns have brought."""
    restock_due_returns(now=timezone.now())


@shared_task(name="payments.reconcile")
def reconcile_yesterday() -> None:
    """Go on comparing yesterday of every provider with the ledger, until it is done."""
    reconcile_day_before(now=timezone.now())


@shared_task(name="orders.sweep_sales")
def sweep_flash_sales() -> None:
    """Begin the flash sales that are due, and close those that are over."""
    sweep_sales(now=timezone.now())


@shared_task(name="orders.resume_transfers")
def resume_open_transfers() -> None:
    """Bring units of flash sales that are on their way to where they go."""
    resume_transfers(now=timezone.now())


@shared_task(name="orders.drain_queues")
def drain_sale_queues() -> None:
    """Serve those who wait in the queues of flash sales."""
    drain_queues()


@shared_task(name="orders.purge_sales")
def purge_old_sales() -> None:
    """Clear what is kept of flash sales that were closed long ago."""
    purge_sales(now=timezone.now())


@shared_task(name="orders.settle_free")
def settle_orders_without_a_price() -> None:
    """Pay, or give back, the orders that cost nothing."""
    settle_free_orders(now=timezone.now())


@shared_task(name="orders.sum_up_figures")
def sum_up_hourly_figures() -> None:
    """Count what the outboxes tell, for the staff's start page."""
    sum_up_figures(now=timezone.now())


@shared_task(name="orders.purge_figures")
def purge_old_figures() -> None:
    """Clear figures of hours that no chart shows any more."""
    before = timezone.now() - timedelta(days=settings.FIGURE_RETENTION_DAYS)
    shard_round("orders.purge_figures", lambda alias: purge_figures(alias, before=before))
