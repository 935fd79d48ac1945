"""`tokenyield-collector demo`: the whole system on this host, or a made-up month to try reports on."""

import argparse
import sys
from pathlib import Path

PORT_MAX = 65_535
HELP = "collector and agent on this host with a live table, with or without a GPU; or a made-up month"
EXAMPLE = "demo --duration 60"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--duration", type=float, default=0.0, metavar="SECONDS", help="stop after this time; 0: at Ctrl-C"
    )
    parser.add_argument(
        "--port",
        type=int,
        help="port of the collector; the agent takes the next one. Left out: 9464, or two that are free",
    )
    parser.add_argument("--log", type=Path, help="follow this real server log instead of the recorded ones")
    parser.add_argument(
        "--month", metavar="YYYY-MM", help="write a made-up month into --ledger instead, to try reports on"
    )
    parser.add_argument("--ledger", type=Path, help="with --month: the new file")


def run(arguments: argparse.Namespace) -> int:
    if arguments.month is not None:
        return _month(arguments.month, arguments.ledger)
    from tokenyield_collector.errors import ParameterError

    if arguments.port is not None and not 1 <= arguments.port < PORT_MAX:
        raise ParameterError(
            "port", expected=f"1 to {PORT_MAX - 1}", found=str(arguments.port), fix="the agent takes the next one"
        )
    from tokenyield_collector.demo.run import run_demo

    return run_demo(duration_s=arguments.duration, port=arguments.port, log_file=arguments.log)


def _month(month: str, path: Path | None) -> int:
    if path is None:
        print("demo: --month needs --ledger FILE, a new one", file=sys.stderr)
        return 2
    from tokenyield_collector.demo.month import make_month
    from tokenyield_collector.errors import ParameterError

    try:
        period = make_month(month, path)
    except ParameterError as error:  # the field is `period`, the flag `--month`
        raise ParameterError("month", expected=error.expected, found=error.found, fix=error.fix) from None
    print(f"{path}: a made-up fleet of 24 GPUs in {period.name}. Try: tokenyield-collector report --period {month} "
          f"--ledger {path} --prices prices.yaml")  # fmt: skip
    return 0
