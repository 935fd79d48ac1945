"""What a series will come to: what must hold of any, and how well the bands hold on series with seeds of their own."""

import os

import numpy as np
import pytest
from forecast import AHEAD_DAYS, KINDS, KNOWN_DAYS, judged, series
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenyield_collector.insight.forecasting import DailyForecast, Floats, forecast

WEEK = [10.0, 10, 10, 10, 10, 4, 2]


def made(values: "list[float] | Floats", *horizons: int) -> DailyForecast:
    found = forecast(list(values), list(horizons))
    assert found is not None
    return found


def test_too_little_history_is_no_forecast() -> None:
    assert forecast([5.0] * 6, [10]) is None
    assert forecast([0.0] * 400, [10]) is None
    assert forecast([0.0] * 90 + [5.0] * 6, [10]) is None, "days before the first are no history"
    assert made([5.0] * 7, 10).totals[0].p50 == pytest.approx(50)
    assert made([5.0] * 7, 10).back_test is None


@pytest.mark.parametrize("days", [1, 3, 7, 30])
def test_what_repeats_exactly_is_forecast_exactly(days: int) -> None:
    found = made(WEEK * 12, days)
    expected = sum((WEEK * 12)[:days])
    assert found.totals[0].p50 == pytest.approx(expected, rel=0.01)
    assert found.totals[0].p90 - found.totals[0].p10 < 0.1 * expected
    assert found.back_test is not None
    assert found.back_test.median_error < 0.01
    assert found.back_test.within == found.back_test.origins >= 3


def test_weekdays_on_which_nothing_happens_stay_so() -> None:
    found = made([100.0, 101, 99, 100, 100, 0, 0] * 12, 14)
    assert found.path[:, [5, 6, 12, 13]].max() == pytest.approx(0, abs=1)
    assert found.totals[0].p50 == pytest.approx(1000, rel=0.02)


def test_a_level_that_shifted_is_the_new_one() -> None:
    chosen = np.random.default_rng(3)
    noise = np.exp(chosen.normal(0, 0.05, 100))
    total = made(np.where(np.arange(100) < 60, 100.0, 260.0) * noise, 28).totals[0]
    assert total.p10 < 28 * 260 < total.p90
    assert total.p10 > 28 * 200


def test_growth_goes_on_and_slows() -> None:
    chosen = np.random.default_rng(4)
    y = 100 * np.exp(0.01 * np.arange(98)) * np.exp(chosen.normal(0, 0.05, 98))
    quarter, year = made(y, 91, 365).totals
    assert quarter.p50 > 91 * y[-7:].mean() * 1.1
    assert year.p50 < 365 * y[-7:].mean() * np.exp(0.01 * 365)


def test_what_ended_is_nothing_and_what_comes_seldom_is_its_mean() -> None:
    assert made([7.0] * 60 + [0.0] * 14, 30).totals[0] == (30, 0, 0, 0)
    for quiet, median in ((3, 210.0), (10, 0.0)):
        total = made([7.0] * 60 + [0.0] * quiet, 30).totals[0]
        assert total.p10 == 0, "it may have ended"
        assert total.p50 == pytest.approx(median)
        assert total.p90 == pytest.approx(210, rel=0.1), "or be a lull"
    weekdays = made([*([10.0] * 5 + [0, 0]) * 8, *[0.0] * 7], 7)
    assert weekdays.path[2, 5:].max() == pytest.approx(0, abs=0.1), "the days of the week stay at their places"
    seldom = made([0.0, 0, 30] * 30, 30).totals[0]
    assert seldom.p50 == pytest.approx(300, rel=0.05)
    assert seldom.p10 < 280 < 320 < seldom.p90


def test_the_back_test_knows_only_the_days_before_each_origin() -> None:
    """The level doubles on a day that no method could foresee: forecasts from just before it were wrong, and say so."""
    chosen = np.random.default_rng(6)
    y = np.where(np.arange(112) < 75, 100.0, 200.0) * np.exp(chosen.normal(0, 0.02, 112))
    test = made(y, 28).back_test
    assert test is not None
    assert 4 <= test.origins <= 12
    assert test.within < test.origins


def test_what_grew_fast_stays_finite() -> None:
    total = made([1e-9 * 10.0**i for i in range(0, 20)] + [1e12] * 15, 365).totals[0]
    assert total.p90 < float("inf")


def test_the_band_narrows_with_the_days_that_are_left() -> None:
    y = series("even", 5, 0, KNOWN_DAYS)
    totals = made(y, *range(30, 0, -1)).totals
    widths = [total.p90 - total.p10 for total in totals]
    assert widths[::7] == sorted(widths[::7], reverse=True)
    assert widths[-1] < widths[0] / 5


amounts = st.one_of(st.just(0.0), st.floats(0, 1e12), st.floats(0, 1e-9))


@settings(max_examples=int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "40")), deadline=None)
@given(st.lists(amounts, max_size=200), st.lists(st.integers(1, 365), min_size=1, max_size=3))
def test_quantiles_are_in_order_and_finite_whatever_came(values: list[float], horizons: list[int]) -> None:
    found = forecast(values, horizons)
    if found is None:
        return
    for total in found.totals:
        assert 0 <= total.p10 <= total.p50 <= total.p90 < float("inf")
    assert np.isfinite(found.path).all()
    assert (found.path[0] <= found.path[1]).all()
    assert (found.path[1] <= found.path[2]).all()
    assert found.path.shape == (3, max(horizons))


def test_bands_hold_and_the_loss_is_below_the_seasonal_naive_one() -> None:
    """A few series of each kind; bench/forecast.py judges many, with fresh seeds."""
    kinds = {kind: judged(kind, 20_261, 5) for kind in KINDS}
    loss, naive, within, totals = (
        float(np.mean([one[name] for one in kinds.values()]))
        for name in ("pinball", "naive", "days_within", "totals_within")
    )
    assert loss < 0.75 * naive
    assert 0.7 <= within <= 0.9
    assert 0.7 <= totals <= 0.97
    assert AHEAD_DAYS == 28
