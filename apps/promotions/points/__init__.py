"""Points: a double-entry ledger on each user's shard, with balances and lots that expire."""
