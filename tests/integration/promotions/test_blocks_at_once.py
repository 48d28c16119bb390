"""Two of the staff who block the same buyer at the same moment."""

import importlib
import threading
from concurrent.futures import ThreadPoolExecutor
from secrets import randbelow

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connections
from django.utils import timezone

from apps.promotions.domain import block_key
from apps.promotions.models import BuyerBlock
from apps.promotions.services import block_buyer
from apps.promotions.services import blocks as module


@pytest.mark.parametrize(("is_guarded", "row_count"), [(True, 1), (False, 2)], ids=["guarded", "control"])
def test_two_who_block_the_same_buyer_at_once_make_one_block(committed, monkeypatch, is_guarded, row_count):
    # given two who have both looked and found no block
    user_id = randbelow(2**62)
    barrier = threading.Barrier(2)

    def key_when_both_have_looked(**whom):
        barrier.wait(20)
        return block_key(**whom) if is_guarded else None

    monkeypatch.setattr(module, "block_key", key_when_both_have_looked)

    def run(by):
        try:
            return block_buyer(user_id=user_id, sale_id=None, reason="a bot", by=by, now=timezone.now())
        finally:
            connections["promotions"].close()

    # when
    with ThreadPoolExecutor(2) as pool:
        ids = set(pool.map(run, (1, 2)))

    # then both are told of the same one; without the key there would be two
    made = BuyerBlock.objects.filter(user_id=user_id)
    assert {each.id for each in made} == ids
    assert len(ids) == row_count
    made.delete()


@pytest.mark.django_db(databases=list(settings.DATABASES))
def test_of_blocks_made_twice_before_there_was_a_key_the_first_one_stays():
    rows = [
        BuyerBlock.objects.create(
            user_id=7, sale_id=sale_id, reason="a bot", blocked_by=1, blocked_at=timezone.now(), lifted_at=lifted_at
        ).id
        for sale_id, lifted_at in [(None, timezone.now()), (None, None), (None, None), (5, None)]
    ]
    importlib.import_module("apps.promotions.migrations.0010_one_block").name_blocks(apps, None)
    found = {row.id: (row.in_force, row.lifted_at is None) for row in BuyerBlock.objects.filter(user_id=7)}
    assert [found[each] for each in rows] == [
        (None, False), ("user 7 in all", True), (None, False), ("user 7 in 5", True)
    ]  # fmt: skip
    assert found[rows[1]][0] == block_key(user_id=7, network="", sale_id=None)
