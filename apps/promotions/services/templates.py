"""Coupon templates as the staff make and change them."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.db import transaction

from apps.promotions import locks
from apps.promotions.domain import MAX_PER_USER, MAX_SCOPE, MAX_TOTAL, MAX_VALID_DAYS, CouponKind
from apps.promotions.errors import TemplateRefused
from apps.promotions.models import CouponTemplate
from apps.promotions.selectors import forget_cached_templates, get_template
from apps.promotions.types import NewTemplate, Template
from infra.sharding.workers import new_id

PROMOTIONS: Final = "promotions"
CHANGEABLE: Final = frozenset({"name", "ends_at", "total_limit", "per_user_limit", "is_listed", "is_active"})
"""What may be changed of a template; its terms are those of coupons that shoppers have."""

_MAX_AMOUNT: Final = Decimal(10) ** 12


def create_template(new: NewTemplate, *, by: str, reason: str, now: datetime) -> Template:
    """Write a template; shoppers can claim its coupons from its start on, if it is listed. Raises TemplateRefused."""
    check_template(new, now=now)
    terms = new.terms
    row = CouponTemplate(
        id=new_id(),
        name=new.name,
        kind=terms.kind,
        currency=terms.currency,
        amount=terms.amount,
        percent=terms.percent,
        max_discount=terms.max_discount,
        threshold=terms.threshold,
        categories=sorted(terms.categories),
        products=sorted(terms.products),
        skus=sorted(terms.skus),
        stackable=terms.stackable,
        starts_at=new.starts_at,
        ends_at=new.ends_at,
        valid_days=new.valid_days,
        total_limit=new.total_limit,
        per_user_limit=new.per_user_limit,
        is_listed=new.is_listed,
        updated_by=by,
        reason=reason,
        created_at=now,
        updated_at=now,
    )
    row.save(using=PROMOTIONS, force_insert=True)
    forget_cached_templates()
    return get_template(row.id)


def change_template(template_id: int, changes: Mapping[str, Any], *, by: str, reason: str, now: datetime) -> Template:
    """Change what may be changed of a template (CHANGEABLE); coupons that were claimed keep their terms and their end.

    Raises CouponNotFound, TemplateRefused: a total limit below what has been claimed, an end before the start.
    Concurrency: under the row's lock, so that a limit is compared with what is claimed by then.
    """
    unknown = set(changes) - CHANGEABLE
    if unknown:
        raise ValueError(f"a template's {sorted(unknown)} do not change")
    with transaction.atomic(using=PROMOTIONS):
        row = locks.lock_template(template_id)
        for name, value in changes.items():
            setattr(row, name, value)
        problems = _problems_of_bounds(row.name, row.starts_at, row.ends_at, row.total_limit, row.per_user_limit)
        if row.total_limit is not None and row.total_limit < row.claimed_count:
            problems["total_limit"] = f"{row.claimed_count} have been claimed already."
        if problems:
            raise TemplateRefused(problems)
        row.updated_by, row.reason, row.updated_at = by, reason, now
        row.save(using=PROMOTIONS, update_fields=[*changes, "updated_by", "reason", "updated_at"])
    forget_cached_templates()
    return get_template(template_id)


def check_template(new: NewTemplate, *, now: datetime) -> None:
    """Raise TemplateRefused, which names all that is wrong, for a template that makes no sense."""
    terms = new.terms
    problems = _problems_of_bounds(new.name, new.starts_at, new.ends_at, new.total_limit, new.per_user_limit)
    if new.ends_at <= now:
        problems["ends_at"] = "It ends in the future."
    if terms.currency != settings.CURRENCY:
        problems["currency"] = f"The shop sells in {settings.CURRENCY}."
    if terms.kind == CouponKind.AMOUNT and not 0 < terms.amount < _MAX_AMOUNT:
        problems["amount"] = "An amount off is above zero."
    if terms.kind == CouponKind.PERCENT and not 0 < terms.percent <= 100:
        problems["percent"] = "A percentage is above 0 and at most 100."
    if terms.kind != CouponKind.AMOUNT and terms.amount:
        problems["amount"] = "Only an amount off has an amount."
    if terms.kind != CouponKind.PERCENT and (terms.percent or terms.max_discount is not None):
        problems["percent"] = "Only a percentage has a percentage and a cap."
    if terms.max_discount is not None and terms.max_discount <= 0:
        problems["max_discount"] = "A cap is above zero."
    if not 0 <= terms.threshold < _MAX_AMOUNT:
        problems["threshold"] = "A threshold is not below zero."
    for name in ("categories", "products", "skus"):
        if len(getattr(terms, name)) > MAX_SCOPE:
            problems[name] = f"At most {MAX_SCOPE}."
    if new.valid_days is not None and not 1 <= new.valid_days <= MAX_VALID_DAYS:
        problems["valid_days"] = f"1 to {MAX_VALID_DAYS}."
    if problems:
        raise TemplateRefused(problems)


def _problems_of_bounds(
    name: str, starts_at: datetime, ends_at: datetime, total_limit: int | None, per_user_limit: int
) -> dict[str, str]:
    problems = {}
    if not name.strip() or len(name) > 120:
        problems["name"] = "A template has a name of at most 120 characters."
    if not starts_at < ends_at:
        problems["ends_at"] = "It ends after it starts."
    if total_limit is not None and not 0 < total_limit <= MAX_TOTAL:
        problems["total_limit"] = f"1 to {MAX_TOTAL}, or none."
    if not 1 <= per_user_limit <= MAX_PER_USER:
        problems["per_user_limit"] = f"1 to {MAX_PER_USER}."
    return problems
