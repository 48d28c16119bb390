"""The end of a request lets go of the connections that it used, and of no others."""

import threading

import pytest
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, reset_queries

from infra.mysql import requests
from infra.mysql.requests import end_request, note_use, replace_receivers


@pytest.fixture(autouse=True)
def nothing_was_used_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the connections that other tests have used out of these."""
    monkeypatch.setattr(requests, "_used", requests._Used())


class Wrapper:
    def __init__(self, *, in_transaction: bool = False) -> None:
        self.connection: object | None = object()
        self.in_transaction = in_transaction

    def close_if_unusable_or_obsolete(self) -> None:
        if not self.in_transaction:
            self.connection = None


def test_the_end_of_a_request_gives_back_what_it_used():
    used, untouched = Wrapper(), Wrapper()
    note_use(used)
    end_request()
    assert used.connection is None
    assert untouched.connection is not None


def test_a_connection_inside_a_transaction_is_given_back_at_a_later_end():
    wrapper = Wrapper(in_transaction=True)
    note_use(wrapper)
    end_request()
    assert wrapper.connection is not None
    wrapper.in_transaction = False
    end_request()
    assert wrapper.connection is None


def test_another_thread_s_connections_are_left_alone():
    theirs = Wrapper()
    thread = threading.Thread(target=note_use, args=(theirs,))
    thread.start()
    thread.join()
    end_request()
    assert theirs.connection is not None


def test_django_s_own_receivers_are_replaced():
    replace_receivers()  # again: Django's test client, where another test has used it, connects its own receivers
    for signal, receiver in ((request_started, reset_queries), (request_finished, close_old_connections)):
        assert not signal.disconnect(receiver)
    wrapper = Wrapper()
    note_use(wrapper)
    request_finished.send(sender=None)
    assert wrapper.connection is None
