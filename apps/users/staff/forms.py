"""What the staff may ask and do about a customer."""

from django import forms
from django.utils.translation import gettext_lazy as _


class CustomerSearchForm(forms.Form):
    """A user number, or a whole login: what is encrypted cannot be searched by a part."""

    wanted = forms.CharField(label=_("User number, username, e-mail address or phone"), max_length=254, strip=True)


class ReasonForm(forms.Form):
    """Why; it is kept."""

    reason = forms.CharField(label=_("Reason"), max_length=200, strip=True)
