"""Which addresses a request may be sent to that somebody outside has named (no server-side request forgery).

What is not known to be public is refused. Python's own tables of special addresses (IANA's registries) are the start;
what they miss in the versions that are in use, and what is public by number and internal by use, is added here.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

from django.conf import settings

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NOT_PUBLIC: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT (RFC 6598), and a cloud's metadata at 100.100.100.200
        "168.63.129.16/32",  # Azure's platform services, reached from inside its machines only
        "192.0.0.0/24",  # IETF protocol assignments, and a cloud's metadata at 192.0.0.192
        "192.88.99.0/24",  # 6to4 relays (RFC 7526)
        "224.0.0.0/4",
        "240.0.0.0/4",
        "2001::/23",  # Teredo, ORCHID, benchmarking and other protocol assignments
        "2001:db8::/32",
        "2002::/16",  # 6to4 carries an IPv4 address
        "3fff::/20",
    )
)
# The only range of IPv6 that is handed out for the public network; all else, such as NAT64's 64:ff9b::/96 and the
# deprecated IPv4-compatible form, is special.
_GLOBAL_UNICAST: Final = ip_network("2000::/3")


def is_allowed(address: Address) -> bool:
    """Tell whether a request may go to an address: a public one that the operator has not denied.

    An IPv4 address written as IPv6 (`::ffff:10.0.0.1`) is judged as the IPv4 address that it stands for. The networks
    of the setting OUTGOING_ALLOWED_NETWORKS, which production refuses, are allowed whatever they are.
    """
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if _is_in(address, _networks(tuple(settings.OUTGOING_ALLOWED_NETWORKS))):
        return True
    return _is_public(address) and not _is_in(address, _networks(tuple(settings.OUTGOING_DENIED_NETWORKS)))


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and (address not in _GLOBAL_UNICAST or address.scope_id is not None):
        return False
    return address.is_global and not address.is_multicast and not _is_in(address, _NOT_PUBLIC)


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


@lru_cache(maxsize=8)
def _networks(texts: Sequence[str]) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)
