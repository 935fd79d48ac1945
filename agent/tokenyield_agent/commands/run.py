"""`run`: the daemon, until SIGTERM."""

import argparse

from tokenyield_settings.command_line import add_settings_flags

HELP = "run the daemon"
EXAMPLE = "run --config /etc/tokenyield/agent.yaml"


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_settings_flags(parser, "agent/agent.yaml")


def run(arguments: argparse.Namespace) -> int:
    """2 where the agent cannot start as configured. Raises `SettingsError`."""
    import logging
    import os

    from tokenyield_agent.config import settings_of
    from tokenyield_agent.daemon import Agent
    from tokenyield_agent.errors import AgentError
    from tokenyield_settings.logs import set_up_logging

    os.umask(0o077)  # what it keeps names workloads and callers, and its numbers identify it to the collector
    settings = settings_of(arguments)
    set_up_logging(settings.log_format, settings.log_level)
    try:
        Agent(settings, lambda: settings_of(arguments)).run()
    except AgentError as error:
        logging.getLogger(__name__).error("%s", error)
        return 2
    return 0
