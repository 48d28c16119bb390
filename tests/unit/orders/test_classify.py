"""What an import makes of the invoices of a shop."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from apps.orders.importing.classify import Kind, classify
from apps.orders.importing.parse import SourceInvoice, SourceLine


def line(**changes):
    values = {
        "code": "85123A",
        "description": "HEART HOLDER",
        "quantity": 6,
        "at": datetime(2010, 12, 1, 8, 26),  # noqa: DTZ001 - the file's times have no zone
        "unit_price": Decimal("2.55"),
        "customer": "17850",
        "country": "United Kingdom",
    }
    return SourceLine(**values | changes)


def verdict(*lines, number="536365", titles=None):
    return classify(SourceInvoice(number, list(lines)), titles=titles or {})


def test_a_sale_becomes_a_completed_order_at_its_true_time():
    result = verdict(line(), line(code="71053", quantity=2, unit_price=Decimal("3.39")))

    assert result.kinds == {}
    assert (result.order.payment_status, result.order.fulfillment_status) == ("paid", "delivered")
    assert result.order.placed_at == datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
    assert (result.order.total, result.order.country, result.order.customer) == (Decimal("22.08"), "GB", "17850")


def test_summer_time_is_told_in_utc():
    result = verdict(line(at=datetime(2011, 7, 1, 0, 30)))  # noqa: DTZ001

    assert result.order.placed_at == datetime(2011, 6, 30, 23, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("number", "lines", "kind"),
    [
        ("C536379", [line(quantity=-1)], Kind.CANCELLED_INVOICE),
        ("A563186", [line(unit_price=Decimal("-11062.06"), code="B", customer="")], Kind.ACCOUNTING_INVOICE),
        ("536589", [line(quantity=-10, unit_price=Decimal(0), customer="")], Kind.STOCK_CORRECTION),
        ("536414", [line(quantity=56, unit_price=Decimal("0.0"), customer="")], Kind.STOCK_CORRECTION),
    ],
)
def test_what_was_no_sale_becomes_a_cancelled_order_in_positive_figures(number, lines, kind):
    result = verdict(*lines, number=number)

    assert kind in result.kinds
    assert (result.order.closed_as, result.order.payment_status) == ("cancelled", "unpaid")
    assert all(item.quantity > 0 and item.unit_price >= 0 for item in result.order.lines)
    assert result.order.total == sum(item.line_total for item in result.order.lines) >= 0


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"customer": ""}, Kind.GUEST),
        ({"quantity": 1000}, Kind.LARGE_QUANTITY),
        ({"unit_price": Decimal(0)}, Kind.FREE),
        ({"unit_price": Decimal("0.001")}, Kind.FINE_PRICE),
        ({"code": "POST"}, Kind.NO_GOODS),
        ({"code": "BANK CHARGES"}, Kind.RENAMED_CODE),
        ({"description": ""}, Kind.NO_DESCRIPTION),
        ({"country": "Unspecified"}, Kind.NO_COUNTRY),
        ({"quantity": 0}, Kind.ZERO_QUANTITY),
    ],
)
def test_each_unusual_line_is_named_and_kept(changes, kind):
    result = verdict(line(**changes))

    assert result.kinds[kind] == 1
    assert len(result.order.lines) == 1


def test_a_guest_has_a_user_for_each_invoice():
    assert verdict(line(customer=""), number="536544").order.customer == "guest-536544"


def test_a_line_without_description_borrows_that_of_its_code():
    assert verdict(line(description=""), titles={"85123A": "HEART"}).order.lines[0].title == "HEART"
    assert verdict(line(description="")).order.lines[0].title == "85123A"


def test_repeated_lines_are_counted_and_kept():
    result = verdict(line(), line(), line())

    assert result.kinds == {Kind.REPEATED_LINE: 2}
    assert len(result.order.lines) == 3


def test_the_earliest_of_several_times_is_the_orders():
    later = datetime(2010, 12, 1, 8, 27)  # noqa: DTZ001
    result = verdict(line(at=later), line())

    assert result.kinds == {Kind.TWO_TIMES: 2}
    assert result.order.placed_at.minute == 26


def test_an_invoice_of_both_signs_is_rejected_by_name():
    result = verdict(line(), line(quantity=-1))

    assert result.order is None
    assert result.kinds[Kind.MIXED_SIGNS] == 2


def test_codes_that_differ_by_case_stay_different_skus():
    result = verdict(line(code="85123A"), line(code="85123a"))

    assert [item.sku for item in result.order.lines] == ["85123A", "85123a"]
