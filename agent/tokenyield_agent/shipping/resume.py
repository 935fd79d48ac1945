"""What an agent must remember over its end: it is in the spool beside the batches that it follows from."""

import os
from pathlib import Path

import msgspec

from tokenyield_agent.shipping.spool import Spool
from tokenyield_agent.tokens.workload_tokens import TokensMark
from tokenyield_agent.windows.builder import BuilderState
from tokenyield_wire.bounded import fitting_name
from tokenyield_wire.window import NAME_CHARS_MAX


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


def resume_of(spool: Spool) -> ResumeState | None:
    """The state that this start goes on from; None in a new spool, and where it is none that this agent can read: it is
    set aside, and the agent begins anew."""
    if spool.resume is None:
        return None
    try:
        return msgspec.convert(spool.resume, ResumeState)
    except msgspec.ValidationError as error:
        spool.set_aside_resume(f"what the last run remembered: {error}")
        return None


def without_unsavable(tokens: dict[str, TokensMark]) -> tuple[dict[str, TokensMark], list[str]]:
    """The same without the workloads whose memory is no JSON, and their names."""
    savable = {name: mark for name, mark in tokens.items() if _is_savable(name, mark)}
    return savable, [name for name in tokens if name not in savable]


def _is_savable(name: str, mark: TokensMark) -> bool:
    try:
        msgspec.json.encode((name, mark))
    except (ValueError, TypeError, OverflowError):
        return False
    return True


def agent_id_in(path: Path) -> str:
    """This node's identity, made at the first start and kept. Raises OSError."""
    try:
        kept = path.read_text(encoding="ascii").strip()
        if kept and kept == fitting_name(kept, NAME_CHARS_MAX):
            return kept
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    fresh = os.urandom(16).hex()
    path.write_text(fresh + "\n", encoding="ascii")
    return fresh
