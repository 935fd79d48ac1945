"""`doctor`: what is here, what is missing?"""

import argparse
from typing import TYPE_CHECKING

from tokenyield_settings.command_line import add_settings_flags
from tokenyield_settings.logs import set_up_logging
from tokenyield_settings.terminal import print_table, show

if TYPE_CHECKING:
    from tokenyield_agent.doctor.report import DoctorReport

HELP = "look at this host: GPUs, who holds them, where tokens come from, permissions"
EXAMPLE = "doctor --config agent.yaml"


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_settings_flags(parser, "agent/agent.yaml")
    parser.add_argument("--format", choices=("text", "json"), default="text")


def run(arguments: argparse.Namespace) -> int:
    """1 where there are faults. Raises `SettingsError`."""
    import dataclasses
    import json

    from tokenyield_agent.config import settings_of
    from tokenyield_agent.doctor.examination import examine

    settings = settings_of(arguments)
    set_up_logging("text", "error")
    report = examine(settings)
    fault_count = sum(finding.level == "fault" for finding in report.findings)
    if arguments.format == "json":
        print(json.dumps(dataclasses.asdict(report), indent=2))
    else:
        _print_report(report)
        print(f"\n{fault_count} fault{'s' * (fault_count != 1)}")
    return 1 if fault_count else 0


def _print_report(report: "DoctorReport") -> None:
    for finding in report.findings:
        show(f"{finding.level:<6}{finding.about:<11}{finding.text}")
    if report.rows:
        print()
        print_table(
            ("GPU", "model", "held by", "known by", "tokens from", "how good"),
            [(row.gpu, row.model, row.held_by, row.known_by, row.tokens, row.quality) for row in report.rows],
        )
    changes = sorted({f"{row.held_by}: {row.change}" for row in report.rows if row.change})
    if changes:
        print("\nwhat to change")
        for change in changes:
            show(f"  {change}")
