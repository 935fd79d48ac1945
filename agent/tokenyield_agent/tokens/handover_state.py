"""What a handover (handover.py) remembers of one workload, as plain values for the spool. Pure."""

import msgspec

from tokenyield_agent.tokens.endpoint import CounterReading


class BufferedCounts(msgspec.Struct, kw_only=True):
    """What the log gave in one way (`method`) since the last answer."""

    start_ms: int
    end_ms: int
    kinds: dict[str, int]


def _stored_as(name: str) -> dict[str, int]:
    """A field of counts by kind; `name` is what spools call it since 0.1."""
    fields: dict[str, int] = msgspec.field(default_factory=dict, name=name)
    return fields


class HandoverState(msgspec.Struct, kw_only=True):
    """All that is remembered of one workload; plain values for the spool, under the names that spools have for them."""

    reading: CounterReading | None = None
    at_ms: int = 0
    """When `reading` was taken."""
    log_counts: bool = msgspec.field(default=False, name="away")
    """The endpoint has gone away, and the log has taken over."""
    refused: bool = False
    """It refused a connection since `reading`."""
    failures: int = 0
    buffered: dict[str, BufferedCounts] = msgspec.field(default_factory=dict, name="held")
    provisional: dict[str, int] = _stored_as("lent")
    """What was counted by the log since `reading`, and of that since the last refusal: """
    provisional_since_refusal: dict[str, int] = _stored_as("lent_since_refusal")
    overcounted: dict[str, int] = _stored_as("owed")
    observed: dict[str, int] = _stored_as("heard")
    """What a log that counts exactly showed since `reading`, counted or not, and since the last refusal: """
    observed_since_refusal: dict[str, int] = _stored_as("heard_since_refusal")
    lead: dict[str, int] = _stored_as("ahead")
    """By how much such a log led the counters at `reading`."""
    is_idle: bool = False
    """No request was in progress at `reading`."""
    distrusted: list[str] = msgspec.field(default_factory=list)
    """Kinds of which the log has shown more than the counters when all was counted: what it shows is no lead."""
    recent: dict[str, int] = _stored_as("lately")
    """How much moved recently, by counters or log, whichever was more: what moved at each answer before counts less."""
    lag: dict[str, int] = _stored_as("behind")
    """After a handover: what the log will still show of what the counters have counted already."""
    processes: list[CounterReading] = msgspec.field(default_factory=list)
    """Others that have answered at this address, at their last values."""
    cached_ahead: int = 0
    """Cached tokens whose prompts the counters have not counted yet."""
    doubted: CounterReading | None = None
    """The last answer, where it was lower than `reading` for no reason that is known."""
    unlike: int = 0
    """Answers in a row that lacked the counters."""
