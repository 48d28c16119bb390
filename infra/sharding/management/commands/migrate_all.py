"""`manage.py migrate_all`: bring every database to the code's schema and seed the topology."""

from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand

from infra.sharding.bootstrap import seed_topology
from infra.sharding.named_lock import ddl_lock

MIGRATION_TIMEOUT_S = 600


class Command(BaseCommand):
    """Runs Django's migrations on every alias, then seeds slot map, worker numbers and fences where absent."""

    help = "Migrate every database and seed the slot map and the fences. Idempotent."

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate one alias after the other; a second run at once waits for the first."""
        for alias in settings.DATABASES:
            with ddl_lock(alias, "migrate", timeout_s=MIGRATION_TIMEOUT_S):
                call_command("migrate", database=alias, interactive=False, verbosity=0)
            self.stdout.write(f"{alias}: migrated")
        seed_topology()
        self.stdout.write("slot map, worker numbers and fences: in place")
