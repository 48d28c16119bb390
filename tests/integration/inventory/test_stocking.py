"""Opening rows and adjustments: what can be bought is set, what is reserved stays, and a movement tells why."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from apps.inventory import selectors, services
from apps.inventory.errors import UnknownSku
from apps.inventory.models import Movement, Stock
from tests.factories.inventory import NOW, counters, make_claim, make_stock

pytestmark = pytest.mark.django_db(databases="__all__")


def test_an_adjustment_sets_what_can_be_bought_on_top_of_what_is_spoken_for() -> None:
    sku = make_stock(20, allotted=5)
    services.reserve([make_claim([(sku, 4)])], now=NOW)

    assert services.adjust(sku, to=2, reason="counted", actor="mia", now=NOW) == -9

    assert selectors.available([sku]) == {sku: 2}
    assert counters(sku) == (11, 4)
    movement = Movement.objects.get(sku=sku)
    assert (movement.kind, movement.quantity, movement.reason, movement.actor) == ("adjustment", -9, "counted", "mia")


def test_an_adjustment_of_an_unknown_sku_changes_none() -> None:
    sku = make_stock(3)
    with pytest.raises(UnknownSku):
        services.adjust_all([sku, "nowhere"], to=9, reason="", actor="mia", now=NOW)
    assert counters(sku) == (3, 0)


@pytest.mark.parametrize("units", [-1, services.MAX_UNITS + 1])
def test_units_outside_the_counter_are_refused(units: int) -> None:
    with pytest.raises(ValueError, match="Units are"):
        services.adjust(make_stock(3), to=units, reason="", actor="mia", now=NOW)


def test_opening_stock_makes_only_what_is_missing() -> None:
    known = make_stock(3)
    assert services.open_stock([known, f"{known}-new"], units=7, now=NOW) == 1
    assert services.open_stock([known, f"{known}-new"], units=9, now=NOW) == 0
    assert selectors.available([known, f"{known}-new"]) == {known: 3, f"{known}-new": 7}


def test_the_command_adjusts_all_skus_named() -> None:
    first, second = make_stock(1), make_stock(9)
    out = StringIO()
    call_command("adjust_stock", first, second, to=50, reason="sale", stdout=out)
    assert selectors.available([first, second]) == {first: 50, second: 50}
    assert f"{first} can be bought 50 times (+49)" in out.getvalue()


def test_the_command_tells_unknown_skus_and_changes_nothing() -> None:
    sku = make_stock(1)
    with pytest.raises(CommandError, match="nowhere"):
        call_command("adjust_stock", sku, "nowhere", to=50, reason="sale")
    with pytest.raises(CommandError, match="not a whole number"):
        call_command("adjust_stock", sku, "--to", "-1", "--reason", "x")
    assert Stock.objects.get(sku=sku).on_hand == 1
