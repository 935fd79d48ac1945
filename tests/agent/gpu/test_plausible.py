"""What no board can have is not believed, whatever comes."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tokenyield_agent.gpu.plausible import (
    ENERGY_MJ_MAX,
    IMPLAUSIBLE,
    MEMORY_MIB_MAX,
    TEMPERATURE_C_MAX,
    plausible,
    power_bound_mw,
    power_limit_mw,
)
from tokenyield_agent.gpu.reading import GpuProcess, GpuReading

ANY = st.none() | st.integers(0, 2**64 - 1) | st.integers(0, 200) | st.just(-1)
STAMPED = st.none() | st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
RAW = st.builds(
    GpuReading,
    uuid=st.just("G"),
    index=st.just(0),
    energy_mj=ANY,
    power_mw=ANY,
    power_average=STAMPED,
    power_instant=STAMPED,
    power_max_mw=st.none() | st.just(700_000),
    utilization_percent=ANY,
    memory_used_mib=ANY,
    memory_total_mib=ANY,
    temperature_c=ANY,
    core_clock_mhz=ANY,
    core_clock_max_mhz=ANY,
    processes=st.none() | st.lists(st.builds(GpuProcess, pid=st.integers(0, 2**32), memory_mib=ANY)).map(tuple),
)


@given(RAW, RAW)
def test_what_is_left_can_be(raw: GpuReading, earlier: GpuReading) -> None:
    steady = plausible(earlier)
    left = plausible(raw, steady)
    bound_mw = power_bound_mw(700_000 if 700_000 in (raw.power_max_mw, steady.power_max_mw) else None)
    bound_mw = max(bound_mw, power_bound_mw(steady.power_max_mw), power_bound_mw(raw.power_max_mw))
    assert left.energy_mj is None or 0 <= left.energy_mj <= ENERGY_MJ_MAX
    assert left.utilization_percent is None or 0 <= left.utilization_percent <= 100
    assert left.memory_used_mib is None or 0 <= left.memory_used_mib <= (left.memory_total_mib or MEMORY_MIB_MAX)
    assert left.temperature_c is None or 0 <= left.temperature_c <= TEMPERATURE_C_MAX
    assert left.power_mw is None or 0 <= left.power_mw <= bound_mw
    for stamped in (left.power_average, left.power_instant):
        assert stamped is None or 0 <= stamped[1] <= bound_mw
    assert (left.processes is None) == (raw.processes is None)
    assert len(left.processes or ()) == len(raw.processes or ()), "whoever it is, it holds the GPU"
    gone = [name for name in raw.__slots__ if getattr(raw, name) is not None and getattr(left, name) is None]
    assert not gone or IMPLAUSIBLE in left.failures.values()
    assert plausible(left, None) == left or "power" in left.failures


@given(RAW)
def test_a_reading_that_can_be_is_left_as_it_is(raw: GpuReading) -> None:
    left = replace(plausible(raw), failures={})
    assert plausible(left) is left


def test_power_that_failed_is_the_last_one_for_a_moment() -> None:
    before = GpuReading(uuid="G", index=0, power_mw=300_000, power_average=(5, 290_000))
    failed = GpuReading(uuid="G", index=0, failures={"power": "nvml_unknown"})
    assert plausible(failed, before).power_mw == 300_000
    assert plausible(failed).power_mw is None
    garbage = replace(before, power_average=(9, 2**32 - 1))
    assert plausible(garbage, before).power_average == (9, 290_000)


def test_a_limit_that_is_none() -> None:
    assert [power_limit_mw(mw) for mw in (None, 0, 1, 2**32 - 1, 700_000)] == [None, None, None, None, 700_000]
