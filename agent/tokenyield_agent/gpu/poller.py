"""A reader that may not keep the agent waiting: it works in a thread of its own, and a reading has its time.

In: how to open a `GpuReader`, and the longest that a reading may take. Out: its snapshots. A driver that hangs (for
seconds while a GPU resets, for ever when it is wedged) leaves its thread hanging and nothing else: until the reading
comes back every known GPU is lost with the reason `nvml_slow`, and logs are followed and windows shipped all the same.
What the GPUs used meanwhile is in their counters, and is told with the next reading.
"""

import logging
import threading
import time
from collections.abc import Callable

from tokenyield_agent.gpu.reading import GpuReader, Snapshot

log = logging.getLogger(__name__)

FIRST_READ_S_MAX = 30.0
"""NVML takes seconds to initialise where no persistence daemon keeps the GPUs awake."""
CLOSE_S = 2.0


class Poller:
    """A `GpuReader` on top of another, all of whose calls happen in one thread."""

    def __init__(self, open_reader: Callable[[], GpuReader], *, read_s_max: float) -> None:
        self._open_reader = open_reader
        self._read_s_max = read_s_max
        self._wait_s = FIRST_READ_S_MAX
        self._wanted = threading.Semaphore(0)
        self._done = threading.Semaphore(0)
        self._is_reading = self._is_closing = self._is_late = False
        self._snapshot = Snapshot()
        self._known: set[str] = set()
        self._reader: GpuReader | None = None
        self._hangs = 0
        self.read_seconds = 0.0
        """What readings have taken, in all."""
        self._thread = threading.Thread(target=self._run, name="gpus", daemon=True)
        self._thread.start()

    def read(self) -> Snapshot:
        if not self._is_reading:
            self._is_reading = True
            self._wanted.release()
        is_done = self._done.acquire(timeout=self._wait_s)
        self._wait_s = self._read_s_max
        if not is_done:
            if not self._is_late:
                self._is_late = True
                self._hangs += 1
                log.warning("NVML has not answered for %.1f s; GPU time is reported as unknown", self._read_s_max)
            return Snapshot(lost=dict.fromkeys(self._known, "nvml_slow"), problem="NVML does not answer in time")
        if self._is_late:
            log.info("NVML answers again")
        self._is_reading = self._is_late = False
        self._known = {gpu.uuid for gpu in self._snapshot.gpus} | self._snapshot.lost.keys()
        return self._snapshot

    def close(self) -> None:
        """Waits only shortly for a reading that hangs."""
        self._is_closing = True
        self._wanted.release()
        self._thread.join(CLOSE_S)

    @property
    def faults(self) -> dict[str, int]:
        """How often each kind of fault began, for the agent's own metrics."""
        of_reader = dict(getattr(self._reader, "faults", {}))
        return {**of_reader, "nvml_slow": self._hangs} if self._hangs else of_reader

    def _run(self) -> None:
        while True:
            self._wanted.acquire()
            if self._is_closing:
                break
            started_s = time.monotonic()
            try:
                self._reader = self._reader or self._open_reader()
                self._snapshot = self._reader.read()
            except Exception as error:
                log.exception("reading the GPUs failed")
                self._snapshot = Snapshot(
                    lost=dict.fromkeys(self._known, "unread"), problem=f"reading the GPUs failed: {error}"
                )
            self.read_seconds += time.monotonic() - started_s
            self._done.release()
        if self._reader is not None:
            self._reader.close()
