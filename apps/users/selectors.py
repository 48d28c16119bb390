"""Reads of the users app."""

from collections.abc import Collection
from datetime import datetime
from typing import Final

from django.db import connections

from apps.users.errors import AddressNotFound, CustomerNotFound
from apps.users.models import Address, Customer, CustomerState, Login, SentMessage, Session
from apps.users.types import ADDRESS_FIELDS, AddressSnapshot, LoginKind, LoginName
from infra.crypto.blind_index import blind_index
from infra.crypto.fields import open_json
from infra.sharding.slots import slot_of_user

_NO_ADDRESS: Final = dict.fromkeys(ADDRESS_FIELDS, "")


def find_user_id(login: LoginName) -> int | None:
    """Return whose verified login this is, or None."""
    digests = [entry.digest for entry in blind_index(login.kind, login.value)]
    return Login.objects.filter(digest__in=digests).values_list("user_id", flat=True).first()


def is_login_known(login: LoginName) -> bool:
    """Tell whether this is a verified login of anybody."""
    return find_user_id(login) is not None


def find_customer(user_id: int) -> Customer | None:
    """Return a customer, or None."""
    return Customer.objects.for_user(user_id).filter(user_id=user_id).first()


def get_customer(user_id: int) -> Customer:
    """Return a customer; raises CustomerNotFound."""
    customer = find_customer(user_id)
    if customer is None:
        raise CustomerNotFound("There is no such customer.")
    return customer


def verified_logins(customer: Customer) -> list[LoginName]:
    """Return what a customer logs in with, as the shard knows it."""
    logins = []
    if customer.username:
        logins.append(LoginName(LoginKind.USERNAME, customer.username))
    if customer.email and customer.email_verified_at is not None:
        logins.append(LoginName(LoginKind.EMAIL, customer.email))
    if customer.phone and customer.phone_verified_at is not None:
        logins.append(LoginName(LoginKind.PHONE, customer.phone))
    return logins


def order_months(user_id: int) -> tuple[int, int] | None:
    """Return the first and last month of a user's orders, such as (202611, 202702), or None if there is no order."""
    months = (
        Customer.objects.for_user(user_id)
        .filter(user_id=user_id)
        .values_list("first_order_month", "last_order_month")
        .first()
    )
    if months is None or months[0] is None or months[1] is None:
        return None
    return months[0], months[1]


def live_sessions(user_id: int, *, now: datetime) -> list[Session]:
    """Return the devices that are logged in, the newest first."""
    sessions = Session.objects.for_user(user_id).filter(user_id=user_id, ended_at__isnull=True, expires_at__gt=now)
    return list(sessions.order_by("-created_at", "id"))


def list_addresses(user_id: int) -> list[Address]:
    """Return all addresses of a user, the oldest first."""
    return list(Address.objects.for_user(user_id).filter(user_id=user_id).order_by("created_at", "id"))


def get_address(user_id: int, address_id: int) -> Address:
    """Return an address of a user; raises AddressNotFound."""
    address = Address.objects.for_user(user_id).filter(user_id=user_id, id=address_id).first()
    if address is None:
        raise AddressNotFound("There is no such address.")
    return address


def address_snapshots(alias: str, wanted: Collection[tuple[int, int]]) -> dict[tuple[int, int], AddressSnapshot]:
    """Return addresses of users of one shard by (user id, address id); what no such user has is absent.

    Plain SQL: they are read for every order, and the stored text itself is wanted beside what it says.
    """
    condition = " OR ".join(
        [
            f"(slot={slot_of_user(user_id)} AND user_id={user_id:d} AND id={address_id:d})"
            for user_id, address_id in wanted
        ]
    )
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SELECT user_id, id, details FROM users_address FORCE INDEX (PRIMARY) WHERE {condition}")  # noqa: S608 - numbers
        rows = cursor.fetchall()
    return {
        (user_id, address_id): AddressSnapshot(address_id, _NO_ADDRESS | open_json(sealed), sealed)
        for user_id, address_id, sealed in rows
    }


def last_sent_code(login: LoginName) -> str | None:
    """Return the last code that the local sender has sent to a login, or None."""
    digests = [entry.digest for entry in blind_index(login.kind, login.value)]
    sent = SentMessage.objects.filter(digest__in=digests).exclude(code="").order_by("-id")
    return sent.values_list("code", flat=True).first()


def stalled_registrations(alias: str, *, before: datetime) -> int:
    """Count registrations on a shard that began before a moment and are neither confirmed nor taken back."""
    return Customer.objects.on_shard(alias).filter(state=CustomerState.REGISTERING, registered_at__lt=before).count()
