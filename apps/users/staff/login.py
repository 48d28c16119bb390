"""The staff's login: name, password and one-time code in one step."""

from django_otp import devices_for_user
from django_otp.admin import OTPAdminAuthenticationForm
from django_otp.models import Device

from apps.users.models import StaffUser


class StaffLoginForm(OTPAdminAuthenticationForm):
    """Takes the account's only device without asking which one; `make_staff` gives each account one."""

    def _chosen_device(self, user: StaffUser) -> Device | None:
        device = super()._chosen_device(user)
        if device is None:
            devices = list(devices_for_user(user, for_verify=True))
            device = devices[0] if len(devices) == 1 else None
        return device
