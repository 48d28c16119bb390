"""What the staff may ask and do about a customer."""

from django import forms


class CustomerSearchForm(forms.Form):
    """A user number, or a whole login: what is encrypted cannot be searched by a part."""

    wanted = forms.CharField(label="User number, username, e-mail address or phone", max_length=254, strip=True)


class BlockForm(forms.Form):
    """Blocking or unblocking, with the reason that is kept."""

    action = forms.ChoiceField(choices=[("block", "Block"), ("unblock", "Unblock")])
    reason = forms.CharField(max_length=200)
