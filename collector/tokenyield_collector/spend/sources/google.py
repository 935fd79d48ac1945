"""Google: token counts of Vertex AI from Cloud Monitoring, and the billing export of BigQuery as JSON lines.

A billed row's money is its cost and its credits. Rows of other services than Vertex AI and the Gemini API are left out,
and counted.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tokenyield_collector.spend.format import (
    ReadItem,
    ReadOptions,
    SpendFormat,
    SpendGrain,
    SpendNotice,
    SpendRow,
    each,
    rows_at,
    unknown_document,
)
from tokenyield_collector.spend.slices import NO_AMOUNTS, SpendAmounts, SpendFields
from tokenyield_collector.spend.values import count, currency, day_ms, money, text

VENDOR = "google"
SERVICES = {"C7E2-9256-1C43": "vertex_ai", "AEFD-7695-64FA": "gemini_api"}
"""Ids of services -> what they are called here."""
_KINDS = {"input": "fresh", "output": "output"}
_COUNTED = "/token_count"
_INVOCATIONS = "/model_invocation_count"


class GoogleReader:
    """Counts the rows that it leaves out."""

    def __init__(self, _: ReadOptions) -> None:
        self._left_out = 0

    def read(self, document: Any) -> Iterator[ReadItem]:
        series = rows_at(document, "timeSeries")
        if series is not None:
            yield from each(series, "timeSeries", _series)
        elif isinstance(document, list):
            yield from each(document, "row", self._billed)
        elif isinstance(document, Mapping) and "usage_start_time" in document:
            yield from self._billed(document)
        else:
            raise unknown_document("Google", "an answer of Cloud Monitoring, or rows of the billing export", document)

    def finish(self) -> Iterator[ReadItem]:
        if self._left_out:
            yield SpendNotice(f"{self._left_out} rows of other services than Vertex AI and the Gemini API left out")

    def _billed(self, row: Mapping[str, Any]) -> Iterator[SpendRow]:
        service = SERVICES.get(text(row, "service.id"))
        if service is None:
            self._left_out += 1
            return
        cost = money(row.get("cost"), "cost") or 0
        for entry in rows_at(row, "credits") or ():
            cost += money(entry.get("amount") if isinstance(entry, Mapping) else None, "credits.amount") or 0
        labels = {text(one, "key"): text(one, "value") for one in rows_at(row, "labels") or () if isinstance(one, dict)}
        fields = SpendFields(
            VENDOR,
            service=text(row, "sku.description", service),
            team=labels.get("team", ""),
            product=labels.get("product", ""),
            project=text(row, "project.id"),
            currency=currency(row.get("currency") or "USD", "currency"),
        )
        start_ms = day_ms(str(row.get("usage_start_time")).replace(" UTC", "Z"), "usage_start_time")
        yield SpendRow("billing", start_ms, fields, NO_AMOUNTS, cost, account=text(row, "billing_account_id"))


def _series(series: Mapping[str, Any]) -> Iterator[ReadItem]:
    metric = text(series, "metric.type")
    kind = _KINDS.get(text(series, "metric.labels.type")) if metric.endswith(_COUNTED) else None
    if metric.endswith(_INVOCATIONS):
        kind = "requests"
    if kind is None:
        return
    model = text(series, "resource.labels.model_user_id").partition("@")[0]
    fields = SpendFields(VENDOR, model=model, project=text(series, "resource.labels.project_id"))

    def point(one: Mapping[str, Any]) -> Iterator[SpendRow]:
        interval, value = one.get("interval"), one.get("value")
        if isinstance(interval, Mapping) and isinstance(value, Mapping):
            amount = count(value.get("int64Value"), "value.int64Value")
            start_ms = day_ms(interval.get("startTime"), "interval.startTime")
            yield SpendRow("monitoring", start_ms, fields, SpendAmounts(**{kind: amount}))

    yield from each(rows_at(series, "points") or (), "points", point)


FORMAT = SpendFormat(
    title="Google",
    documents="saved answers of Cloud Monitoring (timeSeries), rows of the billing export as JSON lines",
    grains={
        "billing": SpendGrain("billed", "billing export", 3),
        "monitoring": SpendGrain("reported", "token counts of Cloud Monitoring"),
    },
    reader=GoogleReader,
)
