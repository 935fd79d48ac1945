"""`health`: is the agent that runs with these settings well? For containers' health checks."""

import argparse
import sys

from tokenyield_settings.command_line import add_settings_flags

HELP = "ask the agent that runs with these settings whether it is well"
EXAMPLE = "health --config agent.yaml"


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_settings_flags(parser, "agent/agent.yaml")


def run(arguments: argparse.Namespace) -> int:
    """0 healthy; 1 not; 2 it serves no status. Raises `SettingsError`."""
    from tokenyield_agent.config import settings_of
    from tokenyield_settings.health import ask_health

    settings = settings_of(arguments)
    address, is_https = settings.status_address, False
    if address is None:
        print("status_listen: expected an address, found none; set it to have /healthz served", file=sys.stderr)
        return 2
    if settings.web_config_file:
        from tokenyield_settings.web_config import read_web_config

        is_https = read_web_config(settings.web_config_file).tls_server_config is not None
    return ask_health(address, is_https=is_https)
