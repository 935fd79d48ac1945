from dataclasses import replace

import pytest

from tokenyield_agent.gpu.reading import GpuReading
from tokenyield_agent.windows.energy import Energy
from tokenyield_agent.windows.span import GpuSpan, span_between
from tokenyield_agent.workloads.binding import UNHELD, Holding

BEFORE = GpuReading(uuid="G", index=0, energy_mj=1_000_000, power_mw=200_000, utilization_percent=0)
AFTER = replace(BEFORE, energy_mj=1_300_000, power_mw=400_000, utilization_percent=90)
HELD = Holding(held=True, weights={"chat": 1})


def between(
    before: GpuReading | None,
    after: GpuReading,
    *,
    counter_mj: int | None = 1_000_000,
    duration_ms: int = 1000,
    holding: Holding = HELD,
) -> GpuSpan:
    return span_between(before, after, counter_mj=counter_mj, duration_ms=duration_ms, gap_ms_max=3000, holding=holding)


@pytest.mark.parametrize(
    ("utilization", "holding", "wanted"),
    [
        (1, HELD, ("active", None)),
        (100, UNHELD, ("active", None)),
        (0, HELD, ("idle", None)),
        (0, UNHELD, ("unallocated", None)),
        (0, Holding(held=None), ("unknown", "holder_unsupported")),
        (None, HELD, ("unknown", "utilization_unsupported")),
    ],
)
def test_states(utilization: int | None, holding: Holding, wanted: tuple[str, str | None]) -> None:
    span = between(BEFORE, replace(AFTER, utilization_percent=utilization), holding=holding)
    assert (span.state, span.unknown_reason) == wanted


def test_the_counter_gives_exact_energy() -> None:
    span = between(BEFORE, AFTER)
    assert span.energy == Energy(300_000, "counter")


def test_power_is_integrated_by_trapezoid_without_a_counter() -> None:
    span = between(replace(BEFORE, energy_mj=None), replace(AFTER, energy_mj=None), counter_mj=None)
    assert span.energy == Energy(300_000, "power", 100_000)


def test_a_counter_that_ran_backwards_was_reset() -> None:
    span = between(BEFORE, replace(AFTER, energy_mj=5))
    assert span.energy == Energy(300_000, "power", 100_000)


def test_power_is_not_integrated_over_a_gap_but_the_counter_goes_on() -> None:
    assert between(BEFORE, replace(AFTER, energy_mj=None), counter_mj=None, duration_ms=3001).energy is None
    gap = between(BEFORE, AFTER, duration_ms=3001)
    assert (gap.energy, gap.state, gap.unknown_reason) == (Energy(300_000, "counter"), "unknown", "not_polled")


def test_nothing_is_claimed_about_a_gpu_that_was_not_there() -> None:
    span = between(None, AFTER, counter_mj=None)
    assert (span.energy, span.state, span.unknown_reason) == (None, "unknown", "not_seen")
    back = between(None, AFTER, counter_mj=900_000)
    assert (back.energy, back.state) == (Energy(400_000, "counter"), "unknown"), (
        "the counter bridges the time it was away"
    )


def test_a_power_that_is_not_supported_is_not_zero() -> None:
    span = between(replace(BEFORE, energy_mj=None, power_mw=None), replace(AFTER, energy_mj=None), counter_mj=None)
    assert span.energy is None
