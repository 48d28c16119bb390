"""`manage.py rotate_data_keys`: encrypt everything again that is not under the current data key."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from tqdm import tqdm

from infra.crypto.cipher import current_key_id
from infra.crypto.rotation import encrypted_tables, rotate, stale_count
from infra.sharding.slots import SLOT_COUNT


class Command(BaseCommand):
    """Works off table by table, slot by slot; may be killed and run again."""

    help = "Bring every encrypted column under the first key of FLOODGATE_DATA_KEYS. Resumable, in small transactions."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("--dry-run", action="store_true", help="count what is under old keys, and change nothing")
        parser.add_argument("--pause", type=float, default=0.02, help="seconds to wait after each batch (default 0.02)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Count or rotate, and say what is left."""
        self.stdout.write(f"The current key is {current_key_id()}.")
        total_count = 0
        for table in encrypted_tables():
            if options["dry_run"]:
                count = stale_count(table)
            else:
                slots = SLOT_COUNT if table.is_by_slot else 1
                label = f"{table.alias} {table.name}"
                done = tqdm(rotate(table, pause_s=options["pause"]), total=slots, desc=label, disable=None, leave=False)
                count = sum(changed_count for _, changed_count in done)
            if count:
                self.stdout.write(f"{table.alias} {table.name}: {count} rows")
            total_count += count
        verb = "are under old keys" if options["dry_run"] else "were encrypted again"
        self.stdout.write(f"{total_count} rows {verb}.")
