"""The staff's calendar of flash sales: what comes when, which sales share a SKU, and whether stock has enough."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import Final

from django import forms
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.inventory.places import inventory_aliases
from apps.inventory.selectors import available
from apps.orders.staff.flash_pages import VIEW, need, page
from apps.promotions.domain import LIVE_STATES, Phase, SaleState
from apps.promotions.selectors import allotted_units, sales_between
from apps.promotions.types import ItemKey, Sale

DAYS_A_PAGE: Final = 14
SALES_A_PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class StockCheck:
    """What stock has to say to an item of a sale that has not begun: its quota, allotted so far, free beyond that.

    `short` units are missing once all sales that come before it have had what they miss.
    """

    sku: str
    quota: int
    allotted: int
    free: int
    short: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A sale in the calendar; `overlaps` are sales that sell one of its SKUs at the same time."""

    sale: Sale
    phase: Phase
    overlaps: Sequence[tuple[str, Sale]]
    stock: Sequence[StockCheck]


class DayForm(forms.Form):
    """The first day that is shown."""

    day = forms.DateField(required=False)


def calendar(request: HttpRequest) -> HttpResponse:
    """Show two weeks of sales by their start, with overlaps and the check of stock."""
    need(request, VIEW)
    now = timezone.now()
    form = DayForm(request.GET)
    day: date = (form.cleaned_data["day"] if form.is_valid() else None) or now.date()
    first = datetime.combine(min(max(day, date(2010, 1, 1)), date(2070, 1, 1)), time(), UTC)
    last = first + timedelta(days=DAYS_A_PAGE)
    sales = sales_between(first, last, limit=SALES_A_PAGE)
    entries = _entries(sales, now=now)
    context = {
        "days": [
            (day, list(members)) for day, members in groupby(entries, key=lambda entry: entry.sale.starts_at.date())
        ],
        "first": first,
        "last": last - timedelta(days=1),
        "earlier": first - timedelta(days=DAYS_A_PAGE),
        "later": last,
        "is_cut": len(sales) == SALES_A_PAGE,
        "title": _("Calendar of flash sales"),
    }
    return page(request, "orders/staff/flash_calendar.html", context)


def overlapping(sales: Iterable[Sale]) -> dict[int, list[tuple[str, Sale]]]:
    """Return, by sale, the SKUs that another sale which is not over sells at the same time, and that sale."""
    overlaps: dict[int, list[tuple[str, Sale]]] = {}
    live = [sale for sale in sales if sale.state in (SaleState.DRAFT, *LIVE_STATES)]
    for one in live:
        for other in live:
            if one.id != other.id and one.starts_at < other.ends_at and other.starts_at < one.ends_at:
                shared = sorted(one.items.keys() & other.items.keys())
                overlaps.setdefault(one.id, []).extend((sku, other) for sku in shared)
    return overlaps


def check_stock(
    sales: Sequence[Sale], *, allotted: Mapping[ItemKey, int], free: Mapping[str, int]
) -> dict[int, list[StockCheck]]:
    """Return what stock has to say to each of the sales, which are in the order in which they are served."""
    rest: dict[str, int] = defaultdict(int, free)
    checks: dict[int, list[StockCheck]] = {}
    for sale in sales:
        for item in sale.items.values():
            has = allotted.get((sale.id, item.sku), 0)
            missing = max(item.quota - has, 0)
            short = max(missing - max(rest[item.sku], 0), 0)
            rest[item.sku] -= missing
            check = StockCheck(item.sku, item.quota, has, max(free.get(item.sku, 0), 0), short)
            checks.setdefault(sale.id, []).append(check)
    return checks


def _entries(sales: Sequence[Sale], *, now: datetime) -> list[Entry]:
    coming = [sale for sale in sales if sale.state in (SaleState.DRAFT, *LIVE_STATES) and now < sale.starts_at]
    allotted: dict[ItemKey, int] = {}
    for alias in inventory_aliases():
        allotted |= allotted_units(alias, [sale.id for sale in coming])
    checks = check_stock(coming, allotted=allotted, free=available({sku for sale in coming for sku in sale.items}))
    overlaps = overlapping(sales)
    return [Entry(sale, sale.phase(now), overlaps.get(sale.id, []), checks.get(sale.id, [])) for sale in sales]
