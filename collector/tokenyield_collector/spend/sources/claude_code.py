"""Session files of Claude Code (~/.claude/projects/**/*.jsonl).

A message is written several times while it streams, and again where a session is resumed or a sidechain repeats it. It
counts once: of those with one id and request the main chain's before a sidechain's, then the one with most tokens.
Prompts, answers and paths are never kept.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tokenyield_collector.spend.format import ReadItem, ReadOptions, SpendFormat, SpendGrain, SpendRow, unknown_document
from tokenyield_collector.spend.meanings import MEANINGS, tokens_of
from tokenyield_collector.spend.slices import SpendAmounts, SpendFields
from tokenyield_collector.spend.values import UnusableSpend, day_ms, text

VENDOR = "anthropic"
MESSAGES_MAX = 2_000_000
"""Messages of one import, in memory."""
_SYNTHETIC = "<synthetic>"
"""The model of messages that the program itself wrote."""
_Message = tuple[bool, SpendRow]
"""Whether it is of the main chain, and what it counts."""


class ClaudeCodeReader:
    """Keeps the best of each message until all files were read."""

    def __init__(self, _: ReadOptions) -> None:
        self._messages: dict[str, _Message] = {}

    def read(self, document: Any) -> Iterator[ReadItem]:
        if not isinstance(document, Mapping) or "type" not in document:
            raise unknown_document("Claude Code", "lines of a session file", document)
        usage = document["message"].get("usage") if isinstance(document.get("message"), Mapping) else None
        model = text(document, "message.model")
        if document["type"] != "assistant" or not isinstance(usage, Mapping) or model == _SYNTHETIC:
            return
        session = text(document, "sessionId", "unknown")
        amounts = tokens_of(usage, MEANINGS["anthropic message"])._replace(requests=1)
        fields = SpendFields(VENDOR, model=model, product="claude_code", session=session)
        row = SpendRow(f"session:{session}", day_ms(document.get("timestamp"), "timestamp"), fields, amounts)
        identity = text(document, "message.id") or text(document, "uuid")
        self._keep(identity, (not document.get("isSidechain"), row))
        yield from ()

    def finish(self) -> Iterator[ReadItem]:
        for _, row in self._messages.values():
            yield row

    def _keep(self, identity: str, message: _Message) -> None:
        before = self._messages.get(identity)
        if before is None and len(self._messages) >= MESSAGES_MAX:
            raise UnusableSpend("files", expected=f"at most {MESSAGES_MAX} messages in one import", found="more",
                                fix="import fewer files at once")  # fmt: skip
        if before is None or _order(message) > _order(before):
            self._messages[identity] = message


def _order(message: _Message) -> tuple[bool, int]:
    is_main, row = message
    amounts: SpendAmounts = row.amounts
    return is_main, amounts.tokens or 0


FORMAT = SpendFormat(
    title="Claude Code",
    documents="session files (~/.claude/projects/**/*.jsonl)",
    grains={"session": SpendGrain("observed", "sessions of Claude Code", 2)},
    reader=ClaudeCodeReader,
    is_lines=True,
)
