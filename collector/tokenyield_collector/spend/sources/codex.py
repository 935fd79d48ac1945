"""Session files of Codex (~/.codex/sessions/**/*.jsonl).

Token counts are cumulative over a session: what counts is the difference to the one before, so that a line that was
written twice counts once. Prompts, answers and paths are never kept.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tokenyield_collector.spend.format import ReadItem, ReadOptions, SpendFormat, SpendGrain, SpendRow, unknown_document
from tokenyield_collector.spend.meanings import MEANINGS, tokens_of
from tokenyield_collector.spend.slices import NO_AMOUNTS, SpendAmounts, SpendFields
from tokenyield_collector.spend.values import UnusableSpend, at, day_ms, text

VENDOR = "openai"


class CodexReader:
    """Of one file after the other: each begins with its session_meta."""

    def __init__(self, _: ReadOptions) -> None:
        self._session = ""
        self._model = ""
        self._before = NO_AMOUNTS

    def read(self, document: Any) -> Iterator[ReadItem]:
        payload = document.get("payload") if isinstance(document, Mapping) else None
        if not isinstance(payload, Mapping):
            raise unknown_document("Codex", "lines of a session file", document)
        match document.get("type"):
            case "session_meta":
                self._session, self._model, self._before = text(payload, "id"), "", NO_AMOUNTS
            case "turn_context":
                self._model = text(payload, "model") or self._model
            case "event_msg" if payload.get("type") == "token_count":
                yield from self._counted(document, at(payload, "info.total_token_usage"))

    def finish(self) -> Iterator[ReadItem]:
        return iter(())

    def _counted(self, line: Mapping[str, Any], total: Any) -> Iterator[SpendRow]:
        if not isinstance(total, Mapping):
            return
        if not self._session:
            raise UnusableSpend("session_meta", expected="a session before its counts", found="none",
                                fix="import whole files")  # fmt: skip
        now = tokens_of(total, MEANINGS["codex"])
        added = _less(now, self._before)
        self._before = now
        if added.tokens:
            fields = SpendFields(VENDOR, model=self._model, product="codex", session=self._session)
            day = day_ms(line.get("timestamp"), "timestamp")
            yield SpendRow(f"session:{self._session}", day, fields, added._replace(requests=1))


def _less(now: SpendAmounts, before: SpendAmounts) -> SpendAmounts:
    """What came since; all of it where a count is below the one before, which began anew."""
    if any(value is not None and value < (old or 0) for value, old in zip(now, before, strict=True)):
        return now
    return SpendAmounts(
        *(None if value is None else value - (old or 0) for value, old in zip(now, before, strict=True))
    )


FORMAT = SpendFormat(
    title="Codex",
    documents="session files (~/.codex/sessions/**/*.jsonl)",
    grains={"session": SpendGrain("observed", "sessions of Codex", 2)},
    reader=CodexReader,
    is_lines=True,
)
