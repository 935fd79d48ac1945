"""The files that `tokenyield-collector monitoring` writes.

In: where runbooks can be read. Out: names and contents, of this folder's files and of the examples that they use.
"""

from collections.abc import Iterator
from pathlib import Path

from tokenyield_collector.examples import example_text

MONITORING_FOLDER = Path(__file__).parent
RUNBOOKS = "RUNBOOKS"
"""Stands in the alerts for where the runbooks are."""
DEFAULT_RUNBOOKS = "runbooks.md"
_SUFFIXES = (".json", ".yaml", ".yml", ".md")


def files(runbooks: str = DEFAULT_RUNBOOKS) -> Iterator[tuple[str, bytes]]:
    """(path in the folder, content) of every file."""
    for path in sorted(MONITORING_FOLDER.rglob("*")):
        if path.suffix not in _SUFFIXES:
            continue
        text = path.read_text(encoding="utf-8")
        if path.name == "alerts.yaml":
            text = text.replace(f"{RUNBOOKS}#", f"{runbooks}#")
        yield str(path.relative_to(MONITORING_FOLDER)), text.encode()
    yield "prices.yaml", example_text("prices.yaml").encode()
    yield "trace.jsonl", (MONITORING_FOLDER.parent / "demo" / "trace.jsonl").read_bytes()
