"""API clients in the staff's admin: what each may do, its keys. A key's secret is shown once, as it is made."""

from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from infra.ratelimit.limits import known_routes
from infra.signing.errors import NoSuchKey, TooManyKeys
from infra.signing.models import ApiClient, ApiClientKey, ApiClientUser
from infra.signing.services import issue_key, revoke_key
from infra.signing.verification import required_scope

_CHANGE = "signing.change_apiclient"
_MAX_USERS = 1000


class ApiClientForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic when it runs
    """Offers the scopes that there are."""

    scopes = forms.MultipleChoiceField(required=False, widget=forms.CheckboxSelectMultiple)

    class Meta:
        model = ApiClient
        fields = ("name", "is_active", "scopes", "acts_for", "per_second", "burst")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "scopes" in self.fields:
            self.fields["scopes"].choices = [(scope, scope) for scope in _known_scopes()]  # type: ignore[attr-defined]
            self.initial["scopes"] = self.instance.scopes.split()

    def clean_scopes(self) -> str:
        """Return the scopes as they are stored."""
        return " ".join(self.cleaned_data["scopes"])


class ReasonForm(forms.Form):
    """Why a key is made or taken back."""

    reason = forms.CharField(max_length=200, strip=True)


class ApiClientUserInline(admin.TabularInline):  # type: ignore[type-arg]  # not generic when it runs
    """The shoppers that a client may act for, where it acts for listed ones."""

    model = ApiClientUser
    extra = 1
    max_num = _MAX_USERS


@admin.register(ApiClient)
class ApiClientAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic when it runs
    """Clients. A change holds in every process within two seconds; a client is deactivated, not deleted."""

    form = ApiClientForm
    inlines = (ApiClientUserInline,)
    list_display = ("name", "is_active", "scopes", "acts_for", "per_second", "burst", "good_keys")
    readonly_fields = ("keys",)
    search_fields = ("name", "=keys__key_id")

    def has_delete_permission(self, request: HttpRequest, obj: ApiClient | None = None) -> bool:
        """Refuse, for everyone: who had which key stays known."""
        return False

    def get_urls(self) -> list[URLPattern]:
        """Add the pages of keys."""
        wrap = self.admin_site.admin_view
        return [
            path("<int:client_id>/issue-key/", wrap(self.issue), name="signing_issue_key"),
            path("<int:client_id>/revoke-key/<slug:key_id>/", wrap(self.revoke), name="signing_revoke_key"),
            *super().get_urls(),
        ]

    @admin.display(description="good keys")
    def good_keys(self, client: ApiClient) -> int:
        """Count the keys that are good."""
        return client.keys.filter(position__isnull=False).count()

    @admin.display(description="keys")
    def keys(self, client: ApiClient) -> SafeString:
        """List the keys, with what can be done."""
        if client.pk is None:
            return format_html("{}", "Save the client first.")
        rows = [
            (
                key.key_id,
                f"made by {key.created_by} at {key.created_at:%Y-%m-%d %H:%M} UTC",
                self._end_of(client, key),
            )
            for key in client.keys.all()
        ]
        listed = format_html_join("", "<li><code>{}</code> {}: {}</li>", rows)
        issue = reverse("admin:signing_issue_key", args=[client.pk])
        return format_html('<ul>{}</ul><a class="button" href="{}">Make a key</a>', listed, issue)

    def issue(self, request: HttpRequest, client_id: int) -> HttpResponse:
        """Ask for a reason, then make a key and show its secret, this once."""
        client, form = self._asked(request, client_id)
        if form.is_valid():
            try:
                issued = issue_key(client_id=client.pk, actor=request.user.get_username(), now=timezone.now())
            except TooManyKeys as error:
                messages.error(request, str(error))
                return self._back(client)
            self._log(request, client, f"made key {issued.key_id}: {form.cleaned_data['reason']}")
            # The admin's pages are never stored by a browser or proxy.
            return self._page(request, "signing/key_issued.html", "The new key", client=client, issued=issued)
        return self._page(request, "signing/ask_reason.html", "Make a key", client=client, form=form, does="Make a key")

    def revoke(self, request: HttpRequest, client_id: int, key_id: str) -> HttpResponse:
        """Ask for a reason, then take a key back for good."""
        client, form = self._asked(request, client_id)
        get_object_or_404(ApiClientKey, client=client, key_id=key_id)
        if form.is_valid():
            try:
                revoke_key(client_id=client.pk, key_id=key_id, actor=request.user.get_username(), now=timezone.now())
            except NoSuchKey as error:
                messages.error(request, str(error))
                return self._back(client)
            self._log(request, client, f"revoked key {key_id}: {form.cleaned_data['reason']}")
            messages.success(request, f"Key {key_id} is revoked.")
            return self._back(client)
        title = f"Revoke key {key_id}"
        return self._page(request, "signing/ask_reason.html", title, client=client, form=form, does="Revoke")

    @staticmethod
    def _asked(request: HttpRequest, client_id: int) -> tuple[ApiClient, ReasonForm]:
        if not request.user.has_perm(_CHANGE):
            raise PermissionDenied
        return get_object_or_404(ApiClient, pk=client_id), ReasonForm(request.POST or None)

    @staticmethod
    def _end_of(client: ApiClient, key: ApiClientKey) -> SafeString:
        if key.revoked_at is not None:
            return format_html("revoked by {} at {} UTC", key.revoked_by, f"{key.revoked_at:%Y-%m-%d %H:%M}")
        return format_html('<a href="{}">revoke</a>', reverse("admin:signing_revoke_key", args=[client.pk, key.key_id]))

    @staticmethod
    def _back(client: ApiClient) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:signing_apiclient_change", args=[client.pk]))

    @staticmethod
    def _log(request: HttpRequest, client: ApiClient, message: str) -> None:
        LogEntry.objects.create(
            user_id=cast(int, request.user.pk),
            content_type=ContentType.objects.get_for_model(ApiClient),
            object_id=str(client.pk),
            object_repr=str(client),
            action_flag=CHANGE,
            change_message=message,
        )

    def _page(self, request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
        shared = {**self.admin_site.each_context(request), "title": title, "opts": self.model._meta}
        return TemplateResponse(request, template, {**shared, **context})


def _known_scopes() -> list[str]:
    """Return a scope for everything that the public API has."""
    routes = [name.partition(" ") for name in known_routes()]
    return sorted({required_scope(method, f"/{route}") for method, _, route in routes if route.startswith("api/v1/")})
