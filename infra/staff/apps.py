"""App configuration of what the staff's pages share."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class StaffConfig(AppConfig):
    """Log of the staff's actions, saved views, exports."""

    name = "infra.staff"
    label = "staff"
    verbose_name = _("Staff")
