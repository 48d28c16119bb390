"""Values that cross the border of the idempotency keys."""

from msgspec import Struct


class RequestKey(Struct, frozen=True):
    """One request, named by its client.

    `digest` (32 bytes) stands for method, path and key; `body_digest` (32 bytes) for the decoded body.
    """

    user_id: int
    digest: bytes
    body_digest: bytes


class StoredAnswer(Struct, frozen=True):
    """What the first attempt was answered.

    `resource_id` names what it made; `status`, `body` and `location` are None, None and "" for an endpoint that
    renders its answer again from the resource.
    """

    resource_id: str
    status: int | None = None
    body: bytes | None = None
    location: str = ""
