"""A machine within this one: mounts, network, processes and host name of its own, so that a node finds and leaves all where a
real one does (/var/lib/kubelet, /var/log/pods, iptables, …) and nothing of it is left here.

All its processes live in one PID namespace, whose first process ends with the process that made it: the kernel then ends all
others, and removes the mounts, interfaces, routes and firewall rules with them. What remains is removed by `stop`: its folder and its
cgroups; and where the tests were killed, by the next `start`. Needs root.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness import wait_until

HERE, THERE = "10.213.0.1", "10.213.0.2"
"""Addresses of the two ends of the cable between this machine and the other."""
INTERFACE = "tykube"
CPU_SHARES = "16384"
"""Of all pods together; 1024 are those of one process of a busy machine."""
PREFIX = "tykube-"
CGROUPS = Path("/sys/fs/cgroup")
PRIVATE = ("/var/lib", "/var/log", "/run", "/opt", "/home", "/mnt")
"""What the machine has of its own, empty at first; all else is this machine's, for reading: what a pod or the kubelet writes
elsewhere would stay here. Each Debian has these folders."""
READ_ONLY = ("/etc", "/usr", "/root", "/srv")

PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_FIRST = """
set -e
mount --make-rprivate /
mount -t proc proc /proc
mkdir -p {disk}
{mounts}
mkdir -p /run/netns /run/lock
hostname {name}
ip link set lo up
touch {ready}
while :; do sleep 3600; done
"""
"""Of the shell that is the first process; while it waits for `sleep` it also takes leave of processes that nobody else waits for."""


class Machine:
    """`start` and `stop` it once. `name`: its host name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/var/tmp"))
        self.cgroup = f"/{self.folder.name}"
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        self._first = 0

    def start(self) -> None:
        _remove_leftovers(self.folder)
        ready = self.folder / "ready"
        disk = self.folder / "disk"
        mounts = "\n".join(
            f"mkdir -p {disk}{path}; mount --bind {disk}{path} {path}"
            for path in PRIVATE  # on the disk: an overlay cannot lie on an overlay
        )
        mounts += "".join(f"\nmount --bind {path} {path}; mount -o remount,ro,bind {path}" for path in READ_ONLY)
        script = _FIRST.format(disk=disk, mounts=mounts, name=self.name, ready=ready)
        call = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--net", "--uts", "--ipc", "--pid", "--fork",
                "--kill-child", "bash", "-c", script]  # fmt: skip
        with self.log("machine").open("ab") as out:
            self._outer = subprocess.Popen(call, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        wait_until(
            lambda: ready.exists() or self._outer.poll() is not None, what="the machine's first process is ready"
        )
        assert self._outer.poll() is None, f"its first process ended: {self.log('machine').read_text()}"
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        self._first = int(children[0])
        for controller in _controllers():
            (controller / self.cgroup[1:]).mkdir(exist_ok=True)
            if (controller / "cpuset.cpus").exists():
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (controller / self.cgroup[1:] / name).write_text((controller / name).read_text())
            if (controller / self.cgroup[1:] / "cpu.shares").exists():
                (controller / self.cgroup[1:] / "cpu.shares").write_text(CPU_SHARES)
        self._connect()

    def _connect(self) -> None:
        """A cable, and on it the way to the addresses of pods and services."""
        for call in (
            f"ip link add {INTERFACE} type veth peer name eth0 netns {self._first}",
            f"ip address add {HERE}/24 dev {INTERFACE}",
            f"ip link set {INTERFACE} up",
        ):
            subprocess.run(call.split(), check=True)
        for call in (
            f"ip address add {THERE}/24 dev eth0",
            "ip link set eth0 up",
            f"ip route add default via {HERE}",
            "sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1",
        ):
            self.run(*call.split())

    def route(self, network: str) -> None:
        """Reach that network (CIDR) of the machine from here."""
        subprocess.run(["ip", "route", "add", network, "via", THERE], check=True)

    def _inside(self) -> list[str]:
        return ["nsenter", "--target", str(self._first), "--mount", "--net", "--uts", "--ipc", "--pid", "--"]

    def run(self, *call: str, text: str | None = None) -> str:
        """What the command writes; it must end with 0. `text`: its input."""
        done = subprocess.run([*self._inside(), *call], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(call)}: {done.stderr[-3000:]}"
        return done.stdout

    def launch(self, name: str, *call: str) -> None:
        """Start a program whose output goes to its log."""
        with self.log(name).open("ab") as out:
            self._programs[name] = subprocess.Popen([*self._inside(), *call], stdin=subprocess.DEVNULL, stdout=out,
                                                    stderr=out, env={"PATH": PROGRAMS, "HOME": "/root"})  # fmt: skip

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def assert_all_run(self) -> None:
        for name, program in self._programs.items():
            assert program.poll() is None, f"{name} ended: {self.log(name).read_text(errors='replace')[-3000:]}"

    def path(self, inside: str) -> Path:
        """Of a file of the machine, from here."""
        return Path(f"/proc/{self._first}/root{inside}")

    def processes(self, words: Sequence[str]) -> list[int]:
        """The machine's own numbers of processes whose command line has these words."""
        pids = []
        for folder in self.path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                line = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if all(any(word in part for part in line) for word in words):
                    pids.append(int(folder.name))
        return pids

    def stop(self) -> None:
        if self._first:
            os.kill(self._first, signal.SIGKILL)  # the kernel ends all others of its PID namespace
        self._outer.wait()
        subprocess.run(["ip", "link", "delete", INTERFACE], check=False, capture_output=True)  # at once
        for program in self._programs.values():
            program.wait()
        _remove(self.folder)


def _remove_leftovers(mine: Path) -> None:
    """Of tests that were killed: the kernel has ended their processes. Fails where another machine runs: it has the same addresses."""
    assert not Path("/sys/class/net", INTERFACE).exists(), (
        f"another machine runs here: there is an interface {INTERFACE}"
    )
    for folder in mine.parent.glob(f"{PREFIX}*"):
        if folder != mine:
            _remove(folder)


def _remove(folder: Path) -> None:
    for controller in _controllers():
        for group in sorted(controller.glob(f"{folder.name}/**/"), key=lambda path: -len(path.parts)):
            wait_until(lambda group=group: _removed(group), what=f"{group} is empty")  # type: ignore[misc]
    shutil.rmtree(folder)


def _controllers() -> list[Path]:
    """The folder of each hierarchy that can be written."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in CGROUPS.iterdir() if (path / "cgroup.procs").exists() and not path.is_symlink()]


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
