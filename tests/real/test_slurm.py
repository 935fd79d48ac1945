"""A real Slurm of one node: each job's GPU time, cost and tokens, by account and job, whatever the jobs say of themselves."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from faults.programs import FAKETIME
from harness import Stack, get, wait_until
from nvml.stand_in import Scenario, gpu_lines
from real.llama_server import LlamaServer
from real.slurm_node import CGROUPS, SlurmNode, block_of_page
from tokenyield_agent.config import Settings
from tokenyield_agent.gpu.reading import GpuProcess, GpuReading
from tokenyield_agent.workloads.process_location import Place
from tokenyield_agent.workloads.procfs import Procfs
from tokenyield_agent.workloads.roster import Roster

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="slurmd starts jobs of other users: run as root"),
]

GPUS = 4
BY_GROUP = "proctrack/cgroup" if os.access(CGROUPS / "freezer", os.W_OK) else "proctrack/linuxproc"


@pytest.fixture
def slurm() -> Iterator[Callable[..., SlurmNode]]:
    assert shutil.which("slurmctld"), "apt install slurmctld slurmd slurm-client munge"
    with ExitStack() as ended:

        def start(tracker: str) -> SlurmNode:
            folder = Path(tempfile.mkdtemp(prefix="ty-slurm-", dir="/tmp"))
            folder.chmod(0o755)
            node = SlurmNode(folder, tracker=tracker, gpus=GPUS)
            ended.callback(node.stop)
            node.start()
            return node

        yield start


class Gpus:
    """The stand-in's GPUs. NVML numbers them the other way round than their device files, as the order of a bus may."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._lines: dict[int, list[str]] = {}
        for number in range(GPUS):
            self.set(number)

    def set(self, number: int, pid: int | None = None) -> None:
        """/dev/nvidiaNUMBER is busy with `pid`, or does nothing."""
        index = GPUS - 1 - number
        self._lines[index] = [*gpu_lines(index, percent=95 if pid else 0, pid=pid), f"minor {index} {number}"]

    def show(self) -> None:
        self._scenario.replace(line for lines in self._lines.values() for line in lines)


@pytest.fixture
def gpus(scenario: Scenario) -> Gpus:
    return Gpus(scenario)


def workloads(stack: Stack) -> dict[str, dict[str, Any]]:
    summary = json.loads(get(f"{stack.url}/v1/summary?window_s=120"), parse_float=Decimal)
    return {row["workload"]: row for row in summary["workloads"]}


def now(stack: Stack) -> dict[int, tuple[str, str | None]]:
    """/dev/nvidiaN -> its state in the last seconds, and the workload that held it."""
    fleet = json.loads(get(f"{stack.url}/v1/fleet"))
    columns, states, names = fleet["gpus"], fleet["states"], fleet["workloads"]
    return {
        GPUS - 1 - int(uuid[4:12]): (states[state], names[workload] if workload >= 0 else None)
        for uuid, state, workload in zip(columns["uuid"], columns["state"], columns["workload"], strict=True)
    }


def report_by(stack: Stack, folder: Path, by: str) -> dict[str, Any]:
    """The closed ledger's, of the days that it has, in two hours: a report ends with the last whole hour."""
    ((first_ms, last_ms),) = stack.query("SELECT min(start_ms), max(end_ms) FROM batches")
    first, last = (datetime.fromtimestamp(ms / 1000, UTC).date() for ms in (first_ms, last_ms))
    call = [sys.executable, "-m", "tokenyield_collector.cli", "report", "--period", f"{first}..{last}", "--by", by]
    call += ["--format", "json", "--ledger", str(stack.ledger_path)]
    for flag, name in (("prices", "prices"), ("rules", "attribution")):
        call += [f"--{flag}", str(folder / f"{name}.yaml")]
    later = {**os.environ, "LD_PRELOAD": str(FAKETIME), "FAKETIME": "+2h"}
    done = subprocess.run(call, check=False, capture_output=True, text=True, env=later)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout, parse_float=Decimal)
    return report


def test_jobs_carry_their_cost_by_account(
    slurm: Callable[..., SlurmNode], tmp_path: Path, nvml_library: Path, scenario: Scenario, gpus: Gpus
) -> None:
    node = slurm(BY_GROUP)
    model = node.folder / "model"
    model.mkdir()
    server = LlamaServer(model, node.out / "server.log", starts=False, copies=True)
    inside = f"srun --overlap bash -c 'echo $$ >{node.out}/step; exec sleep 3600'"
    training = node.submit(inside, "--account=physics", "--requeue")
    array = node.submit("note array; exec sleep 3600", "--account=bio", "--array=7")
    notebook = node.submit("note notebook; exec sleep 3600", "--account=bio", "--partition=notebooks")
    lies = f"export SLURM_JOB_ACCOUNT=physics SLURM_JOB_ID={training} SLURM_JOB_USER=root SLURM_JOB_PARTITION=free"
    serving = node.submit(
        f"note server; {lies}; exec {server.command}", "--account=poor", "--comment=x\nSLURM_JOB_USER=root"
    )
    pids = {training: node.pid_of("step"), array: node.pid_of("array"), serving: node.pid_of("server")}
    node.pid_of("notebook")  # it has a GPU and nothing runs there
    server.wait()
    gpu_of = {job: node.record_of(job).gpus[0] for job in (training, array, notebook, serving)}
    assert sorted(gpu_of.values()) == list(range(GPUS))
    for job, pid in pids.items():
        gpus.set(gpu_of[job], pid)
    gpus.show()

    (tmp_path / "attribution.yaml").write_text(block_of_page("```yaml\n", "```\n"))
    (tmp_path / "prices.yaml").write_text("pools: [{name: h100, rented: {count: 4, per_gpu_hour: 2}}]\n")
    stack = Stack(
        tmp_path,
        agent={
            "slurm_jobs_dir": str(node.jobs),
            "window_length_s": 1,
            "window_settle_s": 1,
            "scrape_interval_s": 1,
            "poll_interval_ms": 200,
        },
        collector={
            "prices_file": str(tmp_path / "prices.yaml"),
            "attribution_file": str(tmp_path / "attribution.yaml"),
            "live_window_s": 3,
        },
        agent_env=scenario.environment(nvml_library, follows=True),
    )
    try:
        stack.start_collector()
        stack.start_agent()
        held = {
            gpu_of[training]: ("active", f"slurm/{training}"),
            gpu_of[array]: ("active", f"slurm/{array}"),
            gpu_of[notebook]: ("idle", f"slurm/{notebook}"),
            gpu_of[serving]: ("active", f"slurm/{serving}"),
        }
        wait_until(lambda: now(stack) == held, what=f"each job holds its GPU; {stack.agent.said()[-2000:]}")
        said = [server.complete(f"prompt {number}", 8 + number) for number in range(5)]
        completion = sum(usage["completion_tokens"] for usage in said)
        stack.wait_for_tokens(completion)
        rows = workloads(stack)
        own = {"slurm_user": "nobody", "slurm_partition": "train"}
        in_array = {"slurm_array_job": array, "slurm_array_task": "7"}
        assert {job: rows[f"slurm/{job}"]["labels"] for job in gpu_of} == {
            training: {**own, "slurm_job": training, "slurm_account": "physics"},
            array: {**own, "slurm_job": array, "slurm_account": "bio", **in_array},
            notebook: {**own, "slurm_job": notebook, "slurm_account": "bio", "slurm_partition": "notebooks"},
            serving: {**own, "slurm_job": serving, "slurm_account": "poor"},
        }
        assert rows[f"slurm/{serving}"]["server"] == "llamacpp"
        assert rows[f"slurm/{training}"]["tokens"]["completion"] is None
        assert all(rows[f"slurm/{job}"]["cost"]["direct"] > 0 for job in gpu_of if job != notebook)
        doctor = [sys.executable, "-m", "tokenyield_agent.cli", "doctor", f"--set=slurm_jobs_dir={node.jobs}"]
        doctor += [f"--set=state_dir={tmp_path / 'doctor'}", f"--set=collector_url={stack.url}"]
        shown = subprocess.run(
            doctor, check=False, capture_output=True, text=True, env=scenario.environment(nvml_library)
        ).stdout
        assert f"jobs that the prolog recorded in {node.jobs}: 4" in shown, shown
        assert "Slurm's allocation" in shown, shown
        assert b'tokenyield_agent_slurm_jobs{record="recorded"} 4.0' in get(f"{stack.agent_url}/metrics")

        # The task of the array ends; the training is requeued, and runs again under the same number.
        node.run(f"scancel {array}")
        wait_until(lambda: not (node.jobs / array).exists(), what="the epilog ran")
        gpus.set(gpu_of[array])
        gpus.show()
        wait_until(lambda: now(stack)[gpu_of[array]] == ("unallocated", None), what="its GPU is held by nobody")
        node.run(f"scontrol requeue {training}")
        wait_until(lambda: not (node.jobs / training).exists(), what="the epilog ran")
        gpus.set(gpu_of[training])
        gpus.show()
        wait_until(lambda: now(stack)[gpu_of[training]] == ("unallocated", None), what="nobody holds its GPU")
        node.run(f"scontrol update job={training} StartTime=now")
        node.run(f"scontrol release {training}")
        again = node.pid_of("step", other_than=pids[training])
        number = node.record_of(training).gpus[0]
        gpus.set(number, again)
        gpus.show()
        wait_until(lambda: now(stack)[number] == ("active", f"slurm/{training}"), what="it holds a GPU again")
        stack.stop()
    finally:
        stack.kill_all()

    whole = report_by(stack, tmp_path, "account,workload")
    cost = {(row["account"], row["workload"]): row["cost"] for row in whole["rows"]}
    held_by = {(account, workload) for account, workload in cost if workload and workload.startswith("slurm/")}
    assert held_by == {
        ("physics", f"slurm/{training}"),
        ("bio", f"slurm/{array}"),
        ("bio", f"slurm/{notebook}"),
        ("poor", f"slurm/{serving}"),
    }
    by_account = {row["account"]: row["cost"] for row in report_by(stack, tmp_path, "account")["rows"]}
    of_jobs = cost["bio", f"slurm/{array}"] + cost["bio", f"slurm/{notebook}"]
    # Each report's rows sum to its own whole, so a row of another report may be a step (1e-9) off for each of the three.
    assert abs(by_account["bio"] - of_jobs) <= 3 * Decimal("1e-9")
    assert stack.query("SELECT workload, sum(completion) FROM token_windows GROUP BY 1") == [
        (f"slurm/{serving}", completion)
    ]
    (nothing_ran,) = stack.query(
        f"SELECT sum(active_ms), sum(idle_ms) > 0 FROM share_windows WHERE workload = 'slurm/{notebook}'"
    )
    assert nothing_ran == (0, True)


def test_without_cgroups_a_job_is_known_by_its_parents_and_its_user(slurm: Callable[..., SlurmNode]) -> None:
    """A process that left its parents is of the job that it names only where that is of the same user."""
    node = slurm("proctrack/linuxproc")
    alone = "setsid --fork bash -c 'echo $$ >{out}/{name}; exec sleep 3600'"
    leave = alone.format(out=node.out, name="left")
    steal = "export SLURM_JOB_ID=1 SLURM_JOB_ACCOUNT=physics; " + alone.format(out=node.out, name="thief")
    assert node.submit(f"{leave}; note train; sleep 3600 & wait", "--account=physics") == "1"
    assert (
        node.submit(f"{steal}; note other; sleep 3600 & wait", "--account=x\nSLURM_JOB_USER=root", user="daemon") == "2"
    )
    names = ("train", "left", "other", "thief")
    pids = {name: node.pid_of(name) for name in names}
    assert node.record_of("2").user == "daemon"
    procfs = Procfs()
    for name in ("left", "thief"):
        wait_until(lambda pid=pids[name]: procfs.parent_of(pid) == 1, what=f"{name} left its parents")  # type: ignore[misc]
    process = procfs.process(pids["train"])
    assert process is not None
    assert process.place == Place(), "no cgroup shows the job"
    readings = tuple(
        GpuReading(uuid=name, index=i, processes=(GpuProcess(pid=pids[name]),)) for i, name in enumerate(names)
    )
    settings = replace(Settings(), slurm_jobs_dir=str(node.jobs), pod_resources_socket="", discover_endpoints=False)
    roster = Roster(settings, marks={})
    try:
        holders = {uuid: list(one.weights) for uuid, one in roster.holdings(readings, time.monotonic()).items()}
        assert holders == {"train": ["slurm/1"], "left": ["slurm/1"], "other": ["slurm/2"], "thief": ["sleep"]}
        labels = roster.names()["slurm/2"].labels
        assert labels["slurm_user"] == "daemon"
        assert labels["slurm_account"].startswith("xslurm_job_user=root~"), "on one line"
    finally:
        roster.close()
