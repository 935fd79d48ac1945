"""Threads that do not end while the program lives, and who knows when one of them does not work.

In: what a thread does. Out: threads under one supervisor. Whatever is raised in one of them is counted and logged, and
it begins again after a pause that grows while it fails again and again. A thread that could not be started, or that the
interpreter ended, is started by `tend`, which the agent's own loop calls. A loop that shows that it moves (`beat`) and
then does not for longer than it may is named. `/healthz` shows all of that; systemd's watchdog hears nothing while a
thread is `unsound`.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

PAUSE_S_MIN, PAUSE_S_MAX = 1.0, 60.0
GOOD_S = 120.0
"""A thread that worked for so long was not ended by what ended it before."""
FAILURES_MAX = 10
"""In a row, after which a new process is the next thing to try."""


@dataclass(slots=True)
class Supervised:
    """One thread. Its own loop calls `beat` where `silent_s_max` is given."""

    name: str
    run: Callable[[], None]
    silent_s_max: float | None = None
    restarts: int = 0
    failures: int = 0
    """In a row."""
    problem: str | None = None
    """Of the last failure."""
    failed_at_s: float = 0.0
    is_over: bool = False
    """It ended as it was meant to."""
    beat_at_s: float = field(default_factory=time.monotonic)
    thread: threading.Thread | None = None

    def beat(self) -> None:
        """It moves."""
        self.beat_at_s = time.monotonic()

    def failing(self) -> str | None:
        """How it failed of late, in words."""
        if self.problem is None or time.monotonic() - self.failed_at_s > GOOD_S:
            return None
        return f"the thread {self.name} failed with {self.problem} and was started again; report it"

    def unsound(self) -> str | None:
        """Why a new process is the next thing to try, in words."""
        if self.is_over:
            return None
        if self.failures >= FAILURES_MAX and (problem := self.failing()) is not None:
            return problem
        silent_s = time.monotonic() - self.beat_at_s
        if self.silent_s_max is not None and silent_s > self.silent_s_max:
            return f"the thread {self.name} has not moved for {silent_s:.0f} s"
        return None


class Supervisor:
    """All threads of the agent that are to live as long as it does."""

    def __init__(self) -> None:
        self._threads: dict[str, Supervised] = {}
        self._stop = threading.Event()

    def start(self, name: str, run: Callable[[], None], *, silent_s_max: float | None = None) -> Supervised:
        """Run it in a thread of that name. `run` returns when its own stop is asked for."""
        supervised = self._threads[name] = Supervised(name, run, silent_s_max)
        self._begin(supervised)
        return supervised

    def tend(self) -> None:
        """Start what does not run."""
        for supervised in list(self._threads.values()):
            is_gone = supervised.thread is None or not supervised.thread.is_alive()
            if is_gone and not supervised.is_over and not self._stop.is_set():
                self._begin(supervised)

    def stop(self) -> None:
        """Nothing is started again."""
        self._stop.set()

    def restarts(self) -> dict[str, int]:
        return {name: supervised.restarts for name, supervised in self._threads.items()}

    def failing(self) -> list[str]:
        """What failed of late and works again or will, in words for people."""
        return [words for one in list(self._threads.values()) if (words := one.failing()) is not None]

    def unsound(self) -> list[str]:
        """Threads that fail again and again, or do not move any more."""
        return [words for one in list(self._threads.values()) if (words := one.unsound()) is not None]

    def _begin(self, supervised: Supervised) -> None:
        supervised.beat()
        thread = threading.Thread(target=self._live, args=(supervised,), name=supervised.name, daemon=True)
        try:
            thread.start()
            supervised.thread = thread
        except RuntimeError as error:  # the host has no thread left
            self._failed(supervised, error, 0.0)

    def _live(self, supervised: Supervised) -> None:
        while True:
            began_s = time.monotonic()
            supervised.beat()
            try:
                supervised.run()
                supervised.is_over, supervised.problem = True, None
                return
            except BaseException as error:  # noqa: BLE001 - no thread ends
                self._failed(supervised, error, time.monotonic() - began_s)
            pause_s = min(PAUSE_S_MAX, PAUSE_S_MIN * 2.0 ** min(supervised.failures - 1, 10))
            if self._stop.wait(pause_s):
                return

    def _failed(self, supervised: Supervised, error: BaseException, lived_s: float) -> None:
        supervised.failures = 1 if lived_s >= GOOD_S else supervised.failures + 1
        supervised.restarts += 1
        problem = f"{type(error).__name__}: {error}"[:300]
        if problem != supervised.problem:
            log.error("the thread %s failed and is started again; report it", supervised.name, exc_info=error)
        supervised.problem, supervised.failed_at_s = problem, time.monotonic()
