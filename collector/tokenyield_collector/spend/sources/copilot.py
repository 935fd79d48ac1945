"""GitHub Copilot: billing of AI credits (dollars after discounts), and the daily records of users.

A billing answer is of a month or of a day, as its `timePeriod` says; a month's money stands on its first day.
"""

from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from tokenyield_collector.spend.format import (
    ReadItem,
    SpendFormat,
    SpendGrain,
    SpendRow,
    Stateless,
    each,
    rows_at,
    unknown_document,
)
from tokenyield_collector.spend.meanings import MEANINGS, tokens_of
from tokenyield_collector.spend.slices import NO_AMOUNTS, SpendAmounts, SpendFields
from tokenyield_collector.spend.values import UnusableSpend, at, count_at, day_ms, money, text

VENDOR = "github"
CREDIT = Decimal("0.01")
"""USD."""


def _read(document: Any) -> Iterator[ReadItem]:
    items = rows_at(document, "usageItems")
    if items is not None:
        start_ms, span = _period(document)
        account = text(document, "organization") or text(document, "enterprise")
        yield from each(items, "usageItems", lambda item: _credits(item, start_ms, span, account))
    elif isinstance(document, Mapping) and "user_login" in document:
        yield from _user(document)
    elif isinstance(document, Mapping) and "download_links" in document:
        raise UnusableSpend("document", expected="the files behind download_links", found="the links",
                            fix="download them, and import these files")  # fmt: skip
    else:
        raise unknown_document("GitHub", "an answer of billing/ai_credit/usage or records of users", document)


def _period(document: Mapping[str, Any]) -> tuple[int, str]:
    """(start of its first day, 'day' or 'month')"""
    year, month, day = (count_at(document, f"timePeriod.{name}") for name in ("year", "month", "day"))
    try:
        first = date(year or 0, month or 0, day or 1)
    except ValueError:
        raise UnusableSpend("timePeriod", expected="a year and a month", found=f"{year}-{month}",
                            fix="ask for a month or a day") from None  # fmt: skip
    return day_ms(first.isoformat(), "timePeriod"), "day" if day else "month"


def _credits(item: Mapping[str, Any], start_ms: int, span: str, account: str) -> Iterator[SpendRow]:
    fields = SpendFields(
        VENDOR,
        service=text(item, "unitType", "ai-credits"),
        model=text(item, "model"),
        product=text(item, "product"),
        person=text(item, "user"),
    )
    cost = money(item.get("netAmount"), "netAmount")
    yield SpendRow(f"credits_{span}", start_ms, fields, NO_AMOUNTS, cost, account=account)


def _user(record: Mapping[str, Any]) -> Iterator[SpendRow]:
    """Credits at their list price; a plan may include them."""
    usage = at(record, "totals_by_cli.token_usage")
    amounts = tokens_of(usage, MEANINGS["copilot"]) if isinstance(usage, Mapping) else SpendAmounts()
    amounts = amounts._replace(requests=count_at(record, "user_initiated_interaction_count"))
    cost = money(record.get("ai_credits_used"), "ai_credits_used")
    fields = SpendFields(VENDOR, service="ai-credits", product="Copilot", person=text(record, "user_login"))
    start_ms = day_ms(record.get("day"), "day")
    yield SpendRow("users", start_ms, fields, amounts, None if cost is None else int(cost * CREDIT))


FORMAT = SpendFormat(
    title="GitHub Copilot",
    documents="saved answers of billing/ai_credit/usage, and users-1-day reports (JSON lines)",
    grains={
        "credits_day": SpendGrain("billed", "billing of AI credits by day", 2),
        "credits_month": SpendGrain("billed", "billing of AI credits by month", 1),
        "users": SpendGrain("reported", "daily records of users"),
    },
    reader=lambda _: Stateless(_read),
)
