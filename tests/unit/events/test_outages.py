"""What is waited out, and what is given up."""

import logging

import pytest
from django.db import IntegrityError, OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from infra.errors import NotFound, Overloaded, ShardUnavailable
from infra.events.inbox import InboxRace
from infra.events.outages import Outage, is_outage


@pytest.mark.parametrize(
    "error",
    [
        OperationalError(2006, "server has gone away"),
        OperationalError(2013, "lost connection"),
        OperationalError(1205, "lock wait timeout"),
        OperationalError(1213, "deadlock"),
        OperationalError(1040, "too many connections"),
        OperationalError(1290, "read only"),
        ShardUnavailable(),
        Overloaded(),
        InboxRace(),
        RedisConnectionError(),
        ConnectionResetError(),
    ],
)
def test_an_outage_is_waited_out(error):
    assert is_outage(error)


@pytest.mark.parametrize(
    "error",
    [
        OperationalError(1054, "unknown column"),
        OperationalError(1364, "no default"),
        IntegrityError(1062, "duplicate"),
        ResponseError("wrong type"),
        NotFound(),
        ValueError("mistake"),
        KeyError("mistake"),
    ],
)
def test_a_mistake_is_not_waited_out(error):
    assert not is_outage(error)


def test_pauses_double_up_to_the_longest_and_begin_anew_after_the_end(caplog):
    outage = Outage(logging.getLogger("test"), "it", first_s=0.2, longest_s=3.0)
    with caplog.at_level(logging.WARNING, logger="test"):
        pauses = [outage.failed(ValueError("away")) for _ in range(6)]
        outage.over()
        again = outage.failed(ValueError("away"))

    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.0, 3.0]
    assert again == 0.2
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING", "ERROR"]
