"""The address that a request comes from; a forwarded one is believed only from a listed proxy."""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address

from django.conf import settings


def client_address(meta: Mapping[str, str]) -> str:
    """Return the client's IP address, from WSGI's variables (`request.META`).

    `X-Forwarded-For` is read from its end: each proxy appends its peer, so the last address that is not a listed proxy
    is the nearest one that somebody trusted has seen.
    """
    peer = meta.get("REMOTE_ADDR", "")
    if peer not in settings.TRUSTED_PROXIES:
        return peer
    for part in reversed(meta.get("HTTP_X_FORWARDED_FOR", "").split(",")):
        address = part.strip()
        if not _is_address(address):
            break
        if address not in settings.TRUSTED_PROXIES:
            return address
    return peer


@lru_cache(maxsize=10_000)
def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
