"""`tokenyield-collector monitoring FOLDER`: write dashboards, rules and configuration for people to change.

In: a folder, and where runbooks can be read. Out: files. What is there already and differs is kept, and named.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parents[1] / "monitoring"
RUNBOOKS = "RUNBOOKS"
"""Stands in the alerts for where the runbooks are."""
DEFAULT_RUNBOOKS = "runbooks.md"


def write_monitoring(folder: Path, *, runbooks: str, force: bool) -> int:
    """0 when every file stands as it should; 1 when some were kept as they are."""
    kept = []
    for name, data in files(runbooks):
        target = folder / name
        if target.exists() and target.read_bytes() != data and not force:
            kept.append(name)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    (folder / "wheels").mkdir(exist_ok=True)
    print(f"{folder}: dashboards/ for Grafana, rules/ for Prometheus, compose.yaml for all of it on one machine")
    for name in kept:
        print(f"kept, since it differs (--force overwrites): {folder / name}", file=sys.stderr)
    return 1 if kept else 0


def files(runbooks: str = DEFAULT_RUNBOOKS) -> Iterator[tuple[str, bytes]]:
    """(path in the folder, content) of everything."""
    for path in sorted(HERE.rglob("*")):
        if path.suffix in (".json", ".yaml", ".yml", ".md"):
            text = path.read_text(encoding="utf-8")
            if path.name == "alerts.yaml":
                text = text.replace(f"{RUNBOOKS}#", f"{runbooks}#")
            yield str(path.relative_to(HERE)), text.encode()
    from tokenyield_collector.commands.example import example

    yield "prices.yaml", example("prices.yaml").encode()
    yield "trace.jsonl", (HERE.parent / "demo" / "trace.jsonl").read_bytes()
