"""The command line: serve | check | rate | demo.

Exit codes: 0 done; 1 the collector or the demo failed; 2 the call or the settings are wrong.
"""

import argparse
import logging
import os
import sys
from pathlib import Path

from tokenyield_collector.version import VERSION
from tokenyield_settings.command_line import CommandLine, add_settings_flags

_EXAMPLES = """examples:
  tokenyield-collector demo                              see it work on this host, with or without a GPU
  tokenyield-collector serve --config collector.yaml     the collector
  tokenyield-collector check --config collector.yaml     are the settings and prices sound? print them
  tokenyield-collector rate --prices prices.yaml         what does a GPU-hour cost, and why?
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
    rate.add_argument("--prices", type=Path, required=True, help="a price book, see collector/prices.yaml")
    rate.add_argument("--format", choices=("table", "json"), default="table")
    rate.add_argument("--at", help="the day to price, YYYY-MM-DD; default today")
    help_text = "collector and agent on this host, with a live table"
    demo = line.command("demo", _demo, help_text, "demo --duration 60")
    demo.add_argument("--duration", type=float, default=0.0, metavar="SECONDS", help="stop after this long; 0: Ctrl-C")
    demo.add_argument("--port", type=int, default=9464, help="port of the collector; the agent takes the next one")
    demo.add_argument("--log", type=Path, help="follow this real server log instead of the recorded ones")
    return line


def _serve(arguments: argparse.Namespace) -> int:
    from tokenyield_collector.config import load_settings
    from tokenyield_settings.logs import set_up_logging

    settings = load_settings(arguments.config, os.environ, arguments.set)
    set_up_logging(settings.log_format, settings.log_level)
    import uvloop

    from tokenyield_collector.ledger.ledger import LedgerError
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

    from tokenyield_collector.config import load_settings
    from tokenyield_collector.prices import load_prices

    settings = load_settings(arguments.config, os.environ, arguments.set)
    if settings.prices_file:
        load_prices(Path(settings.prices_file))
    print(yaml.safe_dump(dataclasses.asdict(settings), sort_keys=False), end="")
    return 0


def _rate(arguments: argparse.Namespace) -> int:
    import json
    from datetime import UTC, date, datetime

    from tokenyield_collector.prices import load_prices

    prices = load_prices(arguments.prices)
    try:
        day = date.fromisoformat(arguments.at) if arguments.at else datetime.now(UTC).date()  # noqa: TID251 - the rim
    except ValueError:
        print(f"--at: '{arguments.at}' is no day; write YYYY-MM-DD", file=sys.stderr)
        return 2
    at_ms = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
    rates = [prices.rate(pool, at_ms) for pool in prices.pools]
    if arguments.format == "json":
        pools = [
            {
                "name": rate.pool,
                "kind": rate.kind,
                "count": pool.count,
                "usd_per_gpu_hour": round(float(rate.usd_per_gpu_hour), 9),
                "parts": {name: round(float(value), 9) for name, value in rate.parts.items()},
                "energy_usd_per_kwh": round(float(rate.energy_usd_per_kwh), 9),
            }
            for pool, rate in zip(prices.pools, rates, strict=True)
        ]
        print(json.dumps({"currency": prices.currency, "at": day.isoformat(), "pools": pools}, indent=2))
        return 0
    from rich.console import Console

    from tokenyield_collector.tables import rate_table

    Console().print(rate_table(rates, day.isoformat()))
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from tokenyield_collector.demo.run import run_demo

    return run_demo(duration_s=arguments.duration, port=arguments.port, log_file=arguments.log)


if __name__ == "__main__":
    sys.exit(main())
