"""Our table of what FOCUS asks of its datasets, versions 1.2 and 1.4: what is wrong with the rows of a file.

Made from the specification (github.com/FinOps-Open-Cost-and-Usage-Spec/FOCUS_Spec, tags v1.2 and v1.4: dataset.md,
columns/*.md, attributes/*.md). A rule has one line here: a column's type, whether it may be null, what it may say; or what
must hold between columns. The FOCUS project's own validator runs beside these, see tests/real/test_focus_validator.py.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation, localcontext
from typing import NamedTuple

Row = Mapping[str, str]
SERVICE_CATEGORIES = {
    "AI and Machine Learning", "Analytics", "Business Applications", "Compute", "Databases", "Developer Tools",
    "Multicloud", "Identity", "Integration", "Internet of Things", "Management and Governance", "Media", "Migration",
    "Mobile", "Networking", "Security", "Storage", "Web", "Other",
}  # fmt: skip
PARENT = {
    "Generative AI": "AI and Machine Learning", "Machine Learning": "AI and Machine Learning",
    "Containers": "Compute", "Virtual Machines": "Compute", "Other (Compute)": "Compute",
}  # fmt: skip
CHARGES = {"Usage", "Purchase", "Tax", "Credit", "Adjustment"}


class Column(NamedTuple):
    """`kind`: text, decimal, instant, json, keys (JSON without nesting), currency, unit."""

    kind: str
    is_nullable: bool = True
    is_mandatory: bool = False
    values: frozenset[str] | None = None


def _must(kind: str, *values: str) -> Column:
    return Column(kind, is_nullable=False, is_mandatory=True, values=frozenset(values) or None)


def _may(kind: str, *values: str) -> Column:
    return Column(kind, values=frozenset(values) or None)


_ASKED = Column("text", is_nullable=True, is_mandatory=True)
COST_AND_USAGE: dict[str, Column] = {
    "BilledCost": _must("decimal"),
    "BillingAccountId": _must("text"),
    "BillingAccountName": _ASKED,
    "BillingAccountType": Column("text", is_nullable=False),
    "BillingCurrency": _must("currency"),
    "BillingPeriodEnd": _must("instant"),
    "BillingPeriodStart": _must("instant"),
    "CapacityReservationId": _may("text"),
    "CapacityReservationStatus": _may("text", "Used", "Unused"),
    "ChargeCategory": _must("text", *CHARGES),
    "ChargeClass": Column("text", is_mandatory=True, values=frozenset({"Correction"})),
    "ChargeDescription": _ASKED,
    "ChargeFrequency": Column("text", is_nullable=False, values=frozenset({"One-Time", "Recurring", "Usage-Based"})),
    "ChargePeriodEnd": _must("instant"),
    "ChargePeriodStart": _must("instant"),
    "CommitmentDiscountCategory": _may("text", "Spend", "Usage"),
    "CommitmentDiscountId": _may("text"),
    "CommitmentDiscountName": _may("text"),
    "CommitmentDiscountQuantity": _may("decimal"),
    "CommitmentDiscountStatus": _may("text", "Used", "Unused"),
    "CommitmentDiscountType": _may("text"),
    "CommitmentDiscountUnit": _may("unit"),
    "ConsumedQuantity": _may("decimal"),
    "ConsumedUnit": _may("unit"),
    "ContractedCost": _must("decimal"),
    "ContractedUnitPrice": _may("decimal"),
    "EffectiveCost": _must("decimal"),
    "InvoiceId": _may("text"),
    "InvoiceIssuerName": _must("text"),
    "ListCost": _must("decimal"),
    "ListUnitPrice": _may("decimal"),
    "PricingCategory": _may("text", "Standard", "Dynamic", "Committed", "Other"),
    "PricingCurrency": Column("currency", is_nullable=False),
    "PricingCurrencyContractedUnitPrice": _may("decimal"),
    "PricingCurrencyEffectiveCost": Column("decimal", is_nullable=False),
    "PricingCurrencyListUnitPrice": _may("decimal"),
    "PricingQuantity": Column("decimal", is_mandatory=True),
    "PricingUnit": Column("unit", is_mandatory=True),
    "RegionId": _may("text"),
    "RegionName": _may("text"),
    "ResourceId": _may("text"),
    "ResourceName": _may("text"),
    "ResourceType": _may("text"),
    "ServiceCategory": _must("text", *SERVICE_CATEGORIES),
    "ServiceName": _must("text"),
    "ServiceSubcategory": Column("text", is_nullable=False, values=frozenset(PARENT)),
    "SkuId": _may("text"),
    "SkuMeter": _may("text"),
    "SkuPriceDetails": _may("keys"),
    "SkuPriceId": _may("text"),
    "SubAccountId": _may("text"),
    "SubAccountName": _may("text"),
    "SubAccountType": _may("text"),
    "Tags": _may("keys"),
}
_ONLY = {
    "1.2": {"ProviderName": _must("text"), "PublisherName": _must("text")},
    "1.4": {
        "AllocatedMethodDetails": _may("json"),
        "AllocatedMethodId": _may("text"),
        "AllocatedResourceId": _may("text"),
        "AllocatedResourceName": _may("text"),
        "AllocatedTags": _may("keys"),
        "ContractApplied": _may("json"),
        "HostProviderName": Column("text", is_mandatory=True),
        "InvoiceDetailId": _may("text"),
        "ServiceProviderName": _must("text"),
    },
}
GONE = {"1.2": set[str](), "1.4": {"ProviderName", "PublisherName"}}
"""Columns that a version no longer has."""
BILLING_PERIOD = {
    "BillingPeriodCreated": _must("instant"),
    "BillingPeriodEnd": _must("instant"),
    "BillingPeriodLastUpdated": _must("instant"),
    "BillingPeriodStart": _must("instant"),
    "BillingPeriodStatus": _must("text", "Open", "Closed"),
    "InvoiceIssuerName": _must("text"),
}
INVOICE_DETAIL = {
    "BilledCost": _must("decimal"),
    "BillingAccountId": _must("text"),
    "BillingCurrency": _must("currency"),
    "BillingPeriodEnd": _must("instant"),
    "BillingPeriodStart": _must("instant"),
    "ChargeCategory": _must("text", *CHARGES),
    "InvoiceDetailCreated": _must("instant"),
    "InvoiceDetailDescription": _ASKED,
    "InvoiceDetailGrain": Column("keys", is_mandatory=True),
    "InvoiceDetailId": _must("text"),
    "InvoiceDetailLastUpdated": _must("instant"),
    "InvoiceId": _must("text"),
    "InvoiceIssueDate": Column("instant", is_mandatory=True),
    "InvoiceIssueStatus": _must("text", "Open", "Issued", "Voided"),
    "InvoiceIssuerName": _must("text"),
    "PaymentDueDate": Column("instant", is_mandatory=True),
    "PaymentTerms": _must("text"),
    "ReferenceInvoiceId": _must("text"),
}
SKU_PRICE_KEYS = {
    "CoreCount", "DiskMaxIops", "DiskSpace", "DiskType", "GpuCount", "InstanceType", "InstanceSeries", "MemorySize",
    "NetworkMaxIops", "NetworkMaxThroughput", "OperatingSystem", "Redundancy", "StorageClass",
    # Working draft for 1.5.
    "ModelDeveloper", "ModelFamily", "ModelId", "ModelVersion",
}  # fmt: skip
GRAIN_KEYS = {
    "ContractId", "RegionId", "ResourceId", "ResourceType", "ServiceName", "SkuId", "SkuMeter", "SkuPriceId",
    "SubAccountId",
}  # fmt: skip
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE]-?\d+)?")
_FORMATS = {
    "decimal": ("decimal", _NUMBER),
    "instant": ("instant in UTC", re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")),
    "currency": ("ISO 4217 code", re.compile(r"[A-Z]{3}")),
    "unit": ("unit", re.compile(r"(\d+ )?[A-Z][A-Za-z]*(-[A-Z][A-Za-z]*)?(/(\d+ )?[A-Z][a-z]+)?")),
}
_NAME = re.compile(r"(x_)?[A-Z][A-Za-z0-9]*")
_PRICED = (
    "PricingQuantity", "PricingUnit", "ListUnitPrice", "ContractedUnitPrice", "PricingCurrencyListUnitPrice",
    "PricingCurrencyContractedUnitPrice", "SkuId", "SkuPriceId", "PricingCategory",
)  # fmt: skip
_TOGETHER = (
    ("ConsumedQuantity", "ConsumedUnit"), ("PricingQuantity", "PricingUnit"), ("RegionId", "RegionName"),
    ("ResourceId", "ResourceType"), ("SubAccountId", "SubAccountName"), ("SubAccountId", "SubAccountType"),
    ("CommitmentDiscountQuantity", "CommitmentDiscountUnit"), ("CommitmentDiscountId", "CommitmentDiscountCategory"),
    ("CommitmentDiscountId", "CommitmentDiscountType"), ("CommitmentDiscountId", "CommitmentDiscountName"),
    ("AllocatedResourceId", "AllocatedResourceName"), ("AllocatedMethodId", "AllocatedResourceId"),
    ("AllocatedMethodId", "AllocatedMethodDetails"), ("InvoiceId", "InvoiceDetailId"),
)  # fmt: skip
"""Both are null or neither is, where the version has both."""
_ONLY_WITH = (
    ("SkuMeter", "SkuId"), ("SkuPriceDetails", "SkuPriceId"), ("PricingQuantity", "SkuPriceId"),
    ("ConsumedQuantity", "SkuPriceId"), ("CommitmentDiscountQuantity", "SkuPriceId"),
    ("CapacityReservationStatus", "CapacityReservationId"), ("CommitmentDiscountStatus", "CommitmentDiscountId"),
    ("AllocatedTags", "AllocatedMethodId"),
)  # fmt: skip
"""The first is null where the second is."""
_ONE_PARENT = (
    ("SkuPriceId", "SkuId"), ("SkuPriceId", "PricingUnit"), ("SkuPriceId", "SkuPriceDetails"), ("ServiceName", "ServiceCategory"),
    ("ServiceName", "ServiceSubcategory"), ("CommitmentDiscountId", "CommitmentDiscountUnit"),
    ("InvoiceDetailId", "ChargeCategory"),
)  # fmt: skip
"""Every value of the first goes with one of the second."""


def faults(columns: list[str], rows: Sequence[Row], version: str = "1.2") -> Iterator[str]:
    """Everything in Cost and Usage that breaks a rule."""
    table = {**COST_AND_USAGE, **_ONLY[version]}
    yield from (f"{name}: gone since this version" for name in columns if name in GONE[version])
    yield from _table_faults(table, columns, rows)
    for i, row in enumerate(rows):
        yield from (f"row {i}: {fault}" for fault in _row_faults(row, version))
    for child, parent in _ONE_PARENT:
        parents = defaultdict(set)
        for row in rows:
            if row.get(child):
                parents[row[child]].add(row.get(parent))
        yield from (f"{child} '{name}' has several {parent}" for name, found in parents.items() if len(found) > 1)
    if version == "1.4":
        yield from _allocation_faults(rows)


def billing_period_faults(columns: list[str], rows: Sequence[Row]) -> Iterator[str]:
    yield from _table_faults(BILLING_PERIOD, columns, rows)
    for i, row in enumerate(rows):
        if not row["BillingPeriodStart"] < row["BillingPeriodEnd"]:
            yield f"row {i}: BillingPeriodEnd is not after its start"
        if row["BillingPeriodLastUpdated"] < row["BillingPeriodCreated"]:
            yield f"row {i}: BillingPeriodLastUpdated is before BillingPeriodCreated"


def invoice_detail_faults(columns: list[str], rows: Sequence[Row], charges: Sequence[Row]) -> Iterator[str]:
    """`charges`: rows of Cost and Usage, which every line of the invoice sums."""
    yield from _table_faults(INVOICE_DETAIL, columns, rows)
    for i, row in enumerate(rows):
        if row["InvoiceDetailLastUpdated"] < row["InvoiceDetailCreated"]:
            yield f"row {i}: InvoiceDetailLastUpdated is before InvoiceDetailCreated"
        if unknown := _unknown_keys(row["InvoiceDetailGrain"], GRAIN_KEYS):
            yield f"row {i}: InvoiceDetailGrain has {unknown}, which are not FOCUS's and lack x_"
    ids = [(row["InvoiceId"], row["InvoiceDetailId"]) for row in rows]
    if len(set(ids)) < len(ids):
        yield "InvoiceDetailId is not unique within its invoice"
    charged: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for row in charges:
        charged[row["InvoiceId"], row["InvoiceDetailId"]] += Decimal(row["BilledCost"])
    for row in rows:
        at = (row["InvoiceId"], row["InvoiceDetailId"])
        if Decimal(row["BilledCost"]) != charged.pop(at, None):
            yield f"{at}: BilledCost is not that of its charges"
    yield from (f"{at}: charges without a line of the invoice" for at in charged if at[0])


def _table_faults(table: Mapping[str, Column], columns: list[str], rows: Sequence[Row]) -> Iterator[str]:
    for name in sorted(name for name, rule in table.items() if rule.is_mandatory and name not in columns):
        yield f"{name}: a mandatory column is missing"
    yield from (f"{name}: not PascalCase" for name in columns if not _NAME.fullmatch(name))
    yield from (f"{name}: longer than 50 characters" for name in columns if len(name) > 50)
    yield from (f"{name}: no column of FOCUS, and no x_" for name in columns if name[:2] != "x_" and name not in table)
    own = [name.startswith("x_") for name in columns]
    if own != sorted(own):
        yield "custom columns stand before FOCUS columns"
    for i, row in enumerate(rows):
        for name, rule in table.items():
            yield from (f"row {i}: {fault}" for fault in _value_faults(name, rule, row.get(name)))


def _value_faults(name: str, rule: Column, value: str | None) -> Iterator[str]:
    if value is None:  # the column is not there
        return
    if not value:
        if not rule.is_nullable:
            yield f"{name} is null"
        return
    if rule.values is not None and value not in rule.values:
        yield f"{name}: '{value}' is not allowed"
    if rule.kind in _FORMATS:
        what, pattern = _FORMATS[rule.kind]
        if not pattern.fullmatch(value):
            yield f"{name}: '{value}' is no {what}"
    if rule.kind in ("json", "keys"):
        try:
            document = json.loads(value)
        except ValueError:
            yield f"{name} is no JSON"
            return
        if not isinstance(document, dict):
            yield f"{name} is no JSON object"
        elif rule.kind == "keys" and any(isinstance(inner, dict | list) for inner in document.values()):
            yield f"{name} is nested"


def _row_faults(row: Row, version: str) -> Iterator[str]:
    is_usage = row["ChargeCategory"] == "Usage"
    if not row["ChargePeriodStart"] < row["ChargePeriodEnd"]:
        yield "ChargePeriodEnd is not after its start"
    if not row["BillingPeriodStart"] <= row["ChargePeriodStart"] < row["BillingPeriodEnd"]:
        yield "the charge period begins outside of the billing period"
    if row["ChargeClass"] != "Correction":
        yield from (f"{name} is null on a usage row" for name in _PRICED if is_usage and not row[name])
    for one, other in _TOGETHER:
        if one in row and other in row and bool(row[one]) != bool(row[other]):
            yield f"{one} without {other}, or the other way round"
    yield from (f"{name} without {needed}" for name, needed in _ONLY_WITH if row.get(name) and not row.get(needed))
    is_consumed = is_usage and row["CommitmentDiscountStatus"] != "Unused"
    if is_consumed != bool(row["ConsumedQuantity"]):
        yield "ConsumedQuantity stands on usage that is not an unused commitment, and only there"
    yield from _commitment_faults(row, version, is_usage=is_usage)
    if PARENT.get(row["ServiceSubcategory"], "") != row["ServiceCategory"]:
        yield "ServiceSubcategory is of another ServiceCategory"
    if unknown := _unknown_keys(row["SkuPriceDetails"], SKU_PRICE_KEYS):
        yield f"SkuPriceDetails has {unknown}, which are not FOCUS's and lack x_"
    yield from _money_faults(row)


def _commitment_faults(row: Row, version: str, *, is_usage: bool) -> Iterator[str]:
    if is_usage and row["CapacityReservationId"] and not row["CapacityReservationStatus"]:
        yield "CapacityReservationStatus is null on the usage of a reservation"
    is_committed = bool(row["CommitmentDiscountId"])
    if is_usage and is_committed and not (row["CommitmentDiscountStatus"] and row["CommitmentDiscountQuantity"]):
        yield "CommitmentDiscountStatus or CommitmentDiscountQuantity is null on the usage of a commitment"
    if is_usage and is_committed != (row["PricingCategory"] == "Committed"):
        yield "PricingCategory is Committed on the usage of a commitment, and only there"
    if version != "1.4":
        return
    if is_usage and row["CommitmentDiscountStatus"] == "Unused" and row["ResourceId"] != row["CommitmentDiscountId"]:
        yield "the resource of what a commitment left unused is not the commitment"
    if is_committed != bool(row["ContractApplied"]):
        yield "ContractApplied stands on what a contract commits, and only there"
    for element in json.loads(row["ContractApplied"] or '{"Elements": []}').get("Elements", []):
        if not {"ContractId", "ContractCommitmentId"} <= element.keys():
            yield "ContractApplied lacks ContractId or ContractCommitmentId"
        if not element.keys() & {"ContractCommitmentAppliedCost", "ContractCommitmentAppliedQuantity"}:
            yield "ContractApplied has neither a cost nor a quantity"


def _money_faults(row: Row) -> Iterator[str]:
    try:
        with localcontext() as context:
            context.prec = 60
            for cost, price in (("ContractedCost", "ContractedUnitPrice"), ("ListCost", "ListUnitPrice")):
                if row[price] and row["PricingQuantity"]:
                    product = Decimal(row[price]) * Decimal(row["PricingQuantity"])
                    if product != Decimal(row[cost]):
                        yield f"{cost} {row[cost]} is not {price} x PricingQuantity = {product}"
                elif Decimal(row[cost]) != Decimal(row["BilledCost"]):
                    yield f"{cost} is not BilledCost where there is no unit price"
                if row[price] and Decimal(row[price]) < 0:
                    yield f"{price} is negative"
            if Decimal(row["EffectiveCost"]) != Decimal(row["BilledCost"]):
                yield "EffectiveCost is not BilledCost, and no charge covers another"
    except InvalidOperation:
        return  # said of the column


def _allocation_faults(rows: Sequence[Row]) -> Iterator[str]:
    """The parts of an origin charge sum to 1; a tag stands in Tags or in AllocatedTags."""
    ratios: dict[tuple[str, str, str], Decimal] = defaultdict(Decimal)
    for i, row in enumerate(rows):
        if not row.get("AllocatedMethodDetails"):
            continue
        document = json.loads(row["AllocatedMethodDetails"], parse_float=Decimal, parse_int=Decimal)
        at = (row["AllocatedMethodId"], row["ResourceId"], row["ChargePeriodStart"])
        ratios[at] += sum((element["AllocatedRatio"] for element in document["Elements"]), Decimal(0))
        if unknown := sorted(name for name in document if name != "Elements" and not name.startswith("x_")):
            yield f"row {i}: AllocatedMethodDetails has {unknown}"
        if json.loads(row["Tags"] or "{}").keys() & json.loads(row["AllocatedTags"] or "{}").keys():
            yield f"row {i}: AllocatedTags repeat Tags"
    yield from (f"{at}: AllocatedRatio sums to {total}, not to 1" for at, total in ratios.items() if total != 1)


def _unknown_keys(document: str, known: set[str]) -> list[str]:
    try:
        keys = json.loads(document or "{}")
    except ValueError:
        return []
    return sorted(name for name in keys if name not in known and not re.fullmatch(r"x_[A-Z][A-Za-z0-9]*", name))
