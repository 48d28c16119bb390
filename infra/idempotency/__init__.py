"""Idempotency keys: a request repeated with its key gets the first answer, whatever process or shard map serves it."""
