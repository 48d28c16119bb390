"""What the sandbox is told when it starts; the only reader of the environment in its process."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

CALLBACK_PATH = "/api/v1/payments/callbacks/sandbox"
TRACK_PATH = "/api/v1/shipments/callbacks/sandbox"


class ConfigurationError(Exception):
    """A variable is missing or makes no sense."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """One sandbox: where it listens, what it signs with, whom it calls back and where it keeps its books."""

    public_url: str
    secret: str
    callback_url: str
    track_url: str
    folder: Path
    account: str = "floodgate"
    refund_duration_s: float = 1.0
    """How long a refund stays `processing`."""
    fetched_after_s: float = 2.0
    """How long a parcel waits until it is fetched."""
    delivery_threads: int = 8
    delivery_timeout_s: float = 5.0
    retry_first_s: float = 1.0
    retry_longest_s: float = 15.0
    give_up_after_s: float = 24 * 3600.0

    @property
    def listen_address(self) -> tuple[str, int]:
        """Host and port of `public_url`."""
        parts = urlsplit(self.public_url)
        return parts.hostname or "127.0.0.1", parts.port or 80


def from_environment(environ: Mapping[str, str] = os.environ) -> Configuration:
    """Read the configuration; raises ConfigurationError naming the variable that is missing."""
    try:
        public_url = environ["FLOODGATE_SANDBOX_URL"].rstrip("/")
        secret = environ["FLOODGATE_SANDBOX_SECRET"]
        folder = Path(environ["FLOODGATE_VAR_DIR"]) / "sandbox"
        callback_url = _address(environ, "FLOODGATE_SANDBOX_CALLBACK_URL", CALLBACK_PATH)
        track_url = _address(environ, "FLOODGATE_SANDBOX_TRACK_URL", TRACK_PATH)
    except KeyError as missing:
        raise ConfigurationError(f"{missing.args[0]} is not set") from missing
    if len(secret) < 32:
        raise ConfigurationError("FLOODGATE_SANDBOX_SECRET is shorter than 32 characters")
    return Configuration(
        public_url=public_url,
        secret=secret,
        callback_url=callback_url,
        track_url=track_url,
        folder=folder,
        account=environ.get("FLOODGATE_SANDBOX_ACCOUNT", "floodgate"),
        fetched_after_s=float(environ.get("FLOODGATE_SANDBOX_FETCHED_AFTER_S", "2")),
    )


def _address(environ: Mapping[str, str], name: str, path: str) -> str:
    """Return where deliveries go: the address by name, or the path at the application."""
    return environ.get(name, "") or environ["FLOODGATE_INTERNAL_URL"].rstrip("/") + path
