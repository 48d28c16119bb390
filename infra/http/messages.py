"""What passes between the server and the fast lane: a tiny request, a tiny response.

An application that has hot endpoints carries them as its attribute `fast_lane`; the lean worker asks it before it asks
WSGI, and Django's URLs reach the same functions through an adapter.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(slots=True)
class LaneRequest:
    """One request whose body has been read whole.

    `path` is what WSGI calls PATH_INFO: percent-decoded, one character a byte (latin-1). `query` is as it came, without
    the question mark. `headers` has lower-case names; a repeated header's values are joined by commas. `peer` is the
    address of the other end of the connection: a proxy's, where one stands in front.
    """

    method: str
    path: str
    query: bytes
    headers: dict[bytes, bytes]
    body: bytes
    peer: str


@dataclass(slots=True)
class LaneResponse:
    """A whole answer.

    The server adds Date, Server, Connection and Content-Length, leaves the body out where HTTP wants none (HEAD, 204,
    304), and trusts the rest: names and values must be fit for the wire, without line breaks.
    """

    status: int
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


Endpoint = Callable[[LaneRequest], LaneResponse | None]
"""Answers a request, or returns None to leave it to WSGI, which then gets it untouched."""


class FastLane(Protocol):
    """The hot endpoints of an application, its attribute `fast_lane`."""

    def match(self, method: str, path: str) -> Endpoint | None:
        """Return who answers this method and path ahead of WSGI, if anyone does. HEAD is asked for as HEAD."""
