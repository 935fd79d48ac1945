"""What Slurm reports about the jobs of this node: a file a job, which its prolog writes and its epilog removes.

In: the folder of `slurm_jobs_dir` (docs/slurm.md has the script). Out: a `SlurmJob` for each file. A file is named by
the job's number and holds `NAME=value` ended by NUL: no comment or account that a user chooses can imitate another
line. Files count only where none but root, or the agent's own user, can have written them.

Nothing is asked of slurmctld: a thousand agents that ask for each job are a load that Slurm's controller must not
carry.
"""

import logging
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tokenyield_wire.bounded import fitting_name

log = logging.getLogger(__name__)

RECORDS_MAX = 256
"""Jobs at one time; those of more are not known."""
RECORD_BYTES_MAX = 4096
VALUE_CHARS_MAX = 128
GPUS_MAX = 64
"""Of one job on one node."""
_JOB = re.compile(r"[1-9]\d{0,9}", re.ASCII)
_GPUS = re.compile(r"(\d{1,3})(?:-(\d{1,3}))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmJob:
    """One job, as slurmd knows it. What is None was not written."""

    job: str
    uid: int | None = None
    user: str | None = None
    account: str | None = None
    partition: str | None = None
    gpus: tuple[int, ...] = ()
    """N of /dev/nvidiaN."""
    written_ns: int = 0


class UntrustedRecordError(Exception):
    """A folder or file that somebody else can have written, or that is not a record; the message says how to fix it."""


def read_record(job: str, data: bytes, written_ns: int = 0) -> SlurmJob:
    """The record of `job`, from the file's bytes. Raises `UntrustedRecordError` where it is of another job."""
    fields: dict[str, str] = {}
    for part in data.decode("utf-8", "replace").split("\0"):
        name, is_field, value = part.partition("=")
        if is_field and value:
            fields.setdefault(name, fitting_name(value, VALUE_CHARS_MAX))
    if fields.get("SLURM_JOB_ID") != job:
        raise UntrustedRecordError(f"expected SLURM_JOB_ID={job}, found {fields.get('SLURM_JOB_ID', 'none')}")
    uid = fields.get("SLURM_JOB_UID", "")
    return SlurmJob(
        job=job,
        uid=int(uid) if re.fullmatch(r"\d{1,10}", uid, re.ASCII) else None,
        user=fields.get("SLURM_JOB_USER"),
        account=fields.get("SLURM_JOB_ACCOUNT"),
        partition=fields.get("SLURM_JOB_PARTITION"),
        gpus=tuple(sorted(_gpus(fields.get("SLURM_JOB_GPUS", "")))),
        written_ns=written_ns,
    )


def _gpus(text: str) -> set[int]:
    """The numbers of `0,2-3`."""
    numbers: set[int] = set()
    for part in text.split(","):
        if match := _GPUS.fullmatch(part):
            first = int(match[1])
            numbers.update(range(first, min(int(match[2] or first), first + GPUS_MAX - 1) + 1))
    return set(sorted(numbers)[:GPUS_MAX])


class SlurmRecords:
    """The records in `folder`; empty: none are looked for. `refresh` lists it only where it changed."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.jobs: Mapping[str, SlurmJob] = {}
        self.exists = False
        self.problem: str | None = None
        """Why the folder, or one of its files, does not count; in words, with how to fix it."""
        self._signature: tuple[int, int] | None = None
        self._files: dict[str, tuple[tuple[int, int, int], SlurmJob]] = {}

    def refresh(self, *, is_due: bool) -> None:
        """`is_due`: list it even where its time of change is the same; two changes within a clock tick have one."""
        try:
            status = os.stat(self.folder) if self.folder and (self.exists or is_due) else None
        except OSError:
            status = None
        self.exists = status is not None
        if status is None:
            self.jobs, self._files, self._signature, self.problem = {}, {}, None, None
            return
        signature = (status.st_ino, status.st_mtime_ns)
        if signature == self._signature and not is_due:
            return
        self._signature = signature
        before = self.problem
        try:
            _check_owner(self.folder, status)
            self.jobs = dict(self._read(status.st_uid))
        except (UntrustedRecordError, OSError) as error:
            self.jobs, self._files, self.problem = {}, {}, str(error)
        if self.problem is not None and self.problem != before:
            log.warning("slurm: %s", self.problem)

    def _read(self, owner: int) -> Iterator[tuple[str, SlurmJob]]:
        self.problem = None
        names = sorted((name for name in os.listdir(self.folder) if _JOB.fullmatch(name)), key=int)
        if len(names) > RECORDS_MAX:
            self.problem = f"{self.folder}: expected at most {RECORDS_MAX} jobs, found {len(names)}; is the epilog run?"
            names = names[-RECORDS_MAX:]
        files = {}
        for name in names:
            try:
                files[name] = self._file(name, owner)
                yield name, files[name][1]
            except FileNotFoundError:
                continue  # its epilog ran
            except (UntrustedRecordError, OSError) as error:
                self.problem = f"{self.folder}/{name}: {error}; remove it, and use the prolog of docs/slurm.md"
        self._files = files

    def _file(self, name: str, owner: int) -> tuple[tuple[int, int, int], SlurmJob]:
        descriptor = os.open(f"{self.folder}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            signature = (status.st_ino, status.st_mtime_ns, status.st_size)
            if (known := self._files.get(name)) is not None and known[0] == signature:
                return known
            if not stat.S_ISREG(status.st_mode) or status.st_uid != owner or status.st_size > RECORD_BYTES_MAX:
                raise UntrustedRecordError(
                    f"expected a file of at most {RECORD_BYTES_MAX} bytes of user {owner}, found "
                    f"{status.st_size} bytes of user {status.st_uid}"
                )
            return signature, read_record(name, os.read(descriptor, RECORD_BYTES_MAX), status.st_mtime_ns)
        finally:
            os.close(descriptor)


def _check_owner(folder: str, status: os.stat_result) -> None:
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
        raise UntrustedRecordError(
            f"{folder}: expected a folder that only root may write to, found mode {stat.S_IMODE(status.st_mode):o} of "
            f"user {status.st_uid}; remove it, and let the prolog make it"
        )
