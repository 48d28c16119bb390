"""The staff's pages of flash sales: who may see and do what, the guards of the form, the live figures."""

import json
from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.db import OperationalError, connections
from django.utils import timezone

from apps.orders.models import Order
from apps.orders.services import flash_placement
from apps.orders.services.flash_queue import buy_in_sale
from apps.orders.services.flash_sales import approve_sale, end_sale
from apps.orders.services.stock import sync_stock_of
from apps.orders.staff import flash_figures
from apps.orders.staff.flash_calendar import check_stock
from apps.orders.staff.flash_figures import sale_figures, units_ledger
from apps.promotions.api import reads
from apps.promotions.api.serializers import FlashSaleSerializer
from apps.promotions.errors import PurchaseLimitReached, SaleNotFound
from apps.promotions.models import BuyerBlock, FlashSale
from apps.promotions.selectors import forget_cached, get_sale
from apps.promotions.services import answers
from apps.promotions.types import Sale
from infra.http.messages import LaneRequest
from tests.factories.orders import make_buyer, make_sku
from tests.factories.promotions import allotments, buy, counters_of, flash_request, make_sale, pay, sku_of
from tests.factories.staff import half_logged_in, logged_in, make_operator, make_superuser

pytestmark = [
    pytest.mark.django_db(databases=list(settings.DATABASES)),
    pytest.mark.usefixtures("staff_site"),
]


@pytest.fixture(autouse=True)
def _nothing_cached() -> None:
    flash_placement.forget_sold_out()
    forget_cached()


def form(*skus: str, **changes: object) -> dict[str, object]:
    """Return the form of a sale; changes of an item are of the first."""
    starts_at = timezone.now() + timedelta(hours=1)
    items = {
        f"items-{number}-{name}": value
        for number, sku in enumerate(skus)
        for name, value in {"sku": sku, "price": "8.00", "quota": 5, "per_user_limit": 2}.items()
    }
    of_item = ("sku", "price", "quota", "per_user_limit", "unusual_price")
    return {
        "name": "Night sale",
        "items-TOTAL_FORMS": len(skus),
        "items-INITIAL_FORMS": 0,
        **items,
        "starts_at": f"{starts_at:%Y-%m-%dT%H:%M}",
        "ends_at": f"{starts_at + timedelta(hours=1):%Y-%m-%dT%H:%M}",
        "mode": "queued",
        "token_required": "on",
        **{f"items-0-{name}" if name in of_item else name: value for name, value in changes.items()},
    }


@pytest.mark.parametrize("page", ["", "new/", "1/", "1/live/", "1/preview/", "blocks/", "calendar/"])
def test_nobody_gets_in_without_a_second_factor(page):
    assert half_logged_in(make_superuser()).get(f"/admin/flash-sales/{page}").status_code == 302


def test_rights_divide_looking_from_doing():
    sale = make_sale()
    user = make_operator("view_flashsale")
    looking = logged_in(user)
    path = f"/admin/flash-sales/{sale.id}/"
    assert looking.get("/admin/flash-sales/").status_code == 200
    page = looking.get(path)
    assert page.status_code == 200
    assert "End now" not in page.content.decode()
    assert looking.get("/admin/flash-sales/new/").status_code == 403
    assert looking.post(path, {"action": "end"}).status_code == 403
    assert get_sale(sale.id).state == "running"
    user.user_permissions.clear()
    for each in ("/admin/flash-sales/", "/admin/flash-sales/calendar/", path, f"{path}live/", f"{path}preview/"):
        assert looking.get(each).status_code == 403


def test_a_sale_is_made_with_its_units_and_cloned(staff):
    sku = make_sku(10, price="9.00", title="Lantern")
    answer = staff.post("/admin/flash-sales/new/", form(sku))
    made = FlashSale.objects.get(name="Night sale", items__sku=sku)
    sale = get_sale(made.id)
    assert answer.headers["Location"] == f"/admin/flash-sales/{sale.id}/"
    assert (sale.state, sale.mode, sale.token_required) == ("scheduled", "queued", True)
    assert counters_of(sale) == (10, 0, 5)
    clone = staff.get(f"/admin/flash-sales/new/?from={sale.id}").content.decode()
    assert f'value="{sku}"' in clone
    assert 'value="8.00"' in clone
    assert staff.get("/admin/flash-sales/new/?from=1").status_code == 404
    assert staff.get("/admin/flash-sales/new/?from=x").status_code == 200


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"price": "4.49"}, "The catalog says 9.00 GBP"),
        ({"price": "9.01"}, "The catalog says 9.00 GBP"),
        ({"quota": 11}, "Only 10 units can be allotted"),
        ({"sku": "NOT-THERE"}, "no such SKU"),
        ({"sku": "é"}, "not on sale"),
        ({"ends_at": "2020-01-01T00:00"}, "ends after it starts"),
        ({"per_user_limit": 5000}, "limit for each buyer"),
    ],
)
def test_a_form_that_makes_no_sense_is_refused(staff, changes, message):
    sku = make_sku(10, price="9.00")
    answer = staff.post("/admin/flash-sales/new/", form(sku, **changes))
    assert answer.status_code == 200
    assert message in answer.content.decode()
    assert not FlashSale.objects.filter(items__sku=sku).exclude(state="cancelled").exists()


def test_an_unusual_price_passes_once_it_is_confirmed(staff):
    sku = make_sku(10, price="9.00")
    assert staff.post("/admin/flash-sales/new/", form(sku, price="4.00", unusual_price="on")).status_code == 302
    assert get_sale(FlashSale.objects.get(items__sku=sku).id).state == "scheduled"


def test_a_sale_of_several_skus_is_made_and_cloned(staff):
    skus = [make_sku(10, price="9.00") for _ in range(3)]
    asked = form(*skus, price="7.00") | {"items-2-DELETE": "on"}
    assert staff.post("/admin/flash-sales/new/", asked).status_code == 302
    sale = get_sale(FlashSale.objects.get(items__sku=skus[0]).id)
    assert {item.sku: str(item.price) for item in sale.items.values()} == {skus[0]: "7.00", skus[1]: "8.00"}
    clone = staff.get(f"/admin/flash-sales/new/?from={sale.id}").content.decode()
    assert all(f'value="{sku}"' in clone for sku in skus[:2])
    assert 'name="items-TOTAL_FORMS" value="2"' in clone
    twice = staff.post("/admin/flash-sales/new/", form(skus[2], skus[2]))
    assert "has each SKU once" in twice.content.decode()
    none = staff.post("/admin/flash-sales/new/", form())
    assert none.status_code == 200
    assert "errorlist" in none.content.decode()


def test_a_second_person_approves_what_they_have_looked_at(staff):
    sku = make_sku(10, price="9.00")
    made = staff.post("/admin/flash-sales/new/", form(sku, price="1.00", unusual_price="on"), follow=True)
    sale = get_sale(FlashSale.objects.get(items__sku=sku).id)
    path = f"/admin/flash-sales/{sale.id}/"
    assert "11 % of 9.00" in made.content.decode()
    assert "by mia" in made.content.decode()
    assert "Approve these figures" not in made.content.decode()
    assert counters_of(sale) == (10, 0, 0)

    assert "figures are yours" in staff.post(path, approval(sale), follow=True).content.decode()
    other = logged_in(make_operator("view_flashsale", "change_flashsale"))
    assert other.post(path, approval(sale)).status_code == 403
    second = logged_in(make_superuser("cyd"))
    assert "Approve these figures" in second.get(path).content.decode()
    assert "look again" in second.post(path, {"action": "approve", "version": 99}, follow=True).content.decode()
    assert get_sale(sale.id).state == "draft"
    assert "by cyd" in second.post(path, approval(sale), follow=True).content.decode()
    assert get_sale(sale.id).state == "scheduled"
    assert counters_of(sale) == (10, 0, 5)


def approval(of: Sale) -> dict[str, object]:
    return {"action": "approve", "version": of.version}


def test_a_sale_is_brought_through_its_life_and_the_log_says_by_whom(staff):
    sale = make_sale(quota=4, on_hand=10, price="8.00")
    path = f"/admin/flash-sales/{sale.id}/"
    for action, state in (("warm_up", "running"), ("pause", "paused"), ("resume", "running")):
        assert staff.post(path, {"action": action}).status_code == 302
        assert get_sale(sale.id).state == state
    staff.post(path, {"action": "quota", "sku": sku_of(sale), "quota": 6})
    later = sale.ends_at + timedelta(hours=1)
    staff.post(path, {"action": "extend", "ends_at": f"{later:%Y-%m-%dT%H:%M}"})
    assert sum(allotment.quota for allotment in allotments(sale).values()) == 6
    assert get_sale(sale.id).ends_at == later.replace(second=0, microsecond=0)
    staff.post(path, {"action": "end"})
    assert get_sale(sale.id).state == "ended"
    done = LogEntry.objects.filter(object_id=str(sale.id)).order_by("id").values_list("change_message", flat=True)
    assert list(done) == ["warm_up", "pause", "resume", "quota", "extend", "end"]
    for impossible in ({"action": "resume"}, {"action": "quota", "sku": "x"}, {"action": "dance"}, {}):
        answer = staff.post(path, impossible, follow=True)
        assert [message.level_tag for message in answer.context["messages"]][-1] == "error"


def test_overlapping_sales_of_one_sku_are_pointed_out(staff):
    sku = make_sku(20)
    make_sale(quota=2, sku=sku)
    alone = make_sale(quota=2)
    assert f"<td>{sku}</td>" not in staff.get("/admin/flash-sales/").content.decode()
    make_sale(quota=2, sku=sku)
    page = staff.get("/admin/flash-sales/").content.decode()
    assert page.count(f"<td>{sku}</td>") == 2
    assert f"<td>{sku_of(alone)}</td>" not in page


def test_the_calendar_tells_what_comes_what_overlaps_and_what_stock_is_short_of(staff):
    sku = make_sku(10, price="9.00")
    common = {"sku": sku, "lasts_s": 3600.0}
    draft = make_sale(quota=8, price="1.00", by=1, starts_in_s=1800.0, **common)  # awaits approval: nothing allotted
    make_sale(quota=4, price="8.00", starts_in_s=60.0, **common)
    make_sale(quota=2, price="8.00", starts_in_s=90_000.0, **common)

    page = staff.get("/admin/flash-sales/calendar/").content.decode()

    assert page.count(f'<span class="wrong">{sku}</span>') == 2
    assert f"{sku}: all allotted" in page
    assert "4 short</span> (0 of 8 allotted, 4 free)" in page
    assert "awaits approval" in page
    later = f"{draft.starts_at + timedelta(days=20):%Y-%m-%d}"
    assert "No sale in these days" in staff.get(f"/admin/flash-sales/calendar/?day={later}").content.decode()
    for odd in ("?day=x", "?day=0001-01-01", "?day=9999-12-31"):
        assert staff.get(f"/admin/flash-sales/calendar/{odd}").status_code == 200


def test_stock_is_promised_to_the_sales_in_the_order_of_their_starts():
    sku = make_sku(10, price="9.00")
    sales = [make_sale(quota=quota, sku=sku, price="1.00", by=1) for quota in (6, 3, 4)]
    checks = check_stock(sales, allotted={(sales[1].id, sku): 2}, free={sku: 8})
    assert [(check.allotted, check.free, check.short) for [check] in checks.values()] == [
        (0, 8, 0),
        (2, 8, 0),
        (0, 8, 3),
    ]


def test_the_preview_is_what_the_api_will_say(staff):
    sale = make_sale(quota=7, price="1.00", by=1, starts_in_s=60.0)
    path = f"/admin/flash-sales/{sale.id}/preview/"

    def previewed(at: str) -> dict[str, object]:
        return staff.get(f"{path}?at={at}").context_data["document"]

    with pytest.raises(SaleNotFound):
        public(sale.id)
    drafted = previewed("before")
    assert (drafted["status"], drafted["items"][0]["left"]) == ("scheduled", 7)
    assert "shoppers see nothing of it yet" in staff.get(path).content.decode()

    approve_sale(sale.id, version=sale.version, by=2, now=timezone.now())
    forget_cached()

    shown = public(sale.id)
    assert {**shown, "server_time": ""} == {**previewed("before"), "server_time": ""} == {**drafted, "server_time": ""}
    assert set(FlashSaleSerializer().fields) == set(shown)
    assert (previewed("start")["status"], previewed("end")["status"]) == ("running", "ended")
    assert previewed("whenever")["status"] == "running"


def public(sale_id: int) -> dict[str, object]:
    """Return what the API tells everybody of a sale."""
    path = f"/api/v1/flash-sales/{sale_id}"
    return json.loads(reads.sale(LaneRequest("GET", path, b"", {}, b"", "127.0.0.1")).body)


def test_the_live_figures_and_the_report_add_up(staff, monkeypatch):
    sale = make_sale(quota=10, per_user_limit=2, price="1.50")
    buyers = [make_buyer(shard=shard) for shard in (0, 1, 0)]
    paid = buy_in_sale(flash_request(sale, buyers[0], quantity=2), now=timezone.now()).order
    buy(sale, buyers[1])
    with pytest.raises(PurchaseLimitReached):
        buy_in_sale(flash_request(sale, buyers[0]), now=timezone.now())
    pay(paid)
    sync_stock_of([paid.id], now=timezone.now())

    answers.flush()
    live = staff.get(f"/admin/flash-sales/{sale.id}/live/")

    figures = live.json()
    assert "no-store" in live.headers["Cache-Control"]
    assert (figures["left"], figures["sold"], figures["orders"]) == (7, 3, 2)
    assert (figures["paid"], figures["unpaid"], figures["returned"]) == (2, 1, 0)
    assert (figures["state"], figures["phase"], figures["waiting"], figures["under_way"]) == ("running", "open", 0, 0)
    assert figures["refusals"] == {"purchase_limit_reached": 1}
    assert sum(count for _, count in figures["times"]) == 2  # one buyer went past what is counted
    assert (figures["sell_through"], figures["revenue"]) == (30, "3.00")
    assert figures["items"] == {sku_of(sale): {"left": 7, "sold": 3, "sell_through": 30}}
    page = staff.get(f"/admin/flash-sales/{sale.id}/").content.decode()
    assert '<b data-figure="revenue">3.00</b>' in page
    assert "purchase_limit_reached" in page

    read = flash_figures.allotments_of

    def without_shard_1(alias, items):
        if alias == "shard_1":
            raise OperationalError(2003, "no server")
        return read(alias, items)

    monkeypatch.setattr(flash_figures, "allotments_of", without_shard_1)
    assert staff.get(f"/admin/flash-sales/{sale.id}/live/").json()["unreachable"] == ["shard_1"]


def test_the_report_tells_what_came_back_and_what_was_refunded(staff):
    sale = make_sale(quota=10, per_user_limit=2, price="1.50")
    orders = [buy(sale, make_buyer(shard=shard), quantity=2) for shard in (0, 1)]
    for order in orders:
        pay(order)
    sync_stock_of([order.id for order in orders], now=timezone.now())
    Order.objects.for_order(orders[0].id).update(refunded_total=orders[0].total)
    end_sale(sale.id, now=timezone.now())

    page = staff.get(f"/admin/flash-sales/{sale.id}/").content.decode()

    assert "<h2>Report</h2>" in page
    assert "6.00</b> revenue, 3.00 of it refunded" in page
    ledger = units_ledger(get_sale(sale.id))
    assert [(row.alias, row.received, row.sold, row.left, row.returned, row.unaccounted) for row in ledger] == [
        ("shard_0", 5, 2, 0, 3, 0),
        ("shard_1", 5, 2, 0, 3, 0),
        ("stock", 10, 4, 0, 6, 0),
    ]


@pytest.mark.parametrize(
    ("alias", "damage", "unaccounted"),
    [
        ("shard_0", "DELETE FROM promotions_transfer WHERE sale_id = %s", [4, 0, 0]),
        ("shard_0", "DELETE FROM promotions_receipt WHERE sale_id = %s", [-5, 0, 0]),
        ("shard_1", "UPDATE promotions_allotment SET sold = 0, quota = 0 WHERE sale_id = %s", [0, 1, 1]),
        ("inventory", "DELETE FROM promotions_receipt WHERE sale_id = %s LIMIT 1", [0, 0, 4]),
    ],
)
def test_a_unit_that_is_lost_shows_in_the_ledger(alias, damage, unaccounted):
    sale = make_sale(quota=10)
    for shard in (0, 1):
        buy(sale, make_buyer(shard=shard))
    end_sale(sale.id, now=timezone.now())
    assert [row.unaccounted for row in units_ledger(get_sale(sale.id))] == [0, 0, 0]
    with connections[alias].cursor() as cursor:
        cursor.execute(damage, [sale.id])
    assert [row.unaccounted for row in units_ledger(get_sale(sale.id))] == unaccounted


def test_a_sale_that_is_not_there_is_not_found(staff):
    for page in ("1/", "1/live/", "1/preview/", "99999999999999999999/"):
        assert staff.get(f"/admin/flash-sales/{page}").status_code == 404


def test_a_bot_is_blocked_and_the_page_says_by_whom_and_why(staff):
    path = "/admin/flash-sales/blocks/"
    for wrong, message in (
        ({"network": "nonsense", "reason": "x"}, "no address or network"),
        ({"reason": "x"}, "either a user or a network"),
        ({"user": "7"}, "errorlist"),
    ):
        assert message in staff.post(path, wrong).content.decode()
    shown = staff.post(
        path, {"network": "203.0.113.0/24", "reason": "200 carts a second"}, follow=True
    ).content.decode()
    assert "203.0.113.0/24" in shown
    assert "by mia" in shown
    assert "200 carts a second" in shown
    block_id = BuyerBlock.objects.get().id
    looking = logged_in(make_operator("view_buyerblock"))
    assert "203.0.113.0/24" in looking.get(path).content.decode()
    assert looking.post(path, {"lift": block_id}).status_code == 403
    assert looking.post(path, {"user": "7", "reason": "x"}).status_code == 403
    for _ in range(2):
        staff.post(path, {"lift": block_id})
    assert BuyerBlock.objects.get().lifted_by is not None
    done = LogEntry.objects.filter(object_id=str(block_id)).order_by("id").values_list("change_message", flat=True)
    assert list(done) == ["blocked: 200 carts a second", "lifted"]


def test_a_rehearsal_is_made_for_its_testers(staff):
    sku = make_sku(10, price="9.00")
    for wrong in ("x", "1;2", "9" * 20):
        answer = staff.post("/admin/flash-sales/new/", form(sku, testers=wrong))
        assert "put commas between them" in answer.content.decode()
    staff.post("/admin/flash-sales/new/", form(sku, testers="7, 9"))
    sale = get_sale(FlashSale.objects.get(items__sku=sku).id)
    assert (sale.rehearsal, sale.testers) == (True, frozenset({7, 9}))
    page = staff.get(f"/admin/flash-sales/{sale.id}/").content.decode()
    assert "nobody else sees it" in page
    assert 'value="7, 9"' in staff.get(f"/admin/flash-sales/new/?from={sale.id}").content.decode()
    assert '<span class="tag">rehearsal</span>' in staff.get("/admin/flash-sales/").content.decode()


def test_what_a_rehearsal_sells_is_no_revenue(staff):
    tester = make_buyer()
    sale = make_sale(price="1.50", testers=(tester.user_id,))
    order = buy(sale, tester)
    pay(order)
    sync_stock_of([order.id], now=timezone.now())
    figures = sale_figures(sale)
    assert (figures.total("paid"), figures.revenue) == (1, 0)
