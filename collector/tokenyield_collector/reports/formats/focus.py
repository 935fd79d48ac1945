"""A statement as a FOCUS 1.2 file: one row for each day and what was used or stood idle, streamed.

In: a `Statement` with workloads and clusters in its grain. Out: CSV lines; what FOCUS requires beside them is in
focus_metadata.py. Format: https://focus.finops.org, specification v1.2 (tag v1.2 of
FinOps-Open-Cost-and-Usage-Spec/FOCUS_Spec).

* Used GPU time is shown by the tokens it made (AI and Machine Learning): its cost is split over prompt, cached and
  completion tokens by the price book's weights. A workload that made none has one row of GPU hours.
* Idle, unallocated and dark time are rows of Compute with CapacityReservationStatus Unused.
* What the policy shares is an Adjustment of whoever carries it.
BilledCost = EffectiveCost = ContractedCost is the statement's amount, to nine decimals. Amounts are rounded so that
their sum is the rounded sum at every row, hence the file's total is the report's. ListCost is at the list price of the
tokens (token_prices) where there is one.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal, localcontext
from typing import Any

from tokenyield_collector.prices.money import decimal, nano, scaled
from tokenyield_collector.prices.period import iso
from tokenyield_collector.reports.formats import PeriodStatement, StatementFormat, TextWriter
from tokenyield_collector.statements.buckets import BY_NAME, IDLE_CAPACITY
from tokenyield_collector.statements.lines import LineKey, Sums
from tokenyield_collector.statements.names import (
    UNKNOWN_MODEL,
    cluster_name,
    dimension_values,
    model_name,
    pool_name,
    workload_name,
)
from tokenyield_collector.targets.spreadsheet import csv_line, json_field
from tokenyield_wire.units import MJ_PER_JOULE, MS_PER_DAY, MS_PER_HOUR, apportion
from tokenyield_wire.window import TOKEN_KINDS

FOCUS_VERSION = "1.2"
_DIGITS = 9
COLUMNS = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingAccountType",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "CapacityReservationId",
    "CapacityReservationStatus",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "CommitmentDiscountCategory",
    "CommitmentDiscountId",
    "CommitmentDiscountName",
    "CommitmentDiscountQuantity",
    "CommitmentDiscountStatus",
    "CommitmentDiscountType",
    "CommitmentDiscountUnit",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "InvoiceId",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingCategory",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "RegionId",
    "RegionName",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SkuMeter",
    "SkuPriceDetails",
    "SkuPriceId",
    "SubAccountId",
    "SubAccountName",
    "SubAccountType",
    "Tags",
    "x_CostBucket",
    "x_GpuHours",
    "x_Joules",
    "x_TokenKind",
    "x_Tokens",
    "x_PriceBookVersion",
)
_METERS = {
    "prompt_computed": "Prompt Tokens",
    "prompt_cached": "Cached Prompt Tokens",
    "prompt_unsplit": "Prompt Tokens, cached or not",
    "completion": "Output Tokens",
}
_LOST = {
    "idle": "GPU time held without work",
    "unallocated": "GPU time that no workload held",
    "dark": "GPU time paid for and not reported",
}
assert set(_LOST) == set(IDLE_CAPACITY) <= set(BY_NAME)


def write_focus(whole: PeriodStatement, out: TextWriter) -> Decimal:
    """Write all rows to `out`; returns their sum."""
    out.write(csv_line(COLUMNS))
    rows = _FocusRows(whole)
    for key, sums in whole.statement.lines():
        for row in rows.of(key, sums):
            out.write(csv_line(row.get(name, "") for name in COLUMNS))
    return rows.written()


class _FocusRows:
    """Lines into rows, with the rounding carried from row to row."""

    def __init__(self, whole: PeriodStatement) -> None:
        policy, period, version = whole.statement.policy, whole.period, whole.version
        self._prices = policy.prices
        self._weights = policy.prices.token_weights.per_thousand()
        self._dimensions = policy.rules.dimensions
        self._quanta = 0
        names = policy.rules.focus
        self._common: dict[str, Any] = {
            "BillingAccountId": names.billing_account_id,
            "BillingAccountName": names.billing_account_name,
            "BillingAccountType": "Fleet",
            "BillingCurrency": policy.prices.currency,
            "BillingPeriodStart": iso(period.start_ms),
            "BillingPeriodEnd": iso(period.end_ms),
            "ChargeFrequency": "Usage-Based",
            "InvoiceId": f"{names.billing_account_id}-{period.name}-v{version}" if version is not None else "",
            "InvoiceIssuerName": names.provider,
            "ProviderName": names.provider,
            "PublisherName": names.provider,
            "RegionId": names.region_id or "",
            "RegionName": names.region_name or "",
            "x_PriceBookVersion": policy.prices.fingerprint,
        }

    def written(self) -> Decimal:
        return decimal(self._quanta)

    def of(self, key: LineKey, sums: Sums) -> Iterator[dict[str, Any]]:
        common = self._common | self._key_columns(key)
        active_ms = sums.active_ms
        tokens = [sums.get(kind) for kind in TOKEN_KINDS]
        weighted = [count * self._weights[kind] for kind, count in zip(TOKEN_KINDS, tokens, strict=True)]
        if any(weighted):
            yield from self._token_rows(key, sums, common, tokens, weighted)
        elif active_ms or sums.direct:
            yield (
                common
                | self._hours_row(key, "productive", "GPU Time", "GPU time in use", sums.direct, active_ms)
                | {"CapacityReservationStatus": "Used"}
            )
        for bucket, description in _LOST.items():
            duration_ms = sums.get(f"{bucket}_ms")
            if sums.get(bucket) and not duration_ms:
                yield common | self._adjustment(bucket, f"{description}: energy only", sums.get(bucket))
            elif duration_ms:
                row = self._hours_row(key, bucket, "GPU Idle Time", description, sums.get(bucket), duration_ms)
                yield common | row | {"CapacityReservationStatus": "Unused"}
        if sums.get("shared"):
            description = "Share of capacity that made no tokens, by the sharing policy"
            yield common | self._adjustment("shared", description, sums.get("shared"))

    def _adjustment(self, bucket: str, description: str, quanta: int) -> dict[str, Any]:
        """A cost without a quantity."""
        cost = self._next(quanta)
        return {
            **dict.fromkeys(("BilledCost", "EffectiveCost", "ContractedCost", "ListCost"), cost),
            "ChargeCategory": "Adjustment",
            "ChargeDescription": description,
            "CapacityReservationId": "",
            "CapacityReservationStatus": "",
            "ServiceCategory": "Compute",
            "ServiceSubcategory": "Other (Compute)",
            "ServiceName": "GPU capacity",
            "x_CostBucket": bucket,
        }

    def _key_columns(self, key: LineKey) -> dict[str, Any]:
        carrier = key.carrier
        values = dict(zip(self._dimensions, dimension_values(carrier), strict=True))
        model, workload, pool = model_name(carrier), workload_name(carrier), pool_name(key.pool)
        tags = {**values, "model": model, "workload": workload, "cluster": cluster_name(carrier)}
        payer = values[self._dimensions[0]]
        return {
            "ChargePeriodStart": iso(key.start_ms),
            "ChargePeriodEnd": iso(key.start_ms + MS_PER_DAY),
            "CapacityReservationId": pool,
            "ResourceId": f"{_path_part(pool)}/{workload or model or '-'}",
            "ResourceName": workload or model,
            "ResourceType": "Workload",
            "SubAccountId": payer,
            "SubAccountName": payer,
            "SubAccountType": _title(self._dimensions[0]),
            "Tags": json_field({name: value for name, value in tags.items() if value}),
        }

    def _token_rows(
        self, key: LineKey, sums: Sums, common: dict[str, Any], tokens: Sequence[int], weighted: Sequence[int]
    ) -> Iterator[dict[str, Any]]:
        costs, lists = apportion(sums.direct, weighted), apportion(sums.get("revenue"), weighted)
        hours, joules = apportion(sums.active_ms, weighted), apportion(sums.get("gpu_mj"), weighted)
        has_list = bool(self._prices.token_prices)
        for i, kind in enumerate(TOKEN_KINDS):
            if not tokens[i]:
                continue
            cost = self._next(costs[i])
            listed = decimal(lists[i]) if has_list else cost
            model = model_name(key.carrier) or UNKNOWN_MODEL
            sku = f"{model}/{kind}"
            yield common | {
                "BilledCost": cost,
                "EffectiveCost": cost,
                "ContractedCost": cost,
                "ContractedUnitPrice": _unit_price(cost, Decimal(tokens[i])),
                "ListCost": listed,
                "ListUnitPrice": _unit_price(listed, Decimal(tokens[i])),
                "ChargeCategory": "Usage",
                "ChargeDescription": f"{_METERS[kind]} of {'an ' if model == UNKNOWN_MODEL else ''}{model}",
                "CapacityReservationStatus": "Used",
                "ConsumedQuantity": tokens[i],
                "ConsumedUnit": "Tokens",
                "PricingCategory": "Standard",
                "PricingQuantity": tokens[i],
                "PricingUnit": "Tokens",
                "ServiceCategory": "AI and Machine Learning",
                "ServiceSubcategory": "Generative AI",
                "ServiceName": "Self-hosted inference",
                "SkuId": sku,
                "SkuMeter": _METERS[kind],
                "SkuPriceId": f"{sku}/{self._prices.fingerprint}",
                "SkuPriceDetails": json_field({"x_TokenKind": kind, "x_Pool": pool_name(key.pool)}),
                "x_CostBucket": "used",
                "x_GpuHours": _hours(hours[i]),
                "x_Joules": Decimal(joules[i]) / MJ_PER_JOULE,
                "x_TokenKind": kind,
                "x_Tokens": tokens[i],
            }

    def _hours_row(
        self, key: LineKey, bucket: str, meter: str, description: str, quanta: int, duration_ms: int
    ) -> dict[str, Any]:
        cost, hours = self._next(quanta), _hours(duration_ms)
        sku = f"{pool_name(key.pool)}/gpu-hour"
        return {
            "BilledCost": cost,
            "EffectiveCost": cost,
            "ContractedCost": cost,
            "ContractedUnitPrice": _unit_price(cost, hours),
            "ListCost": cost,
            "ListUnitPrice": _unit_price(cost, hours),
            "ChargeCategory": "Usage",
            "ChargeDescription": description,
            "ConsumedQuantity": hours,
            "ConsumedUnit": "Hours",
            "PricingCategory": "Standard",
            "PricingQuantity": hours,
            "PricingUnit": "Hours",
            "ServiceCategory": "Compute",
            "ServiceSubcategory": "Other (Compute)",
            "ServiceName": "GPU capacity",
            "SkuId": sku,
            "SkuMeter": meter,
            "SkuPriceId": f"{sku}/{self._prices.fingerprint}",
            "SkuPriceDetails": json_field({"x_Pool": pool_name(key.pool)}),
            "x_CostBucket": bucket,
            "x_GpuHours": hours,
        }

    def _next(self, quanta: int) -> Decimal:
        """The amount of the next row: what the rounded sum grows by."""
        before = nano(self._quanta)
        self._quanta += quanta
        return scaled(nano(self._quanta) - before, _DIGITS)


def _path_part(name: str) -> str:
    """Such that the first slash after it ends it."""
    return name.replace("%", "%25").replace("/", "%2F")


def _title(dimension: str) -> str:
    """'cost_center' -> 'Cost center'"""
    return dimension.replace("_", " ").capitalize()


def _hours(duration_ms: int) -> Decimal:
    """To nine decimals: a millisecond is 0.000000278 h."""
    return (Decimal(duration_ms) / MS_PER_HOUR).quantize(Decimal(1).scaleb(-_DIGITS))


def _unit_price(cost: Decimal, quantity: Decimal) -> Decimal:
    """Such that price x quantity gives the cost again to more digits than it has."""
    if not quantity:
        return Decimal(0)
    with localcontext() as context:
        context.prec = 34
        return cost / quantity


FORMAT = StatementFormat(name="focus", media_type="text/csv", write=write_focus)
