"""One customer for the staff: found by number or whole login, personal data masked, frozen with a reason."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.contrib import messages
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache

from apps.users.domain import MalformedLogin, normalise_login
from apps.users.errors import CustomerNotFound
from apps.users.models import Customer, CustomerState
from apps.users.selectors import find_user_id, get_customer, list_addresses, live_sessions
from apps.users.services.profile import block_customer, unblock_customer
from apps.users.services.sessions import delete_other_sessions
from apps.users.staff.forms import CustomerSearchForm, ReasonForm
from apps.users.staff.sections import customer_sections
from infra.api.fields import MAX_ID, id_from_text
from infra.crypto.masking import mask_email, mask_name, mask_phone
from infra.errors import DomainError
from infra.sharding.places import place_of_user
from infra.staff.actions import FormSentBefore, acting, actions_on, is_token, new_token
from infra.staff.pages import need, page, staff_of
from infra.staff.sessions import needs_step_up, to_step_up

VIEW: Final = "users.view_customer"
BLOCK: Final = "users.block_customer"
UNMASK: Final = "orders.unmask_person"
_LOG_LINES: Final = 50


@dataclass(frozen=True, slots=True)
class CustomerAction:
    """Something that can be done to a customer, in which states, and what it calls."""

    name: str
    label: str | Promise
    explanation: str | Promise
    states: frozenset[str]
    run: Callable[[int, datetime], object]
    done: str | Promise


_ACTIONS: Final[Mapping[str, CustomerAction]] = {
    action.name: action
    for action in (
        CustomerAction(
            "block",
            gettext_lazy("Freeze"),
            gettext_lazy("They cannot log in, and all their sessions end within seconds. Orders stay as they are."),
            frozenset({CustomerState.LIVE, CustomerState.REGISTERING}),
            lambda user_id, now: block_customer(user_id=user_id, now=now),
            gettext_lazy("The customer is frozen."),
        ),
        CustomerAction(
            "unblock",
            gettext_lazy("Unfreeze"),
            gettext_lazy("They may log in again."),
            frozenset({CustomerState.BLOCKED}),
            lambda user_id, now: unblock_customer(user_id=user_id, now=now),
            gettext_lazy("The customer may log in again."),
        ),
        CustomerAction(
            "end-sessions",
            gettext_lazy("Log out everywhere"),
            gettext_lazy("All their sessions end within seconds; they may log in again."),
            frozenset({CustomerState.LIVE}),
            lambda user_id, now: delete_other_sessions(user_id=user_id, keep="", now=now),
            gettext_lazy("All sessions have ended."),
        ),
    )
}


def customer_search(request: HttpRequest) -> HttpResponse:
    """Find a customer by number or login, and go there."""
    form = CustomerSearchForm(request.GET or None)
    if form.is_valid():
        try:
            user_id = _find(form.cleaned_data["wanted"])
        except OperationalError:
            form.add_error(None, _("A database that would know does not answer."))
        else:
            if user_id is not None:
                return redirect("admin:customers-customer", user_id=user_id)
            form.add_error("wanted", _("There is no such customer."))
    return page(request, "users/staff/customer_search.html", {"form": form, "title": _("Customers")})


def customer_detail(request: HttpRequest, user_id: int) -> HttpResponse:
    """Show one customer, masked, with what can be done."""
    try:
        customer = _customer_or_404(user_id)
        staff = staff_of(request)
        context = {
            "customer": customer,
            "place": place_of_user(user_id),
            "masked": _masked(customer),
            "sessions": live_sessions(user_id, now=timezone.now()),
            "addresses": [
                {
                    "country": address.country,
                    "city": address.details["city"],
                    "name": mask_name(address.details["name"]),
                }
                for address in list_addresses(user_id)
            ],
            "actions": [
                action for action in _ACTIONS.values() if customer.state in action.states and staff.has_perm(BLOCK)
            ],
            "may_unmask": staff.has_perm(UNMASK),
            "log": actions_on(_target(user_id), limit=_LOG_LINES),
            "sections": customer_sections(user_id, staff),
        }
    except OperationalError:
        return _unreachable(request, user_id)
    return page(
        request,
        "users/staff/customer.html",
        {**context, "title": _("Customer %(number)s") % {"number": user_id}},
    )


@never_cache
def customer_act(request: HttpRequest, user_id: int, action_name: str) -> HttpResponse:
    """Ask again whether an action is meant, and do it."""
    need(request, BLOCK)
    action = _ACTIONS.get(action_name)
    if action is None:
        raise Http404
    try:
        customer = _customer_or_404(user_id)
        if customer.state not in action.states:
            state = _("This can no longer be done: the customer is %(state)s now.") % {"state": customer.state}
            messages.warning(request, state)
            return redirect("admin:customers-customer", user_id=user_id)
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid() and is_token(request.POST.get("token", "")):
            _do(request, user_id, action, reason=form.cleaned_data["reason"], token=request.POST["token"])
            return redirect("admin:customers-customer", user_id=user_id)
    except OperationalError:
        return _unreachable(request, user_id)
    context = {
        "customer": customer,
        "action": action,
        "form": form,
        "token": new_token(),
        "title": f"{action.label} · {user_id}",
    }
    return page(request, "users/staff/confirm.html", context)


@never_cache
def customer_person(request: HttpRequest, user_id: int) -> HttpResponse:
    """Show a customer's personal data, for a reason that is kept."""
    if needs_step_up(request):
        return to_step_up(request.path)
    form = ReasonForm(request.POST if request.method == "POST" else None)
    context: dict[str, Any] = {"form": form, "title": _("Who customer %(number)s is") % {"number": user_id}}
    try:
        customer = _customer_or_404(user_id)
        context["customer"] = customer
        if request.method == "POST" and form.is_valid():
            with acting(
                staff_of(request),
                kind="customer.unmask",
                target=_target(user_id),
                reason=form.cleaned_data["reason"],
                now=timezone.now(),
            ):
                context["addresses"] = [address.details for address in list_addresses(user_id)]
                context["is_shown"] = True
    except OperationalError:
        return _unreachable(request, user_id)
    return page(request, "users/staff/person.html", context)


def _do(request: HttpRequest, user_id: int, action: CustomerAction, *, reason: str, token: str) -> None:
    now = timezone.now()
    kind = f"customer.{action.name}"
    try:
        with acting(staff_of(request), kind=kind, target=_target(user_id), reason=reason, token=token, now=now):
            action.run(user_id, now)
    except FormSentBefore:
        messages.warning(request, _("This was sent before; nothing was done twice."))
    except DomainError as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, str(action.done))


def _find(wanted: str) -> int | None:
    number = id_from_text(wanted)
    if number is not None and Customer.objects.for_user(number).filter(user_id=number).exists():
        return number
    try:
        return find_user_id(normalise_login(wanted))
    except MalformedLogin:
        return None


def _customer_or_404(user_id: int) -> Customer:
    if user_id > MAX_ID:
        raise Http404
    try:
        return get_customer(user_id)
    except CustomerNotFound as error:
        raise Http404 from error


def _masked(customer: Customer) -> dict[str, str]:
    return {
        "username": mask_name(customer.username),
        "email": mask_email(customer.email) if customer.email else "",
        "phone": mask_phone(customer.phone),
        "display_name": mask_name(customer.display_name),
    }


def _target(user_id: int) -> str:
    return f"customer:{user_id}"


def _unreachable(request: HttpRequest, user_id: int) -> HttpResponse:
    context = {"alias": place_of_user(user_id).alias, "title": _("Customer")}
    return page(request, "users/staff/unreachable.html", context, status=503)
