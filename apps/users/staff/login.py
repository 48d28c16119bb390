"""The staff's login: name, password and one-time code in one step."""

from typing import Any

from django.utils.translation import gettext_lazy as _
from django_otp import devices_for_user
from django_otp.admin import OTPAdminAuthenticationForm
from django_otp.models import Device
from unfold.widgets import INPUT_CLASSES

from apps.users.models import StaffUser


class StaffLoginForm(OTPAdminAuthenticationForm):
    """Takes the account's only device without asking which one; `make_staff` gives each account one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["otp_token"].label = _("Code of your authenticator app")
        self.fields["otp_token"].widget.attrs |= {"autocomplete": "one-time-code", "inputmode": "numeric"}
        for name in ("username", "password", "otp_token"):
            self.fields[name].widget.attrs["class"] = " ".join(INPUT_CLASSES)

    def _chosen_device(self, user: StaffUser) -> Device | None:
        device = super()._chosen_device(user)
        if device is None:
            devices = list(devices_for_user(user, for_verify=True))
            device = devices[0] if len(devices) == 1 else None
        return device
