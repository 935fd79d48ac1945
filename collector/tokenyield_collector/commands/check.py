"""`tokenyield-collector check`: whether the settings, the price book, the rules and the token file can be used."""

import argparse

from tokenyield_settings.command_line import add_settings_flags
from tokenyield_settings.errors import SettingsError
from tokenyield_settings.terminal import show

HELP = "check the settings and every file that they name, and print the effective settings and terms"
EXAMPLE = "check --config collector.yaml"


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_settings_flags(parser, "collector/collector.yaml")


def run(arguments: argparse.Namespace) -> int:
    import dataclasses
    import os
    from pathlib import Path

    import yaml

    from tokenyield_collector.access.credentials import Credentials
    from tokenyield_collector.commands.gap_lines import gap_lines
    from tokenyield_collector.commands.terms_lines import first_day_kept, terms_texts
    from tokenyield_collector.config import load_settings
    from tokenyield_collector.ingest.spend_import import read_egress_file
    from tokenyield_collector.policy import load_policy
    from tokenyield_collector.pull.asking import key_remarks
    from tokenyield_collector.pull.spend_file import load_accounts

    settings = load_settings(arguments.config, os.environ, arguments.set)
    policy = load_policy(settings)
    if settings.egress_file:
        read_egress_file(Path(settings.egress_file))
    if settings.spend_file:
        for remark in key_remarks(load_accounts(Path(settings.spend_file))):
            show(f"{settings.spend_file}: {remark}", is_error=True)
    prices = policy.prices
    credentials = Credentials(settings)
    if credentials.enrolment is not None and credentials.enrolment.journal.faults:
        raise SettingsError(credentials.enrolment.journal.faults)
    for remark in credentials.web.config.remarks():
        show(f"{settings.web_config_file}: {remark}", is_error=True)
    for warning in credentials.warnings():
        show(warning, is_error=True)
    print(yaml.safe_dump(dataclasses.asdict(settings), sort_keys=False), end="")
    lines, warnings = terms_texts(prices, first_day_kept())
    if lines:
        show(f"# Effective terms of {settings.prices_file}, from a day to before another:")
    for line in lines:
        show(f"# {line}")
    for warning in warnings:
        show(f"{settings.prices_file}: {warning}", is_error=True)
    for line in gap_lines(settings, policy):
        show(line, is_error=True)
    return 0
