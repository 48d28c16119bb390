"""Cells of an export: none is a formula to a spreadsheet, and none is changed without need."""

import csv
import io
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.staff.exports import csv_text, neutral


@pytest.mark.parametrize("cell", ["=1+1", "+SUM(A1)", "-2+3", "@x", "\tx", "\r=x", "=HYPERLINK()", "-", "+44 20"])
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(cell):
    assert neutral(cell) == f"'{cell}"


@pytest.mark.parametrize(("cell", "text"), [(Decimal("-12.50"), "-12.50"), (-3, "-3"), ("Paris", "Paris"), (None, "")])
def test_what_is_harmless_stays(cell, text):
    assert neutral(cell) == text


@given(
    st.lists(st.lists(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0")), min_size=2, max_size=2))
)
def test_rows_come_back_as_they_were_but_for_apostrophes(rows):
    read = list(csv.reader(io.StringIO(csv_text(rows), newline="")))
    assert read == [[neutral(cell) for cell in row] for row in rows]
