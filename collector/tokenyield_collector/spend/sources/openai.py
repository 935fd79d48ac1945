"""OpenAI: usage and costs of an organization.

Costs are in dollars, by day and line item (`gpt-5.6-terra, input_tokens`); usage has tokens, whose input includes what
was cached. Times are seconds since 1970.
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
from tokenyield_collector.spend.slices import NO_AMOUNTS, TOKENS, SpendAmounts, SpendFields
from tokenyield_collector.spend.values import at, count_at, currency, day_of_unix, money, text

VENDOR = "openai"
_COSTS = "organization.costs.result"
_USAGE = ("organization.usage.", ".result")
_TOKENS_OF_ITEM = "tokens"
"""What the second part of a line item of tokens ends in."""


def _read(document: Any) -> Iterator[ReadItem]:
    buckets = rows_at(document, "data")
    if buckets is None:
        raise unknown_document("OpenAI", "an answer of organization/costs or organization/usage/...", document)
    yield from more_pages(document)
    yield from each(buckets, "data", _read_bucket)


def _read_bucket(bucket: Mapping[str, Any]) -> Iterator[ReadItem]:
    results = rows_at(bucket, "results")
    if results is None:
        raise unknown_document("OpenAI", "a bucket with results", bucket)
    start_ms = day_of_unix(bucket.get("start_time"), "start_time")
    yield from each(results, "results", lambda result: _result(result, start_ms))


def _result(result: Mapping[str, Any], start_ms: int) -> Iterator[SpendRow]:
    kind = text(result, "object")
    if kind == _COSTS:
        yield _cost(result, start_ms)
    elif kind.startswith(_USAGE[0]) and kind.endswith(_USAGE[1]):
        yield _usage(result, start_ms, kind[len(_USAGE[0]) : -len(_USAGE[1])])
    else:
        raise unknown_document("OpenAI", "a result of costs or usage", result)


def _cost(result: Mapping[str, Any], start_ms: int) -> SpendRow:
    model, service = _of_line_item(text(result, "line_item"))
    fields = _fields(result)._replace(
        model=model, service=service, currency=currency(at(result, "amount.currency"), "amount.currency")
    )
    return SpendRow("costs", start_ms, fields, NO_AMOUNTS, money(at(result, "amount.value"), "amount.value"))


def _of_line_item(line_item: str) -> tuple[str, str]:
    """(model, service) of `gpt-5.6-terra, input_tokens`, or of `web search tool calls`."""
    model, comma, what = line_item.partition(", ")
    if comma and what.endswith(_TOKENS_OF_ITEM):
        return model, TOKENS
    return "", line_item.replace(" ", "_") or TOKENS


def _usage(result: Mapping[str, Any], start_ms: int, endpoint: str) -> SpendRow:
    requests = count_at(result, "num_model_requests")
    if "input_tokens" in result:
        amounts = tokens_of(result, MEANINGS["openai usage"])._replace(requests=requests)
        return SpendRow(f"usage:{endpoint}", start_ms, _fields(result), amounts)
    fields = _fields(result)._replace(service=endpoint)
    return SpendRow(f"usage:{endpoint}", start_ms, fields, SpendAmounts(requests=requests))


def _fields(result: Mapping[str, Any]) -> SpendFields:
    return SpendFields(
        VENDOR,
        model=text(result, "model"),
        project=text(result, "project_id"),
        api_key=text(result, "api_key_id"),
        person=text(result, "user_id"),
    )


FORMAT = SpendFormat(
    title="OpenAI",
    documents="saved answers of organization/costs and organization/usage/...",
    grains={
        "costs": SpendGrain("billed", "costs"),
        "usage": SpendGrain("reported", "usage, by endpoint"),
    },
    reader=lambda _: Stateless(_read),
)
