"""Brings the groups of the staff's roles in line with the settings."""

from typing import Any

from django.core.management.base import BaseCommand

from apps.users.services.staff import sync_roles


class Command(BaseCommand):
    """`sync_roles`: run after an update that brought new permissions; `make_staff` does it too."""

    help = "Give each role's group the permissions of STAFF_ROLES. Idempotent."

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it and say what each role has."""
        for role, group in sync_roles().items():
            self.stdout.write(f"{role}: {group.permissions.count()} permissions")
