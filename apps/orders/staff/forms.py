"""What the staff may narrow a list of orders to."""

from django import forms

from apps.orders.domain import OrderStatus
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
            raise forms.ValidationError("A number has up to 19 digits.")
        return number


class OrderSearchForm(forms.Form):
    """Number, tracking number, user, status and time; all optional."""

    number = IdNumberField(required=False, label="Order number")
    tracking = forms.CharField(required=False, max_length=64, label="Tracking number")
    user = IdNumberField(required=False, label="User number")
    status = forms.ChoiceField(
        required=False, choices=[("", "any"), *((status.value, status.value) for status in OrderStatus)]
    )
    placed_from = forms.DateTimeField(
        required=False,
        label="Placed from (UTC)",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )
    placed_to = forms.DateTimeField(
        required=False,
        label="before (UTC)",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )
    before = IdNumberField(required=False, widget=forms.HiddenInput)
