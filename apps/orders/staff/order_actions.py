"""What the staff can do to an order: a registry, and the actions that orders bring themselves.

An action is offered where the order's state allows it and to whom has its permission; it is asked twice, with a reason,
and carries the version of the order that it was decided on (`apps.orders.staff.order_page`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from django import forms
from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.utils.functional import Promise
from django.utils.translation import gettext as _text
from django.utils.translation import gettext_lazy as _

from apps.orders.domain import OrderStatus
from apps.orders.services.address import CORRECTABLE, correct_address, may_correct_address
from apps.orders.services.cancellation import cancel_order_as_staff
from apps.orders.services.holds import hold_order, release_hold
from apps.orders.staff.story import OrderStory
from apps.users.domain import MalformedLogin, normalise_phone

_REASON_LENGTH: Final = 200
_ENDED: Final = frozenset({OrderStatus.CANCELLED, OrderStatus.EXPIRED, OrderStatus.REFUNDED, OrderStatus.COMPLETED})


class ReasonForm(forms.Form):
    """Why; every action keeps it."""

    reason = forms.CharField(
        label=_("Reason"), max_length=_REASON_LENGTH, strip=True, widget=forms.TextInput(attrs={"autofocus": True})
    )


class AddressForm(ReasonForm):
    """The parts of an address that are wrong; what stays is left empty, and is not shown."""

    name = forms.CharField(label=_("Name"), max_length=100, required=False, strip=True)
    phone = forms.CharField(label=_("Phone"), max_length=16, required=False, strip=True)
    line1 = forms.CharField(label=_("Address"), max_length=200, required=False, strip=True)
    line2 = forms.CharField(label=_("Address, second line"), max_length=200, required=False, strip=True)
    postcode = forms.CharField(label=_("Postcode"), max_length=20, required=False, strip=True)
    city = forms.CharField(label=_("City"), max_length=100, required=False, strip=True)
    region = forms.CharField(label=_("Region"), max_length=100, required=False, strip=True)

    field_order = ("name", "phone", "line1", "line2", "postcode", "city", "region", "reason")

    def clean_phone(self) -> str:
        """Return the number in E.164."""
        phone = self.cleaned_data["phone"]
        try:
            return normalise_phone(phone) if phone else ""
        except MalformedLogin as error:
            raise forms.ValidationError(_text("Write the number with its country code: +44 20 7946 0000.")) from error

    def clean(self) -> dict[str, Any]:
        """Ask for at least one part."""
        cleaned = super().clean() or {}
        if not self.errors and not any(cleaned.get(part) for part in CORRECTABLE):
            raise forms.ValidationError(_text("Write what is to be changed."))
        return cleaned


@dataclass(frozen=True, slots=True)
class ActionCall:
    """One action being done: on what, by whom, why, with which further words, on which version of the order."""

    story: OrderStory
    staff: AbstractUser
    reason: str
    asked: Mapping[str, Any]
    version: int
    now: datetime

    @property
    def actor(self) -> str:
        """Who does it, as the order's events tell: shoppers read them, so it is a number."""
        return f"staff:{self.staff.pk}"


@dataclass(frozen=True, slots=True)
class OrderAction:
    """Something that can be done to an order.

    `run` does it by one call of a service and returns what to tell; it raises DomainError for what cannot be done.
    `asks_proof` says whether it asks for a fresh second factor in this state, `asks_second` whether it waits for a
    second person (its form then has a reason and nothing else).
    """

    name: str
    label: str | Promise
    explanation: Callable[[OrderStory], str | Promise]
    permission: str
    is_offered: Callable[[OrderStory], bool]
    run: Callable[[ActionCall], str]
    form: type[ReasonForm] = ReasonForm
    asks_proof: Callable[[OrderStory], bool] = field(default=lambda story: False)
    asks_second: Callable[[OrderStory], bool] = field(default=lambda story: False)
    is_grave: bool = False
    position: int = 100


_actions: Final[dict[str, OrderAction]] = {}


def register_action(action: OrderAction) -> OrderAction:
    """Add an action to the order's page; raises ValueError for a name that is taken."""
    if action.name in _actions:
        raise ValueError(f"There is already an action {action.name!r}.")
    _actions[action.name] = action
    return action


def find_action(name: str) -> OrderAction | None:
    """Return an action by its name."""
    return _actions.get(name)


def order_actions() -> list[OrderAction]:
    """Return all actions, in their order."""
    return sorted(_actions.values(), key=lambda action: action.position)


def offered_actions(story: OrderStory, staff: AbstractUser) -> list[OrderAction]:
    """Return the actions that the order's state allows and the account may take."""
    return [action for action in order_actions() if staff.has_perm(action.permission) and action.is_offered(story)]


def is_above_four_eyes(amount: Decimal, currency: str) -> bool:
    """Whether so much money is given back by two persons only; a currency without a bound of its own has the least."""
    bounds: Mapping[str, Decimal] = settings.STAFF_FOUR_EYES
    bound = bounds.get(currency, min(bounds.values(), default=None))
    return bound is not None and amount > bound


def _is_paid(story: OrderStory) -> bool:
    return story.order.status == OrderStatus.PAID


def _cancel(call: ActionCall) -> str:
    order = cancel_order_as_staff(
        order_id=call.story.order_id, reason=call.reason, actor=call.actor, now=call.now, version=call.version
    )
    if order.status == OrderStatus.CANCELLED:
        return _text("The order is cancelled.")
    return _text("The order is cancelled; its money is on its way back.")


def _hold(call: ActionCall) -> str:
    hold_order(
        order_id=call.story.order_id,
        reason=call.reason,
        staff_id=call.staff.pk,
        staff_name=call.staff.get_username(),
        now=call.now,
    )
    return _text("The order is held back.")


def _release(call: ActionCall) -> str:
    if release_hold(order_id=call.story.order_id):
        return _text("The order may go on.")
    return _text("Nobody held the order any more.")


def _correct_address(call: ActionCall) -> str:
    correct_address(
        order_id=call.story.order_id,
        changes={part: call.asked[part] for part in CORRECTABLE if call.asked[part]},
        actor=call.actor,
        now=call.now,
        version=call.version,
    )
    return _text("The address is corrected.")


register_action(
    OrderAction(
        "hold",
        _("Hold back"),
        lambda story: _("It is neither shipped nor captured until it is let go. Its buyer is not told."),
        "orders.hold_order",
        lambda story: story.hold is None and story.order.status not in _ENDED,
        _hold,
        position=10,
    )
)
register_action(
    OrderAction(
        "release",
        _("Let go"),
        lambda story: _("It goes on from where it was held back."),
        "orders.hold_order",
        lambda story: story.hold is not None,
        _release,
        position=10,
    )
)
register_action(
    OrderAction(
        "correct-address",
        _("Correct the address"),
        lambda story: _("What is left empty stays as it is. The country cannot be changed: prices may depend on it."),
        "orders.correct_address",
        lambda story: may_correct_address(story.row) and story.row.address is not None,
        _correct_address,
        form=AddressForm,
        position=20,
    )
)
register_action(
    OrderAction(
        "cancel",
        _("Cancel the order"),
        lambda story: (
            _("All that was paid goes back to the buyer, and the goods go back into stock. This cannot be undone.")
            if _is_paid(story)
            else _("The order ends unpaid, and what it holds goes back into stock. This cannot be undone.")
        ),
        "orders.cancel_order",
        lambda story: story.order.status in (OrderStatus.PENDING_PAYMENT, OrderStatus.PAID),
        _cancel,
        asks_proof=_is_paid,
        asks_second=lambda story: _is_paid(story) and is_above_four_eyes(story.order.total, story.order.currency),
        is_grave=True,
        position=90,
    )
)
