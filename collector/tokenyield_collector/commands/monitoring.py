"""`tokenyield-collector monitoring`: writes dashboards, rules and a compose file for people to change."""

import argparse
from pathlib import Path

from tokenyield_settings.command_line import add_settings_flags
from tokenyield_settings.terminal import show

HELP = "write Grafana dashboards, Prometheus rules and a compose file into a folder"
EXAMPLE = "monitoring tokenyield-monitoring"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--runbooks", default="runbooks.md", metavar="URL", help="where your runbooks.md is served, for the alerts"
    )
    parser.add_argument(
        "--dimensions", metavar="NAMES", help="of your attribution rules, e.g. cost_center,task; default those of the "
        "rules file that the settings name"
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="overwrite files that were changed")
    add_settings_flags(parser, "collector/collector.yaml")


def run(arguments: argparse.Namespace) -> int:
    """1 when a file that was changed is kept as it is."""
    from tokenyield_collector.monitoring.files import files

    folder: Path = arguments.folder
    kept = []
    for name, data in files(arguments.runbooks, _dimensions(arguments)):
        target = folder / name
        if target.exists() and target.read_bytes() != data and not arguments.force:
            kept.append(target)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    (folder / "wheels").mkdir(exist_ok=True)
    show(f"{folder}: dashboards/ for Grafana, rules/ for Prometheus, compose.yaml for all of it on one machine")
    for target in kept:
        show(f"kept, because it was changed (--force overwrites it): {target}", is_error=True)
    return 1 if kept else 0


def _dimensions(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Raises `SettingsError`."""
    import os

    from tokenyield_collector.attribution.rules import dimension_faults, load_rules
    from tokenyield_collector.config import load_settings
    from tokenyield_settings.loader import SettingsError

    if arguments.dimensions is None:
        rules_file = load_settings(arguments.config, os.environ, arguments.set).attribution_file
        return load_rules(Path(rules_file) if rules_file else None).dimensions
    dimensions = tuple(name.strip() for name in arguments.dimensions.split(",") if name.strip())
    if faults := list(dimension_faults(dimensions)):
        raise SettingsError(faults)
    return dimensions
