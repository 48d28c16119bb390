"""The guard against network calls inside transactions sees what it is there for."""

import pytest
import redis
import requests
from django.conf import settings
from django.db import transaction

pytestmark = pytest.mark.django_db(databases="__all__")


def test_a_redis_call_inside_a_transaction_fails_the_test():
    client = redis.Redis.from_url(settings.REDIS_CACHE_URL)
    client.ping()
    with transaction.atomic(using="catalog"), pytest.raises(AssertionError, match="inside a transaction on catalog"):
        client.ping()


def test_an_http_request_inside_a_transaction_fails_the_test():
    with transaction.atomic(using="shard_0"), pytest.raises(AssertionError, match="inside a transaction on shard_0"):
        requests.get("http://127.0.0.1:1/", timeout=1)
