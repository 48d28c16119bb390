"""Runs flash sales from scripts: `flash_sale create|warm_up|pause|resume|end|cancel`."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from apps.inventory.errors import UnknownSku
from apps.orders.services import flash_sales
from apps.promotions.domain import SaleMode
from apps.promotions.errors import SaleChanged, SaleNotFound, SaleRefused
from apps.promotions.types import CONSOLE, NewItem, NewSale

_END_WITHIN_S: Final = 365 * 24 * 3600


class Command(BaseCommand):
    """Each action is one service call; `create` prints the sale's id alone on the last line."""

    help = "Make and run flash sales. `create` allots the units at once and prints the sale's id on its last line."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the actions and their arguments."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        create = actions.add_parser("create", help="make a sale and allot its units")
        for option, read, text in (
            ("--sku", str, "what is for sale; for a sale of several SKUs, repeat these four options for each"),
            ("--price", _price, "tax included, in the shop's currency"),
            ("--quota", _positive, "units for sale"),
            ("--per-user-limit", _positive, "units that one shopper may buy"),
        ):
            create.add_argument(option, required=True, action="append", type=read, help=text)
        create.add_argument("--starts-in", type=_seconds, default=0.0, metavar="SECONDS")
        create.add_argument("--lasts", required=True, type=_seconds, metavar="SECONDS")
        create.add_argument("--mode", choices=[mode.value for mode in SaleMode], default=SaleMode.DIRECT.value)
        create.add_argument("--require-token", action="store_true", help="ask buyers for a purchase token")
        create.add_argument(
            "--rehearse-with",
            action="append",
            default=[],
            type=int,
            metavar="USER_ID",
            help="make it a rehearsal, which only this shopper sees, and whose orders are taken back (may be repeated)",
        )
        create.add_argument("--name", default="", help="what shoppers see; the SKU's code if nothing is said")
        for action, text in (
            ("warm_up", "allot what is missing of the quotas"),
            ("pause", "sell nothing until it is resumed"),
            ("resume", "go on selling"),
            ("end", "end it now; what is unsold returns to stock"),
            ("cancel", "call it off: cancel and refund every order"),
        ):
            actions.add_parser(action, help=text).add_argument("sale_id", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what is asked; a refusal is told and fails."""
        actions: dict[str, Callable[[dict[str, Any]], None]] = {
            "create": self._create,
            "warm_up": self._warm_up,
            "pause": self._pause,
            "resume": self._resume,
            "end": self._end,
            "cancel": self._cancel,
        }
        try:
            actions[options["action"]](options)
        except (SaleRefused, SaleChanged, SaleNotFound, UnknownSku) as error:
            raise CommandError(str(error)) from error

    def _create(self, options: dict[str, Any]) -> None:
        now = timezone.now()
        starts_at = now + timedelta(seconds=options["starts_in"])
        items = _items(options)
        sale = flash_sales.open_sale(
            NewSale(
                name=options["name"] or ", ".join(options["sku"])[:120],
                starts_at=starts_at,
                ends_at=starts_at + timedelta(seconds=options["lasts"]),
                mode=SaleMode(options["mode"]),
                token_required=options["require_token"],
                items=items,
                rehearsal=bool(options["rehearse_with"]),
                testers=tuple(options["rehearse_with"]),
            ),
            by=CONSOLE,
            now=now,
        )
        if sale.awaits_approval:
            self.stdout.write(f"a draft until somebody approves it in the admin: {sale.approval_reason}")
        units = sum(item.quota for item in items)
        self.stdout.write(f"{sale.name}: {units} units, {sale.starts_at} to {sale.ends_at}, {sale.mode}")
        self.stdout.write(str(sale.id))

    def _warm_up(self, options: dict[str, Any]) -> None:
        for sku, quota in flash_sales.warm_up(options["sale_id"], now=timezone.now()).items():
            self.stdout.write(f"{sku}: {quota} units are allotted")

    def _pause(self, options: dict[str, Any]) -> None:
        self.stdout.write(str(flash_sales.pause_sale(options["sale_id"], now=timezone.now()).state))

    def _resume(self, options: dict[str, Any]) -> None:
        self.stdout.write(str(flash_sales.resume_sale(options["sale_id"], now=timezone.now()).state))

    def _end(self, options: dict[str, Any]) -> None:
        is_over = flash_sales.end_sale(options["sale_id"], now=timezone.now())
        self.stdout.write("ended" if is_over else "ending: some units are still on their way back")

    def _cancel(self, options: dict[str, Any]) -> None:
        is_over = flash_sales.cancel_sale(options["sale_id"], now=timezone.now())
        self.stdout.write("cancelled" if is_over else "cancelled; orders and units are still being taken back")


def _items(options: dict[str, Any]) -> tuple[NewItem, ...]:
    """Return the SKUs of a sale: the first of each of the four options belong together, then the second, and so on."""
    columns: Sequence[Sequence[Any]] = [options[name] for name in ("sku", "price", "quota", "per_user_limit")]
    if len({len(column) for column in columns}) > 1:
        raise CommandError("Give --sku, --price, --quota and --per-user-limit once for each SKU.")
    return tuple(NewItem(*row) for row in zip(*columns, strict=True))


def _price(text: str) -> Decimal:
    try:
        price = Decimal(text)
    except InvalidOperation as error:
        raise ArgumentTypeError(f"{text!r} is not an amount") from error
    if not price.is_finite() or not 0 < price < 10**9:
        raise ArgumentTypeError(f"{text!r} is not an amount above zero")
    return price


def _positive(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) < 2**31:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is not a whole number above zero")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds") from error
    if not 0 <= seconds <= _END_WITHIN_S:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to {_END_WITHIN_S}")
    return seconds
