"""All that is held of a customer: asked for once a day, collected part by part, kept for a week."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from apps.users.errors import ExportNotFound
from apps.users.models import DataExport, DataExportPart, DataExportState
from apps.users.services import exports as steps
from apps.users.services.exports import drive_exports, get_export, get_export_part, purge_exports, request_export
from infra.errors import LimitReached
from infra.sharding.places import place_of_user
from tests.factories.orders import make_buyer, placed_order
from tests.factories.users import NOW, make_address, new_username, registered

pytestmark = pytest.mark.django_db(databases=list(settings.DATABASES))


class Crash(BaseException):
    """Ends the code under test as `kill -9` would."""


def drive(user_id: int, *, now: Any = NOW) -> int:
    return drive_exports(alias=place_of_user(user_id).alias, now=now)


def test_the_account_and_its_orders_are_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.orders.holding._ORDERS_A_PART", 2)
    buyer = make_buyer()
    orders = [placed_order(buyer, note="ring twice") for _ in range(3)]
    now = timezone.now()
    export = request_export(user_id=buyer.user_id, now=now)
    assert (export.state, export.part_count) == (DataExportState.REQUESTED, 0)
    with pytest.raises(ExportNotFound):
        get_export_part(buyer.user_id, export.id, 1)
    drive(buyer.user_id, now=now)
    done = get_export(buyer.user_id, export.id)
    assert (done.state, done.expires_at) == (DataExportState.READY, now + timedelta(days=7))
    parts = [get_export_part(buyer.user_id, export.id, n + 1).content for n in range(done.part_count)]
    assert parts[0]["kind"] == "account"
    assert parts[0]["rows"][0]["addresses"][0]["name"] == "Ada Lovelace"
    collected = [row for part in parts if part["kind"] == "orders" for row in part["rows"]]
    assert [row["id"] for row in collected] == [str(order.id) for order in reversed(orders)]
    assert (collected[0]["note"], collected[0]["total"]) == ("ring twice", "2.50")
    # it is the customer's alone
    other = registered()
    for ask in (lambda: get_export(other, export.id), lambda: get_export_part(other, export.id, 1)):
        with pytest.raises(ExportNotFound):
            ask()


def test_a_collection_that_is_killed_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    buyer = make_buyer()
    placed_order(buyer)
    now = timezone.now()
    export = request_export(user_id=buyer.user_id, now=now)
    write_part, written = steps._write_part, []

    def killed(row: DataExport, at: Any) -> None:
        if written:
            raise Crash
        write_part(row, at)
        written.append(row)

    with monkeypatch.context() as patched:
        patched.setattr(steps, "_write_part", killed)
        with pytest.raises(Crash):
            drive(buyer.user_id, now=now)
    assert get_export(buyer.user_id, export.id).part_count == 1
    drive(buyer.user_id, now=now)
    done = get_export(buyer.user_id, export.id)
    kinds = [get_export_part(buyer.user_id, export.id, n + 1).content["kind"] for n in range(done.part_count)]
    assert kinds[:2] == ["account", "orders"]
    assert len(kinds) == len(set(kinds))


def test_a_part_that_another_process_has_written_is_not_written_again() -> None:
    user_id = registered()
    request_export(user_id=user_id, now=NOW)
    rows = DataExport.objects.for_user(user_id).filter(user_id=user_id)
    mine, others = rows.get(), rows.get()
    steps._write_part(others, NOW)
    steps._write_part(mine, NOW)
    assert DataExportPart.objects.for_user(user_id).filter(user_id=user_id).count() == 1
    assert mine.part_count == 1


def test_one_that_fails_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    user_id = registered()
    export = request_export(user_id=user_id, now=NOW)
    with monkeypatch.context() as patched:
        patched.setattr(steps, "holdings", lambda: 1 / 0)
        drive(user_id)
    assert get_export(user_id, export.id).due_at == NOW + timedelta(minutes=5)
    drive(user_id, now=NOW + timedelta(minutes=5))
    assert get_export(user_id, export.id).state == DataExportState.READY


def test_data_is_asked_for_once_a_day_and_kept_for_a_week() -> None:
    user_id = registered(new_username())
    make_address(user_id)
    export = request_export(user_id=user_id, now=NOW)
    with pytest.raises(LimitReached):
        request_export(user_id=user_id, now=NOW + timedelta(hours=23))
    drive(user_id)
    alias = place_of_user(user_id).alias
    purge_exports(alias=alias, now=NOW + timedelta(days=7))
    assert get_export(user_id, export.id)
    assert purge_exports(alias=alias, now=NOW + timedelta(days=7, seconds=1)) > 1
    with pytest.raises(ExportNotFound):
        get_export(user_id, export.id)
    assert not DataExportPart.objects.for_user(user_id).filter(user_id=user_id).exists()


def test_parts_are_stored_encrypted() -> None:
    username = new_username()
    user_id = registered(username)
    request_export(user_id=user_id, now=NOW)
    drive(user_id)
    rows = DataExportPart.objects.for_user(user_id).filter(user_id=user_id, n=1)
    [raw] = rows.extra(select={"raw": "content"}).values_list("raw", flat=True)
    assert username.value not in raw
