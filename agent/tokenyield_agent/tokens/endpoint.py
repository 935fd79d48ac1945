"""A server's Prometheus page into the values of its counters, and how far they moved. Pure.

In: the text of one scrape and the names that a server gives its counters. Out: a `CounterReading`; two of them give the
tokens in between. The server's load (`LoadGauges`) is read from the same page.

Theory. Each series is compared with itself. One that was never seen counts from nothing, for an engine, a model or a
reason to finish appears when it is first needed. One that is missing is not at nothing: its last value is kept
(`remembered`), and it goes on from there when it is back. One that is lower than before was restarted, alone. Another
process start time means that all of them were; after a page that shows none, the next one's is not compared.

A kind has alternatives, of which one counts: the one that counted before, even where a page lacks it and shows another
(a page cut in the middle; another version only after a restart). Prompts and their cached part move together: where
one of them is missing, both wait for the next page.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from tokenyield_agent.tokens.event import KINDS
from tokenyield_agent.tokens.exposition import SERIES_MAX, PageSample, names_on, samples
from tokenyield_agent.tokens.latency import NO_LATENCY, LatencyNames, is_same_start
from tokenyield_wire.bounded import fitting_name
from tokenyield_wire.window import NAME_CHARS_MAX

MISSING_MAX = 1024
"""Series that are remembered while they are missing, the latest: Ray gives each new worker a label of its own."""
REQUESTS_MAX = 1_000_000
"""Running on one engine, or waiting. A gauge above it is implausible and not taken."""
_START = "process_start_time_seconds"
_COUNTERS = ("prompt", *KINDS)
_GAUGES = ("running", "waiting", "cache_used")
_SHOWN_BY = ("completion", "prompt", "prompt_computed", "prompt_unsplit", "requests")
"""The kinds that show whether a page has the counters: the first of them that a server has."""
_NO_MODEL = "undefined"
"""What TensorRT-LLM shows where it was given no name."""


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


def full_names(prefixes: Sequence[str], name: str) -> tuple[str, ...]:
    """A metric's name with each of the prefixes under which a server or a router shows it."""
    return tuple(prefix + name for prefix in prefixes)


def every_series(prefixes: Sequence[str], name: str, **where: str) -> tuple[SeriesName, ...]:
    """The same as alternatives of a counter."""
    return tuple(SeriesName(full_name, **where) for full_name in full_names(prefixes, name))


Alternative = SeriesName | tuple[SeriesName, ...]
"""Several are added up, where all of them are on the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterNames:
    """What one server calls its counters. For each kind there are alternatives, the most complete first: the first that
    the server declares is taken. `prompt` includes cached tokens; a server that leaves them out has `prompt_computed`
    instead."""

    server: str
    known_by: tuple[SeriesName, ...]
    completion: tuple[Alternative, ...]
    prefixes: tuple[str, ...] = ()
    """Names that begin so are this server's too: it is known by them before it shows a counter."""
    shows_late: bool = False
    """It shows a counter only once that is raised, so that a page without any is that of a server not used yet."""
    unknown_at_zero: tuple[str, ...] = ()
    """Kinds whose counter stays 0 whatever happens, in some versions: then they are unknown."""
    copies: tuple[str, ...] = ()
    """Labels by which copies of one scheduler's gauges differ, which all show the same."""
    paths: tuple[str, ...] = ("/metrics",)
    model_labels: tuple[str, ...] = ("model_name", "model")
    prompt: tuple[Alternative, ...] = ()
    prompt_computed: tuple[Alternative, ...] = ()
    prompt_cached: tuple[Alternative, ...] = ()
    prompt_unsplit: tuple[Alternative, ...] = ()
    requests: tuple[Alternative, ...] = ()
    requests_aborted: tuple[Alternative, ...] = ()
    requests_failed: tuple[Alternative, ...] = ()
    running: tuple[Alternative, ...] = ()
    """Gauges: requests running and waiting, of all engines; the part of its KV cache (of 1) that an engine uses."""
    waiting: tuple[Alternative, ...] = ()
    cache_used: tuple[Alternative, ...] = ()
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
    series: dict[str, str] = msgspec.field(default_factory=dict)
    """Kind -> the name of the alternative that counts. A kind that is only declared is at nothing."""
    others: dict[str, dict[str, dict[str, int]]] = msgspec.field(default_factory=dict)
    """Kind -> name -> values of the alternatives that are on the page too; of one page, not remembered."""
    is_unused: bool = False
    """The server has not answered a request yet, and shows its counters only then."""
    is_whole: bool = True
    """It shows the counter that a server always shows."""
    has_forgotten: bool = False
    """More series were on the page than are read, or missing than are remembered: one that appears need not be new."""

    @property
    def kinds(self) -> frozenset[str]:
        """Those of which a series is there."""
        return frozenset(key.partition("\t")[0] for key in self.values)

    def has(self, kind: str) -> bool:
        """Whether a series of this kind is there, not only declared."""
        return any(key.partition("\t")[0] == kind for key in self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterChange:
    """By how much the counters moved between two readings. `restarted`: one of them counts since the start of a new
    server."""

    kinds: dict[str, int] = field(default_factory=dict)
    restarted: bool = False
    cached_ahead: int = 0
    """Cached tokens of prompts that are not counted yet."""


def is_known(names_of_page: frozenset[str], body: bytes, names: CounterNames) -> bool:
    """Whether this page shows that server's counters."""
    plain = {series.name for series in names.known_by if not series.where}
    if not plain.isdisjoint(names_of_page):
        return True
    exact = [series for series in names.known_by if series.where and series.name in names_of_page]
    _, read_samples = samples(body, {series.name for series in exact}) if exact else ((), ())
    return any(series.name == s.name and series.matches(s.labels) for s in read_samples for series in exact)


def is_recognized(names_of_page: frozenset[str], names: CounterNames) -> bool:
    """Whether this is that server's page, with or without counters."""
    return bool(names.prefixes) and any(name.startswith(names.prefixes) for name in names_of_page)


def read(body: bytes, names: CounterNames) -> CounterReading:
    """The values of the counters in `body`. A sample beyond what any server reaches, or that is not a number, is left
    out."""
    wanted = {kind: [_group(series) for series in getattr(names, kind)] for kind in (*_COUNTERS, *_GAUGES)}
    all_names = {series.name for groups in wanted.values() for group in groups for series in group}
    declared, page = samples(body, all_names | {_START})
    by_name: dict[str, list[PageSample]] = {}
    for sample in page:
        by_name.setdefault(sample.name, []).append(sample)
    values: dict[str, int] = {}
    series: dict[str, str] = {}
    others: dict[str, dict[str, dict[str, int]]] = {}
    for kind in _COUNTERS:
        for group in wanted[kind]:
            if not all(one.name in declared for one in group):
                continue
            name = "+".join(one.name for one in group)
            found = {f"{kind}\t{key}": value for key, value in _of_group(group, by_name).items()}
            if kind in names.unknown_at_zero and not any(found.values()):
                continue
            if kind not in series:
                series[kind] = name
                values |= found
            else:
                others.setdefault(kind, {})[name] = found
    starts = by_name.get(_START, [])
    return CounterReading(
        values=values,
        started_s=starts[-1].value if starts else None,
        model=_model(by_name, wanted["completion"] + wanted["requests"] + wanted["running"], names.model_labels),
        gauges=_load(wanted, declared, by_name, names.copies),
        series=series,
        others=others,
        is_unused=names.shows_late and not any(_raised(values)) and is_recognized(names_on(body), names),
        has_forgotten=len(page) >= SERIES_MAX,
        is_whole="completion" in series or (names.shows_late and bool(series)),
    )


def _group(alternative: Alternative) -> tuple[SeriesName, ...]:
    return (alternative,) if isinstance(alternative, SeriesName) else alternative


def _of_group(group: tuple[SeriesName, ...], by_name: Mapping[str, list[PageSample]]) -> dict[str, int]:
    """Labels -> count. The name is one of the labels from the second series on."""
    counts = {}
    for i, series in enumerate(group):
        for sample in by_name.get(series.name, ()):
            if series.matches(sample.labels):
                counts[sample.labelled + (f"\t{series.name}" if i else "")] = int(sample.value)
    return counts


def _raised(values: Mapping[str, int]) -> Iterable[int]:
    return (value for key, value in values.items() if key.partition("\t")[0] in _SHOWN_BY)


def _model(
    by_name: Mapping[str, list[PageSample]], groups: Iterable[tuple[SeriesName, ...]], labels: tuple[str, ...]
) -> str | None:
    """The model of the largest sample of the first series that names one."""
    for group in groups:
        for sample in sorted(by_name.get(group[0].name, ()), key=lambda sample: -sample.value):
            model = next((sample.labels[label] for label in labels if sample.labels.get(label)), _NO_MODEL)
            if model != _NO_MODEL:
                return fitting_name(model, NAME_CHARS_MAX)
    return None


def _load(
    wanted: Mapping[str, list[tuple[SeriesName, ...]]],
    declared: set[str],
    by_name: Mapping[str, list[PageSample]],
    copies: tuple[str, ...],
) -> LoadGauges | None:
    """The gauges: copies of one scheduler's once."""
    gauges: dict[str, list[float]] = {}
    for gauge in _GAUGES:
        series = next((group[0] for group in wanted[gauge] if group[0].name in declared), None)
        of_scheduler: dict[tuple[tuple[str, str], ...], float] = {}
        for sample in by_name.get(series.name, ()) if series is not None else ():
            if series is not None and series.matches(sample.labels) and sample.value <= REQUESTS_MAX:
                key = tuple(sorted((label, text) for label, text in sample.labels.items() if label not in copies))
                of_scheduler[key] = max(sample.value, of_scheduler.get(key, 0.0))
        gauges[gauge] = list(of_scheduler.values())
    if not gauges["running"]:
        return None
    waiting, used = gauges["waiting"], gauges["cache_used"]
    return LoadGauges(
        running=sum(gauges["running"]),
        waiting=sum(waiting) if waiting else None,
        cache_used=min(1.0, sum(used) / len(used)) if used else None,
    )


def lacks_counters(before: CounterReading, after: CounterReading) -> bool:
    """Whether none of the series that showed what was counted `before` is on the page: then it is no answer."""
    kind = next((kind for kind in _SHOWN_BY if kind in before.series or before.has(kind)), None)
    after = _as_counted(before, after)
    return kind is not None and before.has(kind) and not after.has(kind)


def is_lower(before: CounterReading, after: CounterReading) -> bool:
    """Whether a series is below its last value."""
    return any(value < before.values.get(key, 0) for key, value in _as_counted(before, after).values.items())


def is_same_process(one: CounterReading, other: CounterReading) -> bool:
    """As far as it is known."""
    return is_same_start(one.started_s, other.started_s)


def change_between(before: CounterReading, after: CounterReading, cached_ahead: int = 0) -> CounterChange:
    """What was counted between two readings of one endpoint."""
    has_other_start = not is_same_process(before, after)
    counted = after if has_other_start else _as_counted(before, after)
    restarted = has_other_start
    by_kind = dict.fromkeys(counted.series, 0)
    for key, value in counted.values.items():
        kind = key.partition("\t")[0]
        unseen = value if before.has_forgotten else 0
        last = 0 if has_other_start else before.values.get(key, unseen)
        if value < last:
            restarted, last = True, 0
        by_kind[kind] = by_kind.get(kind, 0) + value - last
    kinds, ahead = _split_prompt(by_kind, 0 if has_other_start else cached_ahead)
    return CounterChange(kinds=kinds, restarted=restarted, cached_ahead=ahead)


def remembered(before: CounterReading, after: CounterReading) -> CounterReading:
    """`after` with the series that are missing there, at their last values."""
    if not is_same_process(before, after):
        return msgspec.structs.replace(after, others={})
    after = _as_counted(before, after)
    missing = [key for key in before.values if key not in after.values]
    kept = missing[-MISSING_MAX:]
    return msgspec.structs.replace(
        after,
        values={**{key: before.values[key] for key in kept}, **after.values},
        model=after.model or before.model,
        series={**before.series, **after.series},
        others={},
        is_unused=before.is_unused and after.is_unused,
        has_forgotten=before.has_forgotten or after.has_forgotten or len(kept) < len(missing),
    )


def since_start(reading: CounterReading) -> CounterChange:
    """All that was counted since the server started."""
    return change_between(CounterReading(values={}), reading)


def _as_counted(before: CounterReading, after: CounterReading) -> CounterReading:
    """`after` by the alternatives that counted `before`. Kinds whose alternative is not on the page are left out."""
    chosen = {kind: before.series.get(kind, name) for kind, name in after.series.items()}
    left_out = {kind for kind, name in chosen.items() if name != after.series[kind]}
    replaced = {
        kind: after.others[kind][name] for kind in left_out if (name := chosen[kind]) in after.others.get(kind, {})
    }
    pair = {"prompt", "prompt_cached"}
    on_page = (after.series.keys() - left_out) | replaced.keys()
    if pair <= before.series.keys() and not pair <= on_page:
        left_out |= pair
        replaced = {kind: values for kind, values in replaced.items() if kind not in pair}
        on_page -= pair
    if not left_out:
        return after
    values = {key: value for key, value in after.values.items() if key.partition("\t")[0] not in left_out}
    for kind_values in replaced.values():
        values |= kind_values
    series = {kind: chosen[kind] for kind in on_page}
    return msgspec.structs.replace(after, values=values, series=series)


def _split_prompt(by_kind: dict[str, int], cached_ahead: int) -> tuple[dict[str, int], int]:
    """Kinds of prompt tokens, and the cached ones of prompts that are not counted yet. A cache counts its hits when a
    request is scheduled, again when it was preempted, and the prompt once, later: never more is cached than that."""
    kinds = {kind: count for kind, count in by_kind.items() if kind != "prompt"}
    if "prompt" not in by_kind:
        return kinds, cached_ahead
    if "prompt_cached" not in kinds:
        return {**kinds, "prompt_unsplit": by_kind["prompt"]}, 0
    cached = kinds["prompt_cached"] + cached_ahead
    kinds["prompt_cached"] = min(cached, by_kind["prompt"])
    kinds["prompt_computed"] = by_kind["prompt"] - kinds["prompt_cached"]
    return kinds, cached - kinds["prompt_cached"]
