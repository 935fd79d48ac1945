"""The host's own energy, beside its GPUs'.

In: the kernel's files. Out: mJ since the last `read()`, and where they are from:

* `rapl`: processors and memory, by the counters under /sys/class/powercap (Intel and AMD). Readable by root, or by
  users whom the administrator allows (since 2020, against side channels). Fans, disks, network cards and power supplies
  are not in it.
* `dcmi`: the whole machine as its management controller measures it, GPUs included: `ipmitool dcmi power reading`,
  where ipmitool is installed and /dev/ipmi0 may be opened; read every `DCMI_EVERY_S` in a thread, for it takes a while.
* `power_meter`: the same by ACPI, where the kernel shows a hwmon of that name.

The best that can be read is chosen once, at the start: the whole machine before a part of it. From the whole machine
the collector, which has both, takes the GPUs' own energy off.
"""

import logging
import os
import re
import threading
import time
from pathlib import Path
from typing import NamedTuple, Protocol

from tokenyield_agent.supervision import Supervised, Supervisor

log = logging.getLogger(__name__)

DCMI_EVERY_S = 10.0
GAP_S_MAX = 60.0
"""Between two readings of power; nothing is integrated over more."""
_WATTS = re.compile(r"Instantaneous power reading:\s+(\d+) Watts")


class HostEnergy(NamedTuple):
    """`mj` since the reading before; `source` as above."""

    mj: int
    source: str


class EnergyMeter(Protocol):
    """One way to measure the host; `source` is its name."""

    source: str

    def read(self, mono_s: float) -> int | None:
        """mJ since the last call; None at the first, and where it is not known. Raises OSError, ValueError."""
        ...

    def close(self) -> None:
        """Stop measuring."""
        ...


class Rapl:
    """Counters of every package and of memory that is no part of one."""

    source = "rapl"

    def __init__(self, root: Path) -> None:
        self._zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if _counts(zone)]
        self._before: dict[Path, int] = {}

    def is_there(self) -> bool:
        """Whether there is one, and it can be read."""
        return bool(self._zones) and all(os.access(zone / "energy_uj", os.R_OK) for zone in self._zones)

    def read(self, mono_s: float) -> int | None:
        used_uj, is_first = 0, not self._before
        for zone in self._zones:
            total_uj = _number(zone / "energy_uj")
            growth_uj = total_uj - self._before.get(zone, total_uj)
            used_uj += growth_uj if growth_uj >= 0 else growth_uj + _number(zone / "max_energy_range_uj")
            self._before[zone] = total_uj
        return None if is_first else used_uj // 1000

    def close(self) -> None: ...


def _counts(zone: Path) -> bool:
    """Packages, and the memory beside them. `core` and `uncore` are in the package, and `psys` holds it."""
    try:
        name = (zone / "name").read_text(encoding="ascii").strip()
    except OSError:
        return False
    return name.startswith("package") or name == "dram"


class _PowerIntegral:
    """Power between two readings, by trapezoid."""

    def __init__(self) -> None:
        self._before: tuple[float, int] | None = None

    def add(self, at_s: float, mw: int) -> int | None:
        before, self._before = self._before, (at_s, mw)
        if before is None or not 0 <= at_s - before[0] <= GAP_S_MAX:
            return None
        return round((before[1] + mw) / 2 * (at_s - before[0]))


class PowerMeter:
    """ACPI's, as hwmon shows it."""

    source = "power_meter"

    def __init__(self, root: Path) -> None:
        named = (folder for folder in sorted(root.glob("hwmon*")) if _name(folder) == "power_meter")
        self._file = next((folder / "power1_average" for folder in named), root / "none")
        self._sum = _PowerIntegral()

    def is_there(self) -> bool:
        return os.access(self._file, os.R_OK)

    def read(self, mono_s: float) -> int | None:
        return self._sum.add(mono_s, _number(self._file) // 1000)

    def close(self) -> None: ...


class Dcmi:
    """The management controller's, through ipmitool."""

    source = "dcmi"

    def __init__(self, device: str = "/dev/ipmi0", supervisor: Supervisor | None = None) -> None:
        self._program: str | None = None
        self._device = device
        self._lock = threading.Lock()
        self._sum = _PowerIntegral()
        self._waiting_mj: int | None = None
        self._stop = threading.Event()
        self._supervisor = supervisor or Supervisor()
        self._thread: Supervised | None = None

    def is_there(self) -> bool:
        if not os.access(self._device, os.R_OK | os.W_OK):
            return False
        import shutil

        self._program = shutil.which("ipmitool")
        return self._program is not None and self._watts() is not None

    def _watts(self) -> int | None:
        import subprocess  # only where there is a controller: it takes a megabyte

        assert self._program is not None
        try:
            call = [self._program, "dcmi", "power", "reading"]
            done = subprocess.run(call, capture_output=True, text=True, timeout=DCMI_EVERY_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            log.debug("ipmitool: %s", error)
            return None
        match = _WATTS.search(done.stdout)
        return int(match[1]) if match else None

    def read(self, mono_s: float) -> int | None:
        if self._thread is None:
            self._thread = self._supervisor.start("dcmi", self._run, silent_s_max=20 * DCMI_EVERY_S)
        with self._lock:
            used_mj, self._waiting_mj = self._waiting_mj, None
        return used_mj

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._thread is not None:
                self._thread.beat()
            watts = self._watts()
            if watts is not None and (used_mj := self._sum.add(time.monotonic(), watts * 1000)) is not None:
                with self._lock:
                    self._waiting_mj = (self._waiting_mj or 0) + used_mj
            self._stop.wait(DCMI_EVERY_S)

    def close(self) -> None:
        self._stop.set()


class HostMeter:
    """The best meter of this host, or none. `choice`: `auto`, `off`, or the only one to try."""

    def __init__(self, choice: str, sys_root: str = "/sys", supervisor: Supervisor | None = None) -> None:
        self._meter = _choose(choice, Path(sys_root), supervisor)
        self._has_failed = False

    @property
    def source(self) -> str | None:
        """The meter's name; None where there is no meter."""
        return self._meter.source if self._meter is not None else None

    def read(self, mono_s: float) -> HostEnergy | None:
        """What was used since the last call. Never raises: a meter that fails is logged once, and read again."""
        if self._meter is None:
            return None
        try:
            used_mj = self._meter.read(mono_s)
        except (OSError, ValueError) as error:
            if not self._has_failed:
                log.warning("the host's energy cannot be read by %s: %s", self._meter.source, error)
            self._has_failed = True
            return None
        self._has_failed = False
        return None if used_mj is None or used_mj < 0 else HostEnergy(used_mj, self._meter.source)

    def close(self) -> None:
        if self._meter is not None:
            self._meter.close()


def _choose(choice: str, sys_root: Path, supervisor: Supervisor | None) -> EnergyMeter | None:
    if choice == "off":
        return None
    meters = (
        Dcmi(supervisor=supervisor),
        PowerMeter(sys_root / "class" / "hwmon"),
        Rapl(sys_root / "class" / "powercap"),
    )
    for meter in meters:
        if choice in ("auto", meter.source) and meter.is_there():
            log.info("the host's energy is read by %s", meter.source)
            return meter
    if choice != "auto":
        log.warning("host_energy: %s cannot be read here; see docs/gpu.md", choice)
    return None


def _name(folder: Path) -> str:
    try:
        return (folder / "name").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _number(file: Path) -> int:
    return int(file.read_text(encoding="ascii"))
