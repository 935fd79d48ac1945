"""Energy between two readings, by every method, against a known truth."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenyield_agent.gpu.reading import GpuReading
from tokenyield_agent.windows.energy import Energy, energy_between

READING = GpuReading(uuid="G", index=0)
SECOND_US = 1_000_000


def between(before: GpuReading | None, after: GpuReading, duration_ms: int = 1000) -> Energy | None:
    return energy_between(before, after, counter_mj=None, duration_ms=duration_ms, gap_ms_max=3000)


def test_samples_are_integrated_over_the_sensors_own_time() -> None:
    before = replace(READING, power_samples=((0, 100_000),))
    after = replace(READING, power_samples=((0, 100_000), (SECOND_US // 2, 300_000), (SECOND_US, 300_000)))
    assert between(before, after, duration_ms=900) == Energy(250_000, "samples", 50_000)


def test_samples_that_do_not_follow_on_are_not_bridged() -> None:
    after = replace(READING, power_samples=((SECOND_US, 1), (2 * SECOND_US, 1)))
    assert between(replace(READING, power_samples=((0, 1),)), after) is None
    assert between(None, after) is None


def test_a_sensor_that_was_silent_for_too_long_gives_no_energy() -> None:
    samples = ((0, 100), (3 * SECOND_US + 1, 100))
    assert between(replace(READING, power_samples=samples[:1]), replace(READING, power_samples=samples)) is None


def test_a_sensor_whose_clock_went_back_gives_no_energy() -> None:
    assert between(replace(READING, power_instant=(5, 100)), replace(READING, power_instant=(4, 100))) is None


def test_a_sensor_that_has_nothing_new_gives_it_with_the_next() -> None:
    still = replace(READING, power_samples=((7, 100_000),))
    assert between(still, still) == Energy(0, "samples")


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        (1.0, Energy(400_000, "average", 0)),
        (1.5, Energy(550_000, "average", 50_000)),  # half a second that nobody averaged
        (0.5, Energy(200_000, "average", 50_000)),  # half of the later mean is of before
    ],
)
def test_a_mean_over_a_second(seconds: float, wanted: Energy) -> None:
    before = replace(READING, power_average=(0, 200_000))
    after = replace(READING, power_average=(round(seconds * SECOND_US), 400_000))
    assert between(before, after, duration_ms=round(seconds * 1000)) == wanted


def test_instants_and_plain_power_by_trapezoid() -> None:
    before, after = replace(READING, power_instant=(0, 100_000)), replace(READING, power_instant=(SECOND_US, 300_000))
    assert between(before, after) == Energy(200_000, "instant", 100_000)
    before, after = replace(READING, power_mw=100_000), replace(READING, power_mw=300_000)
    assert between(before, after) == Energy(200_000, "power", 100_000)
    assert between(before, after, duration_ms=3001) is None


@given(
    st.lists(st.tuples(st.integers(1, 200_000), st.integers(0, 1_200_000)), min_size=2, max_size=40),
    st.integers(1, 38),
)
def test_cutting_a_span_in_two_changes_nothing_but_rounding(samples: list[tuple[int, int]], at: int) -> None:
    at_us, told = 0, []
    for step_us, mw in samples:
        at_us += step_us
        told.append((at_us, mw))
    cut = min(at, len(told) - 1)
    whole = between(replace(READING, power_samples=tuple(told[:1])), replace(READING, power_samples=tuple(told)))
    first = between(
        replace(READING, power_samples=tuple(told[:1])), replace(READING, power_samples=tuple(told[: cut + 1]))
    )
    second = between(
        replace(READING, power_samples=tuple(told[: cut + 1])), replace(READING, power_samples=tuple(told[cut:]))
    )
    assert whole is not None
    assert first is not None
    assert second is not None
    assert abs(whole.mj - first.mj - second.mj) <= 1
    assert abs(whole.error_mj - first.error_mj - second.error_mj) <= 1


@given(
    st.lists(st.integers(0, 1_000_000), min_size=2, max_size=30),
    st.integers(10_000, 500_000),
)
def test_the_error_holds_where_power_rises_or_falls_once_between_samples(levels: list[int], step_us: int) -> None:
    """Whatever happens between two samples as long as it is monotonic: here the jump comes right after the one, or
    right before the other."""
    samples = tuple((place * step_us, mw) for place, mw in enumerate(levels))
    told = between(replace(READING, power_samples=samples[:1]), replace(READING, power_samples=samples))
    assert told is not None
    lowest = sum(min(a, b) * step_us for a, b in itertools.pairwise(levels)) / 1e6
    highest = sum(max(a, b) * step_us for a, b in itertools.pairwise(levels)) / 1e6
    assert told.mj - told.error_mj - 2 <= lowest
    assert highest <= told.mj + told.error_mj + 2
