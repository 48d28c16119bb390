"""App configuration of shoppers and staff."""

from importlib import import_module

from django.apps import AppConfig
from django.conf import settings


class UsersConfig(AppConfig):
    """Shoppers and staff accounts."""

    name = "apps.users"
    label = "users"

    def ready(self) -> None:
        """Register the reading of each shard's feed of ended sessions, which starts with the process's other work.

        And register what this app itself holds of a customer.
        """
        revocations = import_module("apps.users.revocations").revocations
        for alias in settings.SHARD_ALIASES:
            revocations.watch(alias)
        holdings = import_module("apps.users.holdings")
        holdings.register_holding(import_module("apps.users.services.account_holding").AccountHolding())
