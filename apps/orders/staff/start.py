"""The start page: what today brought, what is going wrong, and where work waits.

Every figure is read from roll-ups or bounded, and each part comes with its permission and without the others.
"""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.db import OperationalError
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from apps.inventory.selectors import running_out
from apps.inventory.types import StockAlarm
from apps.orders.domain import round_money
from apps.orders.events import CANCELLED, EXPIRED, PAID, PAYMENT_FAILED, PLACED
from apps.orders.services.figures import REFUND, Figure, figures_between
from apps.orders.staff.queue_pages import gauges
from apps.orders.staff.work import VIEW_QUEUES
from infra.staff.pages import may

SHOWN_HOURS: Final = 48
SHOWN_ALARMS: Final = 12
_ALARMS_TTL_S: Final = 30.0
_DEPTHS: Final = {
    "floodgate_outbox_depth": "outbox",
    "floodgate_dead_letters": "dead_letters",
    "floodgate_followups_overdue": "followups",
    "floodgate_events_backlog": "backlog",
}


class _Alarms:
    """What is running out, read at most every half minute in a process: it takes a look at every SKU's stock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._alarms: Sequence[StockAlarm] = ()

    def get(self) -> Sequence[StockAlarm]:
        """Return the SKUs with the least left; raises OperationalError when inventory gives no answer."""
        with self._lock:
            if time.monotonic() - self._read_at >= _ALARMS_TTL_S:
                self._alarms = running_out(units=settings.STOCK_ALARM_UNITS, limit=SHOWN_ALARMS)
                self._read_at = time.monotonic()
            return self._alarms

    def forget(self) -> None:
        """Read anew next time."""
        self._read_at = float("-inf")


alarms: Final = _Alarms()


def start_context(request: HttpRequest) -> dict[str, Any]:
    """Return what the start page shows to who asks."""
    context: dict[str, Any] = {"title": _("Start"), "unreachable": []}
    if may(request, ("orders.view_figures",)):
        context |= _figures(timezone.now())
    if may(request, ("inventory.view_stock",)):
        try:
            context["alarms"] = alarms.get()
        except OperationalError:
            context["unreachable"] = [*context["unreachable"], "inventory"]
    if may(request, (VIEW_QUEUES,)):
        context["depths"] = _depths()
    return context


def _figures(now: datetime) -> dict[str, Any]:
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    begin = this_hour - timedelta(hours=SHOWN_HOURS - 1)
    figures, unreachable = figures_between(begin, this_hour + timedelta(hours=1))
    today = [figure for figure in figures if figure.hour.date() == now.date()]
    hours = [begin + timedelta(hours=number) for number in range(SHOWN_HOURS)]
    return {
        "unreachable": unreachable,
        "today": _today(today),
        "plot_options": PLOT_OPTIONS,
        "plots": [
            (_("Orders placed and paid, by hour (UTC)"), "bar", _counts_plot(figures, hours, (PLACED, PAID))),
            (_("Paid less refunded, by hour (UTC)"), "line", _money_plot(figures, hours)),
            (
                _("Payments that failed, orders that were cancelled or expired, by hour (UTC)"),
                "bar",
                _counts_plot(figures, hours, (PAYMENT_FAILED, CANCELLED, EXPIRED)),
            ),
        ],
    }


def _today(figures: Sequence[Figure]) -> dict[str, Any]:
    counts: dict[str, int] = defaultdict(int)
    money: dict[str, Decimal] = defaultdict(Decimal)
    for figure in figures:
        counts[figure.kind] += figure.count
        if figure.kind in (PAID, REFUND):
            money[figure.currency] += figure.amount if figure.kind == PAID else -figure.amount
    tried = counts[PAID] + counts[PAYMENT_FAILED]
    return {
        "placed": counts[PLACED],
        "paid": counts[PAID],
        "failed": counts[PAYMENT_FAILED],
        "cancelled": counts[CANCELLED],
        "expired": counts[EXPIRED],
        "failure_percent": round(100 * counts[PAYMENT_FAILED] / tried, 1) if tried else None,
        "revenue": [(round_money(amount, currency), currency) for currency, amount in sorted(money.items())],
    }


# In place of the theme's own: bars side by side, a scale from zero, and a legend that tells the series apart.
PLOT_OPTIONS: Final = json.dumps(
    {
        "animation": False,
        "maintainAspectRatio": False,
        "plugins": {"legend": {"display": True, "position": "bottom"}},
        "scales": {
            "x": {"grid": {"display": False}},
            "y": {"beginAtZero": True, "grid": {}, "ticks": {"precision": 0}},
        },
    }
)
_COLOURS: Final[Mapping[str, str]] = {
    PLACED: "#93d0fd",
    PAID: "#2575eb",
    PAYMENT_FAILED: "#dc2626",
    CANCELLED: "#f59e0b",
    EXPIRED: "#9ca3af",
}


def _counts_plot(figures: Sequence[Figure], hours: Sequence[datetime], kinds: Sequence[str]) -> str:
    counts: dict[tuple[str, datetime], int] = defaultdict(int)
    for figure in figures:
        counts[figure.kind, figure.hour] += figure.count
    names = {
        PLACED: _("placed"),
        PAID: _("paid"),
        PAYMENT_FAILED: _("payment failed"),
        CANCELLED: _("cancelled"),
        EXPIRED: _("expired"),
    }
    series = [
        {
            "label": names[kind],
            "data": [counts[kind, hour] for hour in hours],
            "backgroundColor": _COLOURS[kind],
        }
        for kind in kinds
    ]
    return json.dumps({"labels": [f"{hour:%d. %H:00}" for hour in hours], "datasets": series})


def _money_plot(figures: Sequence[Figure], hours: Sequence[datetime]) -> str:
    money: dict[tuple[str, datetime], Decimal] = defaultdict(Decimal)
    for figure in figures:
        if figure.kind in (PAID, REFUND):
            money[figure.currency, figure.hour] += figure.amount if figure.kind == PAID else -figure.amount
    palette = ("#2575eb", "#16a34a", "#d97706", "#9333ea", "#db2777")
    series = [
        {
            "label": currency,
            "data": [float(money[currency, hour]) for hour in hours],
            "borderColor": palette[number % len(palette)],
            "backgroundColor": palette[number % len(palette)],
        }
        for number, currency in enumerate(sorted({currency for currency, _hour in money}))
    ]
    return json.dumps({"labels": [f"{hour:%d. %H:00}" for hour in hours], "datasets": series})


def _depths() -> dict[str, int]:
    depths: dict[str, int] = dict.fromkeys(_DEPTHS.values(), 0)
    for metric in gauges.collect():
        for sample in metric.samples:
            if sample.name in _DEPTHS:
                depths[_DEPTHS[sample.name]] += int(sample.value)
    return depths
