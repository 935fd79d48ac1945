"""One workload seen by its counters and by its log, counted once: counters first. Pure.

In: what the log gave, and what the endpoint answered, in the order in which they happened. Out: events for the window.

Theory. The endpoint's counters are exact and late by one scrape. So while it answers, what the log gives is *buffered*,
and thrown away at the next answer, whose counters include the same tokens. When the endpoint goes away, the log takes
over from the last answer: what is buffered is emitted, and what follows is emitted at once and remembered as
*provisional*. When the endpoint is back, its counters have moved by everything since the last answer, provisional
tokens included: these are subtracted, kind by kind, and what cannot be subtracted yet (a log's rate was a little high)
was *overcounted* and is subtracted from the next answers. So both handovers neither lose nor double.

Counters and log do not move at the same moment: a line may be written some milliseconds after the counters moved, or a
prompt be logged when it is computed and counted when its request ends. So by how much the log *leads* the counters
(negative: lags) is kept from answer to answer. At a handover that much more is emitted, or is subtracted from the log's
next lines. It is never more than what moved recently, over a few answers, because a request may be in progress for that
long; so a log that misses lines does not lag for ever, and where both stand still it fades to nothing. Only
logs that count exactly are compared in this way.

A server that was restarted counts from nothing:
* If the endpoint refused connections in between, no server ran then: what was provisional before the last refusal
  belongs to the old server and stands; only what came after is subtracted from the new server's counters.
* If it was back before anybody noticed, the log holds the old server's last tokens and the new one's first. For each
  kind the larger of the counters and the log is taken: a log that counts is complete, one that gives rates is late.
Without a log the old server's tokens since the last answer are lost, as they are to Prometheus.

A restart is recognized by the server's start time, else by a counter below its last value: a server without a start
time whose counters pass their old value before it is scraped again is taken for the old one, as Prometheus does.

Several processes may answer behind one address by turns, which their start times show. Each goes on from its own last
values. One that was started before the last answer was there all the time: what it counted before is not ours to
report.

A page without the counters that were there before is no answer. Only where nothing else comes for `UNLIKE_MAX`
answers is it taken for another server's, whose counters begin there.

Where the server shows that no request is in progress, every line of a log is about requests that are counted: then the
log cannot lead, whatever it says (llama.cpp's repeats a prompt for each of n choices). So as long as the counters
answer until the server is idle, the sum is theirs exactly. While it is busy, a log that leads by more than can be in
progress shows too much, and does not lead either.

A page with a lower value that no start time and no refusal explain may be an old one, or another process's: what it
means shows the next one. If that is lower too, the server was restarted.

A rate in the log is about the seconds before it; only the part of it after the last answer is buffered.

The first answer ever is only a beginning: what was counted before it is not ours to report. But an endpoint that was
refused first, or that belongs to a process younger than this agent's watch (`new`), is read from nothing; so is one
that has not answered a request yet and shows no counters.
"""

from collections.abc import Mapping, Sequence

import msgspec

from tokenyield_agent.tokens.endpoint import (
    CounterChange,
    CounterReading,
    change_between,
    is_lower,
    is_same_process,
    lacks_counters,
    remembered,
    since_start,
)
from tokenyield_agent.tokens.event import KINDS, TokenCounts, TokenEvent, sum_kinds
from tokenyield_agent.tokens.handover_state import BufferedCounts, HandoverState
from tokenyield_agent.tokens.latency import STARTUP_MS
from tokenyield_wire.units import apportion
from tokenyield_wire.window import REQUEST_KINDS

FAILURES_MAX = 3
"""Answers missed before the log takes over. It does so at once after a refused connection, or where none ever came."""
RECENT, RECENT_STILL = 0.8, 0.98
"""By this factor what moved recently shrinks at the next answer; and where nothing moved since: a request may take
minutes between its prompt and its end."""
LEAD_MAX = 2
"""So many times what moved recently a log can lead or lag: at a steady load, requests of nine answers (45 s)."""
UNLIKE_MAX = 60
"""Answers without the counters that were there before, until they are taken for another server's: five minutes."""
PROCESSES_MAX = 8
"""That answer behind one address by turns."""
_PROMPT = ("prompt_computed", "prompt_cached", "prompt_unsplit")


class Handover:
    """Decides which of a workload's tokens are counted. Without an endpoint the log's pass through."""

    def __init__(self, workload: str, state: HandoverState | None = None) -> None:
        self._workload = workload
        self.state = state or HandoverState()

    @property
    def log_counts(self) -> bool:
        """Whether the log's tokens are counted now."""
        return self.state.log_counts

    def from_log(self, events: Sequence[TokenEvent]) -> list[TokenEvent]:
        """What of the log's events is counted now."""
        self._observe(events)
        if self.state.log_counts:
            new = map(self._since_answer, events)
            emitted = [event for event in map(self._without_lag, new) if event is not None]
            self._add_provisional(emitted)
            return emitted
        emitted = []
        for event in map(self._since_answer, events):
            kinds = event.counts.kinds()
            alone = self._of_log_alone(kinds)
            self._buffer(event, {kind: count for kind, count in kinds.items() if kind not in alone})
            if alone:
                emitted.append(self._event(event.counts.method, event.start_ms, event.end_ms, alone))
        return emitted

    def is_answer(self, reading: CounterReading) -> bool:
        """Whether `reading` shows the counters, or that its server was restarted and has none yet. A page of a server
        that shows them from its start must have them."""
        before = self.state.reading
        if before is None:
            return reading.is_unused or reading.is_whole
        return not lacks_counters(before, reading) or (reading.is_unused and not is_same_process(before, reading))

    def from_counters(self, reading: CounterReading, at_ms: int, *, new: bool = False) -> list[TokenEvent]:
        """What is counted now that `reading` was taken of the endpoint's counters at `at_ms`."""
        state = self.state
        if not self.is_answer(reading):
            state.unlike += 1
            if state.reading is None or state.unlike < UNLIKE_MAX:
                return self.endpoint_failed(refused=False)
            return self._begin(reading, at_ms)
        if (state.reading is None and not (state.refused or new)) or self._is_of_older_agent(reading):
            return self._begin(reading, at_ms)
        if self._doubts(reading):
            state.doubted = msgspec.structs.replace(reading, others={})
            return []
        return self._settle_answer(reading, at_ms)

    def _doubts(self, reading: CounterReading) -> bool:
        """Whether the next answer has to show what this lower one means."""
        last, doubted = self.state.reading, self.state.doubted
        if last is None or self.state.refused or not is_same_process(last, reading) or not is_lower(last, reading):
            return False
        return doubted is None or is_lower(doubted, reading)

    def _settle_answer(self, reading: CounterReading, at_ms: int) -> list[TokenEvent]:
        state = self.state
        before, is_replaced = self._counted_before(reading)
        if before is None and state.reading is not None:
            state.processes = [*state.processes, state.reading][-PROCESSES_MAX:]
            state.reading, state.unlike = msgspec.structs.replace(reading, others={}), 0
            return []
        if before is None:
            change, start_ms = since_start(reading), at_ms
        else:
            change, start_ms = change_between(before, reading, state.cached_ahead), min(state.at_ms, at_ms)
        lead: dict[str, int] = {}
        recent: dict[str, int] = {}
        if self._is_successor(change):
            lead, recent = _lead_and_recent({}, state.observed_since_refusal, change.kinds, {})
        elif not change.restarted and state.reading is not None:
            lead, recent = _lead_and_recent(state.lead, state.observed, change.kinds, state.recent)
        is_idle = reading.gauges is not None and not reading.gauges.running and not reading.gauges.waiting
        distrusted = state.distrusted
        if is_idle and not any(change.kinds.values()) and not any(state.observed.values()):
            distrusted = sorted({*distrusted, *(kind for kind, count in lead.items() if count > 0)})
        lead = {kind: 0 if kind in distrusted else count for kind, count in lead.items()}
        kinds = self._settle(change)
        processes = state.processes
        if state.reading is not None and (is_replaced or before is not state.reading):  # another one than before
            processes = [*(one for one in processes if one is not before), state.reading][-PROCESSES_MAX:]
        kept = remembered(before or reading, reading)
        if change.restarted and not is_replaced:
            kept = msgspec.structs.replace(kept, started_s=None)  # when that was may be reported late
        self.state = HandoverState(
            reading=kept,
            at_ms=at_ms,
            overcounted=state.overcounted,
            lead=lead,
            recent=recent,
            is_idle=is_idle,
            distrusted=distrusted,
            processes=processes,
            cached_ahead=0 if is_idle else change.cached_ahead,
        )
        return [self._event("counter", start_ms, at_ms, kinds)] if kinds else []

    def _begin(self, reading: CounterReading, at_ms: int) -> list[TokenEvent]:
        """The counters begin here: what the log gave before is its own to count."""
        events = self._flush_buffered()
        reading = msgspec.structs.replace(
            reading,
            others={},
            has_forgotten=reading.has_forgotten or not (reading.is_unused or reading.has("completion")),
        )
        self.state = HandoverState(reading=reading, at_ms=at_ms)
        return events

    def _is_of_older_agent(self, reading: CounterReading) -> bool:
        """An older agent did not remember the names: its values may be of other series than those that count now."""
        before = self.state.reading
        return before is not None and bool(before.values) and not before.series and bool(reading.series)

    def _counted_before(self, reading: CounterReading) -> tuple[CounterReading | None, bool]:
        """What the process that answers counted before, and whether it replaced the one that answered before. None:
        nothing is known of it."""
        state, last = self.state, self.state.reading
        if last is None or is_same_process(last, reading):
            return last, False
        if (known := next((one for one in state.processes if is_same_process(one, reading)), None)) is not None:
            return known, False
        started_s = reading.started_s or 0.0
        youngest_s = max(one.started_s or 0.0 for one in (last, *state.processes))
        was_there = started_s < youngest_s or started_s * 1000 < state.at_ms - STARTUP_MS
        return (None, False) if was_there else (last, True)

    def endpoint_failed(self, *, refused: bool) -> list[TokenEvent]:
        """The endpoint did not answer. What is counted now that the log takes over, if it does."""
        events = self._settle_doubted() if refused else []
        state = self.state
        state.failures += 1
        if not state.log_counts and (refused or state.failures >= FAILURES_MAX or state.reading is None):
            state.log_counts = True
            self._apply_lead()
            flushed = self._flush_buffered()
            self._add_provisional(flushed)
            events += flushed
        if refused:
            state.refused = True
            state.provisional_since_refusal = {}  # the server that runs from now on counts from nothing
            state.observed_since_refusal = {}
        return events

    def endpoint_removed(self) -> list[TokenEvent]:
        """There is no endpoint any more: what is buffered is the log's to count."""
        events = self._settle_doubted()
        if not self.state.log_counts:
            self._apply_lead()
        events += self._flush_buffered()
        self.state = HandoverState(log_counts=True)
        return events

    def _settle_doubted(self) -> list[TokenEvent]:
        """No other answer will show what the doubted one means: it was a restart."""
        doubted = self.state.doubted
        return self._settle_answer(doubted, self.state.at_ms) if doubted is not None else []

    def _settle(self, change: CounterChange) -> dict[str, int]:
        """The kinds to count: what moved, less what was provisional, and less what was overcounted."""
        state = self.state
        kinds = dict(change.kinds)
        provisional = state.provisional
        if change.restarted:
            state.overcounted = {}  # of a server that is gone
        if self._is_successor(change):
            provisional = state.provisional_since_refusal
        elif change.restarted:
            from_log = provisional
            for buffered in state.buffered.values():
                from_log = sum_kinds(from_log, buffered.kinds)
            from_log = _as_reported(from_log, kinds)
            kinds = {kind: max(count, from_log.get(kind, 0)) for kind, count in kinds.items()}
        kinds = _difference(kinds, _as_reported(provisional, kinds))
        kinds = _difference(kinds, state.overcounted)
        state.overcounted = {kind: -count for kind, count in kinds.items() if count < 0}
        return {kind: max(0, count) for kind, count in kinds.items() if kind in KINDS}

    def _of_log_alone(self, kinds: Mapping[str, int]) -> dict[str, int]:
        """The kinds that the counters do not report: those of the log are the only ones."""
        reading = self.state.reading
        if reading is None or reading.is_unused:
            return {}
        reported = reading.series.keys() | reading.kinds
        groups = [REQUEST_KINDS, {"prompt", *_PROMPT}, {"completion"}]
        alone = [group for group in groups if reported and reported.isdisjoint(group)]
        return {kind: count for kind, count in kinds.items() if any(kind in group for group in alone)}

    def _is_successor(self, change: CounterChange) -> bool:
        """Whether the server that answers now counted nothing before: new, or started after the last refusal."""
        return self.state.reading is None or (self.state.refused and change.restarted)

    def _observe(self, events: Sequence[TokenEvent]) -> None:
        for event in events:
            if event.counts.method == "count":
                kinds = event.counts.kinds()
                self.state.observed = sum_kinds(self.state.observed, kinds)
                self.state.observed_since_refusal = sum_kinds(self.state.observed_since_refusal, kinds)

    def _apply_lead(self) -> None:
        """At the handover to the log: add its lead to what is buffered, or subtract its lag. What was overcounted was
        leading too, and is counted already. More than can be in progress is no lead, but a log that shows too much."""
        state = self.state
        if not state.lead:
            return
        buffered = state.buffered.get("count") or BufferedCounts(start_ms=state.at_ms, end_ms=state.at_ms, kinds={})
        for kind, lead in state.lead.items():
            if lead > 0 and (state.is_idle or lead > LEAD_MAX * state.recent.get(kind, 0)):
                lead = 0
            count = buffered.kinds.get(kind, 0) + lead - state.overcounted.get(kind, 0)
            buffered.kinds[kind] = max(0, count)
            if count < 0:
                state.lag[kind] = -count
        if any(buffered.kinds.values()):
            state.buffered["count"] = buffered
        else:
            state.buffered.pop("count", None)

    def _since_answer(self, event: TokenEvent) -> TokenEvent:
        """Of a rate only the part after the last answer: the counters have counted the rest."""
        at_ms = self.state.at_ms
        if event.counts.method != "rate" or not event.start_ms < at_ms < event.end_ms:
            return event
        weights = [at_ms - event.start_ms, event.end_ms - at_ms]
        kinds = {kind: apportion(count, weights)[1] for kind, count in event.counts.kinds().items()}
        return self._event("rate", at_ms, event.end_ms, kinds)

    def _without_lag(self, event: TokenEvent) -> TokenEvent | None:
        """The event without what the counters have counted already; None when nothing is left."""
        lag = self.state.lag
        if not lag or event.counts.method != "count":
            return event
        kinds = event.counts.kinds()
        for kind, count in list(kinds.items()):
            taken = min(count, lag.get(kind, 0))
            if taken:
                lag[kind] -= taken
                kinds[kind] = count - taken
        return self._event("count", event.start_ms, event.end_ms, kinds) if any(kinds.values()) else None

    def _add_provisional(self, events: Sequence[TokenEvent]) -> None:
        for event in events:
            kinds = event.counts.kinds()
            self.state.provisional = sum_kinds(self.state.provisional, kinds)
            self.state.provisional_since_refusal = sum_kinds(self.state.provisional_since_refusal, kinds)

    def _buffer(self, event: TokenEvent, kinds: Mapping[str, int]) -> None:
        if not kinds:
            return
        buffered = self.state.buffered.get(event.counts.method)
        if buffered is None:
            self.state.buffered[event.counts.method] = BufferedCounts(
                start_ms=event.start_ms, end_ms=event.end_ms, kinds=dict(kinds)
            )
            return
        buffered.start_ms = min(buffered.start_ms, event.start_ms)
        buffered.end_ms = max(buffered.end_ms, event.end_ms)
        buffered.kinds = sum_kinds(buffered.kinds, kinds)

    def _flush_buffered(self) -> list[TokenEvent]:
        events = [
            self._event(method, buffered.start_ms, buffered.end_ms, buffered.kinds)
            for method, buffered in self.state.buffered.items()
        ]
        self.state.buffered = {}
        return events

    def _event(self, method: str, start_ms: int, end_ms: int, kinds: Mapping[str, int]) -> TokenEvent:
        counts = TokenCounts(method=method, **kinds)  # type: ignore[arg-type]
        return TokenEvent(workload=self._workload, start_ms=start_ms, end_ms=end_ms, counts=counts)


def _lead_and_recent(
    before: Mapping[str, int], observed: Mapping[str, int], counted: Mapping[str, int], recent: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """By how much the log leads the counters now: its lead `before`, and what it `observed` and they `counted` since;
    and how much moved recently, which bounds by how much it can lag."""
    observed = _as_reported(observed, counted)
    lead, now = {}, {}
    for kind, count in counted.items():
        most = max(observed.get(kind, 0), abs(count))
        now[kind] = int(recent.get(kind, 0) * (RECENT if most else RECENT_STILL)) + most
        bound = LEAD_MAX * now[kind]
        lead[kind] = max(-bound, before.get(kind, 0) + observed.get(kind, 0) - count)
    return lead, now


def _difference(kinds: Mapping[str, int], taken: Mapping[str, int]) -> dict[str, int]:
    """`kinds` less `taken`, which may go below nothing. Kinds that are only taken were never counted: left out."""
    return {kind: count - taken.get(kind, 0) for kind, count in kinds.items()}


def _as_reported(logged: Mapping[str, int], kinds: Mapping[str, int]) -> dict[str, int]:
    """`logged` with its prompt tokens under the kinds that the counters report: a log and an endpoint of the same
    server may differ in whether they can split a prompt."""
    prompt = {kind: logged[kind] for kind in _PROMPT if kind in logged}
    reported = [kind for kind in _PROMPT if kind in kinds]
    if not prompt or not reported or set(prompt) <= set(reported):
        return dict(logged)
    others = {kind: count for kind, count in logged.items() if kind not in _PROMPT}
    if "prompt_unsplit" in reported:
        return {**others, "prompt_unsplit": sum(prompt.values())}
    whole = sum(prompt.values())
    cached = min(whole, kinds.get("prompt_cached", 0)) if "prompt_cached" not in prompt else prompt["prompt_cached"]
    return {**others, "prompt_computed": whole - cached, "prompt_cached": cached}
