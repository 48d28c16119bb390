"""Decides what becomes of each invoice and names every kind of dirt in it. Pure: no database.

Every invoice becomes one closed order. What the shop sold is `completed`; what was no sale, or was taken back, is
`cancelled`, with its quantities and prices as positive figures, since an order's lines have no sign.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from apps.catalog.selectors import sku_of_stock_code
from apps.orders.domain import Closure, FulfillmentStatus, PaymentStatus, round_money
from apps.orders.importing.countries import COUNTRY_CODES
from apps.orders.importing.parse import SourceInvoice, SourceLine

CURRENCY: Final = "GBP"
ZONE: Final = ZoneInfo("Europe/London")
API_MAX_LINES: Final = 50
API_MAX_QUANTITY: Final = 999
_NOT_IN_SKU: Final = re.compile(r"[^A-Za-z0-9._-]")


class Kind(StrEnum):
    """What can be unusual about an invoice or a line; the value says what is done with it."""

    CANCELLED_INVOICE = "invoice cancelled (C before its number): a cancelled order"
    ACCOUNTING_INVOICE = "invoice that is a bookkeeping entry (another letter before its number): a cancelled order"
    STOCK_CORRECTION = "invoice without customer or any price, a correction of the stock: a cancelled order of 0.00"
    MIXED_SIGNS = "invoice with both signs of quantity: rejected"
    TWO_TIMES = "invoice with lines of several times: the earliest is the order's"
    LONG_INVOICE = "invoice with more than 50 lines: kept whole, the API's limit is none of the table's"
    GUEST = "no customer: a user of its own for each invoice"
    NEGATIVE_QUANTITY = "negative quantity: positive, in a cancelled order"
    ZERO_QUANTITY = "quantity of zero: kept as it is"
    LARGE_QUANTITY = "quantity above 999: kept, the API's limit is none of the table's"
    FREE = "price of zero: kept, at 0.00"
    NEGATIVE_PRICE = "negative price: positive, in a cancelled order"
    FINE_PRICE = "price with more than two decimals: rounded half up"
    NO_GOODS = "code that is no goods (postage, fees, discounts, ...): kept as a line, so that the total is true"
    RENAMED_CODE = "code with a character that no SKU has: that character replaced by '-'"
    NO_DESCRIPTION = "no description: that of another line with the same code, else the code"
    REPEATED_LINE = "the same line again in one invoice: kept, each as a line of its own"
    NO_COUNTRY = "country that is none (Unspecified, European Community): left empty"


_OF_INVOICE: Final = frozenset(
    {
        Kind.CANCELLED_INVOICE,
        Kind.ACCOUNTING_INVOICE,
        Kind.STOCK_CORRECTION,
        Kind.MIXED_SIGNS,
        Kind.TWO_TIMES,
        Kind.LONG_INVOICE,
        Kind.NO_COUNTRY,
    }
)


@dataclass(frozen=True, slots=True)
class PastLine:
    """A line of a past order."""

    sku: str
    title: str
    quantity: int
    unit_price: Decimal
    line_total: Decimal


@dataclass(frozen=True, slots=True)
class PastOrder:
    """A past order, ready to be written; `customer` is the number that its user is derived from."""

    number: str
    customer: str
    placed_at: datetime
    country: str
    payment_status: PaymentStatus
    fulfillment_status: FulfillmentStatus
    closed_as: Closure
    lines: tuple[PastLine, ...]
    total: Decimal


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of an invoice: an order, or None if it is rejected; and how many of its lines are of each kind."""

    order: PastOrder | None
    kinds: Mapping[Kind, int]


def classify(invoice: SourceInvoice, *, titles: Mapping[str, str]) -> Verdict:
    """Return the order that an invoice becomes, and what is unusual about it.

    The count of a kind that is the invoice's is that of all its lines.
    """
    kinds: Counter[Kind] = Counter()
    seen: set[SourceLine] = set()
    for line in invoice.lines:
        kinds.update(_kinds_of(line))
        kinds[Kind.REPEATED_LINE] += line in seen
        seen.add(line)
    of_invoice = _kinds_of_invoice(invoice)
    kinds.update(dict.fromkeys(of_invoice, len(invoice.lines)))
    order = None if Kind.MIXED_SIGNS in of_invoice else _past_order(invoice, of_invoice, titles)
    return Verdict(order, {kind: count for kind, count in kinds.items() if count})


def is_of_invoice(kind: Kind) -> bool:
    """Tell whether a kind says something of an invoice as a whole."""
    return kind in _OF_INVOICE


@lru_cache(maxsize=8192)
def sku_of(code: str) -> str:
    """Return the SKU that stands for a code of the file: the catalog's for goods, the like for what is none."""
    return sku_of_stock_code(code) or _NOT_IN_SKU.sub("-", code)


def _past_order(invoice: SourceInvoice, of_invoice: frozenset[Kind], titles: Mapping[str, str]) -> PastOrder:
    first = invoice.lines[0]
    lines = tuple(_past_line(line, titles) for line in invoice.lines)
    was_sale = not of_invoice & {Kind.CANCELLED_INVOICE, Kind.ACCOUNTING_INVOICE, Kind.STOCK_CORRECTION}
    return PastOrder(
        number=invoice.number,
        customer=first.customer or f"guest-{invoice.number}",
        placed_at=min(line.at for line in invoice.lines).replace(tzinfo=ZONE).astimezone(UTC),
        country=COUNTRY_CODES.get(first.country, ""),
        payment_status=PaymentStatus.PAID if was_sale else PaymentStatus.UNPAID,
        fulfillment_status=FulfillmentStatus.DELIVERED if was_sale else FulfillmentStatus.NONE,
        closed_as=Closure.OPEN if was_sale else Closure.CANCELLED,
        lines=lines,
        total=round_money(sum((line.line_total for line in lines), Decimal(0)), CURRENCY),
    )


def _past_line(line: SourceLine, titles: Mapping[str, str]) -> PastLine:
    unit_price = _price_of(line.unit_price)
    quantity = abs(line.quantity)
    return PastLine(
        sku=sku_of(line.code),
        title=line.description or titles.get(line.code, line.code),
        quantity=quantity,
        unit_price=unit_price,
        line_total=unit_price * quantity,
    )


@lru_cache(maxsize=8192)
def _price_of(unit_price: Decimal) -> Decimal:
    return round_money(abs(unit_price), CURRENCY)


@lru_cache(maxsize=8192)
def _kinds_of_code(code: str) -> tuple[Kind, ...]:
    kinds = [Kind.NO_GOODS] if sku_of_stock_code(code) is None else []
    return (*kinds, Kind.RENAMED_CODE) if _NOT_IN_SKU.search(code) else tuple(kinds)


def _kinds_of_invoice(invoice: SourceInvoice) -> frozenset[Kind]:
    lines = invoice.lines
    kinds: set[Kind] = set()
    if invoice.number.startswith("C"):
        kinds.add(Kind.CANCELLED_INVOICE)
    elif invoice.number[0].isalpha() or any(line.unit_price < 0 for line in lines):
        kinds.add(Kind.ACCOUNTING_INVOICE)
    elif all(line.unit_price == 0 and not line.customer for line in lines) or all(line.quantity < 0 for line in lines):
        kinds.add(Kind.STOCK_CORRECTION)
    elif any(line.quantity < 0 for line in lines):
        kinds.add(Kind.MIXED_SIGNS)
    if len({line.at for line in lines}) > 1:
        kinds.add(Kind.TWO_TIMES)
    if len(lines) > API_MAX_LINES:
        kinds.add(Kind.LONG_INVOICE)
    if lines[0].country not in COUNTRY_CODES:
        kinds.add(Kind.NO_COUNTRY)
    return frozenset(kinds)


def _kinds_of(line: SourceLine) -> list[Kind]:
    tests = (
        (Kind.GUEST, not line.customer),
        (Kind.NEGATIVE_QUANTITY, line.quantity < 0),
        (Kind.ZERO_QUANTITY, line.quantity == 0),
        (Kind.LARGE_QUANTITY, abs(line.quantity) > API_MAX_QUANTITY),
        (Kind.FREE, line.unit_price == 0),
        (Kind.NEGATIVE_PRICE, line.unit_price < 0),
        (Kind.FINE_PRICE, _price_of(line.unit_price) != abs(line.unit_price)),
        (Kind.NO_DESCRIPTION, not line.description),
    )
    return [*(kind for kind, holds in tests if holds), *_kinds_of_code(line.code)]
