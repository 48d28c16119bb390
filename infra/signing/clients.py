"""The clients and keys that are good now, as this process knows them: read every two seconds, asked in memory."""

from dataclasses import dataclass
from typing import Final

from infra.ratelimit.leases import LeasedBuckets, Limit
from infra.sharding.background import Periodic
from infra.signing.models import ActsFor, ApiClient, ApiClientKey, ApiClientUser

_REFRESH_INTERVAL_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class KnownClient:
    """A client with what it may do."""

    id: int
    name: str
    scopes: frozenset[str]
    acts_for: ActsFor
    users: frozenset[int]
    limit: Limit

    def may_act_for(self, user_id: int) -> bool:
        """Tell whether the client may act for a shopper."""
        return self.acts_for is ActsFor.ANYBODY or (self.acts_for is ActsFor.LISTED and user_id in self.users)


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key that is good, with its client."""

    secret: str
    client: KnownClient


class KnownKeys:
    """All good keys of active clients by id. A change holds in every process two seconds later, or as it is read."""

    def __init__(self) -> None:
        self._keys: dict[str, KnownKey] | None = None
        self._limits: dict[int, Limit] = {}

    def find(self, key_id: str) -> KnownKey | None:
        """Return a key; no query, unless none were ever read in this process, which raises the database's error."""
        _refreshing.start_on_use()
        if self._keys is None:
            self.refresh()
        return (self._keys or {}).get(key_id)

    def limit_of(self, client_id: int) -> Limit | None:
        """Return what a client may ask for."""
        return self._limits.get(client_id)

    def refresh(self) -> None:
        """Read them. Raises the database's error; then those read last hold."""
        users: dict[int, set[int]] = {}
        for client_id, user_id in ApiClientUser.objects.values_list("client_id", "user_id"):
            users.setdefault(client_id, set()).add(user_id)
        clients = {
            client.id: KnownClient(
                id=client.id,
                name=client.name,
                scopes=frozenset(client.scopes.split()),
                acts_for=ActsFor(client.acts_for),
                users=frozenset(users.get(client.id, ())),
                limit=Limit(client.per_second, client.burst),
            )
            for client in ApiClient.objects.filter(is_active=True)
        }
        good = ApiClientKey.objects.filter(position__isnull=False, client_id__in=clients)
        limits = {client.id: client.limit for client in clients.values()}
        self._keys = {key.key_id: KnownKey(key.secret, clients[key.client_id]) for key in good}
        if limits != self._limits:
            self._limits = limits
            CLIENT_REQUESTS.forget()

    def forget(self) -> None:
        """Know nothing, as a process that has just begun; for tests."""
        self._keys, self._limits = None, {}
        CLIENT_REQUESTS.forget()


KNOWN_KEYS: Final = KnownKeys()
CLIENT_REQUESTS: Final[LeasedBuckets[int]] = LeasedBuckets("client", KNOWN_KEYS.limit_of)
"""What each client has asked for, over all processes."""

_refreshing: Final = Periodic("api-clients", _REFRESH_INTERVAL_S, KNOWN_KEYS.refresh)
