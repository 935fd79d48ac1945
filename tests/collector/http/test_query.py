"""Numbers in a query: within their bounds, or an error that names the parameter."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenyield_collector.errors import ParameterError
from tokenyield_collector.http.query import number, whole_number


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("86400", 86_400), ("007", 7)])
def test_whole_numbers(text: str, value: int) -> None:
    assert whole_number({"window_s": text}, "window_s", 1, 86_400) == value
    assert whole_number({}, "window_s", 1, 86_400) is None


@pytest.mark.parametrize("text", ["", "0", "86401", "-1", "1.5", "1e3", "x", "٣", "²", " 1", "9" * 5000])
def test_other_texts_are_refused_with_the_bounds(text: str) -> None:
    with pytest.raises(ParameterError, match="window_s: expected a whole number from 1 to 86400, found '"):
        whole_number({"window_s": text}, "window_s", 1, 86_400)


@pytest.mark.parametrize("text", ["", "-0.1", "100.1", "nan", "inf", "two"])
def test_numbers_outside_their_bounds(text: str) -> None:
    assert number({"loss_percent": "2.5"}, "loss_percent", 0, 100) == 2.5
    with pytest.raises(ParameterError, match="loss_percent: expected a number from 0 to 100, found '"):
        number({"loss_percent": text}, "loss_percent", 0, 100)


@given(st.text())
def test_any_text_is_a_number_within_the_bounds_or_a_parameter_error(text: str) -> None:
    for read in (whole_number, number):
        with contextlib.suppress(ParameterError):
            assert 0 <= (read({"x": text}, "x", 0, 100) or 0) <= 100
