"""Makes and gives out coupons from scripts: `coupon create|grant|stop`."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from apps.promotions.domain import CouponKind
from apps.promotions.errors import TemplateRefused
from apps.promotions.services import change_template, create_template, grant_coupons
from apps.promotions.types import CouponTerms, NewTemplate
from infra.errors import DomainError


class Command(BaseCommand):
    """Each action is one service call; `create` and `grant` print ids, each alone on a line, last."""

    help = "Make coupon templates and give out coupons. `create` prints the template's id on its last line."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the actions and their arguments."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        create = actions.add_parser("create", help="make a template, whose coupons shoppers can claim")
        create.add_argument("--name", default="Coupon", help="what shoppers see")
        create.add_argument("--kind", required=True, choices=[kind.value for kind in CouponKind])
        create.add_argument(
            "--amount", type=_money, default=Decimal(0), help="what it takes off, in the shop's currency"
        )
        create.add_argument("--percent", type=_money, default=Decimal(0), help="what it takes off, of 100")
        create.add_argument("--max-discount", type=_money, help="what a percentage takes off at most")
        create.add_argument("--threshold", type=_money, default=Decimal(0), help="what the goods must come to")
        for option, read in (("--category", str), ("--product", int), ("--sku", str)):
            create.add_argument(option, action="append", default=[], type=read, help="what it is for (may be repeated)")
        create.add_argument("--stackable", action="store_true", help="goes together with other stackable coupons")
        create.add_argument("--lasts", type=_seconds, default=30 * 24 * 3600.0, metavar="SECONDS")
        create.add_argument("--valid-days", type=int, help="a coupon ends so long after its claim, if that is sooner")
        create.add_argument("--total", type=int, help="how many are given out; no limit if nothing is said")
        create.add_argument("--per-user", type=int, default=1, help="how many one shopper may have")
        create.add_argument("--unlisted", action="store_true", help="given out by the staff only")
        grant = actions.add_parser("grant", help="give users a coupon each")
        grant.add_argument("template_id", type=int)
        grant.add_argument("user_ids", type=int, nargs="+", metavar="USER_ID")
        stop = actions.add_parser("stop", help="let a template's coupons be neither claimed nor used")
        stop.add_argument("template_id", type=int)
        for action in (create, grant, stop):
            action.add_argument("--reason", default="by a script", help="kept with what was done")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what is asked; a refusal is told and fails."""
        actions: dict[str, Callable[[dict[str, Any]], None]] = {
            "create": self._create,
            "grant": self._grant,
            "stop": self._stop,
        }
        try:
            actions[options["action"]](options)
        except (TemplateRefused, DomainError) as error:
            raise CommandError(str(error)) from error

    def _create(self, options: dict[str, Any]) -> None:
        now = timezone.now()
        template = create_template(
            NewTemplate(
                name=options["name"],
                terms=CouponTerms(
                    kind=CouponKind(options["kind"]),
                    currency=settings.CURRENCY,
                    amount=options["amount"],
                    percent=options["percent"],
                    max_discount=options["max_discount"],
                    threshold=options["threshold"],
                    categories=frozenset(options["category"]),
                    products=frozenset(options["product"]),
                    skus=frozenset(options["sku"]),
                    stackable=options["stackable"],
                ),
                starts_at=now,
                ends_at=now + timedelta(seconds=options["lasts"]),
                valid_days=options["valid_days"],
                total_limit=options["total"],
                per_user_limit=options["per_user"],
                is_listed=not options["unlisted"],
            ),
            by="console",
            reason=options["reason"],
            now=now,
        )
        self.stdout.write(f"{template.name}: {template.terms.kind}, until {template.ends_at}")
        self.stdout.write(str(template.id))

    def _grant(self, options: dict[str, Any]) -> None:
        coupon_ids = grant_coupons(
            user_ids=options["user_ids"],
            template_id=options["template_id"],
            by="console",
            reason=options["reason"],
            now=timezone.now(),
        )
        self.stdout.write("\n".join(map(str, coupon_ids)))

    def _stop(self, options: dict[str, Any]) -> None:
        template = change_template(
            options["template_id"], {"is_active": False}, by="console", reason=options["reason"], now=timezone.now()
        )
        self.stdout.write(f"{template.name} is stopped")


def _money(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise ArgumentTypeError(f"{text!r} is no amount") from None
    if not amount.is_finite() or amount < 0 or amount != round(amount, 2):
        raise ArgumentTypeError(f"{text!r} is not an amount with at most two decimals")
    return amount


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 10 * 365 * 24 * 3600:
        raise ArgumentTypeError("a time is above zero, and at most ten years")
    return seconds
