"""`manage.py reindex_logins`: give every login its digest under each index key, from the shards."""

from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from tqdm import tqdm

from apps.users.services.indexing import prune_logins, reindex_logins
from infra.crypto.blind_index import index_key_ids
from infra.sharding.places import shard_aliases
from infra.sharding.topology import topology


class Command(BaseCommand):
    """Works off shard by shard, slot by slot; may be killed and run again."""

    help = "Write the missing digests of all verified logins. Resumable; `--prune` deletes those of keys that are gone."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("--from-slot", type=int, default=0, help="begin at this slot of each shard")
        parser.add_argument("--pause", type=float, default=0.0, help="seconds to wait after each batch")
        parser.add_argument("--prune", action="store_true", help="then delete digests of keys no longer configured")

    def handle(self, *args: Any, **options: Any) -> None:
        """Write what is missing, say what is in conflict."""
        self.stdout.write(f"Index keys: {', '.join(index_key_ids())}.")
        total_count = 0
        for alias in shard_aliases():
            slots = [slot for slot in topology.slot_map().slots_of(alias) if slot >= options["from_slot"]]
            work = reindex_logins(alias=alias, slots=slots, pause_s=options["pause"], now=datetime.now(UTC))
            for _, written_count, conflicts in tqdm(work, total=len(slots), desc=alias, unit="slot", disable=None):
                total_count += written_count
                for user_id in conflicts:
                    self.stderr.write(f"A login of customer {user_id} belongs to another customer in the directory.")
        self.stdout.write(f"{total_count} digests written.")
        if options["prune"]:
            pruned_count = 0
            while deleted_count := prune_logins():
                pruned_count += deleted_count
            self.stdout.write(f"{pruned_count} digests of former keys deleted.")
