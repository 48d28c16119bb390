"""Masks for personal data in logs and on staff pages: enough to tell two values apart on the phone, no more."""

from typing import Final

MASK: Final = "***"
_SHOWN_DIGITS: Final = 2
_SHORT_NAME: Final = 2


def mask_email(email: str) -> str:
    """Return `a***@example.org` for an e-mail address."""
    local, at, domain = email.rpartition("@")
    return f"{local[:1]}{MASK}{at}{domain}" if at else mask_name(email)


def mask_phone(phone: str) -> str:
    """Return `+44***21` for an E.164 number."""
    if len(phone) <= 2 * _SHOWN_DIGITS + 1:
        return MASK if phone else ""
    return f"{phone[: _SHOWN_DIGITS + 1]}{MASK}{phone[-_SHOWN_DIGITS:]}"


def mask_name(name: str) -> str:
    """Return the first letter of a name."""
    return f"{name[:1]}{MASK}" if len(name) > _SHORT_NAME else (MASK if name else "")
