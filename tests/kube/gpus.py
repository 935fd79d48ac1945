"""The node's GPUs, as its driver shows them: which process holds which one, by what really runs in the pods.

In: the machine whose processes they are. Out: the scenario of the NVML stand-in, written anew when a process comes or goes.
"""

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from kube.machine import Machine
from nvml.stand_in import gpu_lines

UUIDS = ("GPU-00000000-stand-in", "GPU-00000001-stand-in")
SERVER = "/llama-server"
"""Programs that use the GPU that their container got; others, such as `sleep`, open none."""
IDLE_MW, BUSY_MW = 70_000, 300_000
LOOK_S = 0.2
NEVER_S = 1e9


@dataclass
class _Holder:
    gpu: int
    since_s: float
    until_s: float = NEVER_S


class Gpus:
    """`file`: the scenario, in a folder that is mounted into containers."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._epoch_s = time.monotonic()
        self._holders: dict[int, _Holder] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._write()

    def follow(self, machine: Machine) -> None:
        self._thread = threading.Thread(target=self._run, args=(machine.path("/proc"),))
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()

    def _run(self, processes: Path) -> None:
        while not self._stop.wait(LOOK_S):
            with contextlib.suppress(OSError):  # the machine ends
                self._look(processes)

    def _look(self, processes: Path) -> None:
        alive = {int(name) for name in os.listdir(processes) if name.isdigit()}
        now_s = time.monotonic() - self._epoch_s
        changed = False
        for pid, holder in self._holders.items():
            if pid not in alive and holder.until_s == NEVER_S:
                holder.until_s, changed = now_s, True
        for pid in alive - self._holders.keys():
            gpu = _gpu_of(processes / str(pid))
            if gpu is not None:
                self._holders[pid], changed = _Holder(gpu, now_s), True
        if changed:
            self._write()

    def _write(self) -> None:
        lines = [f"epoch {self._epoch_s!r}"]
        for gpu in range(len(UUIDS)):
            lines += gpu_lines(gpu, milliwatts=IDLE_MW, percent=0)
        for pid, holder in self._holders.items():
            lines.append(f"proc {holder.gpu} {pid} 70000 90 {holder.since_s} {holder.until_s}")
            lines += [f"power {holder.gpu} {holder.since_s} {BUSY_MW}", f"util {holder.gpu} {holder.since_s} 95"]
            if holder.until_s != NEVER_S:
                lines += [f"power {holder.gpu} {holder.until_s} {IDLE_MW}", f"util {holder.gpu} {holder.until_s} 0"]
        partial = self._file.with_suffix(".partial")
        partial.write_text("\n".join(lines) + "\n")
        partial.rename(self._file)


def _gpu_of(process: Path) -> int | None:
    """The GPU that a server of a container got."""
    try:
        command = (process / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
        if command != SERVER:
            return None
        environment = (process / "environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return None
    given = dict(line.partition("=")[::2] for line in environment).get("NVIDIA_VISIBLE_DEVICES")
    return UUIDS.index(given) if given in UUIDS else None
