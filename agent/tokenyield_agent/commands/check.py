"""`check`: are the settings sound, and what are they in the end?"""

import argparse

from tokenyield_settings.command_line import add_settings_flags

HELP = "check the settings and print the effective ones"
EXAMPLE = "check --config agent.yaml"


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_settings_flags(parser, "agent/agent.yaml")


def run(arguments: argparse.Namespace) -> int:
    """Prints YAML. Raises `SettingsError`."""
    import dataclasses
    import json

    import yaml

    from tokenyield_agent.config import settings_of

    effective = json.loads(json.dumps(dataclasses.asdict(settings_of(arguments))))
    print(yaml.safe_dump(effective, sort_keys=False), end="")
    return 0
