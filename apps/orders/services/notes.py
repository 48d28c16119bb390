"""What the staff write on an order for themselves: notes and tags. No part of the order: its version stays."""

import unicodedata
from collections.abc import Collection
from datetime import datetime
from typing import Final

from django.db.models import Max

from apps.orders.errors import OrderNotFound
from apps.orders.locks import lock_order
from apps.orders.models import OrderHold, OrderNote, OrderTag, PlacedAddress
from infra.errors import LimitReached, ValidationFailed
from infra.sharding.places import Place, place_of_order

MAX_NOTES: Final = 500
MAX_NOTE_LENGTH: Final = 2000
MAX_TAGS: Final = 20
MAX_TAG_LENGTH: Final = 32


def add_note(*, order_id: int, text: str, staff_id: int, staff_name: str, now: datetime) -> int:
    """Write a note; returns its number. Raises OrderNotFound, LimitReached, ValidationFailed.

    Concurrency: the order's row is locked, so that notes at once take numbers of their own.
    """
    if not text.strip() or len(text) > MAX_NOTE_LENGTH:
        raise ValidationFailed(f"A note has 1 to {MAX_NOTE_LENGTH} characters.")
    place = place_of_order(order_id)
    with place.atomic():
        if lock_order(place, order_id) is None:
            raise OrderNotFound("There is no such order.")
        last = OrderNote.objects.at(place).filter(order_id=order_id).aggregate(last=Max("n"))["last"] or 0
        if last >= MAX_NOTES:
            raise LimitReached(f"An order has at most {MAX_NOTES} notes.")
        OrderNote(
            slot=place.slot,
            order_id=order_id,
            n=last + 1,
            text=text.strip(),
            staff_id=staff_id,
            staff_name=staff_name,
            at=now,
        ).save(using=place.alias, force_insert=True)
    return last + 1


def add_tag(*, order_id: int, tag: str, staff_name: str, now: datetime) -> str:
    """Put a tag on an order, lower case; one that is there already stays. Returns the tag as it is kept."""
    word = normalise_tag(tag)
    place = place_of_order(order_id)
    with place.atomic():
        if lock_order(place, order_id) is None:
            raise OrderNotFound("There is no such order.")
        tags = set(OrderTag.objects.at(place).filter(order_id=order_id).values_list("tag", flat=True))
        if word in tags:
            return word
        if len(tags) >= MAX_TAGS:
            raise LimitReached(f"An order has at most {MAX_TAGS} tags.")
        OrderTag(slot=place.slot, order_id=order_id, tag=word, staff_name=staff_name, at=now).save(
            using=place.alias, force_insert=True
        )
    return word


def remove_tag(*, order_id: int, tag: str) -> None:
    """Take a tag off an order; one that is not there is no matter."""
    place = place_of_order(order_id)
    with place.atomic():
        OrderTag.objects.at(place).filter(order_id=order_id, tag=normalise_tag(tag)).delete()


def notes_of(order_id: int) -> list[OrderNote]:
    """Return the notes of an order, newest first."""
    return list(OrderNote.objects.for_order(order_id).filter(order_id=order_id).order_by("-n"))


def tags_of(order_id: int) -> list[str]:
    """Return the tags of an order."""
    rows = OrderTag.objects.for_order(order_id).filter(order_id=order_id).order_by("tag")
    return list(rows.values_list("tag", flat=True))


def orders_tagged(alias: str, tag: str, *, limit: int, before_id: int) -> list[int]:
    """Return the newest orders of a shard with a tag, below an id."""
    rows = OrderTag.objects.on_shard(alias).filter(tag=normalise_tag(tag), order_id__lt=before_id)
    return list(rows.order_by("-order_id").values_list("order_id", flat=True)[:limit])


def forget_staff_words(place: Place, order_ids: Collection[int]) -> None:
    """Delete what the staff have written on orders of one customer, whose account is deleted. Idempotent."""
    if not order_ids:
        return
    with place.atomic():
        for model in (OrderNote, OrderTag, OrderHold, PlacedAddress):
            model.objects.at(place).filter(order_id__in=list(order_ids)).delete()


def normalise_tag(tag: str) -> str:
    """Return a tag as it is kept and compared; raises ValidationFailed."""
    word = " ".join(unicodedata.normalize("NFKC", tag).casefold().split())
    if not word or len(word) > MAX_TAG_LENGTH or not word.isprintable():
        raise ValidationFailed(f"A tag has 1 to {MAX_TAG_LENGTH} characters.")
    return word
