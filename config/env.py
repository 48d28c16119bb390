"""The only reader of the environment; everything else reads Django's settings.

Development defaults exist for the `local` and `test` profiles only. Under `production` a missing variable is an
error at start, and so is a secret that is too short to be one.
"""

from pathlib import Path
from typing import Final, Literal, cast

import environ
from django.core.exceptions import ImproperlyConfigured

Profile = Literal["local", "test", "production"]

_env: Final = environ.Env()
BASE_DIR: Final = Path(__file__).resolve().parent.parent
PROFILES: Final = ("local", "test", "production")
MIN_SECRET_LENGTH: Final = 32


def _profile() -> Profile:
    name = _env.str("FLOODGATE_PROFILE", default="production")
    if name not in PROFILES:
        raise ImproperlyConfigured(f"FLOODGATE_PROFILE is {name!r}; it must be one of {', '.join(PROFILES)}.")
    return cast(Profile, name)


PROFILE: Final[Profile] = _profile()
IS_PRODUCTION: Final = PROFILE == "production"


def text(name: str, *, local: str | None = None, default: str | None = None) -> str:
    """Return a variable; `local` is its default outside production only, `default` in every profile."""
    if default is None and not IS_PRODUCTION:
        default = local
    if default is not None:
        return _env.str(name, default=default)
    try:
        return _env.str(name)
    except ImproperlyConfigured as error:
        raise ImproperlyConfigured(
            f"{name} is not set. Locally `make run` and `make test` set it; see deploy/local."
        ) from error


def secret(name: str) -> str:
    """Return a secret, which has no default in any profile."""
    value = text(name)
    if len(value) < MIN_SECRET_LENGTH:
        raise ImproperlyConfigured(f"{name} is shorter than {MIN_SECRET_LENGTH} characters.")
    return value


def is_set(name: str) -> bool:
    """Tell whether a variable is there and not empty: for parts that exist only where they are configured."""
    return bool(_env.str(name, default=""))


def text_list(name: str, *, local: str | None = None, default: str | None = None) -> list[str]:
    """Return a comma-separated variable as a list without blanks; see `text`."""
    return [part.strip() for part in text(name, local=local, default=default).split(",") if part.strip()]


def integer(name: str, *, default: int) -> int:
    """Return a tuning figure, whose default holds in every profile."""
    return _env.int(name, default=default)


def number(name: str, *, default: float) -> float:
    """Return a tuning figure that may have decimals, whose default holds in every profile."""
    return _env.float(name, default=default)


def flag(name: str, *, default: bool) -> bool:
    """Return a switch, whose default holds in every profile."""
    return _env.bool(name, default=default)


def keyed_secrets(name: str) -> list[tuple[str, str]]:
    """Return `id:secret` pairs; the first is the current one, the others are still accepted."""
    pairs: list[tuple[str, str]] = []
    for part in text_list(name):
        key_id, separator, value = part.partition(":")
        if not separator or len(value) < MIN_SECRET_LENGTH:
            raise ImproperlyConfigured(f"{name} must be a list of id:secret, each secret of 32 characters or more.")
        pairs.append((key_id, value))
    return pairs
