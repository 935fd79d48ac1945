"""Anthropic: the usage and cost analytics, and the three older reports of the admin API.

Money is in cents, as decimal texts in the cost reports. Input tokens are disjoint: uncached, read from the cache, and
written to it for five minutes or an hour. `amount` is after discounts. Grouping by `rbac_group_id` overlaps (a user in
two groups is in both rows), so such rows are refused.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tokenyield_collector.spend.format import (
    ReadItem,
    SpendFormat,
    SpendGrain,
    SpendRow,
    Stateless,
    each,
    more_pages,
    rows_at,
    unknown_document,
)
from tokenyield_collector.spend.meanings import MEANINGS, tokens_of
from tokenyield_collector.spend.slices import INCLUDED, NO_AMOUNTS, TOKENS, SpendAmounts, SpendFields
from tokenyield_collector.spend.values import UnusableSpend, at, count_at, currency, day_ms, money, text

VENDOR = "anthropic"
CENTS = 100
_DOCUMENTS = "analytics/usage, analytics/cost, usage_report/messages, cost_report or usage_report/claude_code"


def _read(document: Any) -> Iterator[ReadItem]:
    rows = rows_at(document, "data")
    if rows is None:
        raise unknown_document("Anthropic", f"an answer of {_DOCUMENTS}", document)
    yield from more_pages(document)
    yield from each(rows, "data", _read_row)


def _read_row(row: Mapping[str, Any]) -> Iterator[ReadItem]:
    if "group" in row and "usage" in row:
        yield from _analytics_usage(row)
    elif "group" in row and "cost" in row:
        yield _analytics_cost(row)
    elif "core_metrics" in row or "model_breakdown" in row:
        yield from _claude_code(row)
    elif isinstance(row.get("results"), list):
        start_ms = day_ms(row.get("starting_at"), "starting_at")
        yield from each(row["results"], "results", lambda result: _bucket(result, start_ms))
    else:
        raise unknown_document("Anthropic", f"a row of {_DOCUMENTS}", row)


def _bucket(result: Mapping[str, Any], start_ms: int) -> Iterator[SpendRow]:
    if "amount" in result:
        yield _cost_report(result, start_ms)
    else:
        yield from _messages(result, start_ms)


# --- the analytics -----------------------------------------------------------------------------------------------


def _analytics_usage(row: Mapping[str, Any]) -> Iterator[SpendRow]:
    start_ms, fields = day_ms(row.get("starting_at"), "starting_at"), _analytics_fields(row)
    amounts = tokens_of(_object(row, "usage"), MEANINGS["anthropic report"])
    yield SpendRow("analytics_usage", start_ms, fields, amounts._replace(requests=count_at(row, "usage.requests")))
    yield from _searches(
        "analytics_usage", start_ms, fields, count_at(row, "usage.server_tool_use.web_search_requests")
    )


def _analytics_cost(row: Mapping[str, Any]) -> SpendRow:
    kind = text(row, "group.cost_type", TOKENS)
    fields = _analytics_fields(row)._replace(service=kind, currency=currency(at(row, "cost.currency"), "cost.currency"))
    cost = money(at(row, "cost.amount"), "cost.amount", per_unit=CENTS)
    amounts = SpendAmounts(requests=count_at(row, "cost.requests"))
    return SpendRow("analytics_cost", day_ms(row.get("starting_at"), "starting_at"), fields, amounts, cost)


def _analytics_fields(row: Mapping[str, Any]) -> SpendFields:
    if text(row, "group.rbac_group_id"):
        raise UnusableSpend(
            "group.rbac_group_id",
            expected="rows that are not grouped by it, for they overlap",
            found=text(row, "group.rbac_group_id"),
            fix="leave rbac_group_id out of group_by",
        )
    return SpendFields(
        VENDOR,
        model=text(row, "group.model"),
        product=text(row, "group.product"),
        project=text(row, "group.workspace_id"),
        api_key=text(row, "group.api_key_id") or text(row, "group.actor.api_key_id"),
        person=text(row, "group.actor.email_address") or text(row, "group.actor.user_id"),
        agent_task=text(row, "group.agent_id"),
        session=text(row, "group.session_id"),
    )


# --- the older reports ---------------------------------------------------------------------------------------------


def _messages(result: Mapping[str, Any], start_ms: int) -> Iterator[SpendRow]:
    fields = _bucket_fields(result)
    yield SpendRow("messages", start_ms, fields, tokens_of(result, MEANINGS["anthropic report"]))
    yield from _searches("messages", start_ms, fields, count_at(result, "server_tool_use.web_search_requests"))


def _cost_report(result: Mapping[str, Any], start_ms: int) -> SpendRow:
    fields = _bucket_fields(result)._replace(
        service=text(result, "cost_type", TOKENS), currency=currency(result.get("currency"), "currency")
    )
    cost = money(result.get("amount"), "amount", per_unit=CENTS)
    return SpendRow("cost_report", start_ms, fields, NO_AMOUNTS, cost)


def _bucket_fields(result: Mapping[str, Any]) -> SpendFields:
    return SpendFields(
        VENDOR,
        model=text(result, "model"),
        project=text(result, "workspace_id"),
        api_key=text(result, "api_key_id"),
        person=text(result, "account_id"),
    )


def _claude_code(row: Mapping[str, Any]) -> Iterator[ReadItem]:
    """Its money is an estimate at list price; what a subscription includes costs nothing beside its seats."""
    start_ms = day_ms(row.get("date"), "date")
    is_included = text(row, "customer_type") == "subscription"
    fields = SpendFields(
        VENDOR,
        service=INCLUDED if is_included else TOKENS,
        product="claude_code",
        api_key=text(row, "actor.api_key_name"),
        person=text(row, "actor.email_address"),
    )

    def of_model(part: Mapping[str, Any]) -> Iterator[SpendRow]:
        cost = money(at(part, "estimated_cost.amount"), "estimated_cost.amount", per_unit=CENTS)
        own = fields._replace(
            model=text(part, "model"),
            currency=currency(at(part, "estimated_cost.currency") or "USD", "estimated_cost.currency"),
        )
        amounts = tokens_of(_object(part, "tokens"), MEANINGS["anthropic Claude Code report"])
        yield SpendRow("claude_code", start_ms, own, amounts, 0 if is_included else cost)

    yield from each(rows_at(row, "model_breakdown") or (), "model_breakdown", of_model)


def _searches(grain: str, start_ms: int, fields: SpendFields, searches: int | None) -> Iterator[SpendRow]:
    if searches:
        own = fields._replace(service="web_search", model="")
        yield SpendRow(grain, start_ms, own, SpendAmounts(requests=searches))


def _object(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = row.get(name)
    if not isinstance(value, Mapping):
        raise UnusableSpend(name, expected="an object", found=type(value).__name__)
    return value


FORMAT = SpendFormat(
    title="Anthropic",
    documents=f"saved answers of {_DOCUMENTS}",
    grains={
        "analytics_cost": SpendGrain("billed", "usage and cost analytics: cost", 2),
        "cost_report": SpendGrain("billed", "cost report", 1),
        "analytics_usage": SpendGrain("reported", "usage and cost analytics: usage", 2),
        "messages": SpendGrain("reported", "usage report of messages", 1),
        "claude_code": SpendGrain("observed", "usage report of Claude Code, by person", 1),
    },
    reader=lambda _: Stateless(_read),
)
