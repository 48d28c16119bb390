"""The staff's admin site: Django's, with a second factor."""

from django_otp.admin import OTPAdminSite


class FloodgateAdminSite(OTPAdminSite):
    """Asks for a one-time code besides the password."""

    site_header = "Floodgate"
    site_title = "Floodgate"
    index_title = "Operations"

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
