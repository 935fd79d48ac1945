"""Scraping the counters of inference servers: one thread, one request at a time.

In: targets, each the addresses where a workload's server may answer. Out: `ScrapeResult`s, which the agent's loop
takes. A target's addresses and paths are tried until one shows a known server's page; that one is scraped from then
on, every `interval_s`, when the loop triggers it: just after the logs were read, so that a log and a scrape describe
the same moment. A server that shows no counters before its first request is asked at the same pace. An address where
another program answers is left alone for an hour, unless the settings name it; one that does not answer is tried again
with growing pauses. Time, size and number of requests are bounded, and no answer can stop the thread.

A server whose counters stand still may be asked rarely, or not before its log shows a request (`when_idle`): older
versions of llama-server with `--sleep-idle-seconds` load their model to answer.
"""

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tokenyield_agent.tokens.dialects.registry import COUNTERS, counters_of_page
from tokenyield_agent.tokens.endpoint import CounterNames, CounterReading, read
from tokenyield_agent.tokens.exposition import is_of_another_program
from tokenyield_agent.tokens.latency import NOTHING_READ, LatencyReading, read_latency
from tokenyield_agent.tokens.page_request import EndpointAddress, ScrapeError, get_page

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


@dataclass(slots=True)
class _Shared:
    targets: dict[str, _Target] = field(default_factory=dict)
    results: list[ScrapeResult] = field(default_factory=list)


class Scraper:
    """The thread and what it shares with the agent's loop."""

    def __init__(self, *, interval_s: float, timeout_s: float) -> None:
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._shared = _Shared()
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
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
        self._wake.set()
        if fresh and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="scrape", daemon=True)
            self._thread.start()

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
        self._wake.set()

    def stir(self, name: str) -> None:
        """The target's log shows a request: it is not idle."""
        with self._lock:
            if (target := self._shared.targets.get(name)) is not None:
                target.is_stirred = True

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            self._round()

    def _round(self) -> None:
        with self._lock:
            targets = list(self._shared.targets.items())
        for name, target in targets:
            if self._stop.is_set():
                break
            if not self._is_due(target, time.monotonic()):
                continue
            try:
                if target.known is not None:
                    self._scrape(name, target)
                else:
                    self._probe(name, target)
            except Exception as error:  # noqa: BLE001 - a fault of ours; the other endpoints go on
                self.counts["failures"] += 1
                target.due_s = time.monotonic() + self._interval_s
                problem = f"its page cannot be read, which failed with {type(error).__name__}; report it"
                self._add(self._failure(name, target, ScrapeError(problem, "unreadable")))

    def _is_due(self, target: _Target, now_s: float) -> bool:
        """Whether it is asked now: at its pace, or when its log shows a request where it is left alone while idle."""
        when_idle = target.addresses[0].address.when_idle if target.addresses else "always"
        if target.is_stirred or (target.known is None and when_idle != "never"):
            return target.known is None or now_s >= target.due_s
        is_idle = target.known is None or (target.still_since_s is not None and now_s - target.still_since_s >= STILL_S)
        if not is_idle or when_idle == "always":
            return now_s >= target.due_s
        return when_idle == "rarely" and now_s >= target.due_s + RARELY_S

    def _scrape(self, name: str, target: _Target) -> None:
        assert target.known is not None
        address, names = target.known
        target.due_s = time.monotonic() + self._interval_s * (1 - EARLY)
        self.counts["requests"] += 1
        try:
            body = get_page(address, self._timeout_s)
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

    def _probe(self, name: str, target: _Target) -> None:
        for address in target.addresses:
            if time.monotonic() < address.retry_at_s or self._stop.is_set():
                continue
            self._try(name, target, address)
            if target.known is not None:
                return

    def _try(self, name: str, target: _Target, tried: _Address) -> None:
        failures = []
        for address in dict.fromkeys(tried.address.at(path) for path in PATHS):
            self.counts["probes"] += 1
            try:
                body = get_page(address, self._timeout_s)
                if (names := counters_of_page(body)) is not None:
                    target.known = (address, names)
                    target.due_s = time.monotonic() + self._interval_s * (1 - EARLY)
                    self._take(name, target, body, read(body, names))
                    return
                problem = f"{address.shown} shows no counters of a known server"
                failures.append(ScrapeError(problem, "foreign" if is_of_another_program(body) else "no_counters"))
            except ScrapeError as error:
                failures.append(error)
                if error.reason == "refused":
                    break
            self._stop.wait(PROBE_PAUSE_S)
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
