"""Whatever the driver answers, call by call and second by second, through the true binding: a reader never raises, the
GPU beside it is read on, and no joule is made of nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pynvml as nvml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.gpu.nvidia.conftest import Clock
from nvml.stand_in import Scenario, gpu_lines
from tokenyield_agent.gpu.nvidia.reader import NvmlReader
from tokenyield_agent.gpu.plausible import power_bound_mw
from tokenyield_agent.gpu.reading import Snapshot
from tokenyield_agent.windows.gpu_tracker import GpuTracker
from tokenyield_agent.windows.span import GpuSpan
from tokenyield_agent.workloads.binding import Holding

SECONDS, LIMIT_MW = 12, 700_000
LAG_S = 4
"""By which a method may go beyond a span, at most (a sensor's buffer)."""
AT = st.integers(0, SECONDS)
NUMBER = st.sampled_from(
    ["0", "1", str(2**31), str(2**32 - 1), str(2**63), str(2**64 - 1), "nan", "inf"]
) | st.integers(0, 2**64 - 1).map(str)
CODE = st.sampled_from(
    sorted(code for name, code in vars(nvml).items() if name.startswith("NVML_ERROR_") and isinstance(code, int))
) | st.integers(-1000, 10**6).filter(lambda code: code not in (0, -1))  # of the stand-in: none, and a hang
CALL = st.sampled_from(
    "energy power util memory temp clock throttle procs procutil samples gpm events fields open uuid name mig limit".split()
)
SHOWN = st.sampled_from(
    "energy power util used memory temp clock procs procmem procutil samples average instant limit gpm stamp slices".split()
)
STATEMENT = st.one_of(
    st.builds("fault 0 {} {} {}".format, AT, AT, CODE),
    st.builds("fault 0 {} {} {} {}".format, AT, AT, CODE, CALL),
    st.builds("value 0 {} {} {} {}".format, AT, AT, SHOWN, NUMBER),
    st.builds("unsupported 0 {}".format, CALL),
    st.builds("xid 0 {} {}".format, AT, st.integers(0, 2**63 - 1)),
    st.builds("queue {} {} {}".format, AT, AT, CODE),
    st.builds("reload {}".format, AT),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(STATEMENT, max_size=8), st.booleans())
def test_no_answer_ends_a_reader_or_makes_energy(
    reader: NvmlReader,
    scenario: Scenario,
    later: Callable[[float], None],
    clock: Clock,
    tmp_path: Path,
    statements: list[str],
    is_divided: bool,
) -> None:
    own, beside = gpu_lines(0, pid=7), gpu_lines(1)
    scenario.restart(
        [own[0] + " mig" * is_divided, *own[1:], "proc 0 8 10 5 0 100 1", "mig 0 1 3 500 0 0 10", *beside, *statements]
    )
    under_test, tracker = NvmlReader(clock, proc_root=str(tmp_path)), GpuTracker({}, {})
    used_mj = 0
    for second in range(SECONDS):
        snapshot = _with_the_tests_clock(under_test.read())
        assert beside[0].split()[2] in {gpu.uuid for gpu in snapshot.gpus}
        assert len(snapshot.gpus) + len(snapshot.lost) == 2
        spans = _spans(tracker, snapshot, second * 1000)
        used_mj += sum(span.energy.mj for span in spans if span.energy and span.uuid.startswith("GPU-00000000"))
        later(1)
    under_test.close()
    assert used_mj <= power_bound_mw(_limit_mw(statements)) * SECONDS * (1 + LAG_S)


def _with_the_tests_clock(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, gpus=tuple(replace(gpu, energy_read_ms=None) for gpu in snapshot.gpus))


def _spans(tracker: GpuTracker, snapshot: Snapshot, now_ms: int) -> list[GpuSpan]:
    held = {gpu.uuid: Holding(held=True) for gpu in snapshot.gpus}
    read, lost = tracker.spans(snapshot, held, duration_ms=1000, gap_ms_max=3000, now_ms=now_ms)
    tracker.remember(snapshot, now_ms)
    return [*read, *lost]


def _limit_mw(statements: list[str]) -> int | None:
    """Where the limit is garbage, or cannot be read, the bound is that of any board."""
    is_odd = any("limit" in line or "power" in line or line.startswith("fault") for line in statements)
    return None if is_odd else LIMIT_MW
