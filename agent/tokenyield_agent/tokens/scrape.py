"""Scraping the counters of inference servers: one thread, one request at a time.

In: targets, each the addresses where a workload's server may answer. Out: `ScrapeResult`s, which the agent's loop
takes. A target's addresses and paths are tried until one shows a known server's counters; that one is scraped from then
on, every `interval_s`, when the loop triggers it: just after the logs were read, so that a log and a scrape describe
the same moment. An address that answers something else is left alone for an hour; one that does not answer is tried
again with growing pauses. Time, size and number of requests are bounded, and no answer can stop the thread.
"""

import http.client
import logging
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tokenyield_agent.tokens.dialects.registry import COUNTERS, counters_of_page
from tokenyield_agent.tokens.endpoint import CounterNames, CounterReading, read
from tokenyield_agent.tokens.latency import NOTHING_READ, LatencyReading, read_latency

log = logging.getLogger(__name__)

BODY_BYTES_MAX = 16 * 1024 * 1024
"""Ray shows tens of thousands of series on one page; a larger page is no inference server's."""
TARGETS_MAX = 128
RESULTS_MAX = 1024
"""Waiting to be taken. There are more only while the agent's loop is blocked, and then the oldest are dropped."""
PROBE_PAUSE_S = 0.2
"""Between two requests to addresses that are not known yet."""
EARLY = 0.1
"""By which part of the interval a target may be scraped early, so that a late trigger does not cost a whole one."""
RETRY_S_MIN, RETRY_S_MAX = 5.0, 300.0
RETRY_FOREIGN_S = 3600.0
"""Before an address that answers something else is tried again."""
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
    url: str
    retry_at_s: float = 0.0
    pause_s: float = RETRY_S_MIN


@dataclass(slots=True)
class _Target:
    addresses: list[_Address]
    known: tuple[str, CounterNames] | None = None
    due_s: float = 0.0
    problem: str | None = None


class ScrapeError(Exception):
    """The request returned no page. `refused`: nothing listens there. `alive`: there was another answer."""

    def __init__(self, problem: str, *, refused: bool = False, alive: bool = False) -> None:
        super().__init__(problem)
        self.refused = refused
        self.alive = alive


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

    def set_targets(self, targets: Mapping[str, Iterable[str]]) -> None:
        """Scrape these from now on: a name and the addresses (http://host:port[/path]) where it may answer."""
        with self._lock:
            before = self._shared.targets
            fresh: dict[str, _Target] = {}
            for name, urls in list(targets.items())[:TARGETS_MAX]:
                addresses = list(dict.fromkeys(urls))
                target = before.get(name)
                if target is not None and [address.url for address in target.addresses] == addresses:
                    fresh[name] = target
                else:
                    fresh[name] = _Target([_Address(url) for url in addresses])
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
        """target -> (address, server) of those that have answered."""
        with self._lock:
            return {
                name: (target.known[0], target.known[1].server)
                for name, target in self._shared.targets.items()
                if target.known is not None
            }

    def problems(self) -> dict[str, str]:
        with self._lock:
            return {name: target.problem for name, target in self._shared.targets.items() if target.problem}

    def trigger(self) -> None:
        """Scrape the targets that are due, now; the thread scrapes at no other time."""
        self._wake.set()

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
            now_s = time.monotonic()
            if target.known is not None and now_s >= target.due_s:
                target.due_s = now_s + self._interval_s * (1 - EARLY)
                self._scrape(name, target)
            elif target.known is None:
                self._probe(name, target)

    def _scrape(self, name: str, target: _Target) -> None:
        assert target.known is not None
        url, names = target.known
        self.counts["requests"] += 1
        try:
            body = get(url, self._timeout_s)
            result = _result(name, body, names, time.monotonic())
            target.problem = None
        except ScrapeError as error:
            self.counts["failures"] += 1
            result = self._failure(name, target, error)
        self._add(result)

    def _probe(self, name: str, target: _Target) -> None:
        for address in target.addresses:
            if time.monotonic() < address.retry_at_s or self._stop.is_set():
                continue
            self._try(name, target, address)
            if target.known is not None:
                return

    def _try(self, name: str, target: _Target, address: _Address) -> None:
        split = urlsplit(address.url)
        base = f"{split.scheme}://{split.netloc}"
        failures = []
        for path in [split.path] if split.path not in ("", "/") else PATHS:
            self.counts["probes"] += 1
            try:
                body = get(base + path, self._timeout_s)
                if (names := counters_of_page(body)) is not None:
                    target.known, target.problem = (base + path, names), None
                    now_s = time.monotonic()
                    target.due_s = now_s + self._interval_s * (1 - EARLY)
                    self._add(_result(name, body, names, now_s))
                    return
                failures.append(ScrapeError(f"{base}{path} shows no counters of a known server", alive=True))
            except ScrapeError as error:
                failures.append(error)
                if error.refused:
                    break
            self._stop.wait(PROBE_PAUSE_S)
        is_foreign = all(failure.alive for failure in failures)
        address.retry_at_s = time.monotonic() + (RETRY_FOREIGN_S if is_foreign else address.pause_s)
        address.pause_s = min(RETRY_S_MAX, 2 * address.pause_s)
        self._add(self._failure(name, target, failures[-1]))

    def _failure(self, name: str, target: _Target, error: ScrapeError) -> ScrapeResult:
        if str(error) != target.problem:
            log.info("workload=%s endpoint: %s", name, error)
        target.problem = str(error)
        return ScrapeResult(target=name, scraped_mono_s=time.monotonic(), refused=error.refused, problem=str(error))

    def _add(self, result: ScrapeResult) -> None:
        with self._lock:
            self._shared.results.append(result)
            del self._shared.results[:-RESULTS_MAX]


def _result(target: str, body: bytes, names: CounterNames, at_mono_s: float) -> ScrapeResult:
    return ScrapeResult(
        target=target,
        scraped_mono_s=at_mono_s,
        names=names,
        reading=read(body, names),
        latency=read_latency(body, names.latency),
    )


def get(url: str, timeout_s: float) -> bytes:
    """The page at `url`. Raises `NoAnswer`. Redirects are not followed, and no proxy is used."""
    split = urlsplit(url)
    host, port = split.hostname or "", split.port
    deadline_s = time.monotonic() + timeout_s
    connection: http.client.HTTPConnection
    if split.scheme == "https":
        connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=ssl.create_default_context())
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        target = (split.path or "/") + (f"?{split.query}" if split.query else "")
        connection.request("GET", target, headers={"Accept": "text/plain", "User-Agent": "tokenyield-agent"})
        response = connection.getresponse()
        if response.status != 200:
            raise ScrapeError(f"{url} answers {response.status}", alive=response.status < 500)
        parts, size = [], 0
        while part := response.read1(1 << 16):
            parts.append(part)
            size += len(part)
            if size > BODY_BYTES_MAX:
                raise ScrapeError(f"{url} answers more than {BODY_BYTES_MAX >> 20} MiB")
            if time.monotonic() > deadline_s:
                raise ScrapeError(f"{url} does not end within {timeout_s:g} s")
        return b"".join(parts)
    except ConnectionRefusedError as error:
        raise ScrapeError(f"{url} refuses connections: nothing listens there", refused=True) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ScrapeError(f"{url} does not answer: {error or type(error).__name__}") from error
    finally:
        connection.close()
