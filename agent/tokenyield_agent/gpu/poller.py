"""A reader that may not keep the agent waiting: it works in a thread of its own, and a reading has its time.

In: how to open a `GpuReader`, its name, and the longest that a reading may take. Out: its snapshots. A driver that
hangs (for seconds while a GPU resets, for ever when it is wedged) leaves its thread hanging and nothing else: until the
reading comes back every known GPU is lost with the reason `<name>_slow`, and logs are followed and windows shipped all
the same. What the GPUs used meanwhile is in their counters, and is reported with the next reading.

The driver can be let go for a while, because a GPU cannot be reset while a process has it open: then every known GPU is
lost with the reason `released`, and the reader is read again when the time is over.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping

from tokenyield_agent.gpu.reading import GpuReader, Snapshot
from tokenyield_agent.supervision import Supervisor

log = logging.getLogger(__name__)

FIRST_READ_S_MAX = 30.0
"""A driver takes seconds to initialise where nothing keeps the GPUs awake."""
CLOSE_S = 2.0
RELEASED = "released"


class Poller:
    """A `GpuReader` on top of another, all of whose calls happen in one thread."""

    def __init__(
        self,
        open_reader: Callable[[], GpuReader],
        *,
        name: str,
        read_s_max: float,
        supervisor: Supervisor | None = None,
    ) -> None:
        self._open_reader = open_reader
        self._name = name
        self._read_s_max = read_s_max
        self._wait_s = FIRST_READ_S_MAX
        # Plain locks, which one thread takes and the other gives back: a semaphore is made of Python.
        self._requested, self._done = threading.Lock(), threading.Lock()
        self._requested.acquire()
        self._done.acquire()
        self._is_reading = self._is_closing = self._is_late = False
        self._snapshot = Snapshot()
        self._known_uuids: set[str] = set()
        self._reader: GpuReader | None = None
        self._hangs = self._broke = 0
        self._error: str | None = None
        """Of the last reading."""
        self._released_until_s = 0.0
        self.is_released = False
        """Whether the driver is let go at present."""
        self.read_seconds = 0.0
        self._closed = threading.Event()
        (supervisor or Supervisor()).start("gpus", self._run)

    def read(self) -> Snapshot:
        """The reader's snapshot, or after `read_s_max` one in which every known GPU is lost."""
        if not self._is_reading:
            self._is_reading = True
            self._requested.release()
        is_done = self._done.acquire(timeout=self._wait_s)
        self._wait_s = self._read_s_max
        if not is_done:
            return self._late()
        if self._is_late:
            log.info("%s answers again", self._name)
        self._is_reading = self._is_late = False
        self._known_uuids = {gpu.uuid for gpu in self._snapshot.gpus} | self._snapshot.lost.keys()
        return self._snapshot

    def _late(self) -> Snapshot:
        if not self._is_late:
            self._is_late = True
            self._hangs += 1
            log.warning("%s has not answered for %.1f s; GPU time is reported as unknown", self._name, self._read_s_max)
        lost = dict.fromkeys(self._known_uuids, f"{self._name}_slow")
        return Snapshot(lost=lost, problem=f"{self._name} does not answer in time")

    def release(self, seconds: float) -> None:
        """Let go of the driver for so long, from the next `read` on; 0 takes it up again."""
        self._released_until_s = time.monotonic() + seconds

    def close(self) -> None:
        """Waits only shortly for a reading that hangs."""
        self._is_closing = True
        with contextlib.suppress(RuntimeError):  # a reading is requested already
            self._requested.release()
        self._closed.wait(CLOSE_S)

    @property
    def faults(self) -> Mapping[str, int]:
        """The reader's own, and how often a reading took too long, or failed as a whole."""
        of_reader = dict(self._reader.faults) if self._reader is not None else {}
        own = {f"{self._name}_slow": self._hangs, f"{self._name}_broke": self._broke}
        return {**of_reader, **{kind: times for kind, times in own.items() if times}}

    def _run(self) -> None:
        while True:
            self._requested.acquire()
            if self._is_closing:
                break
            started_s = time.monotonic()
            self._snapshot = self._unread("reading the GPUs failed")
            try:
                self._snapshot = self._read_or_release(started_s)
                self._error = None
            except Exception as error:
                self._snapshot = self._unread(f"reading the GPUs failed: {error}")
                self._broke += 1
                if repr(error) != self._error:  # once per change of state
                    log.error("reading the GPUs failed", exc_info=error)
                self._error = repr(error)
            finally:
                self.read_seconds += time.monotonic() - started_s
                self._done.release()
        if self._reader is not None:
            self._reader.close()
        self._closed.set()

    def _unread(self, problem: str) -> Snapshot:
        return Snapshot(lost=dict.fromkeys(self._known_uuids, "unread"), problem=problem)

    def _read_or_release(self, now_s: float) -> Snapshot:
        if now_s < self._released_until_s:
            if not self.is_released:
                if self._reader is not None:
                    self._reader.close()
                log.info("%s is let go for %.0f s", self._name, self._released_until_s - now_s)
            self.is_released = True
            lost = dict.fromkeys(self._known_uuids, RELEASED)
            return Snapshot(lost=lost, problem=f"{self._name} is let go, as was requested")
        if self.is_released:
            log.info("%s is taken up again", self._name)
        self.is_released = False
        self._reader = self._reader or self._open_reader()
        return self._reader.read()
