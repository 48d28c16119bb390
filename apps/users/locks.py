"""The only locked reads of the users app."""

from collections.abc import Collection

from django.db import connections

from apps.users.errors import CustomerNotFound
from apps.users.models import Customer, CustomerState, Identity, IdentityState, Verification
from infra.crypto.blind_index import IndexDigest
from infra.sharding.places import Place
from infra.sharding.slots import slot_of_user


def lock_customer(place: Place, user_id: int) -> Customer:
    """Return the customer's row, locked until the transaction ends: logins and addresses of one user take turns.

    Raises CustomerNotFound, also when the account has been ended.
    """
    customer = Customer.objects.at(place).select_for_update().filter(user_id=user_id).first()
    if customer is None or customer.state == CustomerState.ERASED:
        raise CustomerNotFound("There is no such customer.")
    return customer


def lock_customers(alias: str, user_ids: Collection[int]) -> None:
    """Lock the rows of several customers of one shard until the transaction ends, in the order of their keys."""
    keys = sorted((slot_of_user(user_id), user_id) for user_id in user_ids)
    condition = " OR ".join([f"(slot={slot} AND user_id={user_id:d})" for slot, user_id in keys])
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT user_id FROM users_customer FORCE INDEX (PRIMARY) "  # noqa: S608 - numbers
            f"WHERE {condition} ORDER BY slot, user_id FOR UPDATE"
        )
        cursor.fetchall()


def lock_verifications(digests: list[IndexDigest]) -> list[Verification]:
    """Return the open verifications of a login, locked, in the order of their ids."""
    return list(
        Verification.objects.select_for_update()
        .filter(digest__in=[entry.digest for entry in digests], accepted_at__isnull=True)
        .order_by("id")
    )


def lock_identity(user_id: int) -> None:
    """Lock the user's identity until the directory's transaction ends: changes of one user's logins take turns.

    Raises CustomerNotFound.
    """
    live = Identity.objects.select_for_update().filter(user_id=user_id, state=IdentityState.LIVE)
    if not list(live.values_list("user_id", flat=True)):
        raise CustomerNotFound("There is no such customer.")
