"""Pure rules of logins, codes and profiles; no database."""

import math
import re
import secrets
import unicodedata
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from importlib.resources import files
from typing import Final
from zoneinfo import available_timezones

import phonenumbers
from django.core.exceptions import ValidationError
from django.core.validators import EmailValidator

from apps.users.types import LoginKind, LoginName

MAX_USERNAME_LENGTH: Final = 64
MAX_EMAIL_LENGTH: Final = 254
MAX_LOGIN_LENGTH: Final = 254
CODE_LENGTH: Final = 6
_E164: Final = re.compile(r"\+[1-9][0-9]{1,14}\Z", re.ASCII)
_USERNAME_SIGNS: Final = "._-"
# Marks that show nothing: two usernames that differ by them only would look alike (Default_Ignorable_Code_Point).
_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_SESSION_ID: Final = re.compile(r"[0-9a-f]{32}\Z", re.ASCII)
_LOCALE: Final = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?\Z", re.ASCII)
_is_email: Final = EmailValidator()


class MalformedLogin(ValueError):
    """The text cannot be a login of its kind."""


def normalise_username(text: str) -> str:
    """Return a username as it is compared: NFKC, case folded. Letters and digits of any script, and `._-`."""
    username = _fold(text)
    if not 1 <= len(username) <= MAX_USERNAME_LENGTH:
        raise MalformedLogin(f"A username has 1 to {MAX_USERNAME_LENGTH} characters.")
    if _UNSEEN.search(username) or not all(_is_username_character(character) for character in username):
        raise MalformedLogin("A username has letters, digits, dots, hyphens and underscores.")
    return username


def normalise_email(text: str) -> str:
    """Return an e-mail address as it is compared: NFKC, case folded."""
    email = _fold(text)
    try:
        _is_email(email)
    except ValidationError as error:
        raise MalformedLogin("This is not an e-mail address.") from error
    if len(email) > MAX_EMAIL_LENGTH:
        raise MalformedLogin(f"An e-mail address has at most {MAX_EMAIL_LENGTH} characters.")
    return email


def normalise_phone(text: str) -> str:
    """Return a phone number in E.164, as ITU-T E.164 and its country's lengths allow it."""
    phone = unicodedata.normalize("NFKC", text)
    if _E164.match(phone) is None:
        raise MalformedLogin("A phone number is written in E.164, such as +441632960961.")
    try:
        number = phonenumbers.parse(phone, None)
    except phonenumbers.NumberParseException as error:
        raise MalformedLogin("There is no such phone number.") from error
    # Possible rather than valid: numbering plans open new ranges sooner than the library learns of them.
    if not phonenumbers.is_possible_number(number):
        raise MalformedLogin("There is no such phone number.")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def normalise_login(text: str) -> LoginName:
    """Return what kind of login a text is: no username has `@` or `+`. Raises MalformedLogin."""
    plain = unicodedata.normalize("NFKC", text)
    if "@" in plain:
        return LoginName(LoginKind.EMAIL, normalise_email(plain))
    if plain.startswith("+"):
        return LoginName(LoginKind.PHONE, normalise_phone(plain))
    return LoginName(LoginKind.USERNAME, normalise_username(plain))


def normalise_password(text: str) -> str:
    """Return a password as it is hashed: NFKC, so that all keyboards give the same (NIST SP 800-63B)."""
    return unicodedata.normalize("NFKC", text)


def new_code() -> str:
    """Return a random code of six digits."""
    return f"{secrets.randbelow(10**CODE_LENGTH):0{CODE_LENGTH}d}"


def is_hex_id(text: str) -> bool:
    """Tell whether a text can be the id of a session or an export: 128 bits in hex."""
    return _SESSION_ID.match(text) is not None


def is_locale(text: str) -> bool:
    """Tell whether a text is a language tag of language, script and region (BCP 47), such as `en-GB`."""
    return _LOCALE.match(text) is not None


def is_time_zone(text: str) -> bool:
    """Tell whether a text names a zone of the IANA time zone database."""
    return text in _time_zones()


def is_country(text: str) -> bool:
    """Tell whether a text is a country's ISO 3166-1 alpha-2 code."""
    return text in _countries()


@lru_cache(maxsize=1)
def _countries() -> frozenset[str]:
    """Read the codes from the table that comes with the time zone database."""
    table = files("tzdata.zoneinfo").joinpath("iso3166.tab").read_text(encoding="utf-8")
    return frozenset(line.split("\t")[0] for line in table.splitlines() if line and not line.startswith("#"))


@lru_cache(maxsize=1)
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def wait_for_code_s(
    sent_at: Sequence[datetime], *, now: datetime, apart_s: int = 0, most: int, period_s: int = 3600
) -> int:
    """Return in how many seconds the next code may be sent, 0 for at once.

    `sent_at` are the latest times at which one was, newest first, at least `most` of them if there are so many. Two
    are `apart_s` apart, and within any `period_s` there are at most `most`.
    """
    free_at = [moment + timedelta(seconds=apart_s) for moment in sent_at[:1]]
    free_at += [moment + timedelta(seconds=period_s) for moment in sent_at[most - 1 : most]]
    return max([0, *(math.ceil((moment - now).total_seconds()) for moment in free_at)])


def wait_after_failures_s(failure_count: int, *, free: int, cap_s: int) -> int:
    """Return how long a login waits after this many failures in a row: nothing, then 1, 2, 4, ... up to the cap."""
    if failure_count < free:
        return 0
    return int(min(2 ** min(failure_count - free, 30), cap_s))


def _fold(text: str) -> str:
    """Return NFKC of the case-folded text (Unicode's toNFKC_Casefold, but for ignorable characters)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _is_username_character(character: str) -> bool:
    return character in _USERNAME_SIGNS or unicodedata.category(character)[0] in "LMN"
