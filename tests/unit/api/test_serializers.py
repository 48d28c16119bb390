"""Strict input: JSON types as they are, unknown fields refused, pointers to what is wrong."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.exceptions import ValidationError

from infra.api.fields import IdField, MoneyField, StrictBooleanField, StrictCharField, StrictIntegerField, TimeField
from infra.api.problems import as_domain_error
from infra.api.serializers import QuerySerializer, StrictSerializer
from infra.errors import ValidationFailed


class Line(StrictSerializer):
    sku = StrictCharField(max_length=8)
    quantity = StrictIntegerField(min_value=1, max_value=999)


class Basket(StrictSerializer):
    items = Line(many=True, allow_empty=False)
    gift = StrictBooleanField(required=False)


class Search(QuerySerializer):
    q = StrictCharField(max_length=3)


def _errors(body: object) -> set[tuple[str, str]]:
    serializer = Basket(data=body)
    with pytest.raises(ValidationError) as raised:
        serializer.is_valid(raise_exception=True)
    return {(error.field, error.code) for error in as_domain_error(raised.value).errors}


def test_all_that_is_wrong_is_told_at_once_with_pointers():
    body = {"items": [{"sku": "A", "quantity": 0}, {"sku": 7, "quantity": 1, "a/b~c": 1}], "gift": "yes", "extra": 1}
    assert _errors(body) == {
        ("/items/0/quantity", "min_value"),
        ("/items/1/sku", "invalid"),
        ("/items/1/a~1b~0c", "unknown_field"),
        ("/gift", "invalid"),
        ("/extra", "unknown_field"),
    }


@pytest.mark.parametrize("body", [[], "text", 1, None])
def test_a_body_that_is_no_object_is_refused(body):
    assert {field for field, _ in _errors(body)} == {""}


@pytest.mark.parametrize("value", ["1", True, 1.5, None, [], {}])
def test_an_integer_is_a_json_number_without_a_fraction(value):
    with pytest.raises(ValidationError):
        StrictIntegerField().run_validation(value)


@pytest.mark.parametrize("value", ["a\x00b", "a\x1b", "\ud800", 1, None])
def test_a_text_is_a_string_without_control_characters(value):
    with pytest.raises(ValidationError):
        StrictCharField().run_validation(value)


@given(st.integers(min_value=1, max_value=2**63 - 1))
def test_every_id_is_read_back(number):
    assert IdField().run_validation(str(number)) == number


@pytest.mark.parametrize(
    "text", ["", "0", "01", "-1", "+1", " 1", "1.0", "9223372036854775808", "1e3", "\u0661", 5, None]
)
def test_what_is_no_id_is_refused(text):
    with pytest.raises(ValidationError):
        IdField().run_validation(text)


@pytest.mark.parametrize("text", ["12.34", "0", "0.5", "999999999999"])
def test_an_amount_is_a_decimal_string(text):
    assert MoneyField().run_validation(text) == Decimal(text)


@pytest.mark.parametrize("text", [12.34, 12, "1e3", "-1", "NaN", "Infinity", "1,5", " 1", "01", "1.23456", ""])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(ValidationError):
        MoneyField().run_validation(text)


def test_unknown_query_parameters_are_ignored_and_bad_ones_named():
    assert Search.read({"q": "ab", "utm": "x"}) == {"q": "ab"}
    with pytest.raises(ValidationFailed) as raised:
        Search.read({"q": "abcd"})
    assert [error.field for error in raised.value.errors] == ["query:q"]


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("2026-11-26T12:30:00Z", UTC),
        ("2026-11-26t12:30:00z", UTC),
        ("2026-11-26T12:30:00z", UTC),
        ("2026-11-26t12:30:00+02:00", timezone(timedelta(hours=2))),
    ],
)
def test_a_time_may_be_written_with_small_letters(text: str, offset: timezone) -> None:
    assert TimeField().run_validation(text) == datetime(2026, 11, 26, 12, 30, tzinfo=offset)


@pytest.mark.parametrize("text", ["now", "", 7, None, "2026-13-26t12:30:00z"])
def test_what_is_no_time_is_refused(text: object) -> None:
    with pytest.raises(ValidationError):
        TimeField().run_validation(text)
