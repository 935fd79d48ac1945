"""`tokenyield-collector health`: asks a running collector whether it is well, for containers and scripts."""

import argparse

from tokenyield_settings.command_line import add_settings_flags

HELP = "ask the collector that runs with these settings whether it is well"
EXAMPLE = "health --config collector.yaml"


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_settings_flags(parser, "collector/collector.yaml")


def run(arguments: argparse.Namespace) -> int:
    import os

    from tokenyield_collector.config import load_settings
    from tokenyield_settings.health import ask_health
    from tokenyield_settings.web_config import read_web_config

    settings = load_settings(arguments.config, os.environ, arguments.set)
    tls = read_web_config(settings.web_config_file).tls_server_config
    return ask_health(settings.address, is_https=tls is not None)
