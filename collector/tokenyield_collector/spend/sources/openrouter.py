"""OpenRouter: the daily activity (what was charged), and single generations.

Money is in dollars. What was charged for a key of one's own at another vendor (BYOK) is on that vendor's bill, and is
not counted here. The vendor keeps 30 days only.
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
    rows_at,
    unknown_document,
)
from tokenyield_collector.spend.meanings import MEANINGS, tokens_of
from tokenyield_collector.spend.slices import SpendAmounts, SpendFields
from tokenyield_collector.spend.values import UnusableSpend, count_at, day_ms, money, text

VENDOR = "openrouter"


def _read(document: Any) -> Iterator[ReadItem]:
    rows = rows_at(document, "data")
    if rows is not None:
        yield from each(rows, "data", _row)
        return
    generation = document.get("data") if isinstance(document, Mapping) else None
    if not isinstance(generation, Mapping):
        raise unknown_document("OpenRouter", "an answer of activity or generation", document)
    try:
        yield _generation(generation)
    except UnusableSpend as error:
        raise error.within("data") from None


def _row(row: Mapping[str, Any]) -> Iterator[SpendRow]:
    amounts = tokens_of(row, MEANINGS["openrouter activity"])._replace(requests=count_at(row, "requests"))
    fields = SpendFields(
        VENDOR,
        model=_without_maker(text(row, "model")),
        project=text(row, "workspace_id"),
        api_key=text(row, "api_key_hash"),
    )
    cost = money(row.get("usage"), "usage")
    yield SpendRow("activity", day_ms(row.get("date"), "date"), fields, amounts, cost)


def _generation(row: Mapping[str, Any]) -> SpendRow:
    amounts: SpendAmounts = tokens_of(row, MEANINGS["openrouter generation"])._replace(requests=1)
    fields = SpendFields(
        VENDOR,
        model=_without_maker(text(row, "model")),
        project=text(row, "workspace_id"),
        person=text(row, "external_user"),
        session=text(row, "session_id"),
    )
    identity = text(row, "id")
    if not identity:
        raise UnusableSpend("id", expected="a generation's id", found="nothing")
    start_ms = day_ms(row.get("created_at"), "created_at")
    return SpendRow(f"generation:{identity}", start_ms, fields, amounts, money(row.get("total_cost"), "total_cost"))


def _without_maker(model: str) -> str:
    """`openai/gpt-5.6-terra` -> `gpt-5.6-terra`."""
    return model.rpartition("/")[2]


FORMAT = SpendFormat(
    title="OpenRouter",
    documents="saved answers of activity and generation",
    grains={
        "activity": SpendGrain("billed", "daily activity"),
        "generation": SpendGrain("observed", "single generations"),
    },
    reader=lambda _: Stateless(_read),
)
