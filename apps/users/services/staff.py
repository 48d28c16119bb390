"""Making accounts of the staff, with a second factor and a role."""

import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.db.models import Q
from django_otp.plugins.otp_totp.models import TOTPDevice

from apps.users.models import StaffUser
from infra.sharding.placement import HOME

_PASSWORD_BYTES: Final = 12


class Role(StrEnum):
    """What a staff account may do: everything; run the shop; look."""

    ADMIN = "admin"
    OPERATIONS = "operations"
    SUPPORT = "support"


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
        account.groups.set([] if role is Role.ADMIN else [_group(role)])
        TOTPDevice.objects.filter(user=account).delete()
        device = TOTPDevice.objects.create(user=account, name="authenticator", confirmed=True)
    return StaffCredentials(username, password, device.config_url)


def _group(role: Role) -> Group:
    """Return the role's group, brought up to what the role may do now."""
    group, _ = Group.objects.using(HOME).get_or_create(name=role.value)
    allowed = Q(codename__startswith="view_") & ~Q(content_type__app_label__in=("otp_totp", "sessions"))
    if role is Role.OPERATIONS:
        shop = Q(content_type__app_label__in=("catalog", "inventory", "orders", "payments", "promotions"))
        allowed |= shop & (Q(codename__startswith="add_") | Q(codename__startswith="change_"))
        allowed |= Q(codename__in=("block_customer", "adjust_stock", "approve_flashsale"))
    group.permissions.set(Permission.objects.using(HOME).filter(allowed))
    return group
