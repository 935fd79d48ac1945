"""Cursor: usage events (tokens and cents), and daily usage (requests only).

What a plan includes costs nothing beside its seats. The answer of teams/spend is not read: it is a sum since the cycle
began, in which the included amount is counted too.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tokenyield_collector.spend.format import (
    ReadItem,
    SpendFormat,
    SpendGrain,
    SpendNotice,
    SpendRow,
    Stateless,
    each,
    rows_at,
    unknown_document,
)
from tokenyield_collector.spend.meanings import MEANINGS, tokens_of
from tokenyield_collector.spend.slices import INCLUDED, TOKENS, SpendAmounts, SpendFields
from tokenyield_collector.spend.values import at, count_at, day_of_unix, money, text

VENDOR = "cursor"
CENTS = 100
_MS_PER_S = 1000
_INCLUDED = "included"
"""How the kinds of events that a plan includes begin."""


def _read(document: Any) -> Iterator[ReadItem]:
    events, days = rows_at(document, "usageEvents"), rows_at(document, "data")
    if events is not None:
        if at(document, "pagination.hasNextPage"):
            yield SpendNotice("there are more pages (hasNextPage): import all pages of the same days in one command, "
                              "or the days are incomplete")  # fmt: skip
        yield from each(events, "usageEvents", _event)
    elif days is not None:
        yield from each(days, "data", _day)
    else:
        raise unknown_document("Cursor", "an answer of teams/filtered-usage-events or teams/daily-usage-data", document)


def _event(event: Mapping[str, Any]) -> Iterator[SpendRow]:
    is_included = text(event, "kind").casefold().startswith(_INCLUDED)
    usage = event.get("tokenUsage")
    amounts = tokens_of(usage, MEANINGS["cursor event"]) if isinstance(usage, Mapping) else SpendAmounts()
    cost = 0 if is_included else money(at(event, "tokenUsage.totalCents"), "tokenUsage.totalCents", per_unit=CENTS)
    fields = SpendFields(
        VENDOR,
        service=INCLUDED if is_included else TOKENS,
        model=text(event, "model"),
        product="cursor",
        person=text(event, "userEmail"),
    )
    start_ms = day_of_unix(event.get("timestamp"), "timestamp", per_s=_MS_PER_S)
    yield SpendRow("events", start_ms, fields, amounts._replace(requests=1), cost)


def _day(day: Mapping[str, Any]) -> Iterator[SpendRow]:
    start_ms = day_of_unix(day.get("date"), "date", per_s=_MS_PER_S)
    for service, name in (
        (INCLUDED, "subscriptionIncludedReqs"),
        (TOKENS, "usageBasedReqs"),
        ("api_key", "apiKeyReqs"),
    ):
        if requests := count_at(day, name):
            fields = SpendFields(VENDOR, service=service, product="cursor", person=text(day, "email"))
            yield SpendRow("daily", start_ms, fields, SpendAmounts(requests=requests))


FORMAT = SpendFormat(
    title="Cursor",
    documents="saved answers of teams/filtered-usage-events and teams/daily-usage-data",
    grains={
        "events": SpendGrain("reported", "usage events", 2),
        "daily": SpendGrain("reported", "daily usage: requests", 1),
    },
    reader=lambda _: Stateless(_read),
)
