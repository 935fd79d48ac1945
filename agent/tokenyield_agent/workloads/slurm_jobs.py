"""Which Slurm job a process on a GPU belongs to, who the job is of, and which GPUs it was given.

In: processes and their ancestors, at each look (roster.py); the records of the prolog (slurm_records.py). Out: the same
processes with their job as their place; a job's labels; its GPUs. On a host without Slurm nothing is read.

What is believed, the best first:

* The job: the cgroup that slurmd made (process_location.py); else, where Slurm tracks without cgroups, a parent that is
  root's `slurmstepd: [42.0]`; else, for a process that left its parents, SLURM_JOB_ID in its environment where the
  prolog recorded a job of that number for the same user. A user can name only jobs of their own.
* User, account and partition: the prolog's record, which slurmd's signed credential gave. Without one the user is the
  number of the process's user; account and partition are unknown, unless `slurm_environment` says that this site
  believes what the job's own environment names. A record always counts before the environment.
* The array that a job is a task of: its environment, for the prolog does not know it. It is a label, and no more.
"""

import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from tokenyield_agent.gpu.reading import GpuReading
from tokenyield_agent.workloads.process_location import Place, Process
from tokenyield_agent.workloads.procfs import Procfs
from tokenyield_agent.workloads.slurm_records import VALUE_CHARS_MAX, SlurmJob, SlurmRecords
from tokenyield_agent.workloads.workload_name import slurm_workload
from tokenyield_wire.bounded import fitting_name

JOB, USER, ACCOUNT, PARTITION = "slurm_job", "slurm_user", "slurm_account", "slurm_partition"
ARRAY_JOB, ARRAY_TASK = "slurm_array_job", "slurm_array_task"
ENVIRONMENT = (
    "SLURM_JOB_ID",
    "SLURM_JOB_USER",
    "SLURM_JOB_ACCOUNT",
    "SLURM_JOB_PARTITION",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
)
"""All that is read of a process's environment; nothing else of it is kept."""
GONE_KEEP_S = 600.0
"""How long the labels of a job that ended are kept: its last windows are still to be shipped."""
JOBS_MAX = 1024
"""Of such jobs; those that have been gone longest are dropped first."""
_STEP = re.compile(r"slurmstepd: \[(?P<job>[1-9]\d{0,9})[.+]", re.ASCII)
_NUMBER = re.compile(r"\d{1,10}", re.ASCII)


class SlurmJobs:
    """The jobs of this node. `folder` is `slurm_jobs_dir`, `believes_environment` is `slurm_environment`."""

    def __init__(self, folder: str, procfs: Procfs, *, believes_environment: bool = False) -> None:
        self.records = SlurmRecords(folder)
        self._procfs = procfs
        self._believes_environment = believes_environment
        self._labels: dict[str, dict[str, str]] = {}
        self._seen_s: dict[str, float] = {}
        self._environments: dict[tuple[int, float], Mapping[str, str]] = {}
        """(pid, start) -> what was read of a process's environment, of those of the last look."""
        self.unrecorded: frozenset[str] = frozenset()
        """Jobs with processes on a GPU at the last look of which there is no record."""

    def refresh(self, *, is_due: bool) -> bool:
        """Read the records that changed; at each poll, `is_due` every few seconds. Returns whether a job began or ended
        since the last time."""
        before = self.records.jobs
        self.records.refresh(is_due=is_due)
        return self.records.jobs != before

    def placed(
        self, pids: Iterable[int], processes: Mapping[int, Process], ancestors: Mapping[int, tuple[int, ...]]
    ) -> dict[int, Process]:
        """`processes` with their job as their place. `pids` hold a GPU; `ancestors` are theirs, nearest first."""
        placed = dict(processes)
        read: dict[tuple[int, float], Mapping[str, str]] = {}
        running: dict[str, Process] = {}
        for pid in sorted(pids):
            chain = [processes[p] for p in (pid, *ancestors.get(pid, ())) if p in processes]
            if not chain or chain[0].pid != pid:
                continue
            job, members = self._job_of(chain, read)
            if job is not None:
                running.setdefault(job, chain[0])
                placed.update({p.pid: replace(p, place=Place(slurm_job=job)) for p in members})
        self._remember(running, read)
        self._environments = read
        return placed

    def _job_of(
        self, chain: Sequence[Process], read: dict[tuple[int, float], Mapping[str, str]]
    ) -> tuple[str | None, Sequence[Process]]:
        """The job of a process and its parents, and which of them do not show it themselves."""
        place = chain[0].place
        if place.slurm_job is not None:
            return place.slurm_job, ()
        if place.container is not None or place.pod_uid is not None:
            return None, ()
        for i, process in enumerate(chain):
            step = _STEP.match(process.command) if process.name == "slurmstepd" else None
            if step is not None and self._procfs.uid_of(process.pid) == 0:
                return step["job"], chain[:i]
        if not self.records.jobs:
            return None, ()
        own = [process for process in chain if process.place == place]
        named = [self._environment(process, read).get("SLURM_JOB_ID", "") for process in own]
        record = self.records.jobs.get(named[0])
        if record is None or record.uid is None or record.uid != self._procfs.uid_of(chain[0].pid):
            return None, ()
        return record.job, [process for process, job in zip(own, named, strict=True) if job == record.job]

    def _environment(self, process: Process, read: dict[tuple[int, float], Mapping[str, str]]) -> Mapping[str, str]:
        key = (process.pid, process.started_s)
        if key not in read:
            known = self._environments.get(key)
            read[key] = known if known is not None else self._procfs.environment_of(process.pid, ENVIRONMENT)
        return read[key]

    def _remember(self, running: Mapping[str, Process], read: dict[tuple[int, float], Mapping[str, str]]) -> None:
        now_s = time.monotonic()
        for job in running.keys() | self.records.jobs.keys():
            record = self.records.jobs.get(job)
            labels = self._labels.get(job, {})
            if record is not None:
                labels = {**_only(labels, (ARRAY_JOB, ARRAY_TASK)), **_labels_of(record)}
            if (process := running.get(job)) is not None:
                labels = {**self._labels_by_process(job, process, read, has_record=record is not None), **labels}
            self._labels[job] = {JOB: job, **labels}
            self._seen_s[job] = now_s
        self.unrecorded = frozenset(running.keys() - self.records.jobs.keys())
        newest = sorted(self._seen_s, key=lambda job: -self._seen_s[job])[:JOBS_MAX]
        self._seen_s = {job: self._seen_s[job] for job in newest if now_s - self._seen_s[job] <= GONE_KEEP_S}
        self._labels = {job: self._labels[job] for job in self._seen_s}

    def _labels_by_process(
        self, job: str, process: Process, read: dict[tuple[int, float], Mapping[str, str]], *, has_record: bool
    ) -> dict[str, str]:
        """What a process of the job shows of it."""
        environment = self._environment(process, read)
        if environment.get("SLURM_JOB_ID") != job:  # of another job, or changed: it says nothing
            environment = {}
        uid = self._procfs.uid_of(process.pid)
        labels = {USER: str(uid)} if uid is not None else {}
        array = {ARRAY_JOB: environment.get("SLURM_ARRAY_JOB_ID"), ARRAY_TASK: environment.get("SLURM_ARRAY_TASK_ID")}
        labels |= {key: value for key, value in array.items() if value is not None and _NUMBER.fullmatch(value)}
        if self._believes_environment and not has_record:
            claims = {USER: "SLURM_JOB_USER", ACCOUNT: "SLURM_JOB_ACCOUNT", PARTITION: "SLURM_JOB_PARTITION"}
            labels |= {
                key: fitting_name(environment[name], VALUE_CHARS_MAX)
                for key, name in claims.items()
                if environment.get(name)
            }
        return labels

    def counts(self) -> dict[str, int]:
        """For the agent's own metrics: jobs that are recorded, those on a GPU whose record is missing, and whether a
        record or their folder is unusable. Empty where there is no Slurm."""
        records = self.records
        if not records.exists and not self.unrecorded:
            return {}
        unusable = int(records.problem is not None)
        return {"recorded": len(records.jobs), "missing": len(self.unrecorded), "unusable": unusable}

    def labels(self, job: str) -> Mapping[str, str]:
        """`slurm_job`, and what is known of it: `slurm_user`, `slurm_account`, `slurm_partition`, the array."""
        return self._labels.get(job, {})

    def known(self) -> Collection[str]:
        """Jobs that run, and those that ended a short time ago."""
        return self._labels.keys()

    def allocations(self, gpus: Iterable[GpuReading]) -> dict[str, frozenset[str]]:
        """`slurm/42` -> uuids of the GPUs that Slurm gave the job, whether or not anything runs there. Of two jobs with
        the same GPU the newer has it: the other's epilog did not run. A partitioned GPU is given out in parts, whose
        numbers are not those of GPUs; of one whose device file is unknown nothing is guessed."""
        if not self.records.jobs:
            return {}
        job_of = {
            number: record.job
            for record in sorted(self.records.jobs.values(), key=lambda record: record.written_ns)
            for number in record.gpus
        }
        uuids: dict[str, set[str]] = {}
        for gpu in gpus:
            job = job_of.get(gpu.device_number) if gpu.device_number is not None else None
            if job is not None and not gpu.is_partitioned:
                uuids.setdefault(slurm_workload(job), set()).add(gpu.uuid)
        return {workload: frozenset(own) for workload, own in uuids.items()}


def _labels_of(record: SlurmJob) -> dict[str, str]:
    labels = {USER: record.user, ACCOUNT: record.account, PARTITION: record.partition}
    if record.user is None and record.uid is not None:
        labels[USER] = str(record.uid)
    return {key: value for key, value in labels.items() if value is not None}


def _only(labels: Mapping[str, str], keys: Collection[str]) -> dict[str, str]:
    return {key: labels[key] for key in keys if key in labels}
