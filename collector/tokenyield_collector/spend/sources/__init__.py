"""One file for each source of spend: which of its documents are read, and what their rows mean. Pure."""

import importlib
from typing import cast

from tokenyield_collector.spend.format import SpendFormat, SpendGrain, grain_family
from tokenyield_collector.spend.otlp.slices import GRAIN, SOURCE

SOURCES = (
    "anthropic",
    "openai",
    "openrouter",
    "litellm",
    "cursor",
    "copilot",
    "aws",
    "azure",
    "google",
    "focus",
    "csv",
    "claude-code",
    "codex",
    "egress",
)
"""Names as they are written in commands and kept in slices; a file may have _ for -."""
RECEIVED = {SOURCE: {GRAIN: SpendGrain("observed", "what OpenTelemetry senders report", 3)}}
"""Of sources that are no files."""
_UNKNOWN = SpendGrain("observed", "of a source that this collector does not know", 0)


def load_source(name: str) -> SpendFormat:
    """Of one of `SOURCES`."""
    file = importlib.import_module(f"tokenyield_collector.spend.sources.{name.replace('-', '_')}")
    return cast(SpendFormat, file.FORMAT)


def grain_of_slice(source: str, grain: str) -> SpendGrain:
    """Of a slice, perhaps of one that a newer collector wrote."""
    known = load_source(source).grains if source in SOURCES else RECEIVED.get(source, {})
    return known.get(grain_family(grain), _UNKNOWN)
