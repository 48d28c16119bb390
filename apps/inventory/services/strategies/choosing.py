"""The staff's choice of how the stock of SKUs is claimed."""

from collections.abc import Collection
from datetime import datetime
from functools import partial
from typing import Final

from django.db import transaction

from apps.inventory import locks, places
from apps.inventory.domain import Strategy
from apps.inventory.errors import TooManyStrategies, UnknownSku
from apps.inventory.models import SkuStrategy, StrategyChange
from infra.mysql.retry import with_deadlock_retry

MAX_CHOSEN: Final = 2000
"""SKUs of one database with a strategy of their own; every process reads them all every other second."""


def choose_strategy(skus: Collection[str], strategy: Strategy, *, reason: str, actor: str, now: datetime) -> int:
    """Have the stock of the SKUs claimed so from now on; return how many were claimed otherwise before.

    Holds in every process within three seconds, while its database answers; until then claims by the old and by the
    new strategy meet, which harms neither. Each change is kept with who made it and why. Raises UnknownSku and
    TooManyStrategies, with nothing changed in that database. Concurrency: choices of a SKU come one after another.
    """
    by_alias: dict[str, list[str]] = {}
    for sku in sorted(set(skus)):
        by_alias.setdefault(places.place_of_sku(sku), []).append(sku)
    return sum(
        with_deadlock_retry(partial(_choose_in, alias, there, strategy, reason=reason, actor=actor, now=now))
        for alias, there in sorted(by_alias.items())
    )


def _choose_in(alias: str, skus: Collection[str], strategy: Strategy, *, reason: str, actor: str, now: datetime) -> int:
    with transaction.atomic(using=alias):
        if unknown := set(skus) - locks.lock_stock(alias, skus).keys():
            raise UnknownSku(unknown)
        rows = SkuStrategy.objects.using(alias).filter(sku__in=skus)
        before = dict.fromkeys(skus, str(Strategy.MERGED)) | dict(rows.values_list("sku", "strategy"))
        changed = [sku for sku in skus if before[sku] != strategy]
        rows.filter(sku__in=changed).delete()
        if strategy != Strategy.MERGED:
            SkuStrategy.objects.using(alias).bulk_create(
                SkuStrategy(sku=sku, strategy=strategy, changed_by=actor, changed_at=now) for sku in changed
            )
            if SkuStrategy.objects.using(alias).count() > MAX_CHOSEN:
                raise TooManyStrategies(MAX_CHOSEN)
        StrategyChange.objects.using(alias).bulk_create(
            StrategyChange(sku=sku, before=before[sku], after=strategy, reason=reason, actor=actor, at=now)
            for sku in changed
        )
    return len(changed)
