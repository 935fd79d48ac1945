"""Write what the docs show of the code: wire-v1.schema.json and settings.md. Tests hold them together (`make docs`)."""

import json
from pathlib import Path
from typing import Any

from tokenyield_agent.config import ENVIRONMENT_PREFIX as AGENT_PREFIX
from tokenyield_agent.config import Settings as AgentSettings
from tokenyield_collector.config import ENVIRONMENT_PREFIX as COLLECTOR_PREFIX
from tokenyield_collector.config import Settings as CollectorSettings
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


if __name__ == "__main__":
    (HERE / "wire-v1.schema.json").write_text(json.dumps(json_schema(), indent=2) + "\n")
    (HERE / "settings.md").write_text(settings_page())
