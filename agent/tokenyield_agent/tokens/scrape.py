"""Scraping the counters of inference servers: one thread, and each server has its own turn.

In: targets, each the addresses where a workload's server may answer. Out: `ScrapeResult`s, which the agent's loop
takes. A target's addresses and paths are tried until one shows a known server's page; that one is scraped from then
on, every `interval_s`, when the loop triggers it: just after the logs were read, so that a log and a scrape describe
the same moment. A server that shows no counters before its first request is asked at the same pace. An address where
another program answers is left alone for an hour, unless the settings name it; one that does not answer is tried again
with growing pauses. Size and number of requests are bounded, and no answer can stop the thread.

No server waits for another. A turn is a generator that yields what it waits for (http/connection.py); the thread goes
on with whichever can, and gives up each exchange at its own deadline, whatever its server sends until then: headers
byte by byte, endless `100 Continue`, slow chunks. What all of them hold together is bounded too, and a server whose
pages take much processor time is asked more rarely.

A server whose counters stand still may be asked rarely, or not before its log shows a request (`when_idle`): older
versions of llama-server with `--sleep-idle-seconds` load their model to answer.
"""

import contextlib
import logging
import math
import select
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tokenyield_agent.http.connection import Need, Steps
from tokenyield_agent.supervision import Supervised, Supervisor
from tokenyield_agent.tokens.dialects.registry import COUNTERS, counters_of_page
from tokenyield_agent.tokens.endpoint import CounterNames, CounterReading, read
from tokenyield_agent.tokens.exposition import is_of_another_program
from tokenyield_agent.tokens.latency import NOTHING_READ, LatencyReading, read_latency
from tokenyield_agent.tokens.page_request import EndpointAddress, ScrapeError, page_steps, too_slow

log = logging.getLogger(__name__)

TARGETS_MAX = 128
RESULTS_MAX = 1024
"""Waiting to be taken. There are more only while the agent's loop is blocked, and then the oldest are dropped."""
PROBE_PAUSE_S = 0.2
"""Between two requests to addresses that are not known yet."""
EARLY = 0.1
"""By which part of the interval a target may be scraped early, so that a late trigger does not cost a whole one."""
RETRY_S_MIN, RETRY_S_MAX = 5.0, 300.0
RETRY_CONFIGURED_S_MAX = 30.0
RETRY_FOREIGN_S = 3600.0
"""Before an address where another program answers is tried again."""
STILL_S = 60.0
"""So long the counters of a server stand still, and no request is in progress, until it is taken for idle."""
RARELY_S = 600.0
"""Between two scrapes of a server that is idle and is to be asked rarely."""
HELD_FREE_BYTES = 256 * 1024
"""Of one page: no server's usual page is refused because others send much."""
HELD_BYTES_MAX = 16 * 1024 * 1024
"""Of all pages under way together, beyond that."""
READ_PART_MAX = 0.02
"""Of the thread's time, that one server's pages may take: one that costs more is asked more rarely."""
IDLE_S = 10.0
"""The thread shows that it moves at least so often."""
SILENT_S_MAX = 120.0
PATHS = tuple(dict.fromkeys(path for names in COUNTERS.values() for path in names.paths))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrapeResult:
    """One scrape of one target. `reading` is None where it did not answer; `refused`: nothing listens there."""

    target: str
    scraped_mono_s: float
    names: CounterNames | None = None
    reading: CounterReading | None = None
    latency: LatencyReading = NOTHING_READ
    refused: bool = False
    problem: str | None = None


@dataclass(slots=True)
class _Address:
    address: EndpointAddress
    retry_at_s: float = 0.0
    pause_s: float = field(default_factory=lambda: RETRY_S_MIN)


@dataclass(slots=True)
class _Target:
    addresses: list[_Address]
    known: tuple[EndpointAddress, CounterNames] | None = None
    has_counters: bool = False
    due_s: float = 0.0
    problem: str | None = None
    reason: str | None = None
    """Of `problem`, in one word."""
    values: dict[str, int] = field(default_factory=dict)
    """What its counters last showed, and since when they stand still."""
    still_since_s: float | None = None
    is_stirred: bool = False
    """Its log showed a request since it was last asked."""


class _Overdue(Exception):
    """An exchange took longer than it may."""


@dataclass(slots=True, eq=False)
class _Turn:
    """A server being asked."""

    name: str
    target: _Target
    steps: Steps[None]
    need: Need = field(default_factory=Need)
    until_s: float = 0.0
    """When the pause is over that it waits for."""
    deadline_s: float = math.inf
    """Of the present exchange."""
    held_bytes: int = 0
    spent_s: float = 0.0
    """Processor time that it took."""

    def is_ready(self, ready: set[int], now_s: float) -> bool:
        if self.need.sock is not None:
            return self.need.sock.fileno() in ready
        return now_s >= self.until_s


@dataclass(slots=True)
class _Shared:
    targets: dict[str, _Target] = field(default_factory=dict)
    results: list[ScrapeResult] = field(default_factory=list)


class Scraper:
    """The thread and what it shares with the agent's loop."""

    def __init__(self, *, interval_s: float, timeout_s: float, supervisor: Supervisor | None = None) -> None:
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._shared = _Shared()
        self._stop = threading.Event()
        self._woken: socket.socket | None = None
        self._waker: socket.socket | None = None
        """A pair, from the first target on: what is written into one ends the thread's wait at the other."""
        self._supervisor = supervisor or Supervisor()
        self._thread: Supervised | None = None
        self._turns: list[_Turn] = []
        self.counts = {"requests": 0, "failures": 0, "probes": 0}

    def set_targets(self, targets: Mapping[str, Iterable[EndpointAddress]]) -> None:
        """Scrape these from now on: a name and the addresses where it may answer."""
        with self._lock:
            before = self._shared.targets
            fresh: dict[str, _Target] = {}
            for name, named in list(targets.items())[:TARGETS_MAX]:
                addresses = list(dict.fromkeys(named))
                target = before.get(name)
                if target is not None and [one.address for one in target.addresses] == addresses:
                    fresh[name] = target
                else:
                    fresh[name] = _Target([_Address(address) for address in addresses])
            self._shared.targets = fresh
        if fresh and self._thread is None:
            self._woken, self._waker = socket.socketpair()
            for one in (self._woken, self._waker):
                one.setblocking(False)
            self._thread = self._supervisor.start("scrape", self._run, silent_s_max=SILENT_S_MAX)
        self._wake()

    def take(self) -> list[ScrapeResult]:
        """The results since the last call, oldest first."""
        with self._lock:
            results, self._shared.results = self._shared.results, []
        return results

    def answering(self) -> dict[str, tuple[str, str]]:
        """target -> (address, server) of those that have shown counters."""
        with self._lock:
            return {
                name: (target.known[0].shown, target.known[1].server)
                for name, target in self._shared.targets.items()
                if target.known is not None and target.has_counters
            }

    def recognized(self) -> set[str]:
        """Targets where a known server answers, with or without counters."""
        with self._lock:
            return {name for name, target in self._shared.targets.items() if target.known is not None}

    def problems(self) -> dict[str, str]:
        with self._lock:
            return {name: target.problem for name, target in self._shared.targets.items() if target.problem}

    def reasons(self) -> dict[str, str]:
        """The same, each in one word of a few."""
        with self._lock:
            return {name: target.reason for name, target in self._shared.targets.items() if target.reason}

    def trigger(self) -> None:
        """Scrape the targets that are due, now; the thread scrapes at no other time."""
        self._wake()

    def stir(self, name: str) -> None:
        """The target's log shows a request: it is not idle."""
        with self._lock:
            if (target := self._shared.targets.get(name)) is not None:
                target.is_stirred = True

    def stop(self) -> None:
        self._stop.set()
        self._wake()

    def _wake(self) -> None:
        if self._waker is not None:
            with contextlib.suppress(OSError):  # it is awake already, or closed
                self._waker.send(b"!")

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._go_on()
        finally:
            for turn in self._turns:
                turn.steps.close()
            self._turns = []
        for one in (self._woken, self._waker):
            if one is not None:
                one.close()

    def _go_on(self) -> None:
        """Wait until something can go on, and let it."""
        if self._thread is not None:
            self._thread.beat()
        woken = self._woken
        assert woken is not None
        ready = self._wait(woken)
        if woken.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                woken.recv(1 << 12)
            self._begin_turns()
        for turn in list(self._turns):
            now_s = time.monotonic()
            if now_s >= turn.deadline_s:
                self._step(turn, is_overdue=True)
            elif turn.is_ready(ready, now_s):
                self._step(turn)

    def _wait(self, woken: socket.socket) -> set[int]:
        """File descriptors that are ready."""
        poll = select.poll()
        poll.register(woken, select.POLLIN)
        now_s = time.monotonic()
        until_s = now_s + IDLE_S
        for turn in self._turns:
            until_s = min(until_s, turn.deadline_s)
            if turn.need.sock is not None:
                poll.register(turn.need.sock, select.POLLOUT if turn.need.is_write else select.POLLIN)
            else:
                until_s = min(until_s, turn.until_s)
        return {descriptor for descriptor, _ in poll.poll(max(0, math.ceil((until_s - now_s) * 1000)))}

    def _begin_turns(self) -> None:
        with self._lock:
            targets = dict(self._shared.targets)
        for turn in [turn for turn in self._turns if targets.get(turn.name) is not turn.target]:
            self._turns.remove(turn)
            turn.steps.close()
        asked = {turn.name for turn in self._turns}
        for name, target in targets.items():
            if name not in asked and self._is_due(target, time.monotonic()):
                turn = _Turn(name, target, iter(()))  # type: ignore[arg-type]
                turn.steps = self._scrape(turn) if target.known is not None else self._probe(turn)
                self._turns.append(turn)

    def _step(self, turn: _Turn, *, is_overdue: bool = False) -> None:
        began_s = time.thread_time()
        try:
            turn.need = turn.steps.throw(_Overdue()) if is_overdue else turn.steps.send(None)
            turn.until_s = time.monotonic() + turn.need.seconds
            turn.spent_s += time.thread_time() - began_s
            return
        except StopIteration:
            turn.spent_s += time.thread_time() - began_s
        except Exception as error:  # noqa: BLE001 - a fault of ours; the other endpoints go on
            self.counts["failures"] += 1
            turn.target.due_s = time.monotonic() + self._interval_s
            problem = f"its page cannot be read, which failed with {type(error).__name__}; report it"
            self._add(self._failure(turn.name, turn.target, ScrapeError(problem, "unreadable")))
        self._turns.remove(turn)
        turn.target.due_s = max(turn.target.due_s, time.monotonic() + turn.spent_s / READ_PART_MAX)

    def _page(self, turn: _Turn, address: EndpointAddress) -> Steps[bytes]:
        """The page at `address`. Raises `ScrapeError`."""

        def holds(held_bytes: int) -> None:
            turn.held_bytes = max(0, held_bytes - HELD_FREE_BYTES)
            if sum(one.held_bytes for one in self._turns) > HELD_BYTES_MAX:
                raise ScrapeError(f"{address.shown} sends much while others do too; it is asked again", "busy")

        turn.deadline_s = time.monotonic() + self._timeout_s
        try:
            return (yield from page_steps(address, holds))
        except _Overdue:
            problem = too_slow(address, self._timeout_s)
        except ScrapeError as error:
            problem = ScrapeError(str(error), error.reason)
        finally:
            turn.deadline_s, turn.held_bytes = math.inf, 0
        raise problem  # without its history, whose frames hold what was read

    # --- one target --------------------------------------------------------------------------------------------------

    def _is_due(self, target: _Target, now_s: float) -> bool:
        """Whether it is asked now: at its pace, or when its log shows a request where it is left alone while idle."""
        when_idle = target.addresses[0].address.when_idle if target.addresses else "always"
        if target.is_stirred or (target.known is None and when_idle != "never"):
            return target.known is None or now_s >= target.due_s
        is_idle = target.known is None or (target.still_since_s is not None and now_s - target.still_since_s >= STILL_S)
        if not is_idle or when_idle == "always":
            return now_s >= target.due_s
        return when_idle == "rarely" and now_s >= target.due_s + RARELY_S

    def _scrape(self, turn: _Turn) -> Steps[None]:
        name, target = turn.name, turn.target
        assert target.known is not None
        address, names = target.known
        target.due_s = time.monotonic() + self._interval_s * (1 - EARLY)
        self.counts["requests"] += 1
        try:
            body = yield from self._page(turn, address)
            reading = read(body, names)
            if not reading.has("completion") and (others := counters_of_page(body)) not in (None, names):
                assert others is not None
                target.known, names, reading = (address, others), others, read(body, others)
            self._take(name, target, body, reading)
        except ScrapeError as error:
            self.counts["failures"] += 1
            self._add(self._failure(name, target, error))

    def _take(self, name: str, target: _Target, body: bytes, reading: CounterReading) -> None:
        """A page of a known server."""
        assert target.known is not None
        address, names = target.known
        now_s = time.monotonic()
        if target.is_stirred or reading.values != target.values or (reading.gauges and reading.gauges.running):
            target.still_since_s = now_s
        target.values, target.is_stirred = reading.values, False
        problem = reason = None
        if reading.is_unused:
            reason = "unused"
            problem = f"{address.shown} is {names.server}'s, which shows no counters before its first request"
        elif not reading.is_whole:
            reason = "no_counters"
            problem = f"{address.shown} is {names.server}'s and lacks its counters: half a page, or they are turned off"
        else:
            target.has_counters = True
        self._note(name, target, problem, reason)
        self._add(
            ScrapeResult(
                target=name,
                scraped_mono_s=now_s,
                names=names,
                reading=reading,
                latency=read_latency(body, names.latency),
                problem=problem,
            )
        )

    def _probe(self, turn: _Turn) -> Steps[None]:
        for address in turn.target.addresses:
            if time.monotonic() < address.retry_at_s:
                continue
            yield from self._try(turn, address)
            if turn.target.known is not None:
                return

    def _try(self, turn: _Turn, tried: _Address) -> Steps[None]:
        name, target, failures = turn.name, turn.target, []
        for address in dict.fromkeys(tried.address.at(path) for path in PATHS):
            self.counts["probes"] += 1
            try:
                body = yield from self._page(turn, address)
                if (names := counters_of_page(body)) is not None:
                    target.known = (address, names)
                    target.due_s = time.monotonic() + self._interval_s * (1 - EARLY)
                    self._take(name, target, body, read(body, names))
                    return
                problem = f"{address.shown} shows no counters of a known server"
                failures.append(ScrapeError(problem, "foreign" if is_of_another_program(body) else "no_counters"))
            except ScrapeError as error:
                failures.append(error)
                if error.reason in ("refused", "slow"):
                    break
            yield Need(seconds=PROBE_PAUSE_S)
        is_configured = tried.address.is_configured
        is_foreign = any(failure.reason == "foreign" for failure in failures) and not is_configured
        tried.retry_at_s = time.monotonic() + (RETRY_FOREIGN_S if is_foreign else tried.pause_s)
        tried.pause_s = min(RETRY_CONFIGURED_S_MAX if is_configured else RETRY_S_MAX, 2 * tried.pause_s)
        self._add(self._failure(name, target, _most_telling(failures)))

    def _failure(self, name: str, target: _Target, error: ScrapeError) -> ScrapeResult:
        self._note(name, target, str(error), error.reason)
        is_refused = error.reason == "refused"
        return ScrapeResult(target=name, scraped_mono_s=time.monotonic(), refused=is_refused, problem=str(error))

    def _note(self, name: str, target: _Target, problem: str | None, reason: str | None) -> None:
        """Logged once for each change."""
        if problem is not None and problem != target.problem:
            log.info("workload=%s endpoint: %s", name, problem)
        target.problem, target.reason = problem, reason

    def _add(self, result: ScrapeResult) -> None:
        with self._lock:
            self._shared.results.append(result)
            del self._shared.results[:-RESULTS_MAX]


def _most_telling(failures: list[ScrapeError]) -> ScrapeError:
    """The one to show of several paths: what can be fixed before a path that is not there."""
    return next((failure for failure in failures if failure.reason != "not_found"), failures[-1])
