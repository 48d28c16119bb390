"""Staff accounts for tests, without a password to hash, and clients that have shown the second factor."""

from django.contrib.auth.models import Permission
from django.test import Client
from django_otp import DEVICE_ID_SESSION_KEY
from django_otp.plugins.otp_totp.models import TOTPDevice

from apps.users.models import StaffUser


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
