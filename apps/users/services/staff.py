"""Making accounts of the staff, with a second factor and a role."""

import secrets
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from django.conf import settings
from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django_otp.plugins.otp_totp.models import TOTPDevice

from apps.users.models import StaffUser
from infra.sharding.placement import HOME

_PASSWORD_BYTES: Final = 12


class Role(StrEnum):
    """What a staff account may do: everything, or what the setting STAFF_ROLES gives the role."""

    ADMIN = "admin"
    OPERATIONS = "operations"
    SUPPORT = "support"
    WAREHOUSE = "warehouse"
    FINANCE = "finance"
    PROMOTIONS = "promotions"
    AUDITOR = "auditor"


@dataclass(frozen=True, slots=True)
class StaffCredentials:
    """What is shown once: the password, and the URL for an authenticator app (RFC 6238)."""

    username: str
    password: str
    otpauth_url: str


class StaffExists(Exception):
    """There is an account of this name."""


def make_staff(*, username: str, role: Role, reset: bool = False) -> StaffCredentials:
    """Make an account with a new password and a new second factor; `reset` gives both to one that exists.

    Raises StaffExists.
    """
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    with transaction.atomic(using=HOME):
        account = StaffUser.objects.filter(username=username).first()
        if account is not None and not reset:
            raise StaffExists(f"There is a staff account {username!r}; use --reset to give it new credentials.")
        account = account or StaffUser(username=username)
        account.is_staff, account.is_active, account.is_superuser = True, True, role is Role.ADMIN
        account.set_password(password)
        account.save(using=HOME)
        groups = sync_roles()
        account.groups.set([] if role is Role.ADMIN else [groups[role]])
        TOTPDevice.objects.filter(user=account).delete()
        device = TOTPDevice.objects.create(user=account, name="authenticator", confirmed=True)
    return StaffCredentials(username, password, device.config_url)


def sync_roles() -> dict[Role, Group]:
    """Bring the group of each role in line with STAFF_ROLES, and return the groups. Idempotent."""
    known = {
        f"{permission.content_type.app_label}.{permission.codename}": permission
        for permission in Permission.objects.using(HOME).select_related("content_type")
    }
    groups: dict[Role, Group] = {}
    with transaction.atomic(using=HOME):
        for role in Role:
            if role is not Role.ADMIN:
                group, _ = Group.objects.using(HOME).get_or_create(name=role.value)
                group.permissions.set([known[name] for name in sorted(permissions_of(role, known))])
                groups[role] = group
    return groups


def permissions_of(role: Role, known: "set[str] | dict[str, Permission]") -> set[str]:
    """Return which of the known permissions (`app.codename`) a role has; the admin has all."""
    if role is Role.ADMIN:
        return set(known)
    return {
        name
        for name in known
        if any(fnmatchcase(name, pattern) for pattern in settings.STAFF_ROLES[role.value])
        and not any(fnmatchcase(name, pattern) for pattern in settings.STAFF_NEVER)
    }
