"""Exports: asked for with a reason and a fresh second factor, made in parts, fetched by who asked, and gone in time."""

import csv
import io
from datetime import timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from apps.orders.staff import export as orders_export
from infra.staff import exports
from infra.staff.exports import expire_exports, export_kind, request_export, run_exports
from infra.staff.models import Export, ExportPart, StaffAction
from tests.factories.orders import make_buyer, make_sku, placed_order
from tests.factories.staff import age_session, logged_in, make_superuser

pytestmark = [
    pytest.mark.django_db(databases=list(settings.DATABASES)),
    pytest.mark.usefixtures("staff_site"),
]


def ask(client, query=""):
    answer = client.get(f"/admin/exports/?{query}" if query else "/admin/exports/?status=")
    if answer.status_code == 302:
        return answer
    token = answer.content.decode().split('name="token" value="')[1][:32]
    asked = {"kind": "orders", "query": query, "reason": "for the books", "token": token}
    return client.post("/admin/exports/", asked)


def rows_of(client, export) -> list[list[str]]:
    answer = client.get(f"/admin/exports/{export.id}/file/")
    text = b"".join(answer.streaming_content).decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text)))


def test_a_file_is_made_in_parts_and_fetched_by_who_asked(staff, monkeypatch):
    # given orders of one buyer, and parts of two rows
    monkeypatch.setattr(orders_export, "_ROWS", 2)
    buyer = make_buyer()
    orders = [placed_order(buyer, [(make_sku(), 1)]) for _ in range(5)]
    assert ask(staff, f"user={buyer.user_id}").status_code == 302
    export = Export.objects.get()

    # then it is made, a part at a time
    run_exports(now=timezone.now())
    export.refresh_from_db()
    assert (export.state, export.row_count, export.part_count) == ("ready", 5, 3)
    header, *rows = rows_of(staff, export)
    assert header[0] == "order"
    assert [int(row[0]) for row in rows] == [order.id for order in reversed(orders)]
    assert logged_in(make_superuser("cyd")).get(f"/admin/exports/{export.id}/file/").status_code == 404
    assert [row.kind for row in StaffAction.objects.order_by("id")] == ["export.orders", "export.fetch"]

    # and it is gone after its time
    assert expire_exports(now=timezone.now()) == 0
    assert expire_exports(now=export.expires_at + timedelta(seconds=1)) == 1
    assert staff.get(f"/admin/exports/{export.id}/file/").status_code == 404
    assert not ExportPart.objects.exists()


def test_it_needs_a_fresh_second_factor(staff):
    staff.get("/admin/")
    age_session(staff, proved=settings.STAFF_STEP_UP_S + 1)
    assert "step-up" in ask(staff).headers["Location"]
    assert not Export.objects.exists()


def test_a_part_that_somebody_else_has_written_is_not_written_twice(monkeypatch):
    # given a worker that reads a part while another one writes it
    staff_user, now = make_superuser(), timezone.now()
    kind = export_kind("orders")
    export = request_export(staff_user, kind=kind, query={}, reason="x", now=now)
    placed_order(make_buyer(), [(make_sku(), 1)])
    slow = Export.objects.get(id=export.id)
    assert exports._write_part(export, now=now)

    # then its part is not taken, and the file has each row once
    assert not exports._write_part(slow, now=now)
    assert ExportPart.objects.filter(export_id=export.id).count() == 1


def test_a_file_is_cut_where_it_would_be_endless(staff, settings, monkeypatch):
    monkeypatch.setattr(orders_export, "_ROWS", 1)
    settings.EXPORT_MAX_ROWS = 2
    for _ in range(4):
        placed_order(make_buyer(), [(make_sku(), 1)])
    ask(staff)
    run_exports(now=timezone.now())
    export = Export.objects.get()
    assert (export.state, export.row_count) == ("ready", 2)
    assert "cut at 2 rows" in staff.get("/admin/exports/").content.decode()


def test_one_account_has_a_few_at_a_time(staff):
    for _ in range(4):
        ask(staff)
    assert Export.objects.count() == exports.MAX_OPEN
    assert StaffAction.objects.filter(outcome="refused").count() == 1
