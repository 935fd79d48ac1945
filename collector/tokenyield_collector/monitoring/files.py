"""The files that `tokenyield-collector monitoring` writes.

In: where runbooks can be read, and the dimensions of the rules. Out: names and contents, of this folder's files and of
the examples that they use. The files here are those of the default dimensions, which are names of labels.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenyield_collector.attribution.rules import DEFAULT_DIMENSIONS
from tokenyield_collector.examples import example_text

MONITORING_FOLDER = Path(__file__).parent
RUNBOOKS = "RUNBOOKS"
"""Stands in the alerts for where the runbooks are."""
DEFAULT_RUNBOOKS = "runbooks.md"
_SUFFIXES = (".json", ".yaml", ".yml", ".md")


def files(
    runbooks: str = DEFAULT_RUNBOOKS, dimensions: Sequence[str] = DEFAULT_DIMENSIONS
) -> Iterator[tuple[str, bytes]]:
    """(path in the folder, content) of every file."""
    for path in sorted(MONITORING_FOLDER.rglob("*")):
        if path.suffix not in _SUFFIXES:
            continue
        text = path.read_text(encoding="utf-8")
        if path.name == "alerts.yaml":
            text = text.replace(f"{RUNBOOKS}#", f"{runbooks}#")
        if path.name == "recording.yaml":
            text = _by_dimensions(text, dimensions)
        if path.name == "chargeback.json":
            text = _choosing_dimension(_by_dimensions(text, dimensions), dimensions)
        yield str(path.relative_to(MONITORING_FOLDER)), text.encode()
    yield "prices.yaml", example_text("prices.yaml").encode()
    yield "trace.jsonl", (MONITORING_FOLDER.parent / "demo" / "trace.jsonl").read_bytes()


def _by_dimensions(text: str, dimensions: Sequence[str]) -> str:
    """With these labels wherever queries list those of the default dimensions."""
    return text.replace(", ".join(DEFAULT_DIMENSIONS), ", ".join(dimensions))


def _choosing_dimension(dashboard: str, dimensions: Sequence[str]) -> str:
    """With these as the choices of the dashboard's variable `dimension`."""
    document = json.loads(dashboard)
    options = [{"selected": i == 0, "text": name, "value": name} for i, name in enumerate(dimensions)]
    for variable in document["templating"]["list"]:
        if variable["name"] == "dimension":
            variable["options"], variable["current"] = options, options[0]
    return json.dumps(document, indent=1) + "\n"
