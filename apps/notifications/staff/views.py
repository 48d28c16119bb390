"""The staff's page of deliveries, over all shards: what was sent, what failed and why, what is tried when."""

from typing import Final, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from apps.notifications.models import DeliveryState, Subscription
from apps.notifications.selectors import deliveries
from apps.notifications.services.deliveries import try_again
from apps.users.models import StaffUser
from infra.sharding.places import shard_aliases

ROWS_A_PAGE: Final = 100
VIEW: Final = "notifications.view_subscription"
_CHANGE: Final = "notifications.change_subscription"


class DeliveriesForm(forms.Form):
    """Whose deliveries, in which state."""

    subscription = forms.ModelChoiceField(Subscription.objects.order_by("name"))
    state = forms.ChoiceField(choices=DeliveryState.choices, required=False)


class AgainForm(forms.Form):
    """Which delivery to try again, and why."""

    alias = forms.ChoiceField(choices=lambda: [(alias, alias) for alias in shard_aliases()])
    position = forms.IntegerField(min_value=1, max_value=2**63 - 1)
    subscription = forms.ModelChoiceField(Subscription.objects.all())
    reason = forms.CharField(max_length=200, strip=True)


def delivery_list(request: HttpRequest) -> HttpResponse:
    """List a subscription's newest deliveries; try one again."""
    if not request.user.has_perm(VIEW):
        raise PermissionDenied
    if request.method == "POST":
        return _try_again(request)
    form = DeliveriesForm(request.GET or None)
    context: dict[str, object] = {"form": form, "rows": [], "unreachable": [], "title": "Webhook deliveries"}
    if form.is_valid():
        context["rows"], context["unreachable"] = deliveries(
            subscription_id=form.cleaned_data["subscription"].id,
            state=form.cleaned_data["state"] or DeliveryState.PENDING.value,
            limit=ROWS_A_PAGE,
        )
    context["may_change"] = request.user.has_perm(_CHANGE)
    return TemplateResponse(request, "notifications/deliveries.html", {**admin.site.each_context(request), **context})


def _try_again(request: HttpRequest) -> HttpResponse:
    if not request.user.has_perm(_CHANGE):
        raise PermissionDenied
    form = AgainForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Say why." if "reason" in form.errors else "There is no such delivery.")
        return redirect("admin:webhook-deliveries")
    asked = form.cleaned_data
    subscription: Subscription = asked["subscription"]
    try:
        found = try_again(
            asked["alias"], position=asked["position"], subscription_id=subscription.id, now=timezone.now()
        )
    except DatabaseError:
        messages.error(request, f"{asked['alias']} does not answer.")
        found = None
    if found is False:
        messages.error(request, "There is no such delivery.")
    elif found:
        LogEntry.objects.create(
            user_id=cast(StaffUser, request.user).id,
            content_type=ContentType.objects.get_for_model(Subscription),
            object_id=str(subscription.id),
            object_repr=subscription.name,
            action_flag=CHANGE,
            change_message=f"delivery {asked['position']} of {asked['alias']} again: {asked['reason']}",
        )
        messages.success(request, "It is sent again at once.")
    return redirect(f"{reverse('admin:webhook-deliveries')}?subscription={subscription.id}")
