"""Where a workload's tokens come from, and how good that is, by what is really counted now.

In: a workload's log and endpoint. Out: a `TokenSource`. What a server could report is in its file in tokens/dialects/;
what its log and its counters show at this moment decides what is said: a log that holds requests and no tokens counts
no tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tokenyield_agent.config import Settings
from tokenyield_agent.doctor.logs import LogSample, sample_of_file, sample_of_journal
from tokenyield_agent.tokens.dialects.base import PathReport, Server
from tokenyield_agent.tokens.dialects.registry import SERVER_DIALECTS, SERVERS, new_dialect
from tokenyield_agent.tokens.event import Dialect
from tokenyield_agent.tokens.log_source import JournalUnit, LogFiles, recognized_dialect
from tokenyield_agent.tokens.workload_tokens import WorkloadTokens
from tokenyield_agent.workloads.roster import Roster
from tokenyield_wire.window import Method

NO_TOKENS, NOT_YET = "no tokens", "no tokens yet"
_PROMPTS = ("prompt_computed", "prompt_unsplit")
_SAYS_WHAT_TO_CHANGE = {"unauthorized", "forbidden", "bad_request", "turned_off", "redirected", "certificate"}
"""Problems of an endpoint with their own fix, instead of the server's advice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSource:
    """`place`: where tokens come from; `quality`: how exact that is; `change`: what to do for better."""

    place: str
    quality: str
    change: str = ""


def source_of(tokens: WorkloadTokens, roster: Roster, settings: Settings) -> TokenSource:
    """The better of the workload's endpoint and its log, as it is now."""
    if tokens.name in roster.scraper.answering():
        url, server = roster.scraper.answering()[tokens.name]
        missing = missing_kinds(tokens.counter_kinds) if tokens.counter_kinds else ""
        return TokenSource(place=f"{server} counters, {url}", quality=f"exact{missing}")
    kind = SERVERS.get(tokens.server)
    if kind is not None and kind.no_tokens:
        return TokenSource(place="-", quality=NO_TOKENS, change=kind.no_tokens)
    problem = roster.scraper.problems().get(tokens.name, "")
    advice = counters_advice(kind, roster.arguments_of(tokens.name), problem) if kind is not None else problem
    is_unused = tokens.name in roster.scraper.recognized()  # it answers, and shows its counters after its first request
    if is_unused or roster.scraper.reasons().get(tokens.name) in _SAYS_WHAT_TO_CHANGE:
        advice = problem
    if tokens.log is None:
        change = _without_log(tokens.name, roster, advice)
        return TokenSource(place="-", quality=NOT_YET if is_unused else NO_TOKENS, change=change)
    sample, place = _sample(tokens, settings, roster)
    if sample.dialect is None:
        fix = sample.warning or "no statistics in its log: check that it logs them, or name its endpoint"
        parts = (sample.problem or tokens.log.problem or fix, _shared(roster, tokens.name), advice)
        change = "; ".join(part for part in parts if part)
        return TokenSource(place=place, quality=NO_TOKENS if sample.warning else NOT_YET, change=change)
    server = sample.dialect.name
    place = f"{server} log, {place}"
    if sample.token_methods:
        report = SERVERS[server].log_report if server in SERVERS else None
        return TokenSource(place=place, quality=log_quality(sample.token_methods, report), change=advice)
    if sample.has_only_requests:
        fix = sample.warning or (SERVERS[server].log_advice if server in SERVERS else "")
        change = "; ".join(part for part in (fix, advice) if part)
        return TokenSource(place=place, quality=f"requests only, {NO_TOKENS}", change=change)
    return TokenSource(place=place, quality=NO_TOKENS if sample.warning else NOT_YET, change=sample.warning or advice)


def log_quality(methods: Mapping[str, frozenset[Method]], report: PathReport | None) -> str:
    """How exact a log's token counts are: as its worst kind."""
    missing = missing_kinds(methods)
    if any("rate" in used for used in methods.values()):
        return f"rates x intervals, about 1 % off{missing}"
    if report is not None and any(report.exactness(kind) == "lower bound" for kind in methods):
        return f"a lower bound{missing}"
    return f"exact, per request{missing}"


def missing_kinds(kinds: Mapping[str, object] | frozenset[str]) -> str:
    """What is not counted, as a clause; empty where prompts and completions are."""
    missing = [] if any(kind in kinds for kind in _PROMPTS) else ["prompts"]
    missing += [] if "completion" in kinds else ["completions"]
    return f"; no {' and no '.join(missing)}" if missing else ""


def counters_advice(server: Server, arguments: tuple[str, ...], problem: str) -> str:
    """What makes its counters answer. An option that turns them on is named where the command line lacks it."""
    option = server.counters_report.turned_on_by if server.counters_report is not None else ""
    has_option = option.startswith("--") and any(word.split("=")[0] == option for word in arguments)
    if has_option:
        reach = f"it has {option}, and its counters do not answer: make its port reachable, or name it with metrics"
        return f"{reach} ({problem})" if problem else reach
    return f"{server.advice} ({problem})" if server.advice and problem else server.advice or problem


def _without_log(name: str, roster: Roster, advice: str) -> str:
    discovered = roster.discovery.workloads.get(name)
    if shared := _shared(roster, name):
        parts = [shared, advice]
    elif discovered is not None and discovered.log_of.is_on_terminal:
        parts = ["its output goes to a terminal: write it to a file or the journal", advice]
    else:
        parts = [advice or "no log and no endpoint was found: name them in workloads"]
    return "; ".join(part for part in parts if part)


def _shared(roster: Roster, name: str) -> str:
    """That a part of its output is nobody's; empty where none is."""
    discovered = roster.discovery.workloads.get(name)
    if discovered is None or not discovered.log_of.shared:
        return ""
    return "another server writes to the same log, so its lines cannot be assigned: give each its own"


def _sample(tokens: WorkloadTokens, settings: Settings, roster: Roster) -> tuple[LogSample, str]:
    """The end of its log, and where that is."""
    if isinstance(tokens.log, JournalUnit):
        unit = tokens.log.unit
        dialect = _dialect(tokens, settings, roster, next(iter(tokens.log.dialects()), None))
        sample = sample_of_journal(unit, settings.journal_dir, dialect, tokens.process_server)
        return sample, f"journal of {unit}"
    assert isinstance(tokens.log, LogFiles)
    last = LogSample(size_bytes=0), next(iter(tokens.log.files), "-")
    for path, file in tokens.log.files.items():
        dialect = _dialect(tokens, settings, roster, recognized_dialect(file.dialect))
        try:
            last = sample_of_file(path, dialect, tokens.process_server), path
        except OSError:
            continue
        if last[0].dialect is not None:
            break
    return last


def _dialect(tokens: WorkloadTokens, settings: Settings, roster: Roster, known: Dialect | None) -> Dialect:
    """A dialect of the same kind that has read nothing yet: the beginning of the log may have shown which."""
    configured = roster.workloads.get(tokens.name)
    name = known.name if known is not None else configured.dialect if configured is not None else "auto"
    return new_dialect(name, patterns=settings.dialects, among=SERVER_DIALECTS)
