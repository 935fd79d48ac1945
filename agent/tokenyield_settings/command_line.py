"""The shape of both command lines: subcommands with an example each, settings flags, exit codes.

Exit codes: 0 done; 1 the answer is no; 2 the call or the settings are wrong; 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

Call = Callable[[argparse.Namespace], int]


class CommandLine:
    """A program with subcommands. Each subcommand's `call` imports only what it needs."""

    def __init__(self, *, prog: str, version: str, description: str, examples: str) -> None:
        self._prog = prog
        self._parser = argparse.ArgumentParser(
            prog=prog,
            description=description,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self._parser.add_argument("--version", action="version", version=f"{prog} {version}")
        self._commands = self._parser.add_subparsers(required=True, metavar="COMMAND")

    def command(self, name: str, call: Call, help_text: str, example: str) -> argparse.ArgumentParser:
        made = self._commands.add_parser(
            name,
            help=help_text,
            description=help_text,
            epilog=f"example:\n  {self._prog} {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(call=call)
        return made

    def run(self, argv: list[str] | None) -> int:
        arguments = self._parser.parse_args(argv)
        from tokenyield_settings.loader import SettingsError  # --help has ended by now, and does not pay for it

        try:
            return int(arguments.call(arguments))
        except SettingsError as error:
            for fault in error.faults:
                print(fault, file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:  # `| head` has seen enough
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - so that the interpreter's last flush does not complain
            return 0


def add_settings_flags(command: argparse.ArgumentParser, annotated: str) -> None:
    """--config and --set, as `tokenyield_settings.loader.load` takes them."""
    command.add_argument("--config", type=Path, help=f"settings as YAML, see {annotated}")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="override one setting")
