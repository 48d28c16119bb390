"""Where a user's rows live: slots, shards, ids that tell the way, monthly tables, explicit places."""
