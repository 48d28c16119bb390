"""What the staff may narrow a list of orders to."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _text
from django.utils.translation import gettext_lazy as _

from apps.orders.domain import OrderStatus, PaymentStatus
from infra.api.fields import id_from_text


class IdNumberField(forms.CharField):
    """An order's or a user's number; an `int` inside, None when left empty."""

    def clean(self, value: str | None) -> int | None:
        """Return the number; raises ValidationError for what cannot be one."""
        text = (value or "").strip()
        if not text:
            return None
        number = id_from_text(text)
        if number is None:
            raise forms.ValidationError(_text("A number has up to 19 digits."))
        return number


def _time_field(label: Any) -> forms.DateTimeField:
    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
    return forms.DateTimeField(required=False, label=label, widget=widget)


class OrderSearchForm(forms.Form):
    """What to find, or what to narrow to; all optional."""

    wanted = forms.CharField(
        required=False,
        max_length=254,
        strip=True,
        label=_("Find"),
        widget=forms.TextInput(attrs={"placeholder": _("order, payment or refund number, phone, e-mail, #tag")}),
    )
    tracking = forms.CharField(required=False, max_length=64, strip=True, label=_("Tracking number"))
    user = IdNumberField(required=False, label=_("User number"))
    status = forms.ChoiceField(
        required=False,
        label=_("Status"),
        choices=[("", _("any")), *((status.value, status.value) for status in OrderStatus)],
    )
    payment_status = forms.ChoiceField(
        required=False,
        label=_("Payment"),
        choices=[("", _("any")), *((status.value, status.value) for status in PaymentStatus)],
    )
    country = forms.RegexField(r"^[A-Z]{2}$", required=False, label=_("Country"), max_length=2, empty_value="")
    currency = forms.RegexField(r"^[A-Z]{3}$", required=False, label=_("Currency"), max_length=3, empty_value="")
    total_from = forms.DecimalField(required=False, label=_("Total from"), min_value=0, max_digits=16, decimal_places=4)
    placed_from = _time_field(_("Placed from (UTC)"))
    placed_to = _time_field(_("before (UTC)"))
    before = IdNumberField(required=False, widget=forms.HiddenInput)
