"""The command line: finds the commands of commands/, and reports their errors.

Exit codes: 0 done; 1 the collector, the ledger or the system failed; 2 a flag or a setting cannot be used.
"""

import argparse
import importlib
import keyword
import sys
from collections.abc import Callable
from typing import cast

from tokenyield_collector.errors import LedgerError, ParameterError
from tokenyield_collector.version import VERSION
from tokenyield_settings.command_line import Command, CommandLine
from tokenyield_settings.terminal import show

COMMANDS = (
    "demo",
    "serve",
    "check",
    "health",
    "rate",
    "report",
    "explain",
    "forecast",
    "shadow",
    "caching",
    "budget",
    "coverage",
    "diagnose",
    "token",
    "enrol",
    "backup",
    "verify",
    "import",
    "pull",
    "mcp",
    "migrate",
    "example",
    "monitoring",
)
"""Files of commands/, in the order of the help."""
_PROGRAM = "tokenyield-collector"


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    called = argv[:1] if argv[:1] and argv[0] in COMMANDS else COMMANDS  # only the help needs every command's file
    commands = {name: _command(name) for name in called}
    line = CommandLine(
        prog=_PROGRAM,
        version=VERSION,
        description="Receives batches from agents, keeps the ledger, prices it and shows the token yield of the fleet.",
        examples="examples:\n" + "".join(f"  {_PROGRAM} {command.EXAMPLE}\n" for command in commands.values()),
    )
    for name, command in commands.items():
        command.add_flags(line.command(name, _reporting_errors(name, command), command.HELP, command.EXAMPLE))
    return line.run(argv)


def _command(name: str) -> Command:
    file = f"{name}_" if keyword.iskeyword(name) else name
    return cast(Command, importlib.import_module(f"tokenyield_collector.commands.{file}"))


def _reporting_errors(name: str, command: Command) -> Callable[[argparse.Namespace], int]:
    def call(arguments: argparse.Namespace) -> int:
        try:
            return command.run(arguments)
        except ParameterError as error:
            show(f"{name}: {_flag_of(error.field, arguments)}: {error.text}", is_error=True)
            return 2
        except BrokenPipeError:
            raise  # not a failure: `| head` has read enough
        except (LedgerError, OSError) as error:
            show(f"{name}: {error}", is_error=True)
            return 1

    return call


def _flag_of(field: str, arguments: argparse.Namespace) -> str:
    """The flag that a parameter is given with. A field that is not a flag is a column, given with `--where`."""
    return f"--{field.replace('_', '-')}" if hasattr(arguments, field) else f"--where {field}"


if __name__ == "__main__":
    sys.exit(main())
