"""One workload's or gateway's tokens: its log and its endpoint brought together.

In: polls of the log, answers of the endpoint. Out: events for the window, each token once (takeover.py says how).
"""

import msgspec

from tokenyield_agent.tokens.event import TokenEvent
from tokenyield_agent.tokens.scrape import Answer
from tokenyield_agent.tokens.source import LogSource, SourceMark
from tokenyield_agent.tokens.takeover import Standing, TakeOver


class TokensMark(msgspec.Struct, kw_only=True):
    """All that must outlive the process of one workload's tokens."""

    logs: list[SourceMark] = msgspec.field(default_factory=list)
    standing: Standing | None = None


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
        self.events = 0
        self._is_new = is_new
        standing = mark.standing if mark is not None else None
        self._takeover = TakeOver(name, standing if standing is not None else Standing(away=not has_endpoint))

    @property
    def _has_counters(self) -> bool:
        """There is an endpoint to ask, or there was one before a restart of the agent that will be found again."""
        return self.has_endpoint or self._takeover.standing.reading is not None

    @property
    def server(self) -> str:
        """The server's kind, `unknown` until its log or endpoint has told it."""
        if self.endpoint_server is not None:
            return self.endpoint_server
        dialects = self.log.dialects() if self.log is not None else []
        return dialects[-1].name if dialects else "unknown"

    @property
    def model(self) -> str | None:
        dialects = self.log.dialects() if self.log is not None else []
        return self.endpoint_model or next((d.model for d in reversed(dialects) if d.model), None)

    @property
    def counted_by(self) -> str:
        """`counters`, `log`, or `nothing`, as it is now."""
        if not self._takeover.log_counts and self._takeover.standing.reading is not None:
            return "counters"
        return "log" if self.log is not None else "nothing"

    def poll(self, now_ms: int, now_mono_s: float) -> list[TokenEvent]:
        """What the log gave since the last poll, as far as it is to be counted."""
        if self.log is None:
            return []
        events = self.log.poll(now_ms, now_mono_s)
        return self._count(self._takeover.from_log(events) if self._has_counters else events)

    def answered(self, answer: Answer, at_ms: int) -> list[TokenEvent]:
        """What the endpoint's answer at `at_ms` adds."""
        if answer.reading is None or answer.names is None:
            return self._count(self._takeover.failed(refused=answer.refused))
        self.endpoint_server = answer.names.server
        self.endpoint_model = answer.reading.model or self.endpoint_model
        reading = answer.reading
        if reading.started_s is None:
            reading = msgspec.structs.replace(reading, started_s=self.process_started_s)
        return self._count(self._takeover.answered(reading, at_ms, new=self._is_new))

    def is_first(self, answer: Answer) -> bool:
        """Whether `answer` is where the counters begin."""
        return answer.reading is not None and self._takeover.standing.reading is None

    def unreachable(self) -> list[TokenEvent]:
        """No address is known at which the endpoint could be asked."""
        return self._count(self._takeover.failed(refused=False)) if self._has_counters else []

    def finish(self) -> list[TokenEvent]:
        """The workload is not followed any more: what its log has that the counters have not confirmed."""
        return self._count(self._takeover.gone()) if self._has_counters else []

    def mark(self) -> TokensMark:
        return TokensMark(
            logs=self.log.marks() if self.log is not None else [],
            standing=self._takeover.standing if self._has_counters else None,
        )

    def close(self) -> None:
        if self.log is not None:
            self.log.close()

    def _count(self, events: list[TokenEvent]) -> list[TokenEvent]:
        self.events += len(events)
        return events
