"""Builds the C stand-in of libnvidia-ml.so.1 and writes scenarios for it."""

import os
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("nvml_stand_in.c")
LIBRARY = "libnvidia-ml.so.1"


def build(folder: Path) -> Path:
    """Compile the stand-in into `folder`; returns the library's path."""
    library = folder / LIBRARY
    soname = f"-Wl,-soname,{LIBRARY}"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", soname, "-o", library, SOURCE], check=True)
    return library


class Scenario:
    """A scenario file; its times are seconds after `restart`."""

    def __init__(self, path: Path, mono_s: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._mono_s = mono_s
        self.epoch_s = 0.0
        self._lines: list[str] = []

    def restart(self, lines: Iterable[str]) -> None:
        """Time 0 is now. Takes effect at the next nvmlInit."""
        self.epoch_s = self._mono_s()
        self._lines = list(lines)
        self.path.write_text(f"epoch {self.epoch_s!r}\n" + "\n".join(self._lines) + "\n")

    def replace(self, lines: Iterable[str]) -> None:
        """Other lines, and time goes on, for a process that `follows`: it may read at any moment, so it is another file
        that takes the place."""
        self._lines = list(lines)
        self.epoch_s = self.epoch_s or self._mono_s()
        new = self.path.with_suffix(".new")
        new.write_text(f"epoch {self.epoch_s!r}\n" + "\n".join(self._lines) + "\n")
        new.rename(self.path)

    def restart_from(self, recorded: Path) -> None:
        """The same with a recorded scenario, whose bytes need not be text."""
        self.restart([])
        self.path.write_bytes(self.path.read_bytes() + recorded.read_bytes())

    def environment(self, library: Path, *, follows: bool = False) -> dict[str, str]:
        """For a process that is to see these GPUs. `follows`: what takes the file's place as well."""
        paths = f"{library.parent}:{os.environ.get('LD_LIBRARY_PATH', '')}".rstrip(":")
        own = {"LD_LIBRARY_PATH": paths, "TOKENYIELD_NVML_SCENARIO": str(self.path)}
        return {**os.environ, **own, **({"TOKENYIELD_NVML_FOLLOWS": "1"} if follows else {})}

    def energy_mj(self, gpu: int, at_mono_s: float) -> float:
        """What the stand-in's counter shows at `at_mono_s` less its base: the integral of the power curve."""
        steps = sorted(
            (float(parts[2]), int(parts[3]))
            for line in self._lines
            if (parts := line.split()) and parts[0] == "power" and int(parts[1]) == gpu
        )
        end_s = at_mono_s - self.epoch_s
        total = 0.0
        for i, (start_s, milliwatts) in enumerate(steps):
            stop_s = min(end_s, steps[i + 1][0] if i + 1 < len(steps) else end_s)
            total += milliwatts * max(0.0, stop_s - start_s)
        return total


def gpu_lines(gpu: int, *, milliwatts: int = 300_000, percent: int = 95, pid: int | None = None) -> list[str]:
    """A GPU that works steadily, held by `pid` if given."""
    lines = [
        f"gpu {gpu} GPU-0000000{gpu}-stand-in NVIDIA_H100_80GB_HBM3 81559 {1_000_000 * (gpu + 1)}",
        f"power {gpu} 0 {milliwatts}",
        f"util {gpu} 0 {percent}",
        f"used {gpu} 0 70000",
        f"temp {gpu} 0 60",
    ]
    return lines + ([f"proc {gpu} {pid} 70000 90 0 1000000"] if pid is not None else [])


ARCHITECTURES = {
    "Maxwell": ("energy", "average", "instant", "gpm"),
    "Pascal": ("energy", "average", "instant", "gpm"),
    "Volta": ("average", "instant", "gpm"),
    "Turing": ("average", "instant", "gpm"),
    "GA100": ("average", "gpm"),
    "Ampere": ("gpm",),
    "Ada": ("gpm",),
    "Hopper": (),
    "Blackwell": (),
    "vGPU guest": ("energy", "power", "average", "instant", "samples", "gpm", "temp", "clock", "throttle", "events"),
    "driver before 455": ("fields", "average", "instant", "gpm"),
}
"""What the GPUs of an architecture do not tell, by nvml.h: the energy counter begins with Volta, the mean and the
present power as field values with Ampere (the mean not on GA100), GPM with Hopper."""


def architecture_lines(gpu: int, architecture: str, **of_gpu: Any) -> list[str]:
    """A GPU that works steadily and tells what its architecture does."""
    return [
        *gpu_lines(gpu, **of_gpu),
        *(f"unsupported {gpu} {field}" for field in ARCHITECTURES[architecture]),
    ]
