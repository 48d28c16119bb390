"""What the staff see and do about money on the pages of orders: rights, reasons, stale tabs, the queue."""

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry

from apps.payments.domain import MAX_REFUND_TRIES
from apps.payments.selectors import get_refund
from tests.factories.orders import event_versions, make_sku
from tests.factories.payments import ask_refund, paid_order, send_some, tell_refund
from tests.factories.staff import logged_in, make_operator

pytestmark = [
    pytest.mark.django_db(databases=list(settings.DATABASES)),
    pytest.mark.usefixtures("staff_site"),
]


def requested_refund():
    sku = make_sku(10)
    order = paid_order([(sku, 2)])
    send_some(order.id)
    return order, ask_refund(order, (sku, 1), reason="too small")


def failed_refund():
    sku = make_sku(10)
    order = paid_order([(sku, 1)])
    refund = ask_refund(order, (sku, 1))
    for try_n in range(1, MAX_REFUND_TRIES + 1):
        tell_refund(refund, "failed", try_n=try_n)
    return order, refund


def post(client, refund, **fields):
    return client.post(f"/admin/orders/{refund.order_id}/refunds/{refund.n}/", {"reason": "as agreed", **fields})


def test_a_requested_refund_is_queued_shown_and_approved_with_a_reason(staff):
    order, refund = requested_refund()
    assert refund.refund_id in staff.get("/admin/queues/refunds/").content.decode()
    page = staff.get(f"/admin/orders/{order.id}/").content.decode()
    assert "too small" in page
    assert "Approve" in page
    # without a reason nothing happens
    post(staff, refund, action="approve", reason=" ")
    assert get_refund(order.id, refund.n).status == "requested"
    assert post(staff, refund, action="approve").headers["Location"] == f"/admin/orders/{order.id}/"
    decided = get_refund(order.id, refund.n)
    assert (decided.status, decided.decision) == ("approved", "as agreed")
    assert decided.decided_by.startswith("staff:")
    assert event_versions(order.id)[-1][1] == "refund_approved"
    assert LogEntry.objects.filter(object_repr=refund.refund_id, change_message="approve: as agreed").exists()
    # a second click, or the tab of a colleague, is told what has happened
    told = staff.post(
        f"/admin/orders/{order.id}/refunds/{refund.n}/", {"reason": "x", "action": "reject"}, follow=True
    ).content.decode()
    assert "is approved, decided by staff:" in told
    assert "Approve" not in told


def test_a_failed_refund_is_queued_and_tried_again_or_noted_as_paid_otherwise(staff):
    order, refund = failed_refund()
    other_order, other = failed_refund()
    queue = staff.get("/admin/queues/refunds/").content.decode()
    assert refund.refund_id in queue
    assert other.refund_id in queue
    post(staff, refund, action="retry")
    assert get_refund(order.id, refund.n).status == "approved"
    post(staff, other, action="settle")
    assert get_refund(other_order.id, other.n).status == "succeeded"
    assert "by another way" in staff.get(f"/admin/orders/{other_order.id}/").content.decode()


def test_rights_divide_looking_from_deciding(staff_site):
    order, refund = requested_refund()
    looking = logged_in(make_operator("view_callback", "view_order"))
    assert "Approve" not in looking.get(f"/admin/orders/{order.id}/").content.decode()
    assert post(looking, refund, action="approve").status_code == 403
    assert looking.post(f"/admin/orders/{order.id}/capture/", {"reason": "x"}).status_code == 403
    deciding = logged_in(make_operator("decide_refund", "view_order", username="eve"))
    assert "Approve" in deciding.get(f"/admin/orders/{order.id}/").content.decode()
    assert post(deciding, refund, action="reject").status_code == 302
    assert get_refund(order.id, refund.n).status == "rejected"


def test_what_is_not_there_or_means_nothing_is_told(staff):
    order, refund = requested_refund()
    assert staff.get(f"/admin/orders/{order.id}/refunds/{refund.n}/").status_code == 405
    assert staff.post(f"/admin/orders/{order.id}/refunds/9/", {"reason": "x", "action": "retry"}).status_code == 404
    assert staff.post(f"/admin/orders/{2**63}/refunds/1/", {"reason": "x", "action": "retry"}).status_code == 404
    assert staff.post(f"/admin/orders/{2**63}/capture/", {"reason": "x"}).status_code == 404
    assert staff.post("/admin/orders/1/capture/", {"reason": "x"}).status_code == 404
    post(staff, refund, action="explode")
    assert get_refund(order.id, refund.n).status == "requested"
    told = staff.post(f"/admin/orders/{order.id}/capture/", {"reason": ""}, follow=True).content.decode()
    assert "needs a reason" in told
    # an order that is paid has nothing to capture, and says that it is done
    assert staff.post(f"/admin/orders/{order.id}/capture/", {"reason": "x"}).status_code == 302
