"""`tokens`: what would be counted in this log, or of these metrics pages?"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenyield_settings.terminal import print_table, show

if TYPE_CHECKING:
    from tokenyield_agent.tokens.offline import LogTotals

HELP = "read a log, or saved metrics pages, offline and print what would be counted"
EXAMPLE = "tokens vllm.log --format json"
EPILOG = """examples:
  tokens vllm.log                            what a log holds
  curl -s http://127.0.0.1:8000/metrics > now.prom
  tokens now.prom                            what the server has counted since its start
  tokens --since before.prom now.prom        what it has counted between two pages
  tokens --since 1.prom 2.prom 3.prom        the same of a series, taken as the agent would take it

A page is known by its first lines, not by its name; what comes through a pipe is read as a log."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("file", type=Path, nargs="+", help="a log, or a saved metrics page; plain or .gz")
    parser.add_argument("--since", type=Path, metavar="PAGE", help="an earlier page: count from there on")
    parser.add_argument("--dialect", default="auto", help="auto (default), or one of those in docs/dialects.md")
    parser.add_argument("--format", choices=("text", "json"), default="text")


def run(arguments: argparse.Namespace) -> int:
    """1 where no dialect fits, or the server reports no tokens; 2 where a file cannot be read."""
    import msgspec

    from tokenyield_agent.tokens.dialects.registry import UnknownDialect
    from tokenyield_agent.tokens.offline import UnrecognizedLog, why_no_tokens
    from tokenyield_agent.tokens.offline_pages import UnrecognizedPage

    try:
        totals = _totals(arguments)
    except OSError as error:
        name = error.filename or arguments.file[0]
        show(f"{name}: cannot be read: {error.strerror or error}", is_error=True)
        return 2
    except UnknownDialect as error:
        show(f"--dialect: {error}", is_error=True)
        return 2
    except (UnrecognizedLog, UnrecognizedPage) as error:
        show(error, is_error=True)
        return 1
    if totals is None:
        found = len(arguments.file)
        show(f"tokens: expected one file, or pages after --since PAGE, found {found} files; add --since", is_error=True)
        return 2
    document = msgspec.to_builtins(totals)
    for page in document.get("left_out", ()):
        show(f"{page}: left out, as it lacks the counters of {totals.dialect}", is_error=True)
    if document.get("method") is None and "left_out" in document:
        show(f"{arguments.file[0]}: {totals.dialect} shows no counters before its first request", is_error=True)
    reason = "" if "left_out" in document else why_no_tokens(totals.dialect)
    if reason:
        show(f"{arguments.file[0]}: {reason}", is_error=True)
    if arguments.format == "json":
        import json

        print(json.dumps(document, indent=2))
    else:
        _print_totals(document)
    return 1 if reason else 0


def _totals(arguments: argparse.Namespace) -> "LogTotals | None":
    """None for several files of which it is not said where to begin."""
    from tokenyield_agent.tokens.offline import read_log
    from tokenyield_agent.tokens.offline_pages import looks_like_page, read_page, read_series

    if arguments.since is not None:
        return read_series([arguments.since, *arguments.file], arguments.dialect)
    if len(arguments.file) > 1:
        return None
    (path,) = arguments.file
    return read_page(path, arguments.dialect) if looks_like_page(path) else read_log(path, arguments.dialect)


def _print_totals(totals: Mapping[str, Any]) -> None:
    callers, exactness = totals["callers"], totals["exactness"]
    for name, value in totals.items():
        if name not in ("callers", "exactness", "left_out"):
            show(f"{name:<17}{_shown(value) or 'unknown'}")
    for how in dict.fromkeys(exactness.values()):
        show(f"{how:<17}{', '.join(kind for kind in exactness if exactness[kind] == how)}")
    if callers:
        columns = tuple(dict.fromkeys(column for caller in callers for column in caller))
        print()
        print_table(columns, [[_shown(caller.get(column)) for column in columns] for caller in callers])


def _shown(value: object) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
