"""Background rounds over databases: one that is away holds up none of the others."""

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import OperationalError

from infra.followups import rounds
from infra.followups.rounds import shard_round

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture(autouse=True)
def no_outages(monkeypatch):
    monkeypatch.setattr(rounds, "_outages", {})
    monkeypatch.setattr(rounds, "_paused_until", {})


def test_a_shard_that_is_away_or_fails_holds_up_no_other():
    for error in (OperationalError(2006, "gone"), ValueError("mistake")):

        def work(alias, error=error):
            if alias == "shard_0":
                raise error
            return 7

        assert shard_round("test", work) == {"shard_1": 7}


def test_a_shard_that_is_away_is_left_alone_for_a_while_and_then_tried_again(settings):
    settings.SHARD_PAUSE_S = 60
    asked = []

    def work(alias):
        asked.append(alias)
        if alias == "shard_0" and asked.count("shard_0") == 1:
            raise OperationalError(2013, "lost")
        return 1

    shard_round("test", work)
    shard_round("test", work)
    assert asked == ["shard_0", "shard_1", "shard_1"]

    rounds._paused_until.clear()
    assert shard_round("test", work) == {"shard_0": 1, "shard_1": 1}


def test_the_end_of_the_tasks_time_ends_the_round():
    asked = []

    def work(alias):
        asked.append(alias)
        raise SoftTimeLimitExceeded

    with pytest.raises(SoftTimeLimitExceeded):
        shard_round("test", work)

    assert asked == ["shard_0"]
