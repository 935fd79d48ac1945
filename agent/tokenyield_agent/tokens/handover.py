"""One workload seen by its counters and by its log, counted once: counters first. Pure.

In: what the log gave, and what the endpoint answered, in the order in which they happened. Out: events for the window.

Theory. The endpoint's counters are exact and late by one scrape. So while it answers, what the log gives is *held*, and
thrown away at the next answer, whose counters hold the same tokens. When the endpoint goes away, the log takes over
from the last answer: what is held is handed out, and what follows is handed out at once and kept as *lent*. When the
endpoint is back, its counters have moved by everything since the last answer, lent tokens included: these are taken
off, kind by kind, and what cannot be taken off yet (a log's rate was a little high) is owed by the next answers. So
both handovers neither lose nor double.

Counters and log do not move at the same moment: a line may be written some milliseconds after the counters moved, or a
prompt be logged when it is computed and counted when its request ends. So how far the log is *ahead* of the counters
(or, negative, behind) is kept from answer to answer. At a handover that much more is handed out, or is taken off the
log's next lines. It is never more than what moved lately, over a few answers, for that long a request may be under way;
so a log that misses lines does not fall behind for ever, and where both stand still it fades to nothing. Only logs that
count exactly are compared so.

A server that was started anew counts from nothing:
* If the endpoint refused connections in between, nobody served then: what the log lent before the last refusal
  belongs to the old server and stands; only what it lent after is taken off the new server's counters.
* If it was back before anybody noticed, the log holds the old server's last tokens and the new one's first. For each
  kind the larger of the counters and the log is taken: a log that counts is complete, one that gives rates is late.
Without a log the old server's tokens since the last answer are lost, as they are to Prometheus.

That a server was started anew is told by its start time, else by a counter below its last value: a server without a
start time whose counters pass their old value before it is asked again is taken for the old one, as Prometheus does.

A rate in the log speaks of the seconds before it; only the part of it after the last answer is held.

The first answer ever is only a beginning: what was counted before was before our time. But an endpoint that was refused
first, or that belongs to a process younger than this agent's watch (`new`), is read from nothing.
"""

from collections.abc import Mapping, Sequence

import msgspec

from tokenyield_agent.tokens.endpoint import Moved, Reading, moved, since_start
from tokenyield_agent.tokens.event import KINDS, Counted, TokenEvent, sum_kinds
from tokenyield_wire.units import apportion
from tokenyield_wire.window import REQUEST_KINDS

FAILURES_MAX = 3
"""Answers missed before the log takes over. A refused connection needs no second look, nor one that never answered."""
LATELY, LATELY_STILL = 0.8, 0.98
"""What moved up to an answer counts so much at the next; and where nothing moved since, for a request may take minutes
between its prompt and its end."""
AHEAD_MAX = 2
"""So many times what moved lately a log can be ahead or behind: at a steady load, requests of nine answers (45 s)."""
_PROMPT = ("prompt_computed", "prompt_cached", "prompt_unsplit")


class Held(msgspec.Struct, kw_only=True):
    """What the log gave in one way (`method`) since the last answer."""

    start_ms: int
    end_ms: int
    kinds: dict[str, int]


class Standing(msgspec.Struct, kw_only=True):
    """All that is remembered of one workload; plain values, for the spool."""

    reading: Reading | None = None
    at_ms: int = 0
    """When `reading` was taken."""
    away: bool = False
    """The endpoint has gone away, and the log has taken over."""
    refused: bool = False
    """It refused a connection since `reading`."""
    failures: int = 0
    held: dict[str, Held] = msgspec.field(default_factory=dict)
    lent: dict[str, int] = msgspec.field(default_factory=dict)
    """What the log counted since `reading`, and of that since the last refusal: """
    lent_since_refusal: dict[str, int] = msgspec.field(default_factory=dict)
    owed: dict[str, int] = msgspec.field(default_factory=dict)
    heard: dict[str, int] = msgspec.field(default_factory=dict)
    """What a log that counts exactly said since `reading`, counted or not, and since the last refusal."""
    heard_since_refusal: dict[str, int] = msgspec.field(default_factory=dict)
    ahead: dict[str, int] = msgspec.field(default_factory=dict)
    """By how much such a log was ahead of the counters at `reading`."""
    lately: dict[str, int] = msgspec.field(default_factory=dict)
    """How much moved of late, by counters or log, whichever was more: what moved at each answer before counts less."""
    behind: dict[str, int] = msgspec.field(default_factory=dict)
    """After a handover: what the log will still say of what the counters have told already."""


class TakeOver:
    """Decides which of a workload's tokens go into the books. Without an endpoint the log's pass through."""

    def __init__(self, workload: str, standing: Standing | None = None) -> None:
        self._workload = workload
        self.standing = standing or Standing()

    @property
    def log_counts(self) -> bool:
        """Whether the log's tokens are counted now."""
        return self.standing.away

    def from_log(self, events: Sequence[TokenEvent]) -> list[TokenEvent]:
        """What of the log's events goes into the books now."""
        self._hear(events)
        if self.standing.away:
            given = [event for event in map(self._less_behind, events) if event is not None]
            self._lend(given)
            return given
        given = []
        for event in events:
            kinds = event.counted.kinds()
            if self._counters_know_requests():
                self._hold(event, kinds)
            else:  # the endpoint tells no requests: those of the log are the only ones
                requests = {kind: kinds.pop(kind) for kind in REQUEST_KINDS if kind in kinds}
                self._hold(event, kinds)
                if requests:
                    given.append(self._event(event.counted.method, event.start_ms, event.end_ms, requests))
        return given

    def answered(self, reading: Reading, at_ms: int, *, new: bool = False) -> list[TokenEvent]:
        """The endpoint's counters stood at `reading` at `at_ms`."""
        standing = self.standing
        if standing.reading is None and not (standing.refused or new):
            events = self._hand_out_held()  # before the beginning of the counters
            self.standing = Standing(reading=reading, at_ms=at_ms)
            return events
        if standing.reading is None:
            change, start_ms = since_start(reading), at_ms
        else:
            change, start_ms = moved(standing.reading, reading), min(standing.at_ms, at_ms)
        ahead: dict[str, int] = {}
        lately: dict[str, int] = {}
        if self._is_successor(change):
            ahead, lately = _ahead({}, standing.heard_since_refusal, change.kinds, {})
        elif not change.restarted and standing.reading is not None:
            ahead, lately = _ahead(standing.ahead, standing.heard, change.kinds, standing.lately)
        kinds = self._settle(change)
        self.standing = Standing(reading=reading, at_ms=at_ms, owed=standing.owed, ahead=ahead, lately=lately)
        return [self._event("counter", start_ms, at_ms, kinds)] if kinds else []

    def failed(self, *, refused: bool) -> list[TokenEvent]:
        """The endpoint did not answer. What is handed out now that the log takes over, if it does."""
        standing = self.standing
        standing.failures += 1
        events: list[TokenEvent] = []
        if not standing.away and (refused or standing.failures >= FAILURES_MAX or standing.reading is None):
            standing.away = True
            self._catch_up()
            events = self._hand_out_held()
            self._lend(events)
        if refused:
            standing.refused = True
            standing.lent_since_refusal = {}  # who serves from now on counts from nothing
            standing.heard_since_refusal = {}
        return events

    def gone(self) -> list[TokenEvent]:
        """There is no endpoint any more: what is held is the log's to count."""
        events = self._hand_out_held()
        self.standing = Standing(away=True)
        return events

    def _settle(self, change: Moved) -> dict[str, int]:
        """The kinds to count: what moved, less what the log lent, and less what is owed."""
        standing = self.standing
        kinds = dict(change.kinds)
        lent = standing.lent
        if change.restarted:
            standing.owed = {}  # by a server that is gone
        if self._is_successor(change):
            lent = standing.lent_since_refusal
        elif change.restarted:
            from_log = lent
            for held in standing.held.values():
                from_log = sum_kinds(from_log, held.kinds)
            from_log = _in_the_terms_of(from_log, kinds)
            kinds = {kind: max(count, from_log.get(kind, 0)) for kind, count in kinds.items()}
        kinds = _less(kinds, _in_the_terms_of(lent, kinds))
        kinds = _less(kinds, standing.owed)
        standing.owed = {kind: -count for kind, count in kinds.items() if count < 0}
        return {kind: max(0, count) for kind, count in kinds.items() if kind in KINDS}

    def _counters_know_requests(self) -> bool:
        reading = self.standing.reading
        return reading is None or any(key.partition("\t")[0] in REQUEST_KINDS for key in reading.values)

    def _is_successor(self, change: Moved) -> bool:
        """Whether who answers now was started after the last refusal: it knows of nothing that was before."""
        return self.standing.refused and (change.restarted or self.standing.reading is None)

    def _hear(self, events: Sequence[TokenEvent]) -> None:
        for event in events:
            if event.counted.method == "count":
                kinds = event.counted.kinds()
                self.standing.heard = sum_kinds(self.standing.heard, kinds)
                self.standing.heard_since_refusal = sum_kinds(self.standing.heard_since_refusal, kinds)

    def _catch_up(self) -> None:
        """At the handover to the log: put what it was ahead to what is held, and take off what it was behind. What is
        owed was ahead too, and is in the books already."""
        standing = self.standing
        if not standing.ahead:
            return
        held = standing.held.get("count") or Held(start_ms=standing.at_ms, end_ms=standing.at_ms, kinds={})
        for kind, ahead in standing.ahead.items():
            count = held.kinds.get(kind, 0) + ahead - standing.owed.get(kind, 0)
            held.kinds[kind] = max(0, count)
            if count < 0:
                standing.behind[kind] = -count
        if any(held.kinds.values()):
            standing.held["count"] = held
        else:
            standing.held.pop("count", None)

    def _less_behind(self, event: TokenEvent) -> TokenEvent | None:
        """The event without what the counters have told already; None when nothing is left."""
        behind = self.standing.behind
        if not behind or event.counted.method != "count":
            return event
        kinds = event.counted.kinds()
        for kind, count in list(kinds.items()):
            taken = min(count, behind.get(kind, 0))
            if taken:
                behind[kind] -= taken
                kinds[kind] = count - taken
        return self._event("count", event.start_ms, event.end_ms, kinds) if any(kinds.values()) else None

    def _lend(self, events: Sequence[TokenEvent]) -> None:
        for event in events:
            kinds = event.counted.kinds()
            self.standing.lent = sum_kinds(self.standing.lent, kinds)
            self.standing.lent_since_refusal = sum_kinds(self.standing.lent_since_refusal, kinds)

    def _hold(self, event: TokenEvent, kinds: Mapping[str, int]) -> None:
        start_ms, at_ms = event.start_ms, self.standing.at_ms
        if event.counted.method == "rate" and start_ms < at_ms < event.end_ms:
            weights = [at_ms - start_ms, event.end_ms - at_ms]
            kinds = {kind: apportion(count, weights)[1] for kind, count in kinds.items()}
            start_ms = at_ms
        if not kinds:
            return
        held = self.standing.held.get(event.counted.method)
        if held is None:
            self.standing.held[event.counted.method] = Held(start_ms=start_ms, end_ms=event.end_ms, kinds=dict(kinds))
            return
        held.start_ms = min(held.start_ms, start_ms)
        held.end_ms = max(held.end_ms, event.end_ms)
        held.kinds = sum_kinds(held.kinds, kinds)

    def _hand_out_held(self) -> list[TokenEvent]:
        events = [
            self._event(method, held.start_ms, held.end_ms, held.kinds) for method, held in self.standing.held.items()
        ]
        self.standing.held = {}
        return events

    def _event(self, method: str, start_ms: int, end_ms: int, kinds: Mapping[str, int]) -> TokenEvent:
        counted = Counted(method=method, **kinds)  # type: ignore[arg-type]
        return TokenEvent(workload=self._workload, start_ms=start_ms, end_ms=end_ms, counted=counted)


def _ahead(
    before: Mapping[str, int], heard: Mapping[str, int], moved_by: Mapping[str, int], lately: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """How far the log is ahead of the counters now: by how much it was `before`, and by what both did since; and how
    much moved `lately`, which bounds it."""
    heard = _in_the_terms_of(heard, moved_by)
    ahead, now = {}, {}
    for kind, moved_kind in moved_by.items():
        most = max(heard.get(kind, 0), abs(moved_kind))
        now[kind] = int(lately.get(kind, 0) * (LATELY if most else LATELY_STILL)) + most
        bound = AHEAD_MAX * now[kind]
        ahead[kind] = max(-bound, min(bound, before.get(kind, 0) + heard.get(kind, 0) - moved_kind))
    return ahead, now


def _less(kinds: Mapping[str, int], taken: Mapping[str, int]) -> dict[str, int]:
    """`kinds` less `taken`, which may go below nothing. Kinds that are only taken were never counted: left out."""
    return {kind: count - taken.get(kind, 0) for kind, count in kinds.items()}


def _in_the_terms_of(lent: Mapping[str, int], kinds: Mapping[str, int]) -> dict[str, int]:
    """`lent` with its prompt tokens put under the kinds that the counters tell: a log and an endpoint of the same
    server may differ in whether they can split a prompt."""
    prompt = {kind: lent[kind] for kind in _PROMPT if kind in lent}
    told = [kind for kind in _PROMPT if kind in kinds]
    if not prompt or not told or set(prompt) <= set(told):
        return dict(lent)
    others = {kind: count for kind, count in lent.items() if kind not in _PROMPT}
    if "prompt_unsplit" in told:
        return {**others, "prompt_unsplit": sum(prompt.values())}
    whole = sum(prompt.values())
    cached = min(whole, kinds.get("prompt_cached", 0)) if "prompt_cached" not in prompt else prompt["prompt_cached"]
    return {**others, "prompt_computed": whole - cached, "prompt_cached": cached}
