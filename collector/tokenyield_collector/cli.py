"""The command line: serve | check | health | rate | report | diagnose | budget; of the ledger: backup | verify |
migrate.

Exit codes: 0 done; 1 the collector or the demo failed; 2 the call or the settings are wrong.
"""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tokenyield_collector.commands.example import NAMES as EXAMPLES
from tokenyield_collector.commands.example import example as example_text
from tokenyield_collector.version import VERSION
from tokenyield_settings.command_line import CommandLine, add_settings_flags

if TYPE_CHECKING:
    from rich.console import RenderableType

_EXAMPLES = """examples:
  tokenyield-collector demo                              see it work on this host, with or without a GPU
  tokenyield-collector demo --month 2026-10 --ledger sample.duckdb       a made-up month to try reports on
  tokenyield-collector serve --config collector.yaml     the collector
  tokenyield-collector check --config collector.yaml     are the settings and prices sound? print them
  tokenyield-collector rate --prices prices.yaml         what does a GPU-hour cost, and why?
  tokenyield-collector report --period 2026-10 --by team,model --format html --output october.html
  tokenyield-collector monitoring tokenyield-monitoring  dashboards, alert rules, compose file
  tokenyield-collector diagnose --hours 1                what keeps workloads from yielding more, and what it costs
  tokenyield-collector budget --month 2026-10            spent, left, and what the month will come to
"""


def main(argv: list[str] | None = None) -> int:
    return _command_line().run(argv)


def _command_line() -> CommandLine:
    line = CommandLine(
        prog="tokenyield-collector",
        version=VERSION,
        description="Receives agents' batches, keeps the ledger, prices it and shows the fleet's token yield.",
        examples=_EXAMPLES,
    )
    serve = line.command("serve", _serve, "run the collector", "serve --config /etc/tokenyield/collector.yaml")
    add_settings_flags(serve, "collector/collector.yaml")
    help_text = "check the settings and the price book, and print the effective settings"
    check = line.command("check", _check, help_text, "check --config collector.yaml")
    add_settings_flags(check, "collector/collector.yaml")
    help_text = "each pool's hourly rate and its parts"
    rate = line.command("rate", _rate, help_text, "rate --prices prices.yaml --format json")
    rate.add_argument("--prices", type=Path, help="a price book, see collector/prices.yaml")
    rate.add_argument("--reference", action="store_true", help="show the bundled reference figures instead")
    rate.add_argument("--format", choices=("table", "json"), default="table")
    rate.add_argument("--at", help="the day or hour (UTC) to price, 2026-11-23 or 2026-11-23T14:00; default now")
    help_text = (
        "what a period cost, by whom and by what; from the running collector, or from its ledger while it is down"
    )
    report = line.command("report", _report, help_text, "report --period 2026-10 --by team,model --format table")
    report.add_argument("--period", required=True, help="2026-10, 2026-10-05 or 2026-10-01..2026-10-15 (UTC)")
    report.add_argument("--by", default="", help="columns: dimensions of the rules, model, workload, pool, source, "
                        "cluster, node, day, hour; default the first dimension and model")  # fmt: skip
    report.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE", help="only of what has this "
                        "value in this column, e.g. team=search; may be given again")  # fmt: skip
    report.add_argument("--top", type=int, metavar="N", help="only the N rows that lose most, and one of all others")
    report.add_argument("--format", choices=("table", "csv", "json", "parquet", "html", "focus"), default="table")
    report.add_argument("--output", type=Path, help="write into this file; focus: its metadata stand beside it")
    _add_source_flags(report)
    help_text = "why each workload yields what it yields: parked, starved, throttled, ..., and what is at stake"
    diagnosed = line.command("diagnose", _diagnose, help_text, "diagnose --hours 6 --loss 2")
    diagnosed.add_argument("--hours", type=float, default=1.0, help="of the newest so many hours; default 1")
    diagnosed.add_argument("--loss", type=float, default=2.0, metavar="PERCENT", help="what of the tokens a power cap "
                           "may cost; default 2")  # fmt: skip
    diagnosed.add_argument("--format", choices=("table", "json"), default="table")
    _add_source_flags(diagnosed)
    help_text = "each budget of a month: spent, remaining, forecast"
    budget = line.command("budget", _budget, help_text, "budget --month 2026-10")
    budget.add_argument("--month", help="default: the present one")
    budget.add_argument("--format", choices=("table", "json"), default="table")
    _add_source_flags(budget)
    help_text = "ask the collector that runs with these settings whether it is well"
    health = line.command("health", _health, help_text, "health --config collector.yaml")
    add_settings_flags(health, "collector/collector.yaml")
    help_text = "make a bearer token, and the line of token_file that lets it in"
    usage = "token --add /etc/tokenyield/tokens name=dc1 may=write cluster=dc1 'nodes=gpu-*'"
    token = line.command("token", _token, help_text, usage)
    token.add_argument(
        "--add", type=Path, metavar="FILE", help="add the line to this token_file, and print the token alone"
    )
    token.add_argument("pairs", nargs="*", metavar="KEY=VALUE", help="name=, may=read|write, cluster=, nodes=, until=")
    help_text = "copy the ledger into a file, while the collector is at work or not"
    backup = line.command("backup", _backup, help_text, "backup --config collector.yaml ledger-2026-11-24.duckdb")
    backup.add_argument("file", type=Path, help="a new file; to restore, stop the collector and put it at ledger_path")
    add_settings_flags(backup, "collector/collector.yaml")
    _add_asking_flags(backup)
    help_text = "check that the books balance, and say where they do not"
    verify = line.command("verify", _verify, help_text, "verify --ledger ledger-2026-11-24.duckdb")
    add_settings_flags(verify, "collector/collector.yaml")
    verify.add_argument("--ledger", type=Path, help="this ledger instead of ledger_path")
    help_text = "move a DuckDB ledger into the ClickHouse that the settings name; run again to go on where it stopped"
    move = line.command("migrate", _migrate, help_text, "migrate --config collector.yaml --ledger old.duckdb")
    add_settings_flags(move, "collector/collector.yaml")
    move.add_argument("--ledger", type=Path, required=True, help="the DuckDB file; no collector may have it open")
    help_text = "print an annotated example file, to begin with"
    example = line.command("example", _example, help_text, "example prices.yaml > prices.yaml")
    example.add_argument("file", choices=EXAMPLES)
    help_text = "write Grafana dashboards, Prometheus rules and a compose file into a folder"
    monitoring = line.command("monitoring", _monitoring, help_text, "monitoring tokenyield-monitoring")
    monitoring.add_argument("folder", type=Path)
    monitoring.add_argument(
        "--runbooks", default="runbooks.md", metavar="URL", help="where your runbooks.md is served, for the alerts"
    )
    monitoring.add_argument("--force", action="store_true", help="overwrite files that were changed")
    help_text = "collector and agent on this host, with a live table"
    demo = line.command("demo", _demo, help_text, "demo --duration 60")
    demo.add_argument("--duration", type=float, default=0.0, metavar="SECONDS", help="stop after this long; 0: Ctrl-C")
    demo.add_argument("--port", type=int, default=9464, help="port of the collector; the agent takes the next one")
    demo.add_argument("--log", type=Path, help="follow this real server log instead of the recorded ones")
    demo.add_argument(
        "--month", metavar="YYYY-MM", help="write a made-up month into --ledger instead, to try reports on"
    )
    demo.add_argument("--ledger", type=Path, help="with --month: the new file")
    return line


def _serve(arguments: argparse.Namespace) -> int:
    from tokenyield_collector.config import load_settings
    from tokenyield_settings.logs import set_up_logging

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


def _check(arguments: argparse.Namespace) -> int:
    import dataclasses

    import yaml

    from tokenyield_collector.access.auth import Keys
    from tokenyield_collector.config import load_settings
    from tokenyield_collector.policy import load_policy

    settings = load_settings(arguments.config, os.environ, arguments.set)
    load_policy(settings)
    for remark in Keys(settings).web.config.remarks():
        print(f"{settings.web_config_file}: {remark}", file=sys.stderr)
    print(yaml.safe_dump(dataclasses.asdict(settings), sort_keys=False), end="")
    return 0


def _rate(arguments: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from tokenyield_collector.prices.load import load_prices
    from tokenyield_collector.prices.rate_card import rate_document, rate_table, reference_table

    if arguments.reference:
        return _show(reference_table())
    if arguments.prices is None:
        print("rate: give --prices FILE, or --reference for the bundled figures", file=sys.stderr)
        return 2
    prices = load_prices(arguments.prices)
    try:
        at = datetime.fromisoformat(arguments.at) if arguments.at else datetime.now(UTC)  # noqa: TID251 - the rim
    except ValueError:
        print(f"--at: '{arguments.at}' is no day or hour; write 2026-11-23 or 2026-11-23T14:00", file=sys.stderr)
        return 2
    at_ms = int(at.replace(tzinfo=at.tzinfo or UTC).timestamp() * 1000)
    if arguments.format == "json":
        import json

        print(json.dumps(rate_document(prices, at_ms), indent=2))
        return 0
    return _show(rate_table(prices, at_ms))


def _show(table: "RenderableType") -> int:
    from rich.console import Console

    Console().print(table)
    return 0


def _add_source_flags(parser: argparse.ArgumentParser) -> None:
    add_settings_flags(parser, "collector/collector.yaml")
    parser.add_argument("--ledger", type=Path, help="this ledger instead of ledger_path")
    _add_asking_flags(parser)
    parser.add_argument("--prices", type=Path, help="this price book instead of prices_file; reads the ledger itself")
    parser.add_argument("--rules", type=Path, help="these rules instead of attribution_file; reads the ledger itself")


def _add_asking_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--collector", metavar="URL", help="ask this collector instead of the one in the settings")
    parser.add_argument("--token-file", metavar="FILE", help="a file with the token to ask it with; default token_file")
    parser.add_argument("--ca-file", metavar="FILE", help="trust these CA certificates instead of the system's")


def _report(arguments: argparse.Namespace) -> int:
    from tokenyield_collector.commands.report import report

    return report(arguments)


def _diagnose(arguments: argparse.Namespace) -> int:
    from tokenyield_collector.commands.diagnose import diagnose

    return diagnose(arguments)


def _budget(arguments: argparse.Namespace) -> int:
    from tokenyield_collector.commands.report import budget

    return budget(arguments)


def _backup(arguments: argparse.Namespace) -> int:
    from tokenyield_collector.commands.backup import backup

    return backup(arguments)


def _verify(arguments: argparse.Namespace) -> int:
    from tokenyield_collector.commands.backup import verify_command

    return verify_command(arguments)


def _migrate(arguments: argparse.Namespace) -> int:
    from tokenyield_collector.commands.migrate import migrate_command

    return migrate_command(arguments)


def _health(arguments: argparse.Namespace) -> int:
    from tokenyield_collector.config import load_settings
    from tokenyield_settings.health import ask_health
    from tokenyield_settings.web_config import read_web_config

    settings = load_settings(arguments.config, os.environ, arguments.set)
    tls = read_web_config(settings.web_config_file).tls_server_config
    return ask_health(settings.address, is_https=tls is not None)


def _token(arguments: argparse.Namespace) -> int:
    from tokenyield_collector.access.token_file import add_line, new_token, token_line

    token = new_token()
    try:
        line = token_line(token, arguments.pairs)
    except ValueError as error:
        print(f"token: {error}", file=sys.stderr)
        return 2
    if arguments.add is None:
        print(f"for the agent or the reader, in a file of its own:\n{token}\n\nfor the collector's token_file:\n{line}")
        return 0
    try:
        add_line(arguments.add, line)
    except OSError as error:
        print(f"token: {arguments.add}: {error.strerror}; is it a file that you may write?", file=sys.stderr)
        return 1
    print(token)
    return 0


def _example(arguments: argparse.Namespace) -> int:
    print(example_text(arguments.file), end="")
    return 0


def _monitoring(arguments: argparse.Namespace) -> int:
    from tokenyield_collector.commands.monitoring import write_monitoring

    try:
        return write_monitoring(arguments.folder, runbooks=arguments.runbooks, force=arguments.force)
    except OSError as error:
        print(f"monitoring: {error}", file=sys.stderr)
        return 1


def _demo(arguments: argparse.Namespace) -> int:
    if arguments.month is not None:
        return _demo_month(arguments.month, arguments.ledger)
    from tokenyield_collector.demo.run import run_demo

    return run_demo(duration_s=arguments.duration, port=arguments.port, log_file=arguments.log)


def _demo_month(month: str, path: Path | None) -> int:
    from tokenyield_collector.demo.month import make_month
    from tokenyield_collector.errors import LedgerError, ParameterError

    if path is None:
        print("demo: --month wants --ledger FILE, a new one", file=sys.stderr)
        return 2
    try:
        period = make_month(month, path)
    except ParameterError as error:
        print(f"demo: --month: {error.text}", file=sys.stderr)
        return 2
    except (LedgerError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    print(f"{path}: a made-up fleet of 24 GPUs in {period.name}. Try: tokenyield-collector report --period {month} "
          f"--ledger {path} --prices prices.yaml")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
