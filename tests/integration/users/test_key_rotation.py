"""Replacing keys: data is encrypted again, logins get digests under the new key, and nothing is lost on the way."""

import secrets
from base64 import urlsafe_b64encode
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections

from apps.users.errors import LoginTaken
from apps.users.models import Login, Verification
from apps.users.selectors import find_user_id, get_address, get_customer, last_sent_code
from apps.users.services import indexing
from apps.users.services.indexing import prune_logins, reindex_logins
from apps.users.services.verification import verify_login
from infra.crypto import rotation
from infra.crypto.cipher import Undecryptable, current_key_id
from infra.crypto.rotation import EncryptedTable, encrypted_tables, rotate, stale_count
from infra.sharding.places import place_of_user, shard_aliases
from infra.sharding.slots import slot_of_user
from tests.factories.users import LONDON, NOW, make_address, make_customer, new_email, new_username, registered

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))

NEW_DATA_KEY = urlsafe_b64encode(secrets.token_bytes(32)).decode()
NEW_INDEX_KEY = ("new", secrets.token_hex(32))


def table_of(name: str, alias: str) -> EncryptedTable:
    return next(table for table in encrypted_tables() if (table.name, table.alias) == (name, alias))


def raw(user_id: int, table: str, column: str) -> str:
    with connections[place_of_user(user_id).alias].cursor() as cursor:
        cursor.execute(
            f"SELECT {column} FROM {table} WHERE slot = %s AND user_id = %s", [slot_of_user(user_id), user_id]
        )
        return cursor.fetchone()[0]


def rotate_user(user_id: int) -> int:
    """Encrypt a user's slot again; returns how many rows were changed."""
    place, tables = place_of_user(user_id), ("users_customer", "users_address")
    return sum(count for name in tables for _, count in rotate(table_of(name, place.alias), slots=[place.slot]))


@pytest.fixture(params=[0, 1])
def shard(request: pytest.FixtureRequest) -> int:
    return request.param


def test_all_encrypted_columns_are_found() -> None:
    found = {(table.name.rstrip("0123456789"), column) for table in encrypted_tables() for column in table.columns}
    assert {
        ("users_customer", "username"),
        ("users_customer", "email"),
        ("users_customer", "phone"),
        ("users_customer", "display_name"),
        ("users_address", "details"),
        ("users_verification", "value"),
        ("orders_order_", "address"),
    } <= found
    assert {table.alias for table in encrypted_tables() if table.name == "users_customer"} == set(shard_aliases())


def test_a_new_key_takes_over_all_values_and_the_old_one_can_go(shard: int, settings) -> None:
    # given data under the old key
    customer = make_customer(shard=shard, display_name="Ada", email="ada@example.org")
    address = make_address(customer.user_id)
    alias, user_id = place_of_user(customer.user_id).alias, customer.user_id
    # when a new key is put in front and everything is encrypted again
    old_keys = settings.DATA_KEYS
    settings.DATA_KEYS = [NEW_DATA_KEY, *old_keys]
    assert get_customer(user_id).display_name == "Ada"
    assert stale_count(table_of("users_customer", alias)) > 0
    assert rotate_user(user_id) >= 2
    assert rotate_user(user_id) == 0
    # then the old key is needed no more
    settings.DATA_KEYS = [NEW_DATA_KEY]
    assert get_customer(user_id).email == "ada@example.org"
    assert get_address(user_id, address.id).details == LONDON.as_json()
    assert raw(user_id, "users_customer", "email").startswith(current_key_id())
    # negative control: with the old key alone the values cannot be read any more
    settings.DATA_KEYS = old_keys
    with pytest.raises(Undecryptable):
        get_customer(user_id)


def test_a_rotation_that_was_killed_goes_on(shard: int, settings) -> None:
    # given a rotation that dies after the first of its slots
    alias = shard_aliases()[shard]
    customers = [make_customer(shard=shard, display_name=f"Ada {n}") for n in range(4)]
    settings.DATA_KEYS = [NEW_DATA_KEY, *settings.DATA_KEYS]
    table, slots = table_of("users_customer", alias), sorted({customer.slot for customer in customers})
    before = stale_count(table)
    work = rotate(table, slots=slots)
    assert next(work)[1] > 0
    work.close()
    assert 0 < stale_count(table) < before
    # when it is started again
    changed = dict(rotate(table, slots=slots))
    # then it finds the first slot done and does the others
    assert changed[slots[0]] == 0
    assert all(changed[slot] for slot in slots[1:])
    settings.DATA_KEYS = [NEW_DATA_KEY]
    assert [get_customer(customer.user_id).display_name for customer in customers] == [f"Ada {n}" for n in range(4)]


def test_a_slot_of_many_rows_is_worked_off_in_batches(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "BATCH_ROWS", 2)
    customer = make_customer()
    addresses = [make_address(customer.user_id) for _ in range(5)]
    settings.DATA_KEYS = [NEW_DATA_KEY, *settings.DATA_KEYS]
    alias = place_of_user(customer.user_id).alias
    assert dict(rotate(table_of("users_address", alias), slots=[customer.slot]))[customer.slot] >= 5
    settings.DATA_KEYS = [NEW_DATA_KEY]
    assert all(get_address(customer.user_id, address.id).details for address in addresses)


def test_a_value_written_meanwhile_is_left_as_it_was_written(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a row that somebody changes between the rotation's read and its write
    customer = make_customer(display_name="Ada")
    user_id, place = customer.user_id, place_of_user(customer.user_id)
    settings.DATA_KEYS = [NEW_DATA_KEY, *settings.DATA_KEYS]
    stale_rows = rotation._stale_rows

    def changed_meanwhile(table, slot, after):
        rows = stale_rows(table, slot, after)
        if slot == customer.slot and after is None:
            type(customer).objects.at(place).filter(user_id=user_id).update(display_name="Grace")
        return rows

    monkeypatch.setattr(rotation, "_stale_rows", changed_meanwhile)
    list(rotate(table_of("users_customer", place.alias), slots=[place.slot]))
    assert get_customer(user_id).display_name == "Grace"


def test_a_table_of_the_directory_is_rotated_too(settings) -> None:
    email = new_email()
    user_id = registered(email)
    settings.DATA_KEYS = [NEW_DATA_KEY, *settings.DATA_KEYS]
    assert sum(count for _, count in rotate(table_of("users_verification", "users"))) >= 1
    settings.DATA_KEYS = [NEW_DATA_KEY]
    assert Verification.objects.get(user_id=user_id).value == email.value


def test_the_command_says_what_is_left(settings) -> None:
    make_customer(display_name="Ada")
    settings.DATA_KEYS = [NEW_DATA_KEY, *settings.DATA_KEYS]
    out = StringIO()
    call_command("rotate_data_keys", "--dry-run", stdout=out)
    assert "users_customer: " in out.getvalue()
    assert out.getvalue().endswith("rows are under old keys.\n")
    assert not out.getvalue().endswith("\n0 rows are under old keys.\n")


# Index keys.


def test_while_two_index_keys_are_configured_both_digests_are_written_and_unique(settings) -> None:
    old_keys = settings.INDEX_KEYS
    settings.INDEX_KEYS = [*old_keys, NEW_INDEX_KEY]
    username = new_username()
    user_id = registered(username)
    assert sorted(Login.objects.filter(user_id=user_id).values_list("key_id", flat=True)) == sorted(
        [old_keys[0][0], "new"]
    )
    # then a process that knows one key only finds it, and cannot register it again
    for keys in (old_keys, [NEW_INDEX_KEY]):
        settings.INDEX_KEYS = keys
        assert find_user_id(username) == user_id
        with pytest.raises(LoginTaken):
            registered(username)


@pytest.mark.parametrize("shard", [0, 1], indirect=True)
def test_the_shards_give_every_login_its_digest_under_a_new_key(shard: int, settings) -> None:
    # given logins under the old key
    username, email = new_username(), new_email()
    while place_of_user(user_id := registered(username, email)).alias != shard_aliases()[shard]:
        username, email = new_username(), new_email()
    verify_login(login=email, code=last_sent_code(email), now=NOW)
    old_keys = settings.INDEX_KEYS
    settings.INDEX_KEYS = [*old_keys, NEW_INDEX_KEY]
    # when the directory is indexed again, and once more
    slots = [slot_of_user(user_id)]
    assert sum(written for _, written, _ in reindex_logins(alias=shard_aliases()[shard], slots=slots, now=NOW)) >= 2
    assert list(reindex_logins(alias=shard_aliases()[shard], slots=slots, now=NOW)) == [(slots[0], 0, [])]
    # then the old key can go
    settings.INDEX_KEYS = [NEW_INDEX_KEY]
    assert find_user_id(username) == find_user_id(email) == user_id
    assert prune_logins() >= 2
    assert Login.objects.filter(user_id=user_id).count() == 2


def test_an_unverified_address_is_not_indexed() -> None:
    email = new_email()
    user_id = registered(email)
    assert indexing.verified_logins(get_customer(user_id)) == []
    place = place_of_user(user_id)
    list(reindex_logins(alias=place.alias, slots=[place.slot], now=NOW))
    assert find_user_id(email) is None


def test_a_lost_directory_is_built_again_and_conflicts_are_told() -> None:
    username = new_username()
    user_id = registered(username)
    place = place_of_user(user_id)
    Login.objects.filter(user_id=user_id).delete()
    assert sum(written for _, written, _ in reindex_logins(alias=place.alias, slots=[place.slot], now=NOW)) >= 1
    assert find_user_id(username) == user_id
    Login.objects.filter(user_id=user_id).update(user_id=user_id + 1)
    assert [user_id] in [
        conflicts for _, _, conflicts in reindex_logins(alias=place.alias, slots=[place.slot], now=NOW)
    ]
