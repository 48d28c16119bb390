"""The only locked reads of the users app."""

from apps.users.errors import CustomerNotFound
from apps.users.models import Customer, Verification
from infra.crypto.blind_index import IndexDigest
from infra.sharding.places import Place


def lock_customer(place: Place, user_id: int) -> Customer:
    """Return the customer's row, locked until the transaction ends: logins and addresses of one user take turns.

    Raises CustomerNotFound.
    """
    customer = Customer.objects.at(place).select_for_update().filter(user_id=user_id).first()
    if customer is None:
        raise CustomerNotFound("There is no such customer.")
    return customer


def lock_verifications(digests: list[IndexDigest]) -> list[Verification]:
    """Return the open verifications of a login, locked, in the order of their ids."""
    return list(
        Verification.objects.select_for_update()
        .filter(digest__in=[entry.digest for entry in digests], accepted_at__isnull=True)
        .order_by("id")
    )
