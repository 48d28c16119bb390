"""Random walks over orders with points, beside a model in plain numbers; after each step the books agree."""

import os
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal

import pytest
from django.conf import settings
from django.utils import timezone
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from apps.orders.domain import refund_amount
from apps.orders.errors import InsufficientPoints
from apps.orders.selectors import get_order
from apps.orders.services.cancellation import cancel_order
from apps.orders.services.expiry import expire_orders
from apps.orders.services.payment import record_payment_outcome, record_refund_outcome
from apps.orders.services.stock import sync_stock_of
from apps.orders.types import OrderView
from apps.payments.selectors import refunds_of
from apps.payments.services import create_attempt
from apps.payments.types import AttemptStatus, PaymentOutcome, RefundOutcome, RefundStatus
from apps.promotions.points.selectors import movements_of, points_of
from apps.promotions.points.services import expire_lots
from infra.sharding.places import place_of_user
from tests.factories.inventory import counters
from tests.factories.orders import expire_at, make_buyer, make_sku, placed_order
from tests.factories.points import complete, findings, grant, refund

PRICE, STOCK = 10, 1000
# Walks of 40 steps; 250 are ten thousand steps, in about two minutes.
QUICK = 8
WALKS = int(os.environ.get("FLOODGATE_POINTS_WALKS", QUICK))
PAID_NOW = PaymentOutcome(AttemptStatus.SUCCEEDED)


@dataclass
class Ordered:
    """An order as the model knows it: `quantity` units of one SKU at PRICE, some points, and what has become of it."""

    order: OrderView
    quantity: int
    used: int
    state: str = "pending"
    closed_as: str = "refunded"
    refunded: int = 0
    earned: int = 0
    restored: int = 0
    clawed_back: int = 0

    @property
    def paid(self) -> Decimal:
        return PRICE * self.quantity - Decimal(self.used) / 100

    @property
    def status(self) -> str:
        """What the order's status is: one that was closed unpaid says how."""
        return {"pending": "pending_payment", "closed": self.closed_as}.get(self.state, self.state)

    @property
    def given_back(self) -> Decimal:
        """What of the money has been given back, to the cent."""
        if self.closed_as in ("cancelled", "expired"):
            return Decimal(0)
        return (self.paid * self.refunded / self.quantity).quantize(Decimal("0.01"), ROUND_HALF_UP)

    @property
    def kept_share(self) -> tuple[int, int]:
        return self.quantity - self.refunded, self.quantity


class PointsWalk(RuleBasedStateMachine):
    """One shopper, some orders."""

    orders = Bundle("orders")

    def __init__(self) -> None:
        super().__init__()
        self.buyer = make_buyer()
        self.sku = make_sku(STOCK, price=f"{PRICE}.00")
        self.place = place_of_user(self.buyer.user_id)
        self.balance = self.owed = 0
        self.known: list[Ordered] = []

    def credit(self, points: int) -> None:
        paid = min(points, self.owed)
        self.owed -= paid
        self.balance += points - paid

    def claw(self, points: int) -> None:
        covered = min(points, self.balance)
        self.balance -= covered
        self.owed += points - covered

    def settle(self, bought: Ordered) -> None:
        """Bring what came back and what was taken of an order to the share of its units that were refunded."""
        kept, of = bought.kept_share
        restored = bought.used if not kept else bought.used * bought.refunded // of
        clawed_back = bought.earned - bought.earned * kept // of
        self.credit(restored - bought.restored)
        self.claw(clawed_back - bought.clawed_back)
        bought.restored, bought.clawed_back = restored, clawed_back

    def check(self, bought: Ordered) -> None:
        """Compare the order's state and money, and the stock, with the model."""
        sync_stock_of([bought.order.id], now=timezone.now())
        order = get_order(user_id=self.buyer.user_id, order_id=bought.order.id)
        assert (order.status, order.refunded_total) == (bought.status, bought.given_back)
        assert (order.points_used, order.total) == (bought.used, bought.paid)
        held = sum(each.quantity for each in self.known if each.state == "pending")
        sold = sum(each.quantity for each in self.known if each.state in ("paid", "completed"))
        assert counters(self.sku) == (STOCK - sold, held)

    @rule(points=st.integers(1, 400))
    def be_granted(self, points: int) -> None:
        grant(self.buyer.user_id, points)
        self.balance += points

    @rule(target=orders, quantity=st.integers(1, 3), wanted=st.integers(0, 500))
    def buy(self, quantity: int, wanted: int) -> Ordered | None:
        if wanted > self.balance:
            with pytest.raises(InsufficientPoints):
                placed_order(self.buyer, [(self.sku, quantity)], points=wanted)
            return None
        order = placed_order(self.buyer, [(self.sku, quantity)], points=wanted)
        bought = Ordered(order, quantity, used=min(wanted, 50 * PRICE * quantity))
        self.balance -= bought.used
        self.known.append(bought)
        with self.place.atomic():
            create_attempt(
                self.place,
                order_id=order.id,
                amount=order.total,
                currency=order.currency,
                provider="sandbox",
                method="",
                return_url="",
                expires_at=order.expires_at,
                now=timezone.now(),
            )
        self.check(bought)
        return bought

    @rule(bought=orders)
    def hear_that_it_is_paid(self, bought: Ordered | None) -> None:
        """In time, again, or too late: only the first changes the order."""
        if bought is None:
            return
        record_payment_outcome(order_id=bought.order.id, n=1, outcome=PAID_NOW, now=timezone.now())
        if bought.state == "pending":
            bought.state = "paid"
        self.check(bought)

    @rule(bought=orders)
    def cancel(self, bought: Ordered | None) -> None:
        if bought is None or bought.state not in ("pending", "paid"):
            return
        cancel_order(user_id=self.buyer.user_id, order_id=bought.order.id, reason="", now=timezone.now())
        if bought.state == "paid":
            self.have_refunded(bought.order.id)
        else:
            bought.closed_as = "cancelled"
        bought.refunded, bought.state = bought.quantity, "closed"
        self.settle(bought)
        self.check(bought)

    @rule(bought=orders)
    def run_out_of_time(self, bought: Ordered | None) -> None:
        if bought is None or bought.state != "pending":
            return
        expire_at(bought.order.id, timezone.now() - timedelta(hours=1))
        expire_orders(now=timezone.now())
        bought.refunded, bought.state, bought.closed_as = bought.quantity, "closed", "expired"
        self.settle(bought)
        self.check(bought)

    @rule(bought=orders)
    def complete(self, bought: Ordered | None) -> None:
        if bought is None or bought.state != "paid":
            return
        complete(bought.order)
        bought.state, bought.earned = "completed", int(bought.paid)
        self.credit(bought.earned)
        self.settle(bought)
        self.check(bought)

    @rule(bought=orders)
    def return_a_unit(self, bought: Ordered | None) -> None:
        if bought is None or bought.state not in ("paid", "completed"):
            return
        amount = refund_amount(
            paid=bought.paid, quantity=bought.quantity, already=bought.refunded, returning=1, currency="GBP"
        )
        refund(bought.order, str(amount), {self.sku: 1})
        bought.refunded += 1
        if bought.refunded == bought.quantity:
            bought.state = "closed"
        self.settle(bought)
        self.check(bought)

    @rule()
    def let_points_expire(self) -> None:
        expire_lots(self.place.alias, now=timezone.now() + timedelta(days=800))
        self.balance = 0

    @invariant()
    def the_books_agree_with_the_model(self) -> None:
        view = points_of(self.buyer.user_id)
        rows = []
        key = None
        while True:
            page = movements_of(self.buyer.user_id, limit=50, before=key)
            rows += page.rows
            key = page.next_key
            if key is None:
                break
        assert (view.balance, view.owed) == (self.balance, self.owed)
        assert sum(points for points, _ in view.lots) == view.balance
        assert (sum(row.points for row in rows), sum(row.owed for row in rows)) == (view.balance, view.owed)

    def teardown(self) -> None:
        assert findings(self.buyer.user_id, *(each.order.id for each in self.known)) == []

    @staticmethod
    def have_refunded(order_id: int) -> None:
        for each in refunds_of(order_id):
            if each.status == RefundStatus.APPROVED and not each.unexpected:
                outcome = RefundOutcome(RefundStatus.SUCCEEDED)
                record_refund_outcome(order_id=order_id, n=each.n, try_n=1, outcome=outcome, now=timezone.now())


@pytest.mark.django_db(databases=list(settings.DATABASES))
@pytest.mark.timeout(60 + WALKS * 4)
def test_the_books_agree_after_every_step_of_a_random_walk() -> None:
    run_state_machine_as_test(
        PointsWalk,
        settings=hypothesis_settings(
            max_examples=WALKS,
            stateful_step_count=40,
            deadline=None,
            derandomize=WALKS == QUICK,
            suppress_health_check=list(HealthCheck),
        ),
    )
