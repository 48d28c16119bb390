"""Purchase tokens: proof that a shopper came for a sale after its start. Signed, so that no database is asked."""

from datetime import UTC, datetime, timedelta
from typing import Final

from django.conf import settings
from django.core import signing

from apps.promotions.domain import Phase
from apps.promotions.errors import PurchaseTokenInvalid, SaleEnded, SaleNotStarted, SalePaused
from apps.promotions.types import Sale

_SALT: Final = "floodgate.purchase-token"
_MAX_LENGTH: Final = 200


def issue_purchase_token(sale: Sale, *, user_id: int, now: datetime) -> tuple[str, datetime]:
    """Return a token for this user and sale, and when it ends: after a while, and not after the sale.

    Raises SaleNotStarted before the start, so that nobody can shoot early; SaleEnded; SalePaused.
    """
    check_open(sale, now=now)
    lifetime = timedelta(seconds=settings.PURCHASE_TOKEN_LIFETIME_S)
    expires_at = min(now + lifetime, sale.ends_at).replace(microsecond=0) + timedelta(seconds=1)
    expires_s = int(expires_at.timestamp())
    return _signer().sign(f"{sale.id}-{user_id}-{expires_s}"), datetime.fromtimestamp(expires_s, UTC)


def check_purchase_token(token: str | None, sale: Sale, *, user_id: int, now: datetime) -> None:
    """Raise PurchaseTokenInvalid unless the token is this user's for this sale, and its time is not over."""
    if not token:
        raise PurchaseTokenInvalid("This sale asks for a purchase token; get one when it has started.")
    if len(token) > _MAX_LENGTH:
        raise PurchaseTokenInvalid("This is not a purchase token.")
    try:
        signed = _signer().unsign(token)
    except signing.BadSignature as error:
        raise PurchaseTokenInvalid("This is not a purchase token.") from error
    sale_id, owner_id, expires_s = (int(part) for part in signed.split("-"))
    if (sale_id, owner_id) != (sale.id, user_id):
        raise PurchaseTokenInvalid("This purchase token is for another shopper or sale.")
    if now.timestamp() >= expires_s:
        raise PurchaseTokenInvalid("This purchase token is over; get another one.")


def check_open(sale: Sale, *, now: datetime) -> None:
    """Raise SaleNotStarted, SaleEnded or SalePaused unless the sale sells now."""
    phase = sale.phase(now)
    if phase == Phase.UPCOMING:
        raise SaleNotStarted(f"The sale begins at {sale.starts_at.isoformat()}.")
    if phase == Phase.PAUSED:
        raise SalePaused("The sale is paused. Try again later.", retry_after_s=2)
    if phase != Phase.OPEN:
        raise SaleEnded("The sale is over.")


def _signer() -> signing.Signer:
    return signing.Signer(salt=_SALT)
