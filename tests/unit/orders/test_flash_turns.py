"""One request of a buyer in flight in this process, and for how long it believes that an item is sold out."""

import threading
import time

import pytest
from django.conf import settings

from apps.orders.services.flash_placement import OneAtATime
from infra.idempotency.errors import RequestInProgress

BUYER = (1, 2)


def test_a_second_request_of_a_buyer_waits_for_the_first_and_other_buyers_do_not():
    turns = OneAtATime()
    order: list[str] = []

    def second() -> None:
        with turns.turn(BUYER, wait_s=5.0):
            order.append("second")

    waiting = threading.Thread(target=second)
    with turns.turn(BUYER, wait_s=0.0):
        waiting.start()
        with turns.turn((1, 3), wait_s=0.0), turns.turn((2, 2), wait_s=0.0):
            order.append("others")
        order.append("first")
    waiting.join(5.0)
    assert order == ["others", "first", "second"]


def test_who_waits_too_long_is_told_and_leaves_nothing_behind():
    turns = OneAtATime()
    with turns.turn(BUYER, wait_s=0.0):
        began_at = time.monotonic()
        with pytest.raises(RequestInProgress), turns.turn(BUYER, wait_s=0.02):
            pytest.fail("two of a buyer's requests ran at once")
        assert time.monotonic() - began_at >= 0.02
    with turns.turn(BUYER, wait_s=0.0):
        pass


def test_a_request_that_fails_ends_its_turn():
    turns = OneAtATime()
    with pytest.raises(ZeroDivisionError), turns.turn(BUYER, wait_s=0.0):
        raise ZeroDivisionError
    with turns.turn(BUYER, wait_s=0.0):
        pass


def test_sold_out_is_believed_for_at_most_a_second():
    assert 0 < settings.FLASH_SOLD_OUT_S <= 1.0
