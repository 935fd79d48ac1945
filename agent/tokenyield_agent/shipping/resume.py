"""What an agent must remember over its end: it is in the spool beside the batches that it follows from."""

import uuid
from pathlib import Path

import msgspec

from tokenyield_agent.tokens.workload_tokens import TokensMark
from tokenyield_agent.windows.builder import BuilderState


class ResumeState(msgspec.Struct, kw_only=True):
    """All that must outlive the process. The names in the spool's JSON stay, so that an older agent's can be read."""

    boot_id: str
    builder: BuilderState = msgspec.field(name="book")
    models: dict[str, str | None]
    """Product name of each GPU seen, by uuid."""
    counters_mj: dict[str, int]
    """The last energy counter of each GPU; void after a reboot."""
    counters_read_ms: dict[str, int] = {}
    """When that was, by the host's monotonic clock."""
    tokens: dict[str, TokensMark] = {}
    """Of each workload and gateway."""
    journal_cursor: str | None = None


def agent_id_in(path: Path) -> str:
    """This node's identity, made at the first start and kept. Raises OSError."""
    try:
        kept = path.read_text(encoding="ascii").strip()
        if kept:
            return kept
    except FileNotFoundError:
        pass
    fresh = uuid.uuid4().hex
    path.write_text(fresh + "\n", encoding="ascii")
    return fresh
