"""The table of idempotency keys, on every shard."""

from typing import ClassVar

from django.db import models

from infra.sharding.fields import AsciiField, DigestField
from infra.sharding.models import ShardedModel
from infra.sharding.placement import SHARDS


class IdempotencyKey(ShardedModel):
    """A key and what its first success was answered; written in the transaction of that success.

    `digest` covers method, path and key, so that no collation can make two keys alike. Rows are kept 7 days.
    """

    databases: ClassVar[tuple[str, ...]] = (SHARDS,)

    pk = models.CompositePrimaryKey("slot", "user_id", "digest")
    user_id = models.BigIntegerField()
    digest = DigestField(32)
    body_digest = DigestField(32)
    resource_id = AsciiField(max_length=64, default="")
    status = models.SmallIntegerField(null=True)
    body = models.BinaryField(null=True)
    location = AsciiField(max_length=255, default="")
    created_at = models.DateTimeField()

    class Meta:
        db_table = "idempotency_key"
        indexes = [models.Index(fields=["created_at"], name="idempotency_created")]
