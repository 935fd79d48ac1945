"""GPUs that answer with errors, garbage and names that are none, on the stand-in: recorded cases, and every call with
every code."""

import ctypes
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pynvml as nvml
import pytest

from agent.gpu.nvidia.conftest import Clock
from nvml.stand_in import Scenario, gpu_lines
from tokenyield_agent.gpu.nvidia.faults import DRIVER_FAULTS, GPU_FAULTS
from tokenyield_agent.gpu.nvidia.reader import NvmlReader
from tokenyield_agent.gpu.reading import Snapshot
from tokenyield_agent.windows.gpu_tracker import GpuTracker
from tokenyield_agent.workloads.binding import Holding

ONE, TWO = "GPU-00000000-stand-in", "GPU-00000001-stand-in"
Later = Callable[[float], None]
_NAMED = {code for name, code in vars(nvml).items() if name.startswith("NVML_ERROR_") and isinstance(code, int)}
CODES = sorted(_NAMED | {12345})
CALLS = (
    "energy", "power", "util", "memory", "temp", "clock", "throttle", "procs", "procutil", "samples", "gpm", "events",
    "fields", "open", "uuid", "name", "mig", "limit",
)  # fmt: skip
UINT_MAX, ULONG_MAX = 2**32 - 1, 2**64 - 1


def uuids(snapshot: Snapshot) -> list[str]:
    return [gpu.uuid for gpu in snapshot.gpus]


@pytest.fixture
def inits(nvml_library: Path) -> Callable[[], int]:
    """How often NVML was initialised in this process."""
    count: Callable[[], int] = ctypes.CDLL(str(nvml_library)).stand_in_inits
    return count


# --- recorded cases ----------------------------------------------------------------------------------------------


def test_a_name_that_is_not_utf_8(reader: NvmlReader, scenario: Scenario, fixtures: Path) -> None:
    scenario.restart_from(fixtures / "nvml" / "name-not-utf8.scenario")
    snapshot = reader.read()
    assert [gpu.model for gpu in snapshot.gpus] == ["NVIDIA H100 80GB HBM3", "\ufffdNVIDIA"]
    assert (snapshot.lost, reader.faults) == ({}, {})


def test_an_unknown_error_in_the_middle_of_a_run(
    reader: NvmlReader, scenario: Scenario, fixtures: Path, later: Later
) -> None:
    scenario.restart_from(fixtures / "nvml" / "unknown-error-midrun.scenario")
    assert uuids(reader.read()) == [ONE, TWO]
    later(3)
    for _ in range(3):
        snapshot = reader.read()
        assert (uuids(snapshot), snapshot.lost) == ([ONE], {TWO: "nvml_unknown"})
    assert reader.faults == {"nvml_unknown": 1}


def test_no_permission_for_a_moment(
    reader: NvmlReader, scenario: Scenario, fixtures: Path, later: Later, caplog: pytest.LogCaptureFixture
) -> None:
    scenario.restart_from(fixtures / "nvml" / "noperm-for-a-moment.scenario")
    reader.read()
    later(3)
    assert reader.read().lost == {TWO: "nvml_no_permission"}
    later(2)
    back = reader.read()
    assert (uuids(back), back.lost, back.gpus[1].failures) == ([ONE, TWO], {}, {})
    other, again = back.gpus
    nothing_forgotten = replace(
        again,
        uuid=ONE,
        index=0,
        device_number=0,
        energy_mj=other.energy_mj,
        energy_read_ms=other.energy_read_ms,
        activity=None,
    )
    assert nothing_forgotten == replace(other, activity=None)
    assert sum("cannot be read" in message for message in caplog.messages) == 1


def test_a_gpu_that_cannot_be_opened_is_shown_and_costs_the_others_nothing(
    reader: NvmlReader, scenario: Scenario, fixtures: Path, later: Later, inits: Callable[[], int]
) -> None:
    scenario.restart_from(fixtures / "nvml" / "one-gpu-cannot-be-opened.scenario")
    snapshot, begun = reader.read(), inits()
    for _ in range(200):
        assert (uuids(snapshot), snapshot.lost) == ([ONE], {"index-1": "nvml_unknown"})
        later(30)
        snapshot = reader.read()
    assert inits() == begun, "NVML was not initialised again"
    assert reader.faults == {"nvml_unknown": 1}


def test_garbage_power_is_not_integrated(reader: NvmlReader, scenario: Scenario, fixtures: Path, later: Later) -> None:
    scenario.restart_from(fixtures / "nvml" / "garbage-power.scenario")
    powers = []
    for _ in range(8):
        powers.append(reader.read().gpus[0].power_mw)
        later(1)
    assert powers == [300_000] * 8, "the last one stands for what cannot be"
    assert reader.faults == {"implausible_power": 1}


# --- every call, every code --------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
def test_every_code_in_the_middle_of_a_run_costs_one_gpu_and_only_while_it_lasts(
    reader: NvmlReader, scenario: Scenario, later: Later, code: int
) -> None:
    scenario.restart([*gpu_lines(0, pid=1), *gpu_lines(1, pid=2), f"fault 1 3 6 {code}"])
    first = reader.read()
    later(3)
    for _ in range(3):
        snapshot = reader.read()
        assert uuids(snapshot) == [ONE]
        assert set(snapshot.lost) == {TWO}
    (reason,) = reader.faults
    assert reason == GPU_FAULTS.get(code, reason)
    later(3)
    back = reader.read()
    assert (uuids(back), back.lost) == ([ONE, TWO], {})
    for name in ("utilization_percent", "power_mw", "memory_used_mib", "temperature_c", "core_clock_mhz", "processes"):
        assert getattr(back.gpus[1], name) == getattr(first.gpus[1], name) is not None


@pytest.mark.parametrize("code", CODES)
def test_every_code_at_the_start_is_tried_again_without_starting_over(
    reader: NvmlReader, scenario: Scenario, later: Later, inits: Callable[[], int], code: int
) -> None:
    scenario.restart([*gpu_lines(0, pid=1), *gpu_lines(1, pid=2), f"fault 1 0 20 {code}"])
    snapshot, begun = reader.read(), inits()
    assert (uuids(snapshot), len(snapshot.lost)) == ([ONE], 1)
    for _ in range(40):
        later(1)
        snapshot = reader.read()
    assert (uuids(snapshot), snapshot.lost) == ([ONE, TWO], {})
    assert inits() == begun


@pytest.mark.parametrize("call", CALLS)
def test_one_call_that_fails_with_whatever_code_is_not_forgotten(
    scenario: Scenario, reader: NvmlReader, later: Later, clock: Clock, tmp_path: Path, call: str
) -> None:
    """Begun with the fault, it is whole within the time of a probe; fallen into it, at once."""
    scenario.restart([*gpu_lines(0, pid=1), "proc 0 2 100 10 0 1000000", "sm 0 0 500"])
    reader.read()
    later(1)
    (whole,) = reader.read().gpus
    expected = {name for name in whole.__slots__ if getattr(whole, name) is not None}
    reader.close()
    for code in CODES:
        for begin in (0, 2):
            again = NvmlReader(clock, proc_root=str(tmp_path))
            scenario.restart(
                [*gpu_lines(0, pid=1), "proc 0 2 100 10 0 1000000", "sm 0 0 500", f"fault 0 {begin} 4 {code} {call}"]
            )
            for _ in range(5):
                snapshot = again.read()
                assert len(snapshot.gpus) + len(snapshot.lost) == 1 or snapshot.problem
                later(1)
            later(10 if begin else 700)
            for _ in range(70 if call == "gpm" else 3):
                snapshot = again.read()
                later(0.1)
            (gpu,) = snapshot.gpus
            assert gpu.failures == {}, (code, begin)
            missing = {name for name in expected if getattr(gpu, name) is None} - {"activity"}
            assert not missing, (code, begin)
            again.close()


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("begin", [0, 3])
def test_a_driver_that_answers_every_call_with_whatever_code_comes_back(
    reader: NvmlReader, scenario: Scenario, later: Later, code: int, begin: int
) -> None:
    scenario.restart([*gpu_lines(0), *gpu_lines(1), f"driver {begin} 50 {code}"])
    reader.read()
    later(begin)
    for _ in range(20):
        snapshot = reader.read()
        assert (snapshot.gpus, set(snapshot.lost)) == ((), {ONE, TWO} if begin else set())
        assert snapshot.problem or snapshot.lost
        later(2)
    later(60)
    snapshot = reader.read()
    assert (uuids(snapshot), snapshot.lost, snapshot.problem) == ([ONE, TWO], {}, None)


@pytest.mark.parametrize("code", sorted(DRIVER_FAULTS))
def test_one_gpu_that_speaks_for_the_driver_does_not_cost_the_others(
    reader: NvmlReader, scenario: Scenario, later: Later, inits: Callable[[], int], code: int
) -> None:
    scenario.restart([*gpu_lines(0), *gpu_lines(1), f"fault 1 1 100000 {code}"])
    reader.read()
    begun = inits()
    later(1)
    for _ in range(20):
        snapshot = reader.read()
        assert (uuids(snapshot), snapshot.problem) == ([ONE], None)
        later(1)
    assert inits() == begun


def test_a_lost_gpu_makes_nvml_start_again_ever_less_often(
    reader: NvmlReader, scenario: Scenario, later: Later, inits: Callable[[], int]
) -> None:
    scenario.restart([*gpu_lines(0), *gpu_lines(1), "fault 1 1 1000000 15 util"])
    reader.read()
    begun = inits()
    for _ in range(2 * 1440):
        later(30)
        assert reader.read().lost == {TWO: "gpu_lost"}
    assert inits() - begun <= 7 + 24, "once an hour in the end, not every 30 s"


# --- names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"\xff\xfe", b"A\x07\x1b[2J", b"\xf0\x9f"])
def test_a_uuid_that_is_not_text(reader: NvmlReader, scenario: Scenario, name: bytes) -> None:
    scenario.restart(gpu_lines(1))
    scenario.path.write_bytes(
        scenario.path.read_bytes().replace(b"GPU-00000001-stand-in", b"GPU-" + name) + "\n".join(gpu_lines(0)).encode()
    )
    odd, whole = sorted(uuids(reader.read()), key=lambda uuid: "\ufffd" not in uuid)
    assert (odd.isprintable(), whole) == (True, ONE)


def test_two_gpus_of_one_uuid_are_one_gpu_and_one_fault(
    reader: NvmlReader, scenario: Scenario, later: Later, inits: Callable[[], int]
) -> None:
    scenario.restart([*gpu_lines(0), *(line.replace(TWO, ONE) for line in gpu_lines(1))])
    snapshot, begun = reader.read(), inits()
    for _ in range(10):
        assert (uuids(snapshot), snapshot.lost) == ([ONE], {"index-1": "same_uuid"})
        later(60)
        snapshot = reader.read()
    assert inits() == begun


def test_a_gpu_without_a_uuid_is_shown(reader: NvmlReader, scenario: Scenario) -> None:
    scenario.restart([*gpu_lines(0), *(line.replace(TWO, "-") for line in gpu_lines(1))])
    snapshot = reader.read()
    assert (uuids(snapshot), snapshot.lost, snapshot.lost_indices) == ([ONE], {"index-1": "no_uuid"}, {"index-1": 1})


def test_a_gpu_that_was_known_and_cannot_be_opened_keeps_its_name(
    reader: NvmlReader, scenario: Scenario, later: Later, clock: Clock, tmp_path: Path
) -> None:
    scenario.restart([*gpu_lines(0), *gpu_lines(1), "fault 1 5 1000 999", "driver 6 7 9"])
    reader.read()
    for seconds in (5, 1, 10):
        later(seconds)
        snapshot = reader.read()
    assert snapshot.lost == {TWO: "nvml_unknown"}, "this reader knows which one it was"
    again = NvmlReader(clock, proc_root=str(tmp_path), known_uuids=[ONE, TWO])
    assert again.read().lost == {TWO: "gone"}, "another run knows that it is missing, and counts it once"
    again.close()


# --- garbage values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "field", "fault"),
    [
        ("energy", ULONG_MAX, "energy_mj", "energy"),
        ("util", 101, "utilization_percent", "utilization"),
        ("util", UINT_MAX, "utilization_percent", "utilization"),
        ("used", (81_560 << 20), "memory_used_mib", "memory"),
        ("used", ULONG_MAX, "memory_used_mib", "memory"),
        ("memory", 0, "memory_total_mib", "memory"),
        ("memory", ULONG_MAX, "memory_total_mib", "memory"),
        ("temp", UINT_MAX - 4, "temperature_c", "temperature"),
        ("temp", 200, "temperature_c", "temperature"),
        ("clock", UINT_MAX, "core_clock_mhz", "clock"),
    ],
)
def test_a_value_that_no_board_can_have_is_unknown_and_counted(
    reader: NvmlReader, scenario: Scenario, later: Later, kind: str, value: int, field: str, fault: str
) -> None:
    scenario.restart([*gpu_lines(0, pid=1), f"value 0 1 3 {kind} {value}"])
    before = getattr(reader.read().gpus[0], field)
    later(1)
    for _ in range(3):
        (gpu,) = reader.read().gpus
        assert getattr(gpu, field) is None
        assert gpu.failures[fault] == "implausible"
    later(2)
    (gpu,) = reader.read().gpus
    assert (gpu.failures, reader.faults) == ({}, {f"implausible_{fault}": 1})
    assert field == "energy_mj" or getattr(gpu, field) == before


@pytest.mark.parametrize("limit", [0, 1, UINT_MAX])
def test_a_power_limit_that_is_none_leaves_a_bound(
    reader: NvmlReader, scenario: Scenario, later: Later, limit: int
) -> None:
    scenario.restart([*gpu_lines(0), f"value 0 0 100 limit {limit}", f"value 0 1 2 power {UINT_MAX}",
                      "unsupported 0 energy", "unsupported 0 fields", "unsupported 0 samples"])  # fmt: skip
    (gpu,) = reader.read().gpus
    assert (gpu.power_max_mw, gpu.power_mw) == (None, 300_000)
    later(1)
    assert reader.read().gpus[0].failures == {"power": "implausible"}


@pytest.mark.parametrize("kind", ["average", "instant"])
def test_garbage_power_of_a_field(reader: NvmlReader, scenario: Scenario, later: Later, kind: str) -> None:
    missing = {"average": ("energy",), "instant": ("energy", "samples", "average")}[kind]
    scenario.restart([*gpu_lines(0), *(f"unsupported 0 {name}" for name in missing), f"value 0 1 2 {kind} {UINT_MAX}"])
    before = getattr(reader.read().gpus[0], f"power_{kind}")
    later(1)
    (gpu,) = reader.read().gpus
    held = getattr(gpu, f"power_{kind}")
    assert gpu.failures == {"power": "implausible"}
    assert (held[1], held[0] > before[0], gpu.power_mw) == (300_000, True, 300_000)
    later(5)
    scenario_over = reader.read().gpus[0]
    assert scenario_over.failures == {}


def test_a_process_of_garbage_still_holds_its_gpu(reader: NvmlReader, scenario: Scenario, later: Later) -> None:
    scenario.restart([*gpu_lines(0, pid=7), "proc 0 8 100 10 0 1000000", f"value 0 0 9 procs {UINT_MAX}",
                      f"value 0 0 9 procmem {ULONG_MAX - 1}", f"value 0 0 9 procutil {UINT_MAX}"])  # fmt: skip
    (gpu,) = reader.read().gpus
    assert [(one.pid, one.memory_mib, one.compute_percent) for one in gpu.processes or ()] == [(0, None, None)] * 2
    assert gpu.failures == {"processes": "implausible"}


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "1e300", "102"])
def test_gpm_that_is_no_number_is_unknown(reader: NvmlReader, scenario: Scenario, later: Later, value: str) -> None:
    scenario.restart([*gpu_lines(0), "sm 0 0 500", f"value 0 0 100 gpm {value}"])
    reader.read()
    later(1)
    activity = reader.read().gpus[0].activity
    assert activity is not None
    assert (activity.compute_bp, activity.matrix_bp, activity.memory_bandwidth_bp) == (None, None, None)


@pytest.mark.parametrize("slices", [0, UINT_MAX])
def test_an_instance_of_no_size_is_left_out(reader: NvmlReader, scenario: Scenario, slices: int) -> None:
    scenario.restart([gpu_lines(0)[0] + " mig", *gpu_lines(0)[1:], "mig 0 1 3", f"value 0 0 100 slices {slices}"])
    for _ in range(2):
        (gpu,) = reader.read().gpus
        assert (gpu.partitions, gpu.is_partitioned) == ({}, True)


@pytest.mark.parametrize("stamp", [0, 1, ULONG_MAX // 4, ULONG_MAX])
def test_samples_of_another_time_are_followed_by_the_true_ones(
    reader: NvmlReader, scenario: Scenario, later: Later, stamp: int
) -> None:
    scenario.restart([*gpu_lines(0), "unsupported 0 energy", "unsupported 0 average", f"value 0 2 3 stamp {stamp}"])
    seen = []
    for _ in range(16):
        seen.append(reader.read().gpus[0].power_samples or ())
        later(0.5)
    assert all(len(samples) > 1 for samples in seen[-3:])
    assert all(b[0] - a[0] < 3e6 for samples in seen[-3:] for a, b in itertools.pairwise(samples))


@pytest.mark.parametrize("way", ["energy", "fields"])
def test_a_slow_counter_is_counted_whole_and_once(
    reader: NvmlReader, scenario: Scenario, clock: Clock, way: str
) -> None:
    """It is read less and less often; in between it stands still, and then makes a leap."""
    scenario.restart([*gpu_lines(0), f"slow 0 {way} 0.2 1000 15", *(["unsupported 0 fields"] * (way == "energy"))])
    tracker, used_mj, before_s = GpuTracker({}, {}), 0, clock()
    tracker.remember(reader.read(), int(before_s * 1000))
    began_s = before_s
    while before_s - began_s < 7:
        clock.sleep(0.1)
        snapshot, now_s = reader.read(), clock()
        duration_ms, now_ms = round((now_s - before_s) * 1000), int(now_s * 1000)
        held = {ONE: Holding(held=True)}
        (spans, _) = tracker.spans(snapshot, held, duration_ms=duration_ms, gap_ms_max=3000, now_ms=now_ms)
        used_mj += sum(span.energy.mj for span in spans if span.energy)
        tracker.remember(snapshot, now_ms)
        before_s = now_s
    read_s = (tracker.counters_read_ms[ONE] / 1000) - began_s
    assert tracker.faults == {}
    assert used_mj == pytest.approx(300_000 * read_s, rel=0.05)


# --- modules -----------------------------------------------------------------------------------------------------


def test_the_counter_of_a_grace_hopper_module_is_not_the_gpus(reader: NvmlReader, scenario: Scenario) -> None:
    scenario.restart([line.replace("NVIDIA_H100_80GB_HBM3", "NVIDIA_GH200_480GB") for line in gpu_lines(0)])
    for _ in range(2):
        (gpu,) = reader.read().gpus
        assert gpu.energy_mj is None
        assert gpu.power_average is not None
