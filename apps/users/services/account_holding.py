"""What the users app itself holds of a customer, beside the customer's own row."""

from datetime import UTC, datetime
from typing import Final

from django.db import transaction

from apps.users.holdings import DataPart, ErasureStep
from apps.users.models import DIRECTORY, DataExport, DataExportPart, Login, Session, Verification
from apps.users.selectors import get_customer, list_addresses, live_sessions
from infra.api.rendering import rfc3339
from infra.idempotency.services import delete_keys_of
from infra.sharding.places import place_of_user

_BATCH_ROWS: Final = 500
_MORE: Final = "more"


class AccountHolding:
    """Profile, logins, addresses, devices; and the stored answers of idempotency keys, which may hold an address."""

    name = "account"

    def is_under_way(self, user_id: int) -> bool:
        """Return False: nothing of it ever is."""
        return False

    def erase(self, user_id: int, *, cursor: str, now: datetime) -> ErasureStep:
        """Free the logins and delete a batch of the rest; addresses and profile went with the end of the account."""
        free_logins(user_id)
        place = place_of_user(user_id)
        with place.atomic():
            deleted_count = delete_keys_of(place, user_id, limit=_BATCH_ROWS)
            for model in (Session, DataExportPart, DataExport):
                rows = model.objects.at(place).filter(user_id=user_id)
                keys = list(rows.values_list(*[field.name for field in model._meta.pk_fields])[:_BATCH_ROWS])
                if keys:
                    deleted_count += model.objects.at(place).filter(pk__in=keys).delete()[0]
        return ErasureStep(_MORE if deleted_count else "")

    def read(self, user_id: int, *, cursor: str) -> DataPart:
        """Return profile, addresses and devices in one part: there are few of each."""
        customer = get_customer(user_id)
        sessions = live_sessions(user_id, now=datetime.now(UTC))
        account: dict[str, object] = {
            "id": str(user_id),
            "username": customer.username or None,
            "email": customer.email or None,
            "email_verified": customer.email_verified_at is not None,
            "phone": customer.phone or None,
            "phone_verified": customer.phone_verified_at is not None,
            "display_name": customer.display_name,
            "locale": customer.locale,
            "time_zone": customer.time_zone,
            "registered_at": rfc3339(customer.registered_at),
            "addresses": [{"id": str(address.id), **address.details} for address in list_addresses(user_id)],
            "sessions": [{"device": session.device, "created_at": rfc3339(session.created_at)} for session in sessions],
        }
        return DataPart([account], "")


def free_logins(user_id: int) -> None:
    """Delete what the directory knows of a customer's logins; the identity stays, so that the id is never another's."""
    with transaction.atomic(using=DIRECTORY):
        Verification.objects.filter(user_id=user_id).delete()
        Login.objects.filter(user_id=user_id).delete()
