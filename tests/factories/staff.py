"""Staff accounts for tests, without a password to hash, and clients that have shown the second factor."""

import time

from django.contrib.auth.models import Permission
from django.http import HttpResponse
from django.test import Client
from django_otp import DEVICE_ID_SESSION_KEY
from django_otp.plugins.otp_totp.models import TOTPDevice

from apps.users.models import StaffUser
from apps.users.services.staff import Role, sync_roles


def make_superuser(username: str = "mia") -> StaffUser:
    """Write an account that may do everything."""
    return StaffUser.objects.create_superuser(username)


def make_operator(*codenames: str, username: str = "bob") -> StaffUser:
    """Write an account that has these permissions alone."""
    user = StaffUser.objects.create_user(username, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


def half_logged_in(user: StaffUser) -> Client:
    """Return a client whose second factor is yet to be shown."""
    client = Client()
    client.force_login(user)
    return client


def logged_in(user: StaffUser) -> Client:
    """Return a client that has shown the second factor."""
    client = half_logged_in(user)
    session = client.session
    session[DEVICE_ID_SESSION_KEY] = TOTPDevice.objects.create(user=user, confirmed=True).persistent_id
    session.save()
    return client


def make_role(role: Role) -> StaffUser:
    """Write an account that has a role, with the permissions that the settings give it."""
    if role is Role.ADMIN:
        return make_superuser(f"the-{role}")
    user = StaffUser.objects.create_user(f"the-{role}", is_staff=True)
    user.groups.add(sync_roles()[role])
    return user


def confirm(client: Client, path: str, **asked: object) -> HttpResponse:
    """Open the page that asks again, fill it in, and send it."""
    shown = client.get(path).context
    fields = {"token": shown["token"], "reason": "because", **asked}
    if "order" in shown:
        fields.setdefault("version", shown["order"].version)
    return client.post(path, fields)


def age_session(client: Client, **ages_s: float) -> None:
    """Make a session older: `begun`, `seen` and `proved` so many seconds ago."""
    session = client.session
    for name, age_s in ages_s.items():
        session[f"staff_{name}_at"] = time.time() - age_s
    session.save()
