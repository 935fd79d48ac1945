"""A Debian with systemd in a folder, and that Debian booted: `python tests/real/debian_root.py CACHE` makes the folder.

In: a cache folder. Out: CACHE/debian-bookworm; `booted` runs a copy of it under systemd-nspawn. Needs root.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # also as a script

from real.cache_lock import alone

NAME = "debian-bookworm"
PACKAGES = "systemd,systemd-sysv,dbus,python3,procps,curl"
LEADER = "/usr/lib/systemd/systemd"


SNAPSHOTS = "http://snapshot.debian.org/archive/debian"


def make(cache: Path, snapshot: str = "") -> None:
    """The folder; `snapshot`: a time of snapshot.debian.org (20261101T000000Z), which fixes the version of every package."""
    name = f"{NAME}-{snapshot}" if snapshot else NAME
    mirror = [f"{SNAPSHOTS}/{snapshot}"] if snapshot else []
    root = cache / name
    with alone(cache, name):
        if (root / "made").exists():
            return
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root), *mirror],
                       check=True)  # fmt: skip
        (root / "made").touch()


class Booted:
    """A running systemd. `run` runs a shell script within."""

    def __init__(self, leader: int) -> None:
        self.leader = leader
        self.root = Path(f"/proc/{leader}/root")

    def run(self, script: str, *, check: bool = True) -> str:
        call = ["nsenter", "--target", str(self.leader), "--all", "/bin/bash", "-c", script]
        done = subprocess.run(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode == 0 or not check, f"{script}\n{done.stdout}"
        return done.stdout

    def put(self, source: Path, target: str) -> None:
        shutil.copyfile(source, self.root / target.lstrip("/"))


@contextlib.contextmanager
def booted(cache: Path, folder: Path) -> Iterator[Booted]:
    """A copy of the Debian, booted in namespaces of its own (but the host's network); gone afterwards."""
    call = ["systemd-nspawn", "--directory", str(cache / NAME), "--ephemeral", "--register=no", "--keep-unit", "--boot"]
    with (folder / "nspawn.out").open("wb") as out:
        process = subprocess.Popen([*call, "--console=pipe"], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        deadline_s = time.monotonic() + 120
        while (leader := _child(process.pid)) is None:
            assert process.poll() is None, (folder / "nspawn.out").read_text()
            assert time.monotonic() < deadline_s, "systemd did not start"
            time.sleep(0.2)
        machine = Booted(leader)
        while machine.run("systemctl is-system-running", check=False).strip() not in ("running", "degraded"):
            assert time.monotonic() < deadline_s, "systemd did not come up"
            time.sleep(0.5)
        yield machine
    finally:
        process.terminate()
        process.wait(60)


def _child(parent: int) -> int | None:
    """The systemd that `parent` started, by way of helpers perhaps."""
    parents = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, IndexError):
            stat = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            command = Path(f"/proc/{entry}/cmdline").read_text().split("\0")[0]
            parents[int(entry)] = (int(stat[1]), command)
    for pid, (above, command) in parents.items():
        if command in (LEADER, "/sbin/init"):
            while above > 1:
                if above == parent:
                    return pid
                above = parents.get(above, (0, ""))[0]
    return None


if __name__ == "__main__":
    make(Path(sys.argv[1]), os.environ.get("SNAPSHOT", ""))
