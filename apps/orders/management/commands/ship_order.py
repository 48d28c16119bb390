"""`manage.py ship_order ORDER`: ships an order, or a part of it, as the staff's page does; for scripts."""

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from apps.orders.services.shipping import hand_over, prepare_shipment
from infra.errors import DomainError


def item_argument(text: str) -> tuple[str, int]:
    """Parse `SKU=3` for argparse."""
    sku, _, quantity = text.rpartition("=")
    if not sku or not (quantity.isascii() and quantity.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not SKU=QUANTITY")
    return sku, int(quantity)


class Command(BaseCommand):
    """Prepares a shipment and, with a tracking number, hands it over."""

    help = "Ship what is left of an order, or the items named; prints the shipment's id alone on the last line."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("order_id", type=int)
        parser.add_argument("--item", type=item_argument, action="append", help="SKU=QUANTITY; may be repeated")
        parser.add_argument("--carrier", default="", help="a carrier of SHIPPING_CARRIERS, or any other with --number")
        parser.add_argument("--number", default="", help="the tracking number: the shipment is handed over under it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Ship, and tell which shipment it is."""
        order_id, carrier, number = options["order_id"], options["carrier"], options["number"]
        now, actor = timezone.now(), "console"
        try:
            shipment = prepare_shipment(
                order_id=order_id,
                items=dict(options["item"]) if options["item"] else None,
                carrier="" if number else carrier,
                actor=actor,
                now=now,
            )
            if number:
                shipment = hand_over(
                    order_id=order_id, n=shipment.n, carrier=carrier, number=number, actor=actor, now=now
                )
        except DomainError as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stderr.write(f"{shipment.status}, {sum(share.units for share in shipment.items)} units")
        self.stdout.write(shipment.shipment_id)
