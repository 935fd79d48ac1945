"""The agent's loop, by a clock and a GPU of the test's own: absences, copied hosts, an NVML that hangs."""

from pathlib import Path
from typing import Any

import pytest

from faults.tenant_log import LINE
from tokenyield_agent.config import Settings, WorkloadSettings
from tokenyield_agent.daemon import Agent
from tokenyield_agent.gpu.reading import GpuReading, Snapshot
from tokenyield_agent.host.clock import HostClock
from tokenyield_wire.codec import BATCHES_MAX
from tokenyield_wire.window import Batch

START_S = 1_795_435_200


class Host(HostClock):
    """A host with one GPU at 300 W; `seconds` have passed since its clock stood at `START_S`."""

    faults: dict[str, int] = {}  # noqa: RUF012
    read_seconds = 0.0

    def __init__(self, folder: Path, name: str = "n1") -> None:
        self.folder, self.name = folder, name
        self.seconds = 0
        self.hangs_s = 0

    def mono_ns(self) -> int:
        return self.seconds * 10**9

    def wall_ns(self) -> int:
        return (START_S + self.seconds) * 10**9

    def boot_id(self) -> str:
        return f"boot of {self.name}"

    def read(self) -> Snapshot:
        self.seconds += self.hangs_s
        self.hangs_s = 0
        energy_mj = self.seconds * 300_000
        return Snapshot(
            gpus=(GpuReading(uuid=f"GPU-{self.name}", index=0, energy_mj=energy_mj, utilization_percent=50),)
        )

    def close(self) -> None: ...

    def agent(self, **settings: Any) -> Agent:
        agent = Agent(
            Settings(
                state_dir=str(self.folder),
                node=self.name,
                status_listen="",
                discover=False,
                pod_resources_socket="",
                slurm_jobs_dir="",
                pods_dir="/none",
                docker_dir="/none",
                **settings,
            ),
            clock=self,
            reader=self,
        )
        agent.begin()
        return agent


def shipped(agent: Agent) -> list[list[Batch]]:
    """The batches in the spool, as they would be sent."""
    requests = []
    while waiting := agent.spool.waiting(batches_max=agent.settings.ship_batches_max):
        requests.append(list(waiting.batches))
        agent.spool.acknowledge(waiting)
    return requests


def test_the_windows_of_a_long_absence_go_in_requests_that_a_collector_takes(tmp_path: Path) -> None:
    host = Host(tmp_path)
    first = host.agent(window_length_s=10)
    first.poll()
    host.seconds += 3_500
    agent = host.agent(window_length_s=10)
    host.seconds += 30
    agent.poll()
    requests = shipped(agent)
    assert max(len(batches) for batches in requests) == agent.settings.ship_batches_max < BATCHES_MAX
    batches = [batch for request in requests for batch in request]
    assert [batch.seq for batch in batches] == list(range(1, len(batches) + 1))
    assert sum(batch.end_ms - batch.start_ms for batch in batches) == 3_510_000
    assert sum(gpu.energy_mj.unknown for batch in batches for gpu in batch.gpus) == 3_510 * 300_000


def test_a_copied_host_reports_no_gpus_that_it_does_not_have(tmp_path: Path) -> None:
    original = Host(tmp_path)
    original.agent().poll()
    copy = Host(tmp_path, "n2")
    copy.seconds = 600
    agent = copy.agent()
    copy.seconds += 60
    agent.poll()
    assert {gpu.uuid for request in shipped(agent) for batch in request for gpu in batch.gpus} == {"GPU-n2"}


def test_time_in_which_nvml_hung_is_unknown_and_keeps_its_energy(tmp_path: Path) -> None:
    host = Host(tmp_path)
    agent = host.agent()
    for hangs_s in (0, 0, 30, 0, 0):
        host.seconds += 1
        host.hangs_s = hangs_s
        agent.poll()
    agent._take(flush=True)
    ((*batches,),) = shipped(agent)
    gpus = [batch.gpus[0] for batch in batches]
    assert sum(gpu.unknown_reason_ms.get("not_polled", 0) for gpu in gpus) == 31_000
    assert sum(gpu.energy_mj.unknown for gpu in gpus) == 31 * 300_000
    assert sum(gpu.energy_mj.active for gpu in gpus) == 4 * 300_000


class Stepped(Host):
    """Its wall clock can be set, and its GPU is held and idle."""

    ahead_s = 0

    def wall_ns(self) -> int:
        return (START_S + self.seconds + self.ahead_s) * 10**9

    def read(self) -> Snapshot:
        gpu = GpuReading(uuid="G", index=0, energy_mj=self.seconds * 90_000, utilization_percent=0)
        return Snapshot(gpus=(gpu,))


def test_a_clock_that_is_set_parks_nobody(tmp_path: Path) -> None:
    log = tmp_path / "chat.log"
    log.touch()
    host = Stepped(tmp_path / "state")
    workload = WorkloadSettings(name="chat", log=str(log), dialect="llamacpp", gpus=(0,))
    agent = host.agent(workloads=(workload,), parked_after_s=600, window_length_s=15, window_settle_s=0)
    with log.open("a") as file:
        file.write(LINE.format(n=1, p=5, c=7, length=11))

    def parked_after(seconds: int) -> int:
        for _ in range(seconds):
            host.seconds += 1
            agent.poll()
        batches = [batch for request in shipped(agent) for batch in request]
        return sum(gpu.parked_ms for batch in batches for gpu in batch.gpus)

    assert parked_after(60) == 0
    host.ahead_s = 3600
    assert parked_after(500) == 0, "it has been quiet for under ten minutes"
    host.ahead_s = -3600
    assert parked_after(120) > 0, "and now for over"


def test_polls_say_what_they_cost_also_those_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(tmp_path)
    agent = host.agent()
    assert agent.status().poll_cpu_s == 0
    agent.try_poll()
    good_s = agent.status().poll_cpu_s
    assert good_s > 0
    monkeypatch.setattr(agent.roster, "poll", None)
    agent.try_poll()
    assert agent.status().poll_failures == 1
    assert agent.status().poll_cpu_s > good_s
