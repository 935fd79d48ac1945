"""One followed log: its tail, its dialect and the workload that its tokens belong to."""

from typing import Any

import msgspec

from tokenyield_agent.tokens.dialects.registry import AutoDialect, new_dialect
from tokenyield_agent.tokens.event import TokenEvent
from tokenyield_agent.tokens.tail import Tail, TailMark

MODEL_BYTES = 1 << 20
"""Of the beginning of a log that was there before us."""


class SourceMark(msgspec.Struct, frozen=True, kw_only=True):
    """Where reading stands in one source, with all that its dialect remembers."""

    path: str
    tail: TailMark
    dialect: str
    dialect_state: dict[str, Any]


class LogSource:
    """Events of one log. `mark` continues the last run when it is of the same path and dialect."""

    def __init__(self, *, workload: str, path: str, dialect: str, from_end: bool, mark: SourceMark | None) -> None:
        self.workload = workload
        self.path = path
        self._dialect_name = dialect
        self.dialect = new_dialect(dialect)
        if mark is not None and (mark.path, mark.dialect) == (path, dialect):
            self.dialect.restore(mark.dialect_state)
            self.tail = Tail(path, mark=mark.tail)
        else:
            self.tail = Tail(path, from_end=from_end)
            if from_end:
                self._learn_model(self.tail.first_bytes(MODEL_BYTES))
        self.events = 0

    @property
    def server(self) -> str:
        if isinstance(self.dialect, AutoDialect):
            return self.dialect.chosen.name if self.dialect.chosen else "unknown"
        return self.dialect.name

    def _learn_model(self, head: bytes) -> None:
        """The model, which servers log once as they start; what else stands there was before our time."""
        self.dialect.feed(head, 0.0)
        self.dialect.forget_counts()

    def poll(self, now_ms: int, now_mono_s: float) -> list[TokenEvent]:
        """What was written since the last poll, laid to end now."""
        events = [
            TokenEvent(workload=self.workload, start_ms=now_ms - counted.span_ms, end_ms=now_ms, counted=counted)
            for block in self.tail.poll(now_mono_s)
            for counted in self.dialect.feed(block, now_ms / 1000)
        ]
        self.events += len(events)
        return events

    def mark(self) -> SourceMark:
        return SourceMark(
            path=self.path, tail=self.tail.mark(), dialect=self._dialect_name, dialect_state=self.dialect.state()
        )

    def close(self) -> None:
        self.tail.close()
