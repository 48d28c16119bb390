"""Subscriptions in the staff's admin; what is done to one is asked for with a reason, and logged with who and why."""

from collections.abc import Callable
from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import ModelAdmin

from apps.notifications.errors import SubscriptionNotFound, SubscriptionRefused
from apps.notifications.models import Replay, Subscription
from apps.notifications.services import subscriptions
from apps.orders.events import ORDER_EVENTS

_REFUSALS: Final = (SubscriptionRefused, SubscriptionNotFound)


class SubscriptionForm(forms.ModelForm):
    """Where a subscription is told, and of what."""

    event_types = forms.MultipleChoiceField(
        choices=[(kind, kind) for kind in sorted(ORDER_EVENTS)],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="None: all of them, also those that are added later.",
    )

    class Meta:
        model = Subscription
        fields = ("name", "url", "event_types")
        help_texts = {
            "url": "https only, at a public address. Empty for a subscriber that only polls GET /api/v1/events."
        }

    def clean(self) -> dict[str, Any]:
        """Refuse addresses that webhooks may not be sent to, and one subscription too many."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if self.instance.pk is None:
            try:
                subscriptions.check_room()
            except SubscriptionRefused as error:
                raise ValidationError(error.detail) from error
        if "url" in cleaned and "event_types" in cleaned:
            try:
                subscriptions.check_fields(url=cleaned["url"], event_types=cleaned["event_types"])
            except SubscriptionRefused as error:
                raise ValidationError({"url": error.detail}) from error
        return cleaned


class ReasonForm(forms.Form):
    """Why."""

    reason = forms.CharField(max_length=200, strip=True)


class ReplayForm(ReasonForm):
    """From when on, and why."""

    since = forms.DateTimeField(
        label="From (UTC)", widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
    )

    field_order = ("since", "reason")


@admin.register(Subscription)
class SubscriptionAdmin(ModelAdmin):
    """Who is told of what; secrets and tokens are shown once, when they are made."""

    form = SubscriptionForm
    list_display = ("name", "url", "types", "enabled", "disabled_reason", "failing_since", "deliveries")
    list_filter = ("enabled",)
    search_fields = ("name", "url")
    ordering = ("name",)
    fields = ("name", "url", "event_types", "enabled", "disabled_reason", "failing_since", "secret_rotated_at")
    readonly_fields = ("enabled", "disabled_reason", "failing_since", "secret_rotated_at")
    actions = ("send_test", "replay", "enable", "disable", "rotate", "retire", "token")

    @admin.display(description="events")
    def types(self, row: Subscription) -> str:
        """Show which events it is told of."""
        return ", ".join(row.event_types) or "all"

    @admin.display(description="deliveries")
    def deliveries(self, row: Subscription) -> str:
        """Link to its deliveries."""
        address = reverse("admin:webhook-deliveries")
        return format_html('<a href="{}?subscription={}">show</a>', address, row.id)

    def save_model(self, request: HttpRequest, obj: Subscription, form: Any, change: bool) -> None:
        """Make or change the row by its service."""
        fields = {"name": obj.name, "url": obj.url, "event_types": form.cleaned_data["event_types"]}
        if change:
            subscriptions.change_subscription(obj.id, **fields)
            return
        row, secret = subscriptions.add_subscription(**fields, now=timezone.now())
        obj.pk = row.pk
        request.META["floodgate.shown_once"] = secret

    def response_add(
        self, request: HttpRequest, obj: Subscription, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show the new subscription's secret, once."""
        return self._show_once(request, "Signing secret", [(obj.name, request.META.pop("floodgate.shown_once"))])

    @admin.action(description="Send a test event now", permissions=["change"])
    def send_test(self, request: HttpRequest, chosen: "QuerySet[Subscription]") -> None:
        """Send a test event to each, and say what came of it."""
        for row in chosen:
            try:
                outcome = subscriptions.send_test_event(row.id, now=timezone.now())
            except _REFUSALS as error:
                self.message_user(request, error.detail, messages.ERROR)
                continue
            self.log_change(request, row, f"sent a test event: {outcome.error or outcome.status}")
            if outcome.succeeded:
                said = f"{row.name} answered {outcome.status} in {outcome.took_s * 1000:.0f} ms."
                self.message_user(request, said, messages.SUCCESS)
            else:
                self.message_user(request, f"{row.name}: {outcome.error}.", messages.ERROR)

    @admin.action(description="Replay past events", permissions=["change"])
    def replay(self, request: HttpRequest, chosen: "QuerySet[Subscription]") -> HttpResponse | None:
        """Ask from when on and why; then all events since are sent, also those that had been delivered."""

        def begin(row: Subscription, asked: dict[str, Any]) -> str:
            replayed = subscriptions.request_replay(
                row.id,
                since=asked["since"],
                reason=asked["reason"],
                requested_by=request.user.get_username(),
                now=timezone.now(),
            )
            return f"replay {replayed.id} since {replayed.since:%Y-%m-%d %H:%M}"

        return self._ask(request, chosen, "replay", "Replay past events", begin, form_class=ReplayForm)

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, chosen: "QuerySet[Subscription]") -> HttpResponse | None:
        """Ask why, then send to them again."""

        def switch_on(row: Subscription, asked: dict[str, Any]) -> str:
            subscriptions.enable(row.id)
            return "enabled"

        return self._ask(request, chosen, "enable", "Enable", switch_on)

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, chosen: "QuerySet[Subscription]") -> HttpResponse | None:
        """Ask why, then send them nothing more."""

        def switch_off(row: Subscription, asked: dict[str, Any]) -> str:
            subscriptions.disable(row.id, reason=asked["reason"], now=timezone.now())
            return "disabled"

        return self._ask(request, chosen, "disable", "Disable", switch_off)

    @admin.action(description="Rotate the signing secret", permissions=["change"])
    def rotate(self, request: HttpRequest, chosen: "QuerySet[Subscription]") -> HttpResponse | None:
        """Ask why, then make a new secret and show it once; the one before it signs too until it is retired."""
        shown: list[tuple[str, str]] = []

        def make_secret(row: Subscription, asked: dict[str, Any]) -> str:
            shown.append((row.name, subscriptions.rotate_secret(row.id, now=timezone.now())))
            return "rotated the signing secret"

        return self._ask(request, chosen, "rotate", "Rotate the signing secret", make_secret, shown=shown)

    @admin.action(description="Retire the old signing secret", permissions=["change"])
    def retire(self, request: HttpRequest, chosen: "QuerySet[Subscription]") -> HttpResponse | None:
        """Ask why, then sign with the present secret alone."""

        def forget_secret(row: Subscription, asked: dict[str, Any]) -> str:
            subscriptions.retire_secret(row.id)
            return "retired the old signing secret"

        return self._ask(request, chosen, "retire", "Retire the old signing secret", forget_secret)

    @admin.action(description="Issue a token for GET /api/v1/events", permissions=["change"])
    def token(self, request: HttpRequest, chosen: "QuerySet[Subscription]") -> HttpResponse | None:
        """Ask why, then make a token and show it once; the one before it ends."""
        shown: list[tuple[str, str]] = []

        def make_token(row: Subscription, asked: dict[str, Any]) -> str:
            shown.append((row.name, subscriptions.issue_events_token(row.id)))
            return "issued an events token"

        return self._ask(request, chosen, "token", "Issue an events token", make_token, shown=shown)

    def _ask(
        self,
        request: HttpRequest,
        chosen: "QuerySet[Subscription]",
        action: str,
        title: str,
        carry_out: Callable[[Subscription, dict[str, Any]], str],
        *,
        form_class: type[forms.Form] = ReasonForm,
        shown: list[tuple[str, str]] | None = None,
    ) -> HttpResponse | None:
        """Ask for what the form wants, then carry the action out on each row, log it, and show what is shown once."""
        form = form_class(request.POST if "confirmed" in request.POST else None)
        if not form.is_valid():
            context = {"form": form, "chosen": chosen, "action": action, "checkbox_name": ACTION_CHECKBOX_NAME}
            return self._page(request, "notifications/ask.html", title, **context)
        done_count = 0
        for row in chosen:
            try:
                done = carry_out(row, form.cleaned_data)
            except _REFUSALS as error:
                self.message_user(request, error.detail, messages.ERROR)
                continue
            self.log_change(request, row, f"{done}: {form.cleaned_data['reason']}")
            done_count += 1
        if done_count:
            self.message_user(request, f"{title}: done for {done_count}.", messages.SUCCESS)
        return self._show_once(request, title, shown) if shown else None

    def _show_once(self, request: HttpRequest, title: str, shown: list[tuple[str, str]]) -> HttpResponse:
        """Show what is stored in no form that could be shown again; the admin lets no cache keep its pages."""
        return self._page(request, "notifications/shown_once.html", title, shown=shown)

    def _page(self, request: HttpRequest, template: str, title: str, **context: Any) -> HttpResponse:
        common = {**self.admin_site.each_context(request), "title": title, "opts": self.model._meta}
        return TemplateResponse(request, template, {**common, **context})


@admin.register(Replay)
class ReplayAdmin(ModelAdmin):
    """Replays that were asked for, newest first."""

    list_display = ("requested_at", "subscription", "since", "found_count", "finished_at", "requested_by", "reason")
    ordering = ("-id",)
    list_select_related = ("subscription",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse, for everyone: a replay is an action of its subscription."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse, for everyone."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse, for everyone."""
        return False
