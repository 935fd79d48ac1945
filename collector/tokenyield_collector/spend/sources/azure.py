"""Azure OpenAI and Foundry: metrics of Azure Monitor (tokens and requests by deployment and model).

Money comes from the FOCUS export of Cost Management: import it as `focus`.
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
from tokenyield_collector.spend.slices import SpendAmounts, SpendFields
from tokenyield_collector.spend.values import count, day_ms, text

VENDOR = "azure"
METRICS = {
    "ProcessedPromptTokens": "fresh",
    "GeneratedTokens": "output",
    "AzureOpenAIRequests": "requests",
    "ModelRequests": "requests",
    "InputTokens": "fresh",
    "OutputTokens": "output",
}
"""Metric -> what it counts. Others (rates, utilization, sums of both) are left out."""


def _read(document: Any) -> Iterator[ReadItem]:
    metrics = rows_at(document, "value")
    if metrics is None:
        raise unknown_document("Azure", "an answer of Azure Monitor's metrics", document)
    yield from each(metrics, "value", _metric)


def _metric(metric: Mapping[str, Any]) -> Iterator[ReadItem]:
    counted = METRICS.get(text(metric, "name.value"))
    if counted is None:
        return
    yield from each(rows_at(metric, "timeseries") or (), "timeseries", lambda series: _series(series, counted))


def _series(series: Mapping[str, Any], counted: str) -> Iterator[ReadItem]:
    labels = {
        text(label, "name.value").casefold(): text(label, "value")
        for label in rows_at(series, "metadatavalues") or ()
        if isinstance(label, Mapping)
    }
    fields = SpendFields(VENDOR, model=labels.get("modelname", ""), workload=labels.get("modeldeploymentname", ""))

    def point(one: Mapping[str, Any]) -> Iterator[SpendRow]:
        amount = count(one.get("total"), "total")
        if amount is not None:
            start_ms = day_ms(one.get("timeStamp"), "timeStamp")
            yield SpendRow("metrics", start_ms, fields, SpendAmounts(**{counted: amount}))

    yield from each(rows_at(series, "data") or (), "data", point)


FORMAT = SpendFormat(
    title="Azure OpenAI",
    documents="saved answers of Azure Monitor's metrics",
    grains={"metrics": SpendGrain("reported", "metrics of Azure Monitor")},
    reader=lambda _: Stateless(_read),
)
