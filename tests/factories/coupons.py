"""Coupon templates and coupons for tests, made through the services."""

from datetime import datetime, timedelta
from decimal import Decimal
from secrets import token_hex
from typing import Any

from django.utils import timezone

from apps.promotions.domain import CouponKind
from apps.promotions.models import CouponClaim, CouponTemplate, HeldCouponRow
from apps.promotions.services import claim_coupon, create_template, grant_coupon
from apps.promotions.types import CouponTerms, NewTemplate, Template
from infra.idempotency.keys import request_key
from infra.idempotency.types import RequestKey

_MONEY = {"amount", "percent", "max_discount", "threshold"}


def terms(kind: CouponKind = CouponKind.AMOUNT, **changes: Any) -> CouponTerms:
    """Return terms; money and shares may be given as texts, scopes as any collection."""
    values: dict[str, Any] = {}
    for name, value in changes.items():
        if name in _MONEY:
            values[name] = Decimal(value)
        elif name in {"categories", "products", "skus"}:
            values[name] = frozenset(value)
        else:
            values[name] = value
    if kind == CouponKind.AMOUNT:
        values.setdefault("amount", Decimal("1.00"))
    return CouponTerms(**{"kind": kind, "currency": "GBP", **values})


def make_template(
    kind: CouponKind = CouponKind.AMOUNT, *, starts_in_s: float = -60.0, lasts_s: float = 3600.0, **changes: Any
) -> Template:
    """Make a template whose coupons can be claimed now; a pound off if nothing else is said."""
    now = timezone.now()
    bounds = {
        name: changes.pop(name)
        for name in ("name", "valid_days", "total_limit", "per_user_limit", "is_listed")
        if name in changes
    }
    new = NewTemplate(
        **{"name": "Welcome", **bounds},
        terms=terms(kind, **changes),
        starts_at=now + timedelta(seconds=starts_in_s),
        ends_at=now + timedelta(seconds=starts_in_s + lasts_s),
    )
    return create_template(new, by="tests", reason="for a test", now=now)


def claim_key(user_id: int, template: Template, *, key: str | None = None) -> RequestKey:
    """Return a key as the API makes it; one of its own if none is given."""
    path = f"/api/v1/coupons/{template.id}/claim"
    return request_key(user_id=user_id, method="POST", path=path, key=key or token_hex(8), body={})


def claim(user_id: int, template: Template, *, key: RequestKey | None = None, now: datetime | None = None) -> int:
    """Claim a coupon and return its id."""
    claimed = claim_coupon(user_id=user_id, template_id=template.id, key=key, now=now or timezone.now())
    return claimed.coupon_id


def give_coupon(user_id: int, kind: CouponKind = CouponKind.AMOUNT, **changes: Any) -> int:
    """Give a user a coupon of a template of its own; returns the coupon's id."""
    template = make_template(kind, is_listed=False, **changes)
    return grant_coupon(user_id=user_id, template_id=template.id, by="tests", reason="", now=timezone.now())


def claimed_count(template: Template) -> int:
    """Return what the template's counter says."""
    return CouponTemplate.objects.get(id=template.id).claimed_count


def claims_of(template: Template) -> list[CouponClaim]:
    """Return the claims of a template."""
    return list(CouponClaim.objects.filter(template_id=template.id).order_by("id"))


def coupon_row(user_id: int, coupon_id: int) -> HeldCouponRow | None:
    """Return what stands under a coupon's id on its user's shard."""
    return HeldCouponRow.objects.for_user(user_id).filter(user_id=user_id, id=coupon_id).first()
