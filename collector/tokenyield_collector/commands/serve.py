"""`tokenyield-collector serve`: the collector itself."""

import argparse

from tokenyield_settings.command_line import add_settings_flags

HELP = "run the collector"
EXAMPLE = "serve --config /etc/tokenyield/collector.yaml"


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_settings_flags(parser, "collector/collector.yaml")


def run(arguments: argparse.Namespace) -> int:
    """What ends the collector goes into its log, as everything that happens to it."""
    import logging
    import os

    from tokenyield_collector.config import load_settings
    from tokenyield_settings.logs import set_up_logging

    os.umask(0o077)  # the ledger, its log and backups are for nobody else
    settings = load_settings(arguments.config, os.environ, arguments.set)
    set_up_logging(settings.log_format, settings.log_level)
    import uvloop

    from tokenyield_collector.errors import LedgerError
    from tokenyield_collector.server import serve

    try:
        uvloop.run(serve(settings))
    except (LedgerError, OSError) as error:
        logging.getLogger(__name__).error("%s", error)
        return 1
    return 0
