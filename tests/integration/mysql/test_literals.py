"""Literals arrive at the server as what they were made of."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.db import connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.mysql.literals import binary, moment, text

pytestmark = pytest.mark.usefixtures("committed")

quick = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NASTY = "\\'\"\0\n\r\x1a%_`;-- /* ' OR 1=1"


def selected(literal):
    with connections["shard_0"].cursor() as cursor:
        cursor.execute(f"SELECT {literal}")
        return cursor.fetchone()[0]


@quick
@given(st.one_of(st.text(max_size=40), st.text(alphabet=NASTY + "aß日🙂", max_size=20)))
def test_a_text_comes_back_as_it_was(value):
    assert selected(text(value)) == value


@quick
@given(st.binary(max_size=64))
def test_bytes_come_back_as_they_were(value):
    assert bytes(selected(binary(value))) == value


def test_without_escaping_a_quote_would_end_the_literal():
    with pytest.raises(Exception, match="1064"):
        selected("'" + "it's" + "'")
    assert selected(text("it's")) == "it's"


@pytest.mark.parametrize(
    "at",
    [
        datetime(2026, 11, 25, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    ],
)
def test_a_time_is_that_time_in_utc(at):
    stored = selected(f"CAST({moment(at)} AS DATETIME(6))")
    assert stored == at.astimezone(UTC).replace(tzinfo=None)
