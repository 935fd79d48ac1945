"""`tokenyield-collector pull NAME`: one account of spend.yaml, now: to try a key, or to pull older days again."""

import argparse
from typing import TYPE_CHECKING

from tokenyield_collector.commands.client import add_client_flags
from tokenyield_settings.command_line import add_settings_flags
from tokenyield_settings.terminal import show

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from datetime import date

    from tokenyield_collector.config import CollectorSettings
    from tokenyield_collector.pull.account import PullAccount
    from tokenyield_collector.pull.fetch import Pulled
    from tokenyield_collector.pull.request import VendorReport

HELP = "pull what a vendor reports of one account of spend_file, now, to try its key or to pull older days again"
EXAMPLE = "pull anthropic-main --config collector.yaml --dry-run"
DAYS = 7
DAYS_MAX = 3660


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of an account in spend_file")
    parser.add_argument("--days", type=int, default=DAYS, help=f"days before today (UTC); default {DAYS}")
    parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    add_settings_flags(parser, "collector/collector.yaml")
    parser.add_argument("--ledger", help="this ledger instead of ledger_path")
    add_client_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """0 all was pulled; 1 a report could not be, or a row was refused; 2 a flag cannot be used."""
    import asyncio

    from tokenyield_collector.commands.source import settings_of
    from tokenyield_collector.commands.spend_import import imported, show_receipt, understood_lines
    from tokenyield_collector.errors import ParameterError

    settings = settings_of(arguments)
    if not 1 <= arguments.days <= DAYS_MAX:
        raise ParameterError("days", expected=f"1 to {DAYS_MAX}", found=str(arguments.days))
    pulled, has_faults = asyncio.run(_pull(settings, _account(settings, arguments.name), arguments.days))
    slices = [one for part in pulled for one in part.slices]
    for line in understood_lines(slices):
        show(line)
    if slices:
        show_receipt(imported(settings, arguments, slices))
    if arguments.dry_run:
        show("dry run: nothing was changed", is_error=True)
    return 1 if has_faults else 0


def _account(settings: "CollectorSettings", name: str) -> "PullAccount":
    from pathlib import Path

    from tokenyield_collector.errors import ParameterError
    from tokenyield_collector.pull.spend_file import load_accounts

    if not settings.spend_file:
        raise ParameterError("spend_file", expected="a file with accounts", found="none", fix="set spend_file")
    accounts = load_accounts(Path(settings.spend_file))
    for account in accounts:
        if account.name == name:
            return account
    raise ParameterError("NAME", expected=f"one of {', '.join(account.name for account in accounts)}", found=name)


async def _pull(settings: "CollectorSettings", account: "PullAccount", days: int) -> "tuple[list[Pulled], bool]":
    """What each report gave, and whether something is wrong. A report that fails costs only itself."""
    from concurrent.futures import ThreadPoolExecutor

    from tokenyield_collector.pull.exchange import PullFault
    from tokenyield_collector.pull.spend_file import reports_of

    pulled: list[Pulled] = []
    has_faults = False
    with ThreadPoolExecutor(1) as executor:
        for name, report in reports_of(account).items():
            try:
                parts = await _report(settings, account, report, days, executor)
            except PullFault as fault:
                has_faults = True
                show(f"{name}: {fault}", is_error=True)
                continue
            pulled += parts
            rows, refused = sum(part.rows for part in parts), sum(part.refused for part in parts)
            has_faults = has_faults or refused > 0
            show(f"{name}: {rows:,} rows understood, {refused:,} refused")
            for why in [why for part in parts for why in part.refusals]:
                show(f"{name}: {why}", is_error=True)
    return pulled, has_faults


async def _report(
    settings: "CollectorSettings", account: "PullAccount", report: "VendorReport", days: int, executor: "Executor"
) -> "list[Pulled]":
    from contextlib import closing
    from datetime import timedelta

    from tokenyield_collector.ingest.spend_import import people_of
    from tokenyield_collector.prices.period import day_of
    from tokenyield_collector.pull.asking import ExchangeThread, SystemClock, VendorAsker
    from tokenyield_collector.pull.days import spans

    clock = SystemClock()
    today = day_of(clock.now_ms())
    wanted: list[date] = [today - timedelta(i + 1) for i in range(min(days, report.keeps_days or days))]
    with closing(ExchangeThread()) as thread:
        vendor_requests = VendorAsker(executor, clock, thread)
        people = people_of(settings)
        return [await vendor_requests.pulled(account, report, span, people) for span in spans(wanted, report.days_max)]
