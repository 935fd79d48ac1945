"""Write what the docs show of the code, and the chart of other files (`make docs`). tests/test_docs.py holds them together."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dialects_page
import page_buckets

import chart
from tokenyield_agent.config import ENVIRONMENT_PREFIX as AGENT_PREFIX
from tokenyield_agent.config import Settings as AgentSettings
from tokenyield_agent.status.metrics import every_family as agent_families
from tokenyield_collector.api.openapi import openapi
from tokenyield_collector.config import ENVIRONMENT_PREFIX as COLLECTOR_PREFIX
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.metrics.families import every_family as collector_families
from tokenyield_settings.families import Family
from tokenyield_settings.loader import describe
from tokenyield_wire.codec import json_schema

HERE = Path(__file__).parent


def settings_table(title: str, prefix: str, kind: type[Any]) -> str:
    rows = [f"| `{name}` | {f'`{default}`' if default else ''} | {text} |" for name, default, text in describe(kind)]
    head = (
        f"## {title}\n\nEnvironment: `{prefix}<NAME>` in capitals.\n\n| setting | default | meaning |\n|---|---|---|\n"
    )
    return head + "\n".join(rows) + "\n"


def settings_page() -> str:
    return (
        "# Settings\n\nMade by `make docs` from the code; do not edit. File, then environment, then `--set name=value`.\n\n"
        + settings_table("tokenyield-agent", AGENT_PREFIX, AgentSettings)
        + "\n"
        + settings_table("tokenyield-collector", COLLECTOR_PREFIX, CollectorSettings)
    )


METRICS_HEAD = """# Metrics

Made by `make docs` from the code; do not edit.

- Names follow the Prometheus conventions: base units (seconds, joules, bytes), `_total` for counters. The last column is what
  OpenTelemetry's semantic conventions call the same thing, where they have a name for it.
- **Facts are counters** (tokens, joules, GPU seconds): take `rate()` or `increase()`.
- **Money is not.** Late data, new prices and a better pace learned correct it, so it is a gauge: per hour over the live window
  (`live_window_s`), or *to date*: the sum of all closed hours, month by month as reports say it. Take `delta(…[1d])`, or
  exactly: `x - x offset 1d`. It steps once an hour.
- Labels that others choose share a budget of series, `metrics_series_max`, of which each class of names has a part: workloads 40 %, callers of gateways 20 %, groups (the
  dimensions of your rules) 20 %, clusters and pools 15 %, events and reasons 5 %. Names that were there first stay; later ones share the label `(other)` and
  keep their sum: first the model, then the name. `tokenyield_collector_metric_names{fate="folded"}` counts them.
- Where `team` and `product` stand, the labels are the dimensions of your rules.
- A watt is a joule per second, so `tokenyield_tokens_per_watt` (tokens per second per watt) equals tokens per joule.
- A series is absent where its value is unknown.
"""


def metrics_table(title: str, families: Iterable[Family]) -> str:
    head = f"\n## {title}\n\n| metric | type | labels | meaning | OpenTelemetry |\n|---|---|---|---|---|\n"
    return head + "".join(
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.help} | {f'`{one.otel}`' if one.otel else ''} |\n"
        for one in families
    )


def metrics_page() -> str:
    return (
        METRICS_HEAD
        + metrics_table("tokenyield-collector, `:9464/metrics`", collector_families())
        + metrics_table("tokenyield-agent, `:9465/metrics`", agent_families())
        + "\nBoth show `process_*` of themselves as well: CPU seconds, resident memory, open files.\n"
    )


def pages() -> dict[Path, str]:
    """Every file that is made from the code -> what it is to hold."""
    return {
        HERE / "wire-v1.schema.json": json.dumps(json_schema(), indent=2) + "\n",
        HERE / "openapi.json": json.dumps(openapi(), indent=2) + "\n",
        HERE / "settings.md": settings_page(),
        HERE / "metrics.md": metrics_page(),
        **dialects_page.pages(),
        **chart.pages(),
        **page_buckets.pages(),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
