"""A server's Prometheus exposition into the values of its counters, and how far they moved. Pure.

In: the text of one scrape and the names that a server gives its counters. Out: a `CounterReading`; two of them give the
tokens in between. The server's load (`LoadGauges`) is read from the same page. Each series is compared with itself, so
that a data-parallel engine that appears or restarts alone is recognized. A series below its last value, or another
process start time, means that the server was restarted.

Only the lines of the counters needed are parsed (by prometheus_client): a server shows hundreds, most of histograms.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from tokenyield_agent.tokens.event import KINDS
from tokenyield_agent.tokens.latency import NO_LATENCY, LatencyNames
from tokenyield_wire.window import COUNT_MAX

SERIES_MAX = 4096
"""Of one scrape: a thousand engines. More are not read, so that memory stays bounded whatever the page holds."""
LINE_BYTES_MAX = 4096
REQUESTS_MAX = 1_000_000
"""Running on one engine, or waiting. A gauge above it is implausible and not taken."""
_START = "process_start_time_seconds"
_COUNTERS = ("prompt", *KINDS)
_GAUGES = ("running", "waiting", "cache_used")


class SeriesName:
    """A metric's name, with the labels that a sample must have: `reason="stop|length"`, or `reason="!abort"` (not)."""

    __slots__ = ("name", "where")

    def __init__(self, name: str, /, **where: str) -> None:
        self.name = name
        self.where = where

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(
            (labels.get(label, "") in values.removeprefix("!").split("|")) != values.startswith("!")
            for label, values in self.where.items()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterNames:
    """What one server calls its counters. For each kind there are alternatives, newest first: the first that the server
    declares is taken. `prompt` includes cached tokens; a server that leaves them out has `prompt_computed` instead."""

    server: str
    known_by: tuple[SeriesName, ...]
    completion: tuple[SeriesName, ...]
    paths: tuple[str, ...] = ("/metrics",)
    model_labels: tuple[str, ...] = ("model_name", "model")
    prompt: tuple[SeriesName, ...] = ()
    prompt_computed: tuple[SeriesName, ...] = ()
    prompt_cached: tuple[SeriesName, ...] = ()
    prompt_unsplit: tuple[SeriesName, ...] = ()
    requests: tuple[SeriesName, ...] = ()
    requests_aborted: tuple[SeriesName, ...] = ()
    requests_failed: tuple[SeriesName, ...] = ()
    running: tuple[SeriesName, ...] = ()
    """Gauges: requests running and waiting, of all engines; the part of its KV cache (of 1) that an engine uses."""
    waiting: tuple[SeriesName, ...] = ()
    cache_used: tuple[SeriesName, ...] = ()
    latency: LatencyNames = NO_LATENCY
    """Histograms, see latency.py."""
    fallback: bool = False
    """Taken only where no other server's names are on the page."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that they report in the newest version."""
        splits = bool(self.prompt and self.prompt_cached)
        derived = {"prompt_computed": splits, "prompt_unsplit": bool(self.prompt) and not splits}
        return tuple(kind for kind in KINDS if derived.get(kind) or getattr(self, kind))


class LoadGauges(msgspec.Struct, frozen=True, kw_only=True):
    """A server's load: requests running and waiting, part of its cache in use. None where it does not report it."""

    running: float
    waiting: float | None = None
    cache_used: float | None = None


class CounterReading(msgspec.Struct, frozen=True, kw_only=True):
    """The values of a server's counters. `values` maps kind and labels, joined by a tab, to the count."""

    values: dict[str, int]
    started_s: float | None = None
    model: str | None = None
    gauges: LoadGauges | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterChange:
    """By how much the counters moved between two readings. `kinds` may hold a small negative number where two counters
    of a server are not raised at the same moment. `restarted`: what moved is all since the start of a new server."""

    kinds: dict[str, int] = field(default_factory=dict)
    restarted: bool = False


def is_known(body: bytes, names: CounterNames) -> bool:
    """Whether this is an exposition of that server."""
    return any(_declares(body, series.name) for series in names.known_by)


def read(body: bytes, names: CounterNames) -> CounterReading:
    """The values of the counters in `body`. A sample beyond what any server reaches, or that is not a number, is left
    out."""
    chosen = {kind: series for kind in _COUNTERS if (series := _choose(body, getattr(names, kind)))}
    gauges = {gauge: series for gauge in _GAUGES if (series := _choose(body, getattr(names, gauge)))}
    gauge_values: dict[str, list[float]] = {gauge: [] for gauge in gauges}
    samples = _samples(body, {series.name for series in (*chosen.values(), *gauges.values())} | {_START})
    values: dict[str, int] = {}
    started_s, model, completion_max = None, None, -1
    for name, labels, value in samples:
        if name == _START:
            started_s = value
            continue
        for gauge, series in gauges.items():
            if series.name == name and series.matches(labels) and value <= REQUESTS_MAX:
                gauge_values[gauge].append(value)
        labelled = ",".join(f"{label}={text}" for label, text in sorted(labels.items()))
        for kind, series in chosen.items():
            if series.name == name and series.matches(labels):
                values[f"{kind}\t{labelled}"] = int(value)
                if kind == "completion" and value > completion_max:
                    completion_max = int(value)
                    model = next((labels[label] for label in names.model_labels if labels.get(label)), None)
    for kind in chosen:  # declared, and not raised yet: some clients show a labelled counter only once it is
        if not any(key.startswith(f"{kind}\t") for key in values):
            values[f"{kind}\t"] = 0
    return CounterReading(values=values, started_s=started_s, model=model and model[:253], gauges=_load(gauge_values))


def _load(values: Mapping[str, list[float]]) -> LoadGauges | None:
    if not values.get("running"):
        return None
    waiting, used = values.get("waiting"), values.get("cache_used")
    return LoadGauges(
        running=sum(values["running"]),
        waiting=sum(waiting) if waiting else None,
        cache_used=min(1.0, sum(used) / len(used)) if used else None,
    )


def change_between(before: CounterReading, after: CounterReading) -> CounterChange:
    """What was counted between two readings of one endpoint."""
    is_lower = any(value < before.values.get(key, 0) for key, value in after.values.items())
    has_other_start = (
        before.started_s is not None and after.started_s is not None and abs(after.started_s - before.started_s) > 1
    )
    restarted = is_lower or has_other_start
    by_kind: dict[str, int] = {}
    for key, value in after.values.items():
        kind = key.partition("\t")[0]
        by_kind[kind] = by_kind.get(kind, 0) + value - (0 if restarted else before.values.get(key, 0))
    return CounterChange(kinds=_split_prompt(by_kind), restarted=restarted)


def since_start(reading: CounterReading) -> CounterChange:
    """All that was counted since the server started."""
    return change_between(CounterReading(values={}), reading)


def _split_prompt(by_kind: dict[str, int]) -> dict[str, int]:
    kinds = {kind: count for kind, count in by_kind.items() if kind != "prompt"}
    if "prompt" in by_kind:
        if "prompt_cached" in kinds:
            kinds["prompt_computed"] = by_kind["prompt"] - kinds["prompt_cached"]
        else:
            kinds["prompt_unsplit"] = by_kind["prompt"]
    return kinds


def _choose(body: bytes, alternatives: Iterable[SeriesName]) -> SeriesName | None:
    return next((series for series in alternatives if _declares(body, series.name)), None)


def _declares(body: bytes, name: str) -> bool:
    """Whether a TYPE line or a sample of `name` is in `body`."""
    raw = name.encode()
    return re.search(rb"^(?:# TYPE )?" + re.escape(raw) + rb"[ {]", body, re.MULTILINE) is not None


def _samples(body: bytes, names: set[str]) -> list[tuple[str, dict[str, str], float]]:
    from prometheus_client.parser import (
        text_string_to_metric_families,  # loads an HTTP server too: only where it is used
    )

    alternatives = b"|".join(re.escape(name.encode()) for name in sorted(names))
    lines = re.findall(rb"^(?:" + alternatives + rb")[ {][^\n]*$", body, re.MULTILINE)[:SERIES_MAX]
    samples = []
    for line in lines:
        if len(line) > LINE_BYTES_MAX:
            continue
        try:
            for family in text_string_to_metric_families(line.decode("utf-8") + "\n"):
                samples += [
                    (sample.name, dict(sample.labels), float(sample.value))
                    for sample in family.samples
                    if 0 <= sample.value <= COUNT_MAX
                ]
        except (ValueError, ArithmeticError, LookupError):
            continue  # one broken line costs that line; a timestamp may have any number of digits, and is divided
    return samples
