"""Lines of a statement into rows of FOCUS's Cost and Usage dataset. Pure.

* Used GPU time is shown by the tokens it made (AI and Machine Learning): its cost is split over prompt, cached and
  completion tokens by the price book's weights. A line that made none has one row of GPU-hours.
* Idle, unallocated and dark time are rows of Compute, Unused by CapacityReservationStatus.
* What the policy shares is an Adjustment of whoever carries it; so is time without a price, at a cost of 0.
* BilledCost = EffectiveCost is the statement's amount. Unit prices are those of the price list (price_list.py), and
  ContractedCost = ListCost is quantity x unit price.
* Joules of a line stand on its first row of used time, or split over its tokens, idle energy included: as tokens per
  joule counts them.
"""

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from tokenyield_collector.prices.money import scaled, split
from tokenyield_collector.prices.period import iso
from tokenyield_collector.reports.focus.allocation import allocated_columns
from tokenyield_collector.reports.focus.columns import COST_AND_USAGE, CURRENCY_DECIMALS, plain
from tokenyield_collector.reports.focus.model_identity import model_identity
from tokenyield_collector.reports.focus.price_list import HOURS_UNIT, PoolPrice, PriceList, UnitPrice, divided
from tokenyield_collector.reports.formats import PeriodStatement
from tokenyield_collector.reports.rounding import EXACT, HOURS, RunningRound
from tokenyield_collector.statements.buckets import ACTIVE_BUCKETS, BY_NAME, COSTS, IDLE_CAPACITY
from tokenyield_collector.statements.lines import LineKey, Sums
from tokenyield_collector.statements.names import (
    UNKNOWN_MODEL,
    cluster_name,
    dimension_values,
    model_name,
    pool_name,
    workload_name,
)
from tokenyield_collector.statements.statement import KeyedLine
from tokenyield_collector.targets.spreadsheet import JsonField, json_field
from tokenyield_wire.units import MJ_PER_JOULE, MS_PER_DAY, apportion
from tokenyield_wire.window import TOKEN_KINDS

Row = dict[str, Any]
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
_WITHOUT_PRICE = {
    "ChargeCategory": "Adjustment",
    "CapacityReservationId": "",
    "CapacityReservationStatus": "",
    "ConsumedQuantity": "",
    "ConsumedUnit": "",
    "SkuPriceDetails": "",
}
"""Of tokens without any price: usage has a price, be it 0."""
_SITE = "Provisioned power of a site that no GPU takes"
_UNPRICED = "GPU time without a price in the price book"
_SHARED = "Share of capacity that made no tokens, by the sharing policy"
_PER_TOKEN_UNIT = 6
"""Decimals of a quantity of million tokens."""
assert set(_LOST) == set(IDLE_CAPACITY) <= set(BY_NAME)


class FocusRows:
    """Lines into rows. What rows were rounded by is carried from row to row, bucket by bucket."""

    def __init__(self, whole: PeriodStatement) -> None:
        policy = whole.statement.policy
        self._weights = policy.prices.token_weights.per_thousand()
        self._dimensions = policy.rules.dimensions
        self._sharing = policy.rules.sharing
        self._list = PriceList(policy)
        self._shows_allocation = "AllocatedMethodId" in COST_AND_USAGE[whole.focus_version]
        self.buckets = {name: RunningRound(EXACT) for name in COSTS}
        """Bucket of the waterfall -> what its rows were given so far."""
        self._energy = RunningRound(EXACT)
        self._hours = RunningRound(HOURS)
        self._account = policy.rules.focus.billing_account_id
        self._common: Row = {**dict.fromkeys(COST_AND_USAGE[whole.focus_version], ""), **_common_columns(whole)}
        """A row before it has anything of a line: every column is there."""
        self._details: dict[tuple[str, str, str], str] = {}

    def of_day(self, lines: Sequence[KeyedLine]) -> Iterator[Row]:
        """All rows of one day's lines."""
        ratios = _shared_ratios(lines) if self._shows_allocation else {}
        for key, sums in lines:
            rows = list(self._of_line(key, sums, ratios.get(key)))
            left_mj = sums.get("gpu_mj") if rows and not rows[0].get("x_Tokens") else 0
            if left_mj:
                rows[0]["x_Joules"] = Decimal(left_mj) / MJ_PER_JOULE
            yield from rows

    def _of_line(self, key: LineKey, sums: Sums, ratio: Decimal | None) -> Iterator[Row]:
        common = self._common | self._key_columns(key)
        pool = self._list.of_pool(key.pool, key.start_ms)
        active_ms = sums.priced_ms("active")
        tokens = [sums.get(kind) for kind in TOKEN_KINDS]
        weighted = [count * self._weights[kind] for kind, count in zip(TOKEN_KINDS, tokens, strict=True)]
        if any(tokens):
            if max(weighted) <= 0:  # kinds that weigh nothing have rows too
                weighted = [abs(count) for count in tokens]
            yield from self._token_rows(key, sums, common, pool, tokens, weighted)
        elif active_ms or sums.direct:
            costs = [sums.cost(bucket) for bucket in ACTIVE_BUCKETS]
            energy = sum(sums.cell(bucket, "energy") for bucket in ACTIVE_BUCKETS)
            row = common | self._used_cost(*costs) | {"CapacityReservationStatus": "Used"}
            yield self._hours_row(row, pool, ("GPU Time", "GPU time in use"), active_ms, energy)
        for bucket, description in _LOST.items():
            duration_ms, quanta = sums.priced_ms(bucket), sums.cost(bucket)
            if not duration_ms and not quanta:
                continue
            row = common | self._cost(bucket, quanta) | {"CapacityReservationStatus": "Unused"}
            if duration_ms:
                energy = sums.cell(bucket, "energy")
                yield self._hours_row(row, pool, ("GPU Idle Time", description), duration_ms, energy)
            else:
                yield _adjustment(row, _SITE if key.carrier.kind == "site" else f"{description}: energy only")
        if sums.get("shared"):
            row = common | self._cost("shared", sums.get("shared"))
            if ratio is not None:
                row |= allocated_columns(row, ratio, self._sharing)
            yield _adjustment(row, _SHARED)
        if sums.unpriced_ms or (sums.get("gpu_mj") and not sums.total and not sums.gpu_ms):
            row = common | self._cost("", 0) | {"x_GpuHours": self._next_hours(sums.unpriced_ms)}
            yield _adjustment(row, _UNPRICED)

    def _key_columns(self, key: LineKey) -> Row:
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
        self,
        key: LineKey,
        sums: Sums,
        common: Row,
        pool: PoolPrice | None,
        tokens: Sequence[int],
        weighted: Sequence[int],
    ) -> Iterator[Row]:
        parts = [split(sums.cost(bucket), weighted) for bucket in ACTIVE_BUCKETS]
        energy = split(sum(sums.cell(bucket, "energy") for bucket in ACTIVE_BUCKETS), weighted)
        # Facts that no node can have measured may be below 0, until `verify --quarantine` moves them aside.
        hours, joules = split(sums.priced_ms("active"), weighted), split(sums.get("gpu_mj"), weighted)
        listed = self._list.of_tokens(key, sums)
        known = model_name(key.carrier)
        model = known or UNKNOWN_MODEL
        for i, kind in enumerate(TOKEN_KINDS):
            if not tokens[i]:
                continue
            price: UnitPrice | None
            x_hours = self._next_hours(hours[i])
            quantity = scaled(tokens[i], _PER_TOKEN_UNIT)
            if listed is not None:
                price = listed[i]
            elif pool is not None:
                price, quantity = pool.gpu_hour, x_hours
            else:
                price = self._list.of_cost(sum(cost[i] for cost in parts), tokens[i])
            row = common | self._used_cost(*(cost[i] for cost in parts))
            row |= {
                "ChargeCategory": "Usage",
                "ChargeDescription": f"{_METERS[kind]} of {'' if known else 'an '}{model}",
                "CapacityReservationStatus": "Used",
                "ConsumedQuantity": tokens[i],
                "ConsumedUnit": "Tokens",
                "ServiceCategory": "AI and Machine Learning",
                "ServiceSubcategory": "Generative AI",
                "ServiceName": "Self-hosted inference",
                "SkuId": f"{model}/{kind}",
                "SkuMeter": _METERS[kind],
                "SkuPriceDetails": self._sku_price_details(known, kind, price),
                "x_EnergyCost": scaled(self._energy.next(energy[i]), CURRENCY_DECIMALS),
                "x_GpuHours": x_hours,
                "x_Joules": Decimal(joules[i]) / MJ_PER_JOULE,
                "x_TokenKind": kind,
                "x_Tokens": tokens[i],
            }
            yield self._priced(row, price, quantity, pool) if price is not None else row | _WITHOUT_PRICE

    def _sku_price_details(self, model: str, kind: str, price: UnitPrice | None) -> str:
        """The same for all rows of a price: it names a pool where the price is of that pool's hours."""
        pool = price.pool if price is not None else ""
        at = (model, kind, pool)
        if at not in self._details:
            details = {**model_identity(model), "x_TokenKind": kind} | ({"x_Pool": pool} if pool else {})
            self._details[at] = json_field(details)
        return self._details[at]

    def _hours_row(
        self, row: Row, pool: PoolPrice | None, meter: tuple[str, str], duration_ms: int, energy: int
    ) -> Row:
        hours = self._next_hours(duration_ms)
        row["x_GpuHours"] = hours
        row["x_EnergyCost"] = scaled(self._energy.next(energy), CURRENCY_DECIMALS)
        if pool is None:
            return _adjustment(row, meter[1])
        sku = pool.gpu_hour.name
        row |= {
            "ChargeCategory": "Usage",
            "ChargeDescription": meter[1],
            "ConsumedQuantity": hours,
            "ConsumedUnit": HOURS_UNIT,
            "ServiceCategory": "Compute",
            "ServiceSubcategory": "Other (Compute)",
            "ServiceName": "GPU capacity",
            "SkuId": sku,
            "SkuMeter": meter[0],
            "SkuPriceDetails": json_field({"GpuCount": 1, "x_Pool": row["CapacityReservationId"]}),
        }
        return self._priced(row, pool.gpu_hour, hours, pool)

    def _priced(self, row: Row, price: UnitPrice, quantity: Decimal, pool: PoolPrice | None) -> Row:
        cost = price.amount * quantity
        row |= {
            "ContractedCost": cost,
            "ContractedUnitPrice": price.amount,
            "ListCost": cost,
            "ListUnitPrice": price.amount,
            "PricingCategory": pool.category if pool is not None else "Standard",
            "PricingCurrency": price.currency,
            "PricingCurrencyContractedUnitPrice": price.amount_in_currency,
            "PricingCurrencyListUnitPrice": price.amount_in_currency,
            "PricingQuantity": quantity,
            "PricingUnit": price.unit,
            "SkuPriceId": row["SkuId"] if price.name == row["SkuId"] else f"{row['SkuId']}@{price.name}",
            "x_exchange": price.exchange,
        }
        if pool is not None and pool.is_committed:
            row |= self._commitment(row)
        return row

    def _commitment(self, row: Row) -> Row:
        """Of a row of reserved capacity. Nothing is consumed of what is unused, and the reservation itself is its
        resource."""
        pool, status, hours = row["CapacityReservationId"], row["CapacityReservationStatus"], row["x_GpuHours"]
        commitment = f"{self._account}/{pool}"
        contract = json.dumps({"ContractId": commitment, "ContractCommitmentId": commitment})
        applied = f'"ContractCommitmentAppliedQuantity": {plain(hours)}, "ContractCommitmentAppliedUnit": "Hours"'
        columns = {
            "CommitmentDiscountCategory": "Usage",
            "CommitmentDiscountId": commitment,
            "CommitmentDiscountName": pool,
            "CommitmentDiscountQuantity": hours,
            "CommitmentDiscountStatus": status,
            "CommitmentDiscountType": "Reserved",
            "CommitmentDiscountUnit": HOURS_UNIT,
            "ContractApplied": JsonField(f'{{"Elements": [{contract[:-1]}, {applied}}}]}}'),
        }
        if status == "Unused":
            columns |= {"ConsumedQuantity": "", "ConsumedUnit": "", "ResourceId": commitment, "ResourceName": pool}
            columns["ResourceType"] = "Reserved capacity"
        return columns

    def _cost(self, bucket: str, quanta: int) -> Row:
        """BilledCost and EffectiveCost of the next row of a bucket; none for what has no price."""
        nano = self.buckets[bucket].next(quanta) if bucket else 0
        return {"x_nano": {bucket: nano} if bucket else {}, "x_CostBucket": bucket or "unpriced"}

    def _used_cost(self, under_yield: int, productive: int) -> Row:
        nano = {"under_yield": self.buckets["under_yield"].next(under_yield)}
        nano["productive"] = self.buckets["productive"].next(productive)
        return {"x_nano": nano, "x_CostBucket": "used"}

    def _next_hours(self, duration_ms: int) -> Decimal:
        return scaled(self._hours.next(duration_ms), CURRENCY_DECIMALS)


def _common_columns(whole: PeriodStatement) -> Row:
    policy, period = whole.statement.policy, whole.period
    names = policy.rules.focus
    return {
        "BillingAccountId": names.billing_account_id,
        "BillingAccountName": names.billing_account_name,
        "BillingAccountType": "Fleet",
        "BillingCurrency": policy.prices.currency,
        "BillingPeriodStart": iso(period.start_ms),
        "BillingPeriodEnd": iso(period.end_ms),
        "ChargeFrequency": "Usage-Based",
        "HostProviderName": names.provider,
        "InvoiceId": whole.invoice_id,
        "InvoiceIssuerName": names.provider,
        "PricingCurrency": policy.prices.currency,
        "ProviderName": names.provider,
        "PublisherName": names.provider,
        "RegionId": names.region_id or "",
        "RegionName": names.region_name or "",
        "ServiceProviderName": names.provider,
        "x_PriceBookVersion": policy.prices.fingerprint,
    }


def _adjustment(row: Row, description: str) -> Row:
    """A row without a quantity and a price."""
    return row | {
        "ChargeCategory": "Adjustment",
        "ChargeDescription": description,
        "CapacityReservationId": "",
        "CapacityReservationStatus": "",
        "ServiceCategory": "Compute",
        "ServiceSubcategory": "Other (Compute)",
        "ServiceName": "GPU capacity",
    }


def finished(row: Row) -> Row:
    """With the amounts of its buckets, after the last of them was settled (writer.py)."""
    nano: dict[str, int] = row["x_nano"]
    cost = scaled(sum(nano.values()), CURRENCY_DECIMALS)
    row["BilledCost"] = row["EffectiveCost"] = cost
    row["PricingCurrencyEffectiveCost"] = divided(cost, row.get("x_exchange", Decimal(1)))
    if row["ChargeCategory"] == "Adjustment":
        row["ContractedCost"] = row["ListCost"] = cost
    if "under_yield" in nano:
        row["x_UnderYieldCost"] = scaled(nano["under_yield"], CURRENCY_DECIMALS)
    return row


def _shared_ratios(lines: Sequence[KeyedLine]) -> dict[LineKey, Decimal]:
    """The part of what its pool shares on that day that each line carries; those of a pool sum to 1."""
    by_pool: dict[tuple[str, str | None], list[tuple[LineKey, int]]] = {}
    for key, sums in lines:
        if quanta := sums.get("shared"):
            by_pool.setdefault((key.source, key.pool), []).append((key, quanta))
    ratios: dict[LineKey, Decimal] = {}
    for carried in by_pool.values():
        parts = apportion(10**CURRENCY_DECIMALS, [abs(quanta) for _, quanta in carried])
        ratios |= {key: scaled(part, CURRENCY_DECIMALS) for (key, _), part in zip(carried, parts, strict=True)}
    return ratios


def _path_part(name: str) -> str:
    """Such that the first slash after it ends it."""
    return name.replace("%", "%25").replace("/", "%2F")


def _title(dimension: str) -> str:
    """'cost_center' -> 'Cost center'"""
    return dimension.replace("_", " ").capitalize()
