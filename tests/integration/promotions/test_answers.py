"""What buyers were answered: counted in the process, added up in the table, kept when the table cannot be written."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings
from django.db import OperationalError, connections

from apps.promotions.selectors import answers_of
from apps.promotions.services import answers
from apps.promotions.services.answers import count_answer, flush
from infra.sharding.workers import new_id


@pytest.mark.django_db(databases=list(settings.DATABASES))
def test_answers_add_up_by_kind_and_time():
    sale_id = new_id()
    for took_s in (0.001, 0.005, 0.0051, 0.06, 99.0):
        count_answer(sale_id, "ordered", took_s=took_s)
    count_answer(sale_id, "sold_out", took_s=0.06)
    count_answer(sale_id, "sold_out")
    flush()
    count_answer(sale_id, "ordered", took_s=0.001)
    flush()
    found = answers_of(sale_id)
    assert found.totals() == {"ordered": 6, "sold_out": 2}
    assert found.refusals() == {"sold_out": 2}
    assert found.times() == {5: 3, 10: 1, 75: 2, 10_000: 1}


@pytest.mark.django_db(databases=list(settings.DATABASES))
def test_what_cannot_be_written_stays_counted_and_is_written_once(monkeypatch):
    sale_id = new_id()
    for answer in ("a", "b", "c"):
        count_answer(sale_id, answer)
    add = answers._add

    def fails_for_b(key, count):
        if key[1] == "b":
            raise OperationalError(2006, "gone")
        add(key, count)

    monkeypatch.setattr(answers, "_add", fails_for_b)
    with pytest.raises(OperationalError):
        flush()
    count_answer(sale_id, "b")
    monkeypatch.setattr(answers, "_add", add)
    flush()
    flush()
    assert answers_of(sale_id).totals() == {"b": 2, "a": 1, "c": 1}


@pytest.mark.django_db(databases=list(settings.DATABASES))
def test_a_process_that_ends_in_good_order_adds_what_it_counted_last(monkeypatch):
    # given a process that has counted, and whose next turn of adding has not come
    at_end = []
    monkeypatch.setattr(answers, "on_end", at_end.append)
    monkeypatch.setattr(answers._tally, "process_id", 0)
    sale_id = new_id()
    count_answer(sale_id, "ordered")
    count_answer(sale_id, "ordered")

    # when it ends
    [add] = at_end
    add()

    # then
    assert answers_of(sale_id).totals() == {"ordered": 2}


@pytest.mark.django_db(databases=list(settings.DATABASES))
def test_a_process_ends_though_the_answers_cannot_be_added(monkeypatch):
    count_answer(new_id(), "ordered")

    def fail(*_):
        raise OperationalError(2006, "gone")

    with monkeypatch.context() as patch:
        patch.setattr(answers, "_add", fail)
        answers._flush_at_end()
    flush()


def test_processes_that_add_at_the_same_time_lose_nothing(committed):
    sale_id = new_id()

    def add_some(_: int) -> None:
        for _ in range(5):
            answers._add((sale_id, "ordered", 5), 1)
        connections["promotions"].close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add_some, range(6)))
    assert answers_of(sale_id).totals() == {"ordered": 30}
