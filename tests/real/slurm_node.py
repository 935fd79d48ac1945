"""A Slurm of one node: munged, slurmctld and slurmd, with all that they write in one folder, and GPUs that are device files.

The prolog is that of docs/slurm.md, with its folder here. Jobs run as other users, so the folder is one that all can enter.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from harness import free_port, wait_until
from tokenyield_agent.workloads.slurm_records import SlurmJob, read_record

PAGE = (Path(__file__).parents[2] / "docs" / "slurm.md").read_text()
CGROUPS = Path("/sys/fs/cgroup")
NULL_DEVICE = os.makedev(1, 3)
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={controller_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdLogFile={folder}/slurmd.log
SlurmctldLogFile={folder}/slurmctld.log
ProctrackType={tracker}
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
Prolog={folder}/prolog
Epilog={folder}/prolog
PrologFlags=Alloc
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port} CPUs=8 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=train Nodes={node} Default=YES State=UP
PartitionName=notebooks Nodes={node} State=UP
"""


def block_of_page(start: str, end: str) -> str:
    """What stands on docs/slurm.md between two texts."""
    match = re.search(re.escape(start) + "(.*?)" + re.escape(end), PAGE, re.DOTALL)
    assert match is not None, start
    return match[1]


class SlurmNode:
    """`tracker`: how slurmd follows a job's processes, `proctrack/cgroup` (v1) or `proctrack/linuxproc`."""

    def __init__(self, folder: Path, *, tracker: str, gpus: int) -> None:
        self.folder, self.jobs, self.out = folder, folder / "jobs", folder / "out"
        self._cgroup = f"slurm_ty{os.getpid()}"
        self._daemons: list[subprocess.Popen[bytes]] = []
        for name in ("state", "spool", "out"):
            (folder / name).mkdir()
        self.out.chmod(0o777)
        key = folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        for gpu in range(gpus):
            os.mknod(folder / f"nvidia{gpu}", 0o20666, NULL_DEVICE)
        prolog = block_of_page("tokenyield-prolog <<'EOF'\n", "\nEOF\n")
        assert "folder=/run/tokenyield-slurm\n" in prolog
        (folder / "prolog").write_text(prolog.replace("/run/tokenyield-slurm", str(self.jobs)) + "\n")
        (folder / "prolog").chmod(0o755)
        conf = CONF.format(
            host=socket.gethostname().partition(".")[0],
            node=self._cgroup.removeprefix("slurm_"),
            folder=folder,
            tracker=tracker,
            gpus=gpus,
            controller_port=free_port(),
            node_port=free_port(),
        )
        (folder / "slurm.conf").write_text(conf)
        (folder / "gres.conf").write_text(f"Name=gpu File={folder}/nvidia[0-{gpus - 1}]\n")
        (folder / "cgroup.conf").write_text(f"CgroupPlugin=cgroup/v1\nCgroupMountpoint={CGROUPS}\n")
        self.env = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def start(self) -> None:
        munge = f"munged --foreground --force --key-file={self.folder}/munge.key --socket={self.folder}/munge.socket"
        munge += "".join(f" --{name}-file={self.folder}/munge.{name}" for name in ("pid", "log", "seed"))
        for command in (munge, "slurmctld -D", f"slurmd -D -f {self.folder}/slurm.conf"):
            words = command.split()
            with (self.folder / f"{words[0]}.out").open("wb") as out:
                self._daemons.append(subprocess.Popen(words, env=self.env, stdout=out, stderr=out))
            if words[0] == "munged":
                wait_until((self.folder / "munge.socket").exists, what="munged listens")
        wait_until(lambda: "idle" in self._try("sinfo --noheader --format %T"), what=f"the node is up; {self.logs()}")

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-1500:] for path in sorted(self.folder.glob("*.log")))

    def _try(self, command: str) -> str:
        return subprocess.run(shlex.split(command), env=self.env, check=False, capture_output=True, text=True).stdout

    def run(self, command: str) -> str:
        done = subprocess.run(shlex.split(command), env=self.env, check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def submit(self, script: str, *options: str, user: str = "nobody") -> str:
        """The number of a job of one GPU; of an array the number that its one task has. In `script`, `note NAME` writes
        the number of its own process into `out`, for `pid_of`."""
        note = f'note() {{ echo "$$ $SLURM_JOB_ID" >{self.out}/"$1"; }}\n'
        call = [
            "sbatch",
            "--parsable",
            f"--uid={user}",
            "--gres=gpu:1",
            "--chdir=/",
            f"--output={self.out}/%A.out",
            *options,
        ]
        done = subprocess.run(
            call, input=f"#!/bin/bash\n{note}{script}\n", env=self.env, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def pid_of(self, name: str, *, other_than: int = 0) -> int:
        file = self.out / name

        def pid() -> int:
            words = file.read_text().split() if file.exists() else []
            return int(words[0]) if words else 0

        wait_until(lambda: pid() not in (0, other_than), what=f"{name} runs; {self.logs()}")
        return pid()

    def record_of(self, job: str) -> SlurmJob:
        file = self.jobs / job
        wait_until(file.exists, what=f"the prolog of job {job} ran; {self.logs()}")
        return read_record(job, file.read_bytes())

    def stop(self) -> None:
        """All of it, and what jobs left: each has this folder in its environment, or is a daemon of it."""
        self._try("scancel --state=RUNNING --full --signal=KILL --partition=train,notebooks")
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(20)
        for pid in self._left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self._left(), what="no process of this Slurm is left")
        for folder in sorted(CGROUPS.glob(f"*/{self._cgroup}"), reverse=True):
            for level in [*sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True), folder]:
                with contextlib.suppress(OSError):
                    level.rmdir()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _left(self) -> list[int]:
        own = f"SLURM_CONF={self.folder}/slurm.conf".encode()
        left = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if own in (entry / "environ").read_bytes().split(b"\0") and int(entry.name) != os.getpid():
                    left.append(int(entry.name))
        return left
