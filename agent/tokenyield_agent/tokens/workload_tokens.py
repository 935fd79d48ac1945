"""One workload's or gateway's tokens: its log and its endpoint brought together.

In: polls of the log, scrapes of the endpoint. Out: events for the window, each token once (handover.py explains how).
"""

import math
from dataclasses import replace

import msgspec

from tokenyield_agent.tokens.dialects.registry import reports_tokens
from tokenyield_agent.tokens.endpoint import CounterReading, LoadGauges
from tokenyield_agent.tokens.event import TokenCounts, TokenEvent, load_over
from tokenyield_agent.tokens.handover import Handover
from tokenyield_agent.tokens.handover_state import HandoverState
from tokenyield_agent.tokens.latency import LatencyState, gather, is_due, latency_between
from tokenyield_agent.tokens.log_source import LogSource, SourceMark
from tokenyield_agent.tokens.scrape import ScrapeResult
from tokenyield_wire.bounded import fitting_name
from tokenyield_wire.window import LOAD_KINDS, NAME_CHARS_MAX

LOAD_GAP_MS_MAX = 60_000
"""Between two scrapes of a server, over which its load may be integrated."""
_NO_LOAD: dict[str, int | None] = dict.fromkeys(LOAD_KINDS)


class TokensMark(msgspec.Struct, kw_only=True):
    """All that must outlive the process of one workload's tokens."""

    logs: list[SourceMark] = msgspec.field(default_factory=list)
    handover: HandoverState | None = msgspec.field(default=None, name="standing")
    latency: LatencyState | None = None
    last_token_ms: int | None = None
    """When it made its last token, or was first read."""


class WorkloadTokens:
    """What counts the tokens of one workload: `log`, an endpoint, or both; neither, for one that only holds GPUs."""

    def __init__(
        self, name: str, log: LogSource | None, *, has_endpoint: bool, is_new: bool = False, mark: TokensMark | None
    ) -> None:
        self.name = name
        self.log = log
        self.has_endpoint = has_endpoint
        self.endpoint_server: str | None = None
        self.endpoint_model: str | None = None
        self.process_started_s: float | None = None
        """When the server's process was started, where that is known: some servers do not show it."""
        self.process_server: str | None = None
        """The server's kind by its command line, where that is known."""
        self.process_model: str | None = None
        """The model by its command line: all that names it where the log's beginning was rotated away unread."""
        self.events = 0
        self.read_s = 0.0
        """Processor time that reading its log took at the last poll."""
        self.log_moved = False
        """The log gave tokens or requests at the last poll, counted or not."""
        self.last_token_ms = mark.last_token_ms if mark is not None else None
        self._load: tuple[int, LoadGauges] | None = None
        """The server's load at the endpoint's last answer, and when that was."""
        self._is_new = is_new
        self._latency = (mark.latency if mark is not None else None) or LatencyState()
        state = mark.handover if mark is not None else None
        self._handover = Handover(name, state if state is not None else HandoverState(log_counts=not has_endpoint))

    @property
    def _has_counters(self) -> bool:
        """There is an endpoint to scrape, or there was one before a restart of the agent that will be found again."""
        return self.has_endpoint or self._handover.state.reading is not None

    @property
    def server(self) -> str:
        """The server's kind by its endpoint, its log or its command line; `unknown` until one of them shows it."""
        if self.endpoint_server is not None:
            return self.endpoint_server
        dialects = self.log.dialects() if self.log is not None else []
        return dialects[-1].name if dialects else self.process_server or "unknown"

    @property
    def model(self) -> str | None:
        dialects = self.log.dialects() if self.log is not None else []
        by_log = next((d.model for d in reversed(dialects) if d.model), None)
        model = self.endpoint_model or by_log or self.process_model
        return model and fitting_name(model, NAME_CHARS_MAX)

    @property
    def counter_kinds(self) -> frozenset[str]:
        """The kinds that its counters showed when they last answered."""
        reading = self._handover.state.reading
        kinds = reading.kinds if reading is not None else ()
        return frozenset("prompt_unsplit" if kind == "prompt" else kind for kind in kinds)

    @property
    def counted_by(self) -> str:
        """`counters`, `log`, or `nothing`, as it is now."""
        if not self._handover.log_counts and self._handover.state.reading is not None:
            return "counters"
        return "log" if self.log is not None else "nothing"

    def poll(self, now_ms: int, now_mono_s: float, until_s: float = math.inf) -> list[TokenEvent]:
        """What the log gave since the last poll, as far as it is to be counted; it is read until this thread's
        processor time is `until_s`."""
        waits = self._waits_due(now_ms)
        if self.log is None:
            return waits
        events = self.log.poll(now_ms, now_mono_s, until_s)
        self.log_moved = any(event.counts.kinds() for event in events)
        if not self._has_counters and not self._is_new:
            return self._count(events) + waits
        # Also of a new server whose endpoint is not known yet: its counters will have counted the same from nothing.
        tokens = self._handover.from_log([_without_load(event) for event in events])
        if self._load is None:  # else the endpoint reports it
            tokens += [load for event in events if (load := _only_load(event)) is not None]
        return self._count(tokens) + waits

    def quiet_since_ms(self, now_ms: int) -> int | None:
        """When it made its last token, or was first read; None where its tokens are not read, or not yet."""
        if self.last_token_ms is None and self._is_read:
            self.last_token_ms = now_ms
        return self.last_token_ms if self._is_read else None

    @property
    def _is_read(self) -> bool:
        if self.counted_by == "counters":
            return True
        dialects = self.log.dialects() if self.log is not None else []
        return any((d.recognised or d.model) and reports_tokens(d.name) for d in dialects)

    def from_endpoint(self, result: ScrapeResult, at_ms: int) -> list[TokenEvent]:
        """What a scrape of the endpoint at `at_ms` adds."""
        if result.reading is None or result.names is None:
            self._load = None
            return self._count(self._handover.endpoint_failed(refused=result.refused))
        self.endpoint_server = result.names.server
        self.endpoint_model = result.reading.model or self.endpoint_model
        reading = result.reading
        if reading.started_s is None:
            reading = msgspec.structs.replace(reading, started_s=self.process_started_s)
        waits = self._waits_due(at_ms)
        is_answer = self._handover.is_answer(reading)
        if is_answer:
            self._gather_waits(result, reading, at_ms)
        tokens = self._handover.from_counters(reading, at_ms, new=self._is_new)
        return self._count(tokens + self._load_until(at_ms, reading.gauges if is_answer else None)) + waits

    def _gather_waits(self, result: ScrapeResult, reading: CounterReading, at_ms: int) -> None:
        """What callers waited since the answer before."""
        state = self._handover.state
        is_new = state.reading is None and (self._is_new or state.refused)
        after, observed = latency_between(
            self._latency,
            result.latency,
            at_ms=at_ms,
            started_s=reading.started_s,
            is_new=is_new,
            has_made_nothing=not any(reading.values.values()),
        )
        self._latency = gather(after, observed, at_ms)

    def _waits_due(self, now_ms: int | None) -> list[TokenEvent]:
        """What was gathered of a minute that has passed by `now_ms`, or all; it lies where its newest was read."""
        waits = self._latency
        if not waits.gathered or (now_ms is not None and not is_due(waits, now_ms)):
            return []
        self._latency = msgspec.structs.replace(waits, gathered={})
        return [
            TokenEvent(
                workload=self.name,
                start_ms=waits.gathered_at_ms,
                end_ms=waits.gathered_at_ms,
                counts=TokenCounts(method="counter"),
                latency=waits.gathered,
            )
        ]

    def _load_until(self, at_ms: int, gauges: LoadGauges | None) -> list[TokenEvent]:
        """The server's load since the answer before, by trapezoid."""
        before, self._load = self._load, None if gauges is None else (at_ms, gauges)
        if before is None or gauges is None or not 0 < at_ms - before[0] <= LOAD_GAP_MS_MAX:
            return []
        load = load_over(
            at_ms - before[0],
            running=(before[1].running + gauges.running) / 2,
            waiting=_mean(before[1].waiting, gauges.waiting),
            cache_used=_mean(before[1].cache_used, gauges.cache_used),
        )
        counts = TokenCounts(method="counter", **load)  # type: ignore[arg-type]
        return [TokenEvent(workload=self.name, start_ms=before[0], end_ms=at_ms, counts=counts)]

    def is_first(self, result: ScrapeResult) -> bool:
        """Whether `result` is where the counters begin."""
        return result.reading is not None and self._handover.state.reading is None

    def unreachable(self) -> list[TokenEvent]:
        """No address is known at which the endpoint could be scraped."""
        return self._count(self._handover.endpoint_failed(refused=False)) if self._has_counters else []

    def finish(self) -> list[TokenEvent]:
        """The workload is not followed any more: what its log has that the counters have not confirmed."""
        left = self._count(self._handover.endpoint_removed()) if self._has_counters else []
        return left + self._waits_due(None)

    def mark(self) -> TokensMark:
        return TokensMark(
            logs=self.log.marks() if self.log is not None else [],
            handover=self._handover.state if self._has_counters else None,
            latency=self._latency if self._latency.begun or self._latency.gathered else None,
            last_token_ms=self.last_token_ms,
        )

    def close(self) -> None:
        if self.log is not None:
            self.log.close()

    def _count(self, events: list[TokenEvent]) -> list[TokenEvent]:
        self.events += len(events)
        made_ms = max((event.end_ms for event in events if event.counts.has_tokens), default=None)
        if made_ms is not None:
            self.last_token_ms = made_ms if self.last_token_ms is None else max(made_ms, self.last_token_ms)
        return events


def _without_load(event: TokenEvent) -> TokenEvent:
    if event.counts.load_known_ms is None:
        return event
    return replace(event, counts=msgspec.structs.replace(event.counts, **_NO_LOAD))


def _only_load(event: TokenEvent) -> TokenEvent | None:
    load = event.counts.load()
    if not load:
        return None
    return replace(event, counts=TokenCounts(method=event.counts.method, at_s=event.counts.at_s, **load))  # type: ignore[arg-type]


def _mean(one: float | None, other: float | None) -> float | None:
    return (one + other) / 2 if one is not None and other is not None else None
