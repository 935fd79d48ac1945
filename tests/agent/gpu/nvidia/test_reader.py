"""The true nvidia-ml-py binding on the C stand-in."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.gpu.nvidia.conftest import Clock
from nvml.stand_in import Scenario, gpu_lines
from tokenyield_agent.gpu.nvidia.reader import RESCAN_S, NvmlReader
from tokenyield_agent.gpu.reading import GpuProcess, GpuReading, Snapshot


def only(snapshot: Snapshot) -> GpuReading:
    (gpu,) = snapshot.gpus
    return gpu


def test_every_field(reader: NvmlReader, scenario: Scenario, clock: Clock) -> None:
    scenario.restart([*gpu_lines(0, pid=4242), "throttle 0 0 36"])
    clock.sleep(2)
    gpu = only(reader.read())
    assert (gpu.uuid, gpu.model, gpu.index) == ("GPU-00000000-stand-in", "NVIDIA H100 80GB HBM3", 0)
    assert (gpu.power_mw, gpu.utilization_percent, gpu.temperature_c) == (300_000, 95, 60)
    assert (gpu.memory_used_mib, gpu.memory_total_mib) == (70_000, 81_559)
    assert (gpu.core_clock_mhz, gpu.core_clock_max_mhz, gpu.is_partitioned) == (1980, 1980, False)
    assert gpu.throttle_reasons == ("sw_power_cap", "sw_thermal")
    assert gpu.energy_mj == pytest.approx(1_000_000 + 2 * 300_000, abs=1)
    ((process),) = gpu.processes or ()
    assert (process.pid, process.memory_mib, process.compute_percent) == (4242, 70_000, None)


@pytest.mark.parametrize(
    ("field", "absent"),
    [
        ("energy", "energy_mj"),
        ("power", "power_mw"),
        ("util", "utilization_percent"),
        ("memory", "memory_used_mib"),
        ("temp", "temperature_c"),
        ("clock", "core_clock_mhz"),
        ("throttle", "throttle_reasons"),
        ("procs", "processes"),
    ],
)
def test_a_field_that_is_not_supported_is_absent(
    reader: NvmlReader, scenario: Scenario, field: str, absent: str
) -> None:
    scenario.restart([*gpu_lines(0, pid=1), f"unsupported 0 {field}"])
    for _ in range(2):
        gpu = only(reader.read())
        assert getattr(gpu, absent) is None
    assert gpu.model is not None


@pytest.mark.parametrize(("minor", "number"), [(3, 3), (0, 0), (255, 255), (256, None), (2**32 - 1, None)])
def test_the_number_of_the_device_file_is_not_the_index(
    reader: NvmlReader, scenario: Scenario, minor: int, number: int | None
) -> None:
    scenario.restart([*gpu_lines(0), f"minor 0 {minor}"])
    assert only(reader.read()).device_number == number


def test_utilization_is_absent_under_mig(reader: NvmlReader, scenario: Scenario) -> None:
    scenario.restart([gpu_lines(0)[0] + " mig", *gpu_lines(0)[1:]])
    gpu = only(reader.read())
    assert (gpu.is_partitioned, gpu.utilization_percent) == (True, None)


def test_mig_devices_and_who_runs_on_which(reader: NvmlReader, scenario: Scenario) -> None:
    scenario.restart(
        [gpu_lines(0)[0] + " mig", *gpu_lines(0)[1:], "mig 0 1 3", "mig 0 5 2", "proc 0 77 900 0 0 1000000 5"]
    )
    gpu = only(reader.read())
    assert {number: one.slices for number, one in gpu.partitions.items()} == {1: 3, 5: 2}
    assert gpu.processes == (GpuProcess(pid=77, memory_mib=900, partition=5),)


def test_processes_that_share_a_gpu_have_their_sm_time(reader: NvmlReader, scenario: Scenario) -> None:
    scenario.restart([*gpu_lines(0), "proc 0 11 4000 60 0 99", "proc 0 12 1000 20 0 99", "proc 0 13 500 0 0 99"])
    processes = only(reader.read()).processes or ()
    assert {p.pid: p.compute_percent for p in processes} == {11: 60, 12: 20, 13: None}


def test_a_gpu_that_is_lost_while_an_agent_starts_is_not_forgotten(
    reader: NvmlReader, scenario: Scenario, clock: Clock, tmp_path: Path
) -> None:
    scenario.restart([*gpu_lines(0), *gpu_lines(1), "fault 1 0 0.3 15"])
    again = NvmlReader(clock, proc_root=str(tmp_path), known_uuids=["GPU-00000001-stand-in"])
    try:
        first = again.read()
        assert [gpu.uuid for gpu in first.gpus] == ["GPU-00000000-stand-in"]
        assert first.lost == {"GPU-00000001-stand-in": "gone"}
        clock.sleep(0.3 + RESCAN_S)
        back = again.read()
        assert (len(back.gpus), back.lost) == (2, {})
    finally:
        again.close()


@pytest.mark.parametrize(("code", "reason"), [(15, "gpu_lost"), (16, "reset_required")])
def test_a_lost_gpu_is_reported_once_counted_and_found_again(
    reader: NvmlReader, scenario: Scenario, clock: Clock, code: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    scenario.restart([*gpu_lines(0), *gpu_lines(1), f"fault 1 2 5 {code}"])
    assert len(reader.read().gpus) == 2
    clock.sleep(3)
    for _ in range(3):
        snapshot = reader.read()
        assert [gpu.index for gpu in snapshot.gpus] == [0]
        assert snapshot.lost == {"GPU-00000001-stand-in": reason}
    assert sum("cannot be read" in message for message in caplog.messages) == 1
    assert reader.faults == {reason: 1}
    clock.sleep(60)
    assert len(reader.read().gpus) == 2


def test_a_driver_that_goes_and_comes_back(
    reader: NvmlReader, scenario: Scenario, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    scenario.restart([*gpu_lines(0), "driver 2 30 9", "reload 30"])
    first = only(reader.read())
    clock.sleep(3)
    for _ in range(3):
        clock.sleep(6)
        snapshot = reader.read()
        assert (snapshot.gpus, snapshot.lost) == ((), {first.uuid: "driver_down"})
        assert "Driver Not Loaded" in (snapshot.problem or "")
    assert reader.faults == {"driver": 1}
    assert sum("GPUs cannot be read" in message for message in caplog.messages) == 1
    clock.sleep(10)
    back = only(reader.read())
    assert (back.energy_mj or 0) < (first.energy_mj or 0), "the reloaded driver counts from 0"


def test_a_driver_that_comes_up_late(reader: NvmlReader, scenario: Scenario, clock: Clock) -> None:
    scenario.restart([*gpu_lines(0), "driver 0 0.2 18"])
    assert "differ in version" in (reader.read().problem or "")
    clock.sleep(0.25)
    assert reader.read().gpus == (), "not tried again at once"
    clock.sleep(6)
    assert only(reader.read()).index == 0


def test_hot_plug(reader: NvmlReader, scenario: Scenario, clock: Clock, tmp_path: Path) -> None:
    listed = tmp_path / "driver" / "nvidia" / "gpus"
    (listed / "0000:01:00.0").mkdir(parents=True)
    scenario.restart([*gpu_lines(0), *gpu_lines(1), "present 1 0.2 0.5"])
    assert len(reader.read().gpus) == 1
    clock.sleep(0.25)
    (listed / "0000:02:00.0").mkdir()
    assert len(reader.read().gpus) == 2
    clock.sleep(0.3)
    (listed / "0000:02:00.0").rmdir()
    snapshot = reader.read()
    assert [gpu.index for gpu in snapshot.gpus] == [0]
    assert snapshot.lost == {"GPU-00000001-stand-in": "gone"}


def test_without_a_driver_library_the_fix_is_named(tmp_path: Path) -> None:
    code = (
        "import json; from tokenyield_agent.gpu.nvidia.reader import NvmlReader; s = NvmlReader().read(); "
        "print(json.dumps([len(s.gpus), s.problem]))"
    )
    environ = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environ)
    count, problem = json.loads(found.stdout)
    if count == 0:  # a machine with a real GPU has its own library
        assert "install the NVIDIA driver" in problem or "not loaded" in problem


def test_record_and_replay(nvml_library: Path, scenario: Scenario, tmp_path: Path) -> None:
    from tokenyield_agent.gpu.trace import TraceReader

    scenario.restart(gpu_lines(0))
    out = tmp_path / "trace.jsonl"
    call = [sys.executable, "-m", "tokenyield_agent.cli", "record", "--seconds", "0.5", "--interval-ms", "100"]
    environ = {**scenario.environment(nvml_library), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([*call, "--out", str(out), "--synthetic"], check=True, env=environ, capture_output=True)
    now = [0.0]
    reader = TraceReader(out, lambda: now[0])
    assert reader.header.real_gpu is False
    assert only(reader.read()).energy_read_ms is None, "by the clock of the host that recorded it"
    energies = []
    for _ in range(30):
        energies.append(only(reader.read()).energy_mj or 0)
        now[0] += 0.1
    assert energies == sorted(energies), "the counter goes on over the seam"
    assert energies[-1] - energies[0] == pytest.approx(300_000 * 2.9, rel=0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_record_that_is_asked_to_stop_is_whole(
    nvml_library: Path, scenario: Scenario, tmp_path: Path, number: signal.Signals
) -> None:
    """Also by a child of a background job, for which the shell has SIGINT ignored."""
    from tokenyield_agent.gpu.trace import load_trace

    scenario.restart(gpu_lines(0))
    out = tmp_path / "trace.jsonl"
    record = [sys.executable, "-m", "tokenyield_agent.cli", "record", "--seconds", "3600", "--interval-ms", "10"]
    environ = {**scenario.environment(nvml_library), "PYTHONPATH": os.pathsep.join(sys.path)}
    call = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *record, "--out", str(out)]
    with subprocess.Popen(call, env=environ, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert sum(process.stderr.read(1) == b"\r" for _ in range(60)) > 2, "it has shown its progress for some polls"
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    header, lines = load_trace(out)
    assert header.label.startswith("1 x NVIDIA H100")
    assert f"{len(lines)} polls of".encode() in said
