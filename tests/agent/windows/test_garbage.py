"""Whatever GPUs answer: never more energy than the board can use in the time, never more time than has passed, and every
batch is one that a collector takes."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tokenyield_agent.gpu.plausible import plausible, power_bound_mw
from tokenyield_agent.gpu.reading import GpuReading, Snapshot
from tokenyield_agent.windows.builder import WindowBuilder
from tokenyield_agent.windows.energy import COUNTER_LAG_MS, SENSOR_LAG_MS
from tokenyield_agent.windows.gpu_tracker import GpuTracker
from tokenyield_agent.workloads.binding import Holding
from tokenyield_wire.window import faults_of_batch

GAP_MS_MAX, LIMIT_MW = 3_000, 700_000
LAG_MS = {
    "counter": COUNTER_LAG_MS,
    "samples": GAP_MS_MAX,
    "average": SENSOR_LAG_MS,
    "instant": SENSOR_LAG_MS,
    "power": 0,
}
"""By how much a method may go beyond the span: what it reports may lie before the poll."""
GARBAGE = st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**52, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)
ENERGY = st.none() | GARBAGE | st.integers(0, 10**7)
POWER = st.none() | GARBAGE | st.integers(0, 2 * LIMIT_MW)
STAMPS = GARBAGE | st.integers(0, 20_000_000)
STAMPED = st.tuples(STAMPS, GARBAGE | st.integers(0, LIMIT_MW))
BELOW = st.integers(0, power_bound_mw(LIMIT_MW))
READINGS = st.builds(
    GpuReading,
    uuid=st.just("G"),
    index=st.just(0),
    energy_mj=ENERGY,
    power_mw=POWER,
    power_max_mw=st.just(LIMIT_MW),
    power_average=st.none() | STAMPED,
    power_instant=st.none() | STAMPED,
    power_samples=st.none() | st.lists(st.tuples(STAMPS, BELOW), max_size=5).map(lambda s: tuple(sorted(s))),
    utilization_percent=st.none() | GARBAGE | st.integers(0, 100),
    memory_used_mib=st.none() | GARBAGE,
    temperature_c=st.none() | GARBAGE,
    core_clock_mhz=st.none() | GARBAGE,
    core_clock_max_mhz=st.none() | GARBAGE,
    throttle_reasons=st.none() | st.just(("sw_power_cap",)),
)
POLLS = st.lists(
    st.tuples(st.sampled_from([1, 100, 1_000, 1_000, 2_999, 3_001, 60_000]), st.none() | READINGS),
    min_size=2,
    max_size=12,
)


def joined(readings: list[GpuReading | None]) -> list[GpuReading | None]:
    """Each one's samples begin with the last of the one before, as a reader's do."""
    last: tuple[int, int] | None = None
    joint = []
    for reading in readings:
        if reading is not None and reading.power_samples:
            samples = reading.power_samples if last is None else (last, *reading.power_samples)
            reading = replace(reading, power_samples=samples)
            last = samples[-1]
        joint.append(reading)
    return joint


@settings(max_examples=300)
@given(POLLS)
def test_no_answer_makes_energy_or_time_out_of_nothing(polls: list[tuple[int, GpuReading | None]]) -> None:
    tracker, builder = GpuTracker({}, {}), WindowBuilder(length_ms=15_000, settle_ms=0)
    start_ms = 1_795_435_200_000
    builder.jump(start_ms)
    now_ms, allowed_mj, before = 0, 0, None
    for (duration_ms, _), raw in zip(polls, joined([raw for _, raw in polls]), strict=True):
        now_ms += duration_ms
        gpu = None if raw is None else plausible(raw, before)
        before = gpu or before
        snapshot = Snapshot(gpus=(gpu,)) if gpu else Snapshot(lost={"G": "nvml_unknown"})
        read, lost = tracker.spans(
            snapshot, {"G": Holding(held=True, weights={"w": 1})}, duration_ms=duration_ms, gap_ms_max=GAP_MS_MAX,
            now_ms=now_ms,
        )  # fmt: skip
        builder.extend(start_ms + now_ms, [*read, *lost])
        tracker.remember(snapshot, now_ms)
        allowed_mj += sum(
            power_bound_mw(LIMIT_MW) * LAG_MS[span.energy.method] // 1000 + 1 for span in read if span.energy
        )
    batches = builder.batches(builder.ready(flush=True), {}, 1)
    assert not [fault for batch in batches for fault in faults_of_batch(batch, "")]
    used_mj = sum(gpu.energy_mj.total() for batch in batches for gpu in batch.gpus)
    assert used_mj <= power_bound_mw(LIMIT_MW) * now_ms // 1000 + allowed_mj
    for batch in batches:
        assert all((window.utilization_ms or 0) <= batch.end_ms - batch.start_ms for window in batch.gpus)


def reading(energy_mj: int | None, power_mw: int | None = 300_000) -> GpuReading:
    return GpuReading(
        uuid="G", index=0, energy_mj=energy_mj, power_mw=power_mw, power_max_mw=LIMIT_MW, utilization_percent=50
    )


def used(counters: Sequence[int | None]) -> tuple[list[tuple[str, int]], dict[str, int]]:
    """(method, mJ) of each span, a second long, and the faults that were counted."""
    tracker, energies = GpuTracker({}, {}), []
    for second, counter_mj in enumerate(counters):
        snapshot = Snapshot(gpus=(plausible(reading(counter_mj)),))
        read, _ = tracker.spans(
            snapshot, {"G": Holding(held=True)}, duration_ms=1000, gap_ms_max=GAP_MS_MAX, now_ms=1000 * second
        )
        tracker.remember(snapshot, 1000 * second)
        energies += [(span.energy.method, span.energy.mj) for span in read if span.energy]
    return energies, dict(tracker.faults)


BASE = 1_000_000_000
COUNTER, POWER_SPAN = ("counter", 300_000), ("power", 300_000)


def test_a_counter_that_reads_0_once() -> None:
    energies, faults = used([BASE, BASE + 300_000, 0, BASE + 900_000, BASE + 1_200_000])
    assert energies == [COUNTER, POWER_SPAN, POWER_SPAN, COUNTER]
    assert faults == {"implausible_energy": 1}


def test_a_counter_that_reads_2_64_once() -> None:
    energies, faults = used([BASE, BASE + 300_000, 2**64 - 1, BASE + 900_000, BASE + 1_200_000])
    assert energies == [COUNTER, POWER_SPAN, POWER_SPAN, COUNTER]
    assert faults == {}, "the reading itself is counted, see GpuReading.failures"


def test_a_counter_that_jumps_goes_on_from_where_it_is() -> None:
    energies, faults = used([BASE, 2 * BASE, 2 * BASE + 300_000, 2 * BASE + 600_000])
    assert energies == [POWER_SPAN, COUNTER, COUNTER]
    assert faults == {"implausible_energy": 1}


def test_a_counter_that_goes_back_was_reset() -> None:
    energies, faults = used([BASE, 10, 300_010])
    assert (energies, faults) == ([POWER_SPAN, COUNTER], {})


def test_a_counter_that_stands_still_while_power_is_drawn() -> None:
    energies, faults = used([BASE] * 9 + [BASE + 2_400_000, BASE + 2_700_000])
    assert energies == [("counter", 0)] * 4 + [POWER_SPAN] * 5 + [COUNTER]
    assert faults == {"stuck_energy": 1, "implausible_energy": 1}


def test_a_gpu_that_was_away_has_what_it_can_have_used_meanwhile() -> None:
    tracker = GpuTracker({"G": None}, {"G": BASE}, {"G": 1_000})
    for grew_mj, believed in ((300_000 * 60, True), (3_000_000 * 60, False)):
        (span,) = tracker.spans_of_absence(Snapshot(gpus=(reading(BASE + grew_mj),)), is_same_boot=True, now_ms=61_000)
        assert (span.energy is not None) == believed
    assert tracker.faults == {"implausible_energy": 1}


def test_a_reading_that_waited_for_another_gpu_has_its_own_age() -> None:
    """The second GPU hung for 2.9 s after this one was read, and the next poll came at once."""
    tracker = GpuTracker({}, {})
    first = replace(reading(BASE), energy_read_ms=0)
    tracker.remember(Snapshot(gpus=(first,)), 2_900)
    second = replace(reading(BASE + 290_000 * 3), energy_read_ms=2_950)
    ((span,), _) = tracker.spans(
        Snapshot(gpus=(second,)), {"G": Holding(held=True)}, duration_ms=50, gap_ms_max=GAP_MS_MAX, now_ms=2_950
    )
    assert span.energy is not None
    assert span.energy.mj == 870_000
