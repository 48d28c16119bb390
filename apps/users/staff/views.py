"""One customer for the staff: found by number or whole login, personal data masked, blocked with a reason."""

from collections.abc import Mapping
from typing import cast

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.decorators import permission_required
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import timezone

from apps.users.domain import MalformedLogin, normalise_login
from apps.users.errors import CustomerNotFound
from apps.users.models import Customer, StaffUser
from apps.users.selectors import find_user_id, get_customer, list_addresses, live_sessions
from apps.users.services.profile import block_customer, unblock_customer
from apps.users.staff.forms import BlockForm, CustomerSearchForm
from infra.api.fields import MAX_ID, id_from_text
from infra.crypto.masking import mask_email, mask_name, mask_phone
from infra.sharding.places import place_of_user

_VIEW = "users.view_customer"
_BLOCK = "users.block_customer"


@permission_required(_VIEW, raise_exception=True)
def customer_search(request: HttpRequest) -> HttpResponse:
    """Find a customer by number or login, and go there."""
    form = CustomerSearchForm(request.GET or None)
    if form.is_valid():
        try:
            user_id = _find(form.cleaned_data["wanted"])
        except OperationalError:
            form.add_error(None, "A database that would know does not answer.")
        else:
            if user_id is not None:
                return redirect("admin:customers-customer", user_id=user_id)
            form.add_error("wanted", "There is no such customer.")
    return _page(request, "users/staff/customer_search.html", {"form": form, "title": "Customers"})


@permission_required(_VIEW, raise_exception=True)
def customer_detail(request: HttpRequest, user_id: int) -> HttpResponse:
    """Show one customer, masked; block or unblock them."""
    if user_id > MAX_ID:
        raise Http404
    place = place_of_user(user_id)
    try:
        customer = get_customer(user_id)
        if request.method == "POST":
            return _block_or_unblock(request, customer)
        context = {
            "customer": customer,
            "place": place,
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
            "may_block": request.user.has_perm(_BLOCK),
            "form": BlockForm(),
        }
    except CustomerNotFound as error:
        raise Http404 from error
    except OperationalError:
        return _page(request, "users/staff/unreachable.html", {"alias": place.alias, "title": "Customer"}, status=503)
    return _page(request, "users/staff/customer.html", {**context, "title": f"Customer {user_id}"})


def _find(wanted: str) -> int | None:
    number = id_from_text(wanted)
    if number is not None and Customer.objects.for_user(number).filter(user_id=number).exists():
        return number
    try:
        return find_user_id(normalise_login(wanted))
    except MalformedLogin:
        return None


def _block_or_unblock(request: HttpRequest, customer: Customer) -> HttpResponse:
    if not request.user.has_perm(_BLOCK):
        raise PermissionDenied
    form = BlockForm(request.POST)
    if form.is_valid():
        action = block_customer if form.cleaned_data["action"] == "block" else unblock_customer
        action(user_id=customer.user_id, now=timezone.now())
        LogEntry.objects.create(
            user_id=cast(StaffUser, request.user).id,
            content_type=ContentType.objects.get_for_model(Customer),
            object_id=str(customer.user_id),
            object_repr=f"Customer {customer.user_id}",
            action_flag=CHANGE,
            change_message=f"{form.cleaned_data['action']}: {form.cleaned_data['reason']}",
        )
        messages.success(request, f"Customer {customer.user_id}: {form.cleaned_data['action']}.")
    else:
        messages.error(request, "Give the reason.")
    return redirect("admin:customers-customer", user_id=customer.user_id)


def _masked(customer: Customer) -> dict[str, str]:
    return {
        "username": mask_name(customer.username),
        "email": mask_email(customer.email) if customer.email else "",
        "phone": mask_phone(customer.phone),
        "display_name": mask_name(customer.display_name),
    }


def _page(request: HttpRequest, template: str, context: Mapping[str, object], status: int = 200) -> HttpResponse:
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context}, status=status)
