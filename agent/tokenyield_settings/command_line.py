"""The shape of both command lines: subcommands with an example each, settings flags, exit codes.

Exit codes: 0 done; 1 the answer is no; 2 the call or the settings are wrong; 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tokenyield_settings.errors import SettingsError
from tokenyield_settings.logs import neutralize_warnings
from tokenyield_settings.terminal import show, write_whatever_comes

Call = Callable[[argparse.Namespace], int]


class Command(Protocol):
    """One subcommand, as a module. At its head it imports only what every call needs; `run` imports the rest."""

    HELP: str
    EXAMPLE: str
    """Without the program's name."""

    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        """The subcommand's own arguments."""
        ...

    def run(self, arguments: argparse.Namespace) -> int:
        """The exit code. Raises `SettingsError`."""
        ...


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

    def add(self, name: str, command: Command) -> None:
        """The subcommand `name`, made by a module."""
        command.add_flags(self.command(name, command.run, command.HELP, command.EXAMPLE))

    def command(self, name: str, call: Call, help_text: str, example: str) -> argparse.ArgumentParser:
        """The parser of the new subcommand `name`, to add flags to."""
        parser = self._commands.add_parser(
            name,
            help=help_text,
            description=help_text,
            epilog=f"example:\n  {self._prog} {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.set_defaults(call=call)
        return parser

    def run(self, argv: list[str] | None) -> int:
        """The exit code of the subcommand that `argv` names."""
        write_whatever_comes()
        neutralize_warnings()
        arguments = self._parser.parse_args(argv)
        try:
            return int(arguments.call(arguments))
        except SettingsError as error:
            for fault in error.faults:
                show(fault, is_error=True)
            return 2
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:  # `| head` has seen enough
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - so that the interpreter's last flush does not complain
            return 0


def add_settings_flags(parser: argparse.ArgumentParser, annotated: str) -> None:
    """--config and --set, as `tokenyield_settings.loader.load` takes them; `annotated` is the file with comments."""
    parser.add_argument("--config", type=Path, help=f"settings as YAML, see {annotated}")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="override one setting")
