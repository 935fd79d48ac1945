"""`tokens`: what would be counted in this log?"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenyield_settings.command_line import print_table

HELP = "read a log offline and print what would be counted"
EXAMPLE = "tokens vllm.log --format json"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="a log, plain or .gz")
    parser.add_argument("--dialect", default="auto", help="auto (default), or one of those in docs/dialects.md")
    parser.add_argument("--format", choices=("text", "json"), default="text")


def run(arguments: argparse.Namespace) -> int:
    """1 where no dialect fits, or the server reports no tokens; 2 where the log cannot be read."""
    import msgspec

    from tokenyield_agent.tokens.dialects.registry import UnknownDialect
    from tokenyield_agent.tokens.offline import UnrecognizedLog, read_log, why_no_tokens

    try:
        totals = read_log(arguments.file, arguments.dialect)
    except OSError as error:
        print(f"{arguments.file}: cannot be read: {error.strerror or error}", file=sys.stderr)
        return 2
    except UnknownDialect as error:
        print(f"--dialect: {error}", file=sys.stderr)
        return 2
    except UnrecognizedLog as error:
        print(error, file=sys.stderr)
        return 1
    if reason := why_no_tokens(totals.dialect):
        print(f"{arguments.file}: {reason}", file=sys.stderr)
    if arguments.format == "json":
        import json

        print(json.dumps(msgspec.to_builtins(totals), indent=2))
    else:
        _print_totals(msgspec.to_builtins(totals))
    return 1 if reason else 0


def _print_totals(totals: Mapping[str, Any]) -> None:
    callers, exactness = totals["callers"], totals["exactness"]
    for name, value in totals.items():
        if name not in ("callers", "exactness"):
            print(f"{name:<17}{_shown(value) or 'unknown'}")
    for how in dict.fromkeys(exactness.values()):
        print(f"{how:<17}{', '.join(kind for kind in exactness if exactness[kind] == how)}")
    if callers:
        columns = tuple(dict.fromkeys(column for caller in callers for column in caller))
        print()
        print_table(columns, [[_shown(caller.get(column)) for column in columns] for caller in callers])


def _shown(value: object) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
