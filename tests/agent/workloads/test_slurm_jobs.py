"""Which job holds a GPU, whose it is, and what of a job's own environment is believed: over /proc trees laid out as files."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.workloads.test_process_groups import lay_out
from agent.workloads.test_slurm_records import record
from tokenyield_agent.config import Settings
from tokenyield_agent.doctor.slurm import findings_of_slurm
from tokenyield_agent.gpu.reading import GpuPartition, GpuProcess, GpuReading
from tokenyield_agent.workloads import slurm_jobs
from tokenyield_agent.workloads.roster import Roster

V2 = "0::/system.slice/slurmstepd.scope/job_42/step_batch/user/task_0"
SLURMD = "0::/system.slice/slurmd.service"
SESSION = "0::/user.slice/user-1000.slice/session-3.scope"
OWN = {"SLURM_JOB_ID": "42", "SLURM_JOB_USER": "ada", "SLURM_JOB_ACCOUNT": "physics", "SLURM_JOB_PARTITION": "train"}
ADA = {"uid": "1000", "user": "ada", "account": "physics", "partition": "train"}


def process(pid: int, parent: int = 1, cgroup: str = SLURMD, **more: Any) -> dict[str, Any]:
    return {"pid": pid, "parent": parent, "command": "python3 train.py", "cgroup": cgroup, "uid": 1000, **more}


def stepd(pid: int, job: str = "42", **more: Any) -> dict[str, Any]:
    argv = [f"slurmstepd: [{job}.0]"]
    return {"pid": pid, "parent": 1, "argv": argv, "name": "slurmstepd", "cgroup": SLURMD, "uid": 0, **more}


class Node:
    """A host with these processes, and a GPU for each of `pids`."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.jobs = folder / "jobs"
        self.jobs.mkdir(mode=0o755)
        self._proc = folder / "proc"
        self._proc.mkdir()
        self.settings = Settings(
            discover_endpoints=False,
            pod_resources_socket="",
            pods_dir="/none",
            docker_dir="/none",
            proc_dir=str(self._proc),
            slurm_jobs_dir=str(self.jobs),
            **settings,
        )
        self.roster = Roster(self.settings, marks={})
        self._now_s = 0.0

    def records(self, **jobs: dict[str, str]) -> None:
        for job, fields in jobs.items():
            (self.jobs / job[1:]).write_bytes(record(job[1:], **fields))

    def look(self, *processes: dict[str, Any], gpus: dict[int, list[int]], **of_gpu: Any) -> dict[str, Any]:
        """GPU -> who holds it. `gpus`: index -> pids."""
        if processes:
            lay_out(self._proc, list(processes))
        readings = tuple(
            GpuReading(
                **{"uuid": f"GPU-{i}", "index": i, "device_number": i, **of_gpu},
                processes=tuple(GpuProcess(pid=pid) for pid in pids),
            )
            for i, pids in gpus.items()
        )
        self._now_s += 3600
        holdings = self.roster.holdings(readings, self._now_s)
        return {uuid: dict(holding.weights) if holding.held else {} for uuid, holding in holdings.items()}

    def labels(self, workload: str = "slurm/42") -> dict[str, str]:
        return dict(self.roster.names()[workload].labels)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    made: list[Node] = []

    def make(**settings: Any) -> Node:
        made.append(Node(tmp_path, **settings))
        return made[-1]

    yield make
    for one in made:
        one.roster.close()


def test_a_job_in_its_cgroup_has_the_account_that_the_prolog_recorded(node: Callable[..., Node]) -> None:
    here = node()
    here.records(_42=ADA)
    assert here.look(process(100, cgroup=V2), gpus={0: [100]}) == {"GPU-0": {"slurm/42": 1}}
    assert here.labels() == {
        "slurm_job": "42",
        "slurm_user": "ada",
        "slurm_account": "physics",
        "slurm_partition": "train",
    }


@pytest.mark.parametrize("believes", [False, True])
def test_a_job_cannot_charge_another_account(node: Callable[..., Node], believes: bool) -> None:
    """It changes its own environment; the cgroup and the record stay."""
    lies = {"SLURM_JOB_ID": "43", "SLURM_JOB_USER": "eve", "SLURM_JOB_ACCOUNT": "rich", "SLURM_JOB_PARTITION": "free"}
    here = node(slurm_environment=believes)
    here.records(_42=ADA, _43={**ADA, "account": "rich"})
    assert here.look(process(100, cgroup=V2, environment=lies), gpus={0: [100]}) == {"GPU-0": {"slurm/42": 1}}
    lies["SLURM_JOB_ID"] = "42"
    here.look(process(101, cgroup=V2, environment=lies), gpus={0: [101]})
    assert here.labels()["slurm_account"] == "physics"
    assert here.labels()["slurm_user"] == "ada"


def test_where_nothing_was_recorded_the_account_is_unknown(node: Callable[..., Node]) -> None:
    here = node()
    here.look(process(100, cgroup=V2, environment=OWN), gpus={0: [100]})
    assert here.labels() == {"slurm_job": "42", "slurm_user": "1000"}


def test_a_site_may_believe_the_environment_where_nothing_was_recorded(node: Callable[..., Node]) -> None:
    here = node(slurm_environment=True)
    here.look(process(100, cgroup=V2, environment=OWN), gpus={0: [100]})
    assert here.labels() == {
        "slurm_job": "42",
        "slurm_user": "ada",
        "slurm_account": "physics",
        "slurm_partition": "train",
    }
    here.records(_42={"uid": "1000"})  # a record of a site without accounts: the environment adds none
    here.look(gpus={0: [100]})
    assert here.labels() == {"slurm_job": "42", "slurm_user": "1000"}


def test_of_another_jobs_environment_nothing_is_believed(node: Callable[..., Node]) -> None:
    here = node(slurm_environment=True)
    own = OWN | {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "6", "SLURM_ARRAY_TASK_ID": "1"}
    here.look(process(100, cgroup=V2, environment=own), gpus={0: [100]})
    assert here.labels() == {"slurm_job": "42", "slurm_user": "1000"}


def test_a_task_of_an_array_is_a_job_with_its_array_as_labels(node: Callable[..., Node]) -> None:
    here = node()
    here.records(_42=ADA)
    array = OWN | {"SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": "2"}
    here.look(process(100, cgroup=V2, environment=array), gpus={0: [100]})
    labels = here.labels()
    assert (labels["slurm_array_job"], labels["slurm_array_task"]) == ("40", "2")
    odd = OWN | {"SLURM_ARRAY_JOB_ID": "a" * 5000, "SLURM_ARRAY_TASK_ID": "-1"}
    here.records(_44=ADA)
    other = V2.replace("42", "44")
    here.look(process(101, cgroup=other, environment=odd | {"SLURM_JOB_ID": "44"}), gpus={0: [101]})
    assert "slurm_array_job" not in here.labels("slurm/44")


def test_without_cgroups_the_job_is_that_of_roots_slurmstepd(node: Callable[..., Node]) -> None:
    here = node()
    here.records(_42=ADA)
    shell = process(90, 80, command="/bin/bash /var/spool/slurmd/job00042/slurm_script")
    held = here.look(stepd(80), shell, process(100, 90), gpus={0: [100]})
    assert held == {"GPU-0": {"slurm/42": 1}}
    assert here.labels()["slurm_account"] == "physics"


@pytest.mark.parametrize("title", ["slurmstepd: [43.0]", "slurmstepd: [43.batch]"])
def test_a_title_that_a_user_gives_a_process_names_no_job(node: Callable[..., Node], title: str) -> None:
    here = node()
    here.records(_42=ADA, _43={**ADA, "uid": "2000", "account": "rich"})
    fake = process(90, 80, argv=[title], name="slurmstepd")
    assert here.look(stepd(80), fake, process(100, 90), gpus={0: [100]}) == {"GPU-0": {"slurm/42": 1}}
    alone = process(190, 1, argv=[title], name="slurmstepd")
    assert "slurm/43" not in here.look(alone, process(200, 190), gpus={0: [200]})["GPU-0"]


def test_an_inference_server_in_a_job_is_one_workload_with_its_workers(node: Callable[..., Node]) -> None:
    here = node()
    here.records(_42=ADA)
    server = process(90, 80, command="/opt/llama/llama-server -m m.gguf --port 8080")
    assert here.look(stepd(80), server, process(100, 90), gpus={0: [100]}) == {"GPU-0": {"slurm/42": 1}}
    discovered = here.roster.discovery.workloads["slurm/42"]
    assert discovered.root_pids == {90}
    assert discovered.tokens.process_server == "llamacpp"


def test_a_process_that_left_its_parents_is_of_the_job_that_its_user_runs(node: Callable[..., Node]) -> None:
    here = node()
    here.records(_42=ADA, _43={**ADA, "uid": "2000"})
    held = here.look(
        process(100, environment=OWN),
        process(101, cgroup=SESSION, environment=OWN | {"SLURM_JOB_ID": "43"}),  # another user's job
        process(102, cgroup=SESSION, environment=OWN | {"SLURM_JOB_ID": "44"}),  # no job at all
        process(103, cgroup=SESSION, environment={"HOME": "/"}),
        gpus={0: [100], 1: [101], 2: [102], 3: [103]},
    )
    assert held == {
        "GPU-0": {"slurm/42": 1},
        "GPU-1": {"python3": 1},
        "GPU-2": {"python3": 1},
        "GPU-3": {"python3": 1},
    }


def test_a_gpu_that_a_job_does_not_use_is_held_by_it(node: Callable[..., Node]) -> None:
    here = node()
    here.records(_42={**ADA, "gpus": "1"})
    assert here.look(gpus={0: [], 1: []}) == {"GPU-0": {}, "GPU-1": {"slurm/42": 1}}
    assert here.labels()["slurm_account"] == "physics"
    assert here.roster.names()["slurm/42"].server == "unknown"
    (here.jobs / "42").unlink()
    assert here.look(gpus={0: [], 1: []}) == {"GPU-0": {}, "GPU-1": {}}
    assert here.labels()["slurm_account"] == "physics", "its last windows are still to be shipped"


def test_gpus_are_those_of_the_device_files(node: Callable[..., Node]) -> None:
    here = node()
    here.records(_42={**ADA, "gpus": "3"})
    assert here.look(gpus={0: []}, device_number=3) == {"GPU-0": {"slurm/42": 1}}
    assert here.look(gpus={3: []}, device_number=0) == {"GPU-3": {}}
    assert here.look(gpus={3: []}, device_number=None) == {"GPU-3": {}}


def test_a_partitioned_gpu_is_not_given_by_its_number(node: Callable[..., Node]) -> None:
    here = node()
    here.records(_42={**ADA, "gpus": "0"})
    parts = {1: GpuPartition(slices=3)}
    assert here.look(gpus={0: []}, is_partitioned=True, partitions=parts) == {"GPU-0": {}}


def test_of_two_jobs_with_one_gpu_the_newer_has_it(node: Callable[..., Node]) -> None:
    """The epilog of the other did not run."""
    here = node()
    here.records(_43={**ADA, "gpus": "0"}, _42={**ADA, "gpus": "0"})
    os.utime(here.jobs / "43", ns=(1, 1))
    assert here.look(gpus={0: []}) == {"GPU-0": {"slurm/42": 1}}


def test_jobs_that_ended_are_forgotten_in_the_end(node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch) -> None:
    here = node()
    here.records(_42=ADA)
    here.look(gpus={0: []})
    (here.jobs / "42").unlink()
    monkeypatch.setattr(slurm_jobs, "GONE_KEEP_S", -1.0)
    here.look(gpus={0: []})
    assert "slurm/42" not in here.roster.names()


def test_nothing_of_slurm_is_read_on_a_host_without_it(node: Callable[..., Node]) -> None:
    here = node()
    read: list[int] = []
    here.jobs.rmdir()
    procfs = here.roster.procfs
    procfs.environment_of = lambda pid, names: read.append(pid) or {}  # type: ignore[method-assign,func-returns-value]
    procfs.uid_of = lambda pid: read.append(pid)  # type: ignore[method-assign]
    here.look(process(100, cgroup=SESSION, environment=OWN), gpus={0: [100]})
    assert read == []
    assert here.roster.slurm.counts() == {}
    assert list(findings_of_slurm(here.settings, here.roster.slurm)) == []


def test_a_processs_environment_is_read_once(node: Callable[..., Node]) -> None:
    here = node()
    procfs, read = here.roster.procfs, []
    environment_of = procfs.environment_of
    procfs.environment_of = lambda pid, names: read.append(pid) or environment_of(pid, names)  # type: ignore[method-assign,func-returns-value]
    here.look(process(100, cgroup=V2, environment=OWN), gpus={0: [100]})
    here.look(gpus={0: [100]})
    assert read == [100]


def test_doctor_shows_what_the_prolog_would_add(node: Callable[..., Node]) -> None:
    here = node()
    here.records(_43=ADA)
    here.look(process(100, cgroup=V2), gpus={0: [100]})
    findings = [(one.level, one.text) for one in findings_of_slurm(here.settings, here.roster.slurm)]
    assert findings == [
        ("ok", f"jobs that the prolog recorded in {here.jobs}: 1"),
        (
            "note",
            "the prolog recorded nothing of jobs 42: account and partition are unknown, and so are GPUs that they hold "
            "and do not use; they began before it was installed",
        ),
    ]
    assert here.roster.slurm.counts() == {"recorded": 1, "missing": 1, "unusable": 0}
    here.jobs.chmod(0o777)
    here.look(gpus={0: [100]})
    assert [one.level for one in findings_of_slurm(here.settings, here.roster.slurm)] == ["fault", "note"]
    assert here.roster.slurm.counts() == {"recorded": 0, "missing": 1, "unusable": 1}
