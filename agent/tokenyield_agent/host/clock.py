"""The host's two clocks, and the boot since which the monotonic one runs."""

import time
from pathlib import Path


class HostClock:
    """Instants in ns."""

    def mono_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.time_ns()

    def boot_id(self) -> str:
        """Empty where the system does not report one."""
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:
            return ""
