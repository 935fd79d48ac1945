"""`tokenyield-collector monitoring`: writes dashboards, rules and a compose file for people to change."""

import argparse
import sys
from pathlib import Path

HELP = "write Grafana dashboards, Prometheus rules and a compose file into a folder"
EXAMPLE = "monitoring tokenyield-monitoring"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--runbooks", default="runbooks.md", metavar="URL", help="where your runbooks.md is served, for the alerts"
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that were changed")


def run(arguments: argparse.Namespace) -> int:
    """1 when a file that was changed is kept as it is."""
    from tokenyield_collector.monitoring.files import files

    folder: Path = arguments.folder
    kept = []
    for name, data in files(arguments.runbooks):
        target = folder / name
        if target.exists() and target.read_bytes() != data and not arguments.force:
            kept.append(target)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    (folder / "wheels").mkdir(exist_ok=True)
    print(f"{folder}: dashboards/ for Grafana, rules/ for Prometheus, compose.yaml for all of it on one machine")
    for target in kept:
        print(f"kept, because it was changed (--force overwrites it): {target}", file=sys.stderr)
    return 1 if kept else 0
