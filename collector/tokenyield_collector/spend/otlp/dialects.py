"""What senders call tokens and money: tables, one for each dialect. Pure.

A name leads to counts that it adds to or takes from: where input includes what was read from a cache, `cached` is read
from the cache and is not fresh. Names that mean the same, old and new, stand beside each other: the first that is there
counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

Effect = Mapping[str, int]
"""Count -> 1 or -1."""
Names = tuple[str, ...]
_FRESH: Effect = {"fresh": 1}
_READ: Effect = {"cache_read": 1}
_WRITE: Effect = {"cache_write": 1}
_READ_OF_INPUT: Effect = {"cache_read": 1, "fresh": -1}
_WRITE_OF_INPUT: Effect = {"cache_write": 1, "fresh": -1}
_OUTPUT: Effect = {"output": 1}
_REASONING: Effect = {"reasoning": 1}
_REASONING_BESIDE: Effect = {"reasoning": 1, "output": 1}


@dataclass(frozen=True, kw_only=True)
class MetricRule:
    """`by`: the attribute that says which kind a point counts; none: the one effect of all points. `cost_per_usd`: its
    points are money, and so many of their unit are a dollar."""

    by: str = ""
    effects: Mapping[str, Effect] = field(default_factory=dict)
    cost_per_usd: int = 0


@dataclass(frozen=True, kw_only=True)
class RecordRule:
    """Of an event or a span, which is one request. `where`: attributes, and which of their values it is counted for; a
    record without the attribute counts where the values include an empty text. `total`: what the parts must sum to.
    `identity`: what makes it the same where it comes again."""

    where: Mapping[str, frozenset[str]] = field(default_factory=dict)
    counts: tuple[tuple[Names, Effect], ...]
    cost: tuple[tuple[str, int], ...] = ()
    """(attribute, how many of its unit are a dollar); the first that is there."""
    total: str = ""
    identity: Names = ()


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """`services`: how the service.name of its senders begins. `vendor` and `product`: where attributes do not say."""

    name: str
    title: str
    services: Names = ()
    vendor: str = ""
    product: str = ""
    metrics: Mapping[str, MetricRule]
    events: Mapping[str, RecordRule] = field(default_factory=dict)
    spans: RecordRule | None = None


CLAUDE_CODE = Dialect(
    name="claude-code",
    title="Claude Code",
    services=("claude-code",),
    vendor="anthropic",
    product="claude_code",
    metrics={
        "claude_code.token.usage": MetricRule(
            by="type",
            effects={"input": _FRESH, "cacheRead": _READ, "cacheCreation": _WRITE, "output": _OUTPUT},
        ),
        "claude_code.cost.usage": MetricRule(cost_per_usd=1),
    },
    events={
        "claude_code.api_request": RecordRule(
            counts=(
                (("input_tokens",), _FRESH),
                (("cache_read_tokens",), _READ),
                (("cache_creation_tokens",), _WRITE),
                (("output_tokens",), _OUTPUT),
            ),
            cost=(("cost_usd_micros", 10**6), ("cost_usd", 1)),
            identity=("request_id", "client_request_id"),
        )
    },
)
CODEX = Dialect(
    name="codex",
    title="Codex",
    services=("codex",),
    vendor="openai",
    product="codex",
    metrics={
        "codex.turn.token_usage": MetricRule(
            by="token_type",
            effects={
                "input": _FRESH,
                "cached_input": _READ_OF_INPUT,
                "cache_write_input": _WRITE_OF_INPUT,
                "output": _OUTPUT,
                "reasoning_output": _REASONING,
                "total": {},
            },
        ),
        "codex.turn.cost_microusd": MetricRule(cost_per_usd=10**6),
    },
    events={
        "codex.sse_event": RecordRule(
            where={"event.kind": frozenset({"response.completed"})},
            counts=(
                (("input_token_count",), _FRESH),
                (("cached_token_count",), _READ_OF_INPUT),
                (("cache_write_token_count", "cache_write_input_token_count"), _WRITE_OF_INPUT),
                (("output_token_count",), _OUTPUT),
                (("reasoning_token_count",), _REASONING),
            ),
        )
    },
)
GEMINI_CLI = Dialect(
    name="gemini-cli",
    title="Gemini CLI",
    services=("gemini-cli",),
    vendor="google",
    product="gemini_cli",
    metrics={
        "gemini_cli.token.usage": MetricRule(
            by="type",
            effects={
                "input": _FRESH,
                "cache": _READ_OF_INPUT,
                "tool": _FRESH,
                "output": _OUTPUT,
                "thought": _REASONING_BESIDE,
            },
        )
    },
    events={
        "gemini_cli.api_response": RecordRule(
            counts=(
                (("input_token_count",), _FRESH),
                (("cached_content_token_count",), _READ_OF_INPUT),
                (("tool_token_count",), _FRESH),
                (("output_token_count",), _OUTPUT),
                (("thoughts_token_count",), _REASONING_BESIDE),
            ),
            total="total_token_count",
        )
    },
)
_GEN_AI_RECORD = RecordRule(
    # What an agent or a workflow did is the sum of its requests, which are spans of their own.
    where={"gen_ai.operation.name": frozenset({"", "chat", "text_completion", "generate_content", "embeddings"})},
    counts=(
        (("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"), _FRESH),
        (("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"), _READ_OF_INPUT),
        (
            (
                "gen_ai.usage.cache_creation.input_tokens",
                "gen_ai.usage.cache_write.input_tokens",
                "gen_ai.usage.cache_creation_input_tokens",
            ),
            _WRITE_OF_INPUT,
        ),
        (("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"), _OUTPUT),
        (("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens"), _REASONING),
    ),
    identity=("gen_ai.response.id",),
)
_GEN_AI_DRAFT = "gen_ai.client.inference.usage"
GEN_AI = Dialect(
    name="gen-ai",
    title="GenAI conventions",
    metrics={
        "gen_ai.client.token.usage": MetricRule(
            by="gen_ai.token.type",
            effects={
                **dict.fromkeys(("input", "prompt"), _FRESH),
                **dict.fromkeys(("output", "completion"), _OUTPUT),
                **dict.fromkeys(("cacheRead", "cache_read", "cached_input"), _READ_OF_INPUT),
                **dict.fromkeys(("cacheCreation", "cache_creation", "cache_write"), _WRITE_OF_INPUT),
                "reasoning": _REASONING,
            },
        ),
        f"{_GEN_AI_DRAFT}.input_tokens": MetricRule(effects={"": _FRESH}),
        f"{_GEN_AI_DRAFT}.output_tokens": MetricRule(effects={"": _OUTPUT}),
        f"{_GEN_AI_DRAFT}.cache_read.input_tokens": MetricRule(effects={"": _READ_OF_INPUT}),
        f"{_GEN_AI_DRAFT}.cache_write.input_tokens": MetricRule(effects={"": _WRITE_OF_INPUT}),
        f"{_GEN_AI_DRAFT}.cache_creation.input_tokens": MetricRule(effects={"": _WRITE_OF_INPUT}),
        f"{_GEN_AI_DRAFT}.reasoning.output_tokens": MetricRule(effects={"": _REASONING}),
    },
    events={"gen_ai.client.inference.operation.details": _GEN_AI_RECORD},
    spans=_GEN_AI_RECORD,
)
DIALECTS = (CLAUDE_CODE, CODEX, GEMINI_CLI, GEN_AI)
METRICS = {name: (dialect, rule) for dialect in DIALECTS for name, rule in dialect.metrics.items()}
EVENTS = {name: (dialect, rule) for dialect in DIALECTS for name, rule in dialect.events.items()}


def agent_of(service: str) -> Dialect | None:
    """The coding agent that has this service.name. Of what it sends only its own names count: some send the same tokens
    by the GenAI conventions too."""
    return next((one for one in DIALECTS if one.services and service.startswith(one.services)), None)


def table_rows() -> list[tuple[str, str, str]]:
    """(dialect, what is read, what it counts): for the docs."""
    rows: list[tuple[str, str, str]] = []
    for dialect in DIALECTS:
        for name, rule in dialect.metrics.items():
            for kind, effect in rule.effects.items():
                of = f"metric `{name}`" + (f", {rule.by} `{kind}`" if kind else "")
                rows.append((dialect.title, of, _effect(effect)))
            if rule.cost_per_usd:
                rows.append((dialect.title, f"metric `{name}`", "money"))
        records = {f"event `{name}`": rule for name, rule in dialect.events.items()}
        if dialect.spans is not None:
            records = {f"{' '.join(records)} and spans": dialect.spans}
        for name, record in records.items():
            for names, effect in record.counts:
                rows.append((dialect.title, f"{name}: {', else '.join(f'`{one}`' for one in names)}", _effect(effect)))
            for attribute, _ in record.cost[:1]:
                rows.append((dialect.title, f"{name}: `{attribute}`", "money"))
    return rows


def _effect(effect: Effect) -> str:
    more = [name.replace("_", " ") for name, sign in effect.items() if sign > 0]
    less = [f"less {name.replace('_', ' ')}" for name, sign in effect.items() if sign < 0]
    return ", ".join([*more, *less]) or "nothing"
