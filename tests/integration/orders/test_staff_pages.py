"""The staff's pages over the shards: orders, one order's story, the queues."""

import pytest
from django.conf import settings
from django.db import OperationalError

from apps.orders import listing
from apps.payments.errors import ProviderUnavailable
from tests.factories.orders import make_buyer, make_sku, placed_order
from tests.factories.payments import start
from tests.factories.staff import half_logged_in, make_superuser

pytestmark = [
    pytest.mark.django_db(databases=list(settings.DATABASES)),
    pytest.mark.usefixtures("staff_site"),
]


@pytest.mark.parametrize("page", ["orders/", "orders/1/", "queues/"])
def test_nobody_gets_in_without_a_second_factor(page):
    answer = half_logged_in(make_superuser()).get(f"/admin/{page}")
    assert answer.status_code == 302
    assert "login" in answer.headers["Location"]


def test_orders_of_both_shards_are_listed_newest_first_and_narrowed(staff):
    first, second = (placed_order(make_buyer(shard=shard), [(make_sku(), 1)]) for shard in (0, 1))
    page = staff.get("/admin/orders/").content.decode()
    assert 0 < page.index(str(second.id)) < page.index(str(first.id))
    one_buyers = staff.get("/admin/orders/", {"user": first.user_id}).content.decode()
    assert str(first.id) in one_buyers
    assert str(second.id) not in one_buyers
    assert str(first.id) not in staff.get("/admin/orders/", {"status": "paid"}).content.decode()
    assert staff.get("/admin/orders/", {"wanted": first.id}).headers["Location"] == f"/admin/orders/{first.id}/"
    assert "up to 19 digits" in staff.get("/admin/orders/", {"user": "x"}).content.decode()


def test_a_shard_that_is_away_costs_its_own_rows_only(staff, monkeypatch):
    here, away = (placed_order(make_buyer(shard=shard), [(make_sku(), 1)]) for shard in (0, 1))
    existing_months = listing.existing_months

    def without_shard_1(alias):
        if alias == "shard_1":
            raise OperationalError(2003, "no server")
        return existing_months(alias)

    monkeypatch.setattr(listing, "existing_months", without_shard_1)
    page = staff.get("/admin/orders/").content.decode()
    assert "shard_1 does not answer" in page
    assert str(here.id) in page
    assert str(away.id) not in page


def test_an_order_s_page_tells_its_story_and_masks_the_person(staff):
    order = placed_order(make_buyer(), [(make_sku(title="Storm Lantern"), 2)])
    page = staff.get(f"/admin/orders/{order.id}/").content.decode()
    assert "Storm Lantern" in page
    assert "placed" in page
    assert order.address["name"] not in page
    assert order.address["line1"] not in page


@pytest.mark.parametrize("number", [0, 1, 2**63 - 1, 2**63, 10**30])
def test_a_number_that_no_order_has_is_not_found(staff, number):
    assert staff.get(f"/admin/orders/{number}/").status_code == 404


def test_amounts_have_the_decimals_of_their_currency(staff):
    # given an attempt to pay at a provider that is not there
    order = placed_order(make_buyer(), [(make_sku(), 1)])
    with pytest.raises(ProviderUnavailable):
        start(order)

    # then it is on the order's page, with its amount
    page = staff.get(f"/admin/orders/{order.id}/").content.decode()
    assert f"pay_{order.id}_1" in page
    assert page.count(f">{order.total} GBP<") == 3  # at the top, as the sum of the lines, and the attempt's
    assert f"{order.total}00" not in page
    assert "-0.00" not in page


def test_the_queues_page_shows_depths(staff):
    page = staff.get("/admin/queues/").content.decode()
    assert "floodgate_outbox_depth" in page


def test_pages_speak_the_reader_s_language(staff):
    order = placed_order(make_buyer(), [(make_sku(), 1)])
    for path in ("orders/", f"orders/{order.id}/", "queues/", "customers/", f"orders/{order.id}/do/cancel/"):
        page = staff.get(f"/admin/{path}", headers={"accept-language": "zh-hans"}).content.decode()
        assert 'lang="zh-hans"' in page
        assert "订单" in page
    assert "待付款" in staff.get("/admin/orders/", headers={"accept-language": "zh-CN"}).content.decode()
    assert "awaiting payment" in staff.get("/admin/orders/", headers={"accept-language": "fr"}).content.decode()
