"""A POST to an address that somebody outside has named: resolved once, checked, and sent to what was checked.

The name is resolved here and nowhere else, every address that it has must be allowed, and the connection is made to one
of them by number: whatever the name means a moment later makes no difference. The certificate is verified for the name.
No proxy of the environment is used, no redirect followed, no more read of the answer than a bound, and all of it ends
within one deadline, however slowly the other side dribbles.

The HTTP is that of the standard library's `http.client`; a connection of it that brings its own socket is what
`http.client.HTTPSConnection` itself is.
"""

import http.client
import math
import re
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings

from infra.outgoing.addresses import Address, is_allowed
from infra.sharding.background import call_apart

MAX_URL_LENGTH: Final = 500
_MAX_ANSWER_BYTES: Final = 64 * 1024
_CHUNK_BYTES: Final = 16 * 1024
_HTTPS_PORT: Final = 443
# Letters, digits, hyphens and dots, or an IPv6 address; names in other scripts are written in their ASCII form.
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:.]{2,45}")
_TARGET: Final = re.compile(r"[\x21-\x7e]*")


class UrlRefused(ValueError):
    """The text is no address that requests may be sent to; says why."""


class RequestFailed(Exception):
    """There was no answer: refused address, no connection, bad certificate, no HTTP, or not in time; says which."""


@dataclass(frozen=True, slots=True)
class Target:
    """An `https` address in its parts; `path` has the query with it."""

    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What the `Host` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _HTTPS_PORT else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the other side said, without its body; `took_s` counts from the call."""

    status: int
    retry_after: str
    took_s: float


def parse_target(url: str) -> Target:
    """Return the parts of an `https` address. Raises UrlRefused; asks no name server."""
    if len(url) > MAX_URL_LENGTH or not _TARGET.fullmatch(url):
        raise UrlRefused(f"An address has up to {MAX_URL_LENGTH} visible ASCII characters.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UrlRefused("This is no address.") from error
    if parts.scheme != "https":
        raise UrlRefused("The address must begin with https://.")
    if "@" in parts.netloc:
        raise UrlRefused("An address with a user or a password in it is refused.")
    if "\\" in url or not _HOST.fullmatch(parts.hostname or ""):
        raise UrlRefused("The address names no host.")
    if parts.fragment:
        raise UrlRefused("An address with a fragment is refused.")
    if port == 0:
        raise UrlRefused("There is no port 0.")
    path = parts.path or "/"
    return Target(
        host=parts.hostname or "", port=port or _HTTPS_PORT, path=f"{path}?{parts.query}" if parts.query else path
    )


def check_reachable(url: str, *, timeout_s: float) -> None:
    """Refuse an address whose host has no address, or one that is not allowed. Raises UrlRefused.

    For telling whoever enters the address; sending checks again.
    """
    target = parse_target(url)
    try:
        _addresses_of(target, ends_at=time.monotonic() + timeout_s)
    except RequestFailed as error:
        raise UrlRefused(str(error)) from error


def post(url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Answer:
    """Send a POST and return the answer's status, whatever it is. Raises RequestFailed, UrlRefused.

    Not inside a transaction. Returns or raises within `timeout_s` seconds; an answer whose status has come counts, even
    if the rest of it does not end in time.
    """
    began_at = time.monotonic()
    target = parse_target(url)
    connection = _PinnedConnection(target, ends_at=began_at + timeout_s)
    try:
        connection.request(
            "POST", target.path, body=body, headers={**headers, "Host": target.authority, "Connection": "close"}
        )
        response = connection.getresponse()
        answer = Answer(
            status=response.status,
            retry_after=response.headers.get("Retry-After", "")[:64],
            took_s=time.monotonic() - began_at,
        )
        _read_politely(response)
    except RequestFailed:
        raise
    except TimeoutError as error:
        raise RequestFailed(f"no answer within {timeout_s:g} s") from error
    except ssl.SSLCertVerificationError as error:
        raise RequestFailed(f"the certificate is not good for {target.host}: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise RequestFailed(f"no TLS: {error.reason or type(error).__name__}") from error
    except http.client.HTTPException as error:
        raise RequestFailed(f"the answer is not HTTP: {type(error).__name__}") from error
    except OSError as error:
        raise RequestFailed(f"the connection broke: {error.strerror or type(error).__name__}") from error
    finally:
        connection.close()
    return answer


def resolve(host: str, port: int) -> list[Address]:
    """Return all addresses of a name, as the machine's resolver has them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ip_address(str(entry[4][0])) for entry in found]


def _addresses_of(target: Target, *, ends_at: float) -> list[Address]:
    """Return the addresses of a target, all of them allowed. Raises RequestFailed."""
    try:
        # The resolver has no time limit of its own that could be set.
        addresses = call_apart(lambda: resolve(target.host, target.port), timeout_s=_left(ends_at))
    except TimeoutError as error:
        raise RequestFailed(f"{target.host} could not be resolved in time") from error
    except (OSError, ValueError) as error:
        raise RequestFailed(f"{target.host} has no address") from error
    if not addresses:
        raise RequestFailed(f"{target.host} has no address")
    for address in addresses:
        _check(address, target.host)
    return addresses


def _check(address: Address, host: str) -> None:
    if not is_allowed(address):
        raise RequestFailed(f"{host} has an address that is not public")


def _left(ends_at: float) -> float:
    """Return the seconds until the deadline. Raises TimeoutError when it is over."""
    left_s = ends_at - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


class _DeadlineSocket(ssl.SSLSocket):
    """A TLS socket each of whose waits ends at one deadline (monotonic seconds) for all of them."""

    ends_at = math.inf

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        """Read, waiting no longer than until the deadline."""
        self.settimeout(_left(self.ends_at))
        return super().recv_into(*args, **kwargs)

    def send(self, *args: Any, **kwargs: Any) -> int:
        """Write, waiting no longer than until the deadline."""
        self.settimeout(_left(self.ends_at))
        return super().send(*args, **kwargs)


class _PinnedConnection(http.client.HTTPConnection):
    """A connection over TLS to an address that was checked."""

    def __init__(self, target: Target, *, ends_at: float) -> None:
        super().__init__(target.host, target.port)
        self._target = target
        self._ends_at = ends_at

    def connect(self) -> None:
        """Connect to the first allowed address that answers; the peer is checked again once it is there."""
        sock: socket.socket = self._connected()
        try:
            _check(ip_address(sock.getpeername()[0]), self._target.host)
            sock.settimeout(_left(self._ends_at))
            sock = tls = _tls_context(settings.OUTGOING_CA_FILE).wrap_socket(
                sock, server_hostname=self._target.host, do_handshake_on_connect=False
            )
            tls.do_handshake()
        except BaseException:
            sock.close()
            raise
        tls.ends_at = self._ends_at  # type: ignore[attr-defined]  # the context makes sockets of our class
        self.sock = tls

    def _connected(self) -> socket.socket:
        addresses = _addresses_of(self._target, ends_at=self._ends_at)
        for left_count in range(len(addresses), 1, -1):
            with suppress(OSError):
                return self._socket_to(addresses[-left_count], share=left_count)
        return self._socket_to(addresses[-1], share=1)

    def _socket_to(self, address: Address, *, share: int) -> socket.socket:
        """Connect within a share of the time that is left, so that there is some for the addresses after this one."""
        return socket.create_connection((str(address), self._target.port), timeout=_left(self._ends_at) / share)


@lru_cache(maxsize=4)
def _tls_context(ca_file: str) -> ssl.SSLContext:
    """Return a context that verifies certificates: by the machine's authorities, or by those of a file."""
    context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _DeadlineSocket
    return context


def _read_politely(response: http.client.HTTPResponse) -> None:
    """Read the rest of the answer, up to a bound, so that its sender sees it taken; it may also end as it likes."""
    try:
        for _ in range(_MAX_ANSWER_BYTES // _CHUNK_BYTES):
            if not response.read1(_CHUNK_BYTES):
                return
    except (OSError, http.client.HTTPException):
        return
