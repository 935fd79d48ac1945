"""FOCUS 1.2's published column rules, for the columns that our files carry: what is wrong with each row.

Source: specification/columns/*.md of tag v1.2 of github.com/FinOps-Open-Cost-and-Usage-Spec/FOCUS_Spec. The FOCUS project's own
validator (PyPI `focus-validator`) knows no rules beyond 1.0; tests/real/test_focus_validator.py runs it beside these.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation

MANDATORY = {
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
    "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd", "ChargePeriodStart", "ContractedCost",
    "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName",
    "ServiceCategory", "ServiceName",
}  # fmt: skip
NEVER_NULL = {
    "BilledCost", "BillingAccountId", "BillingAccountType", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
    "ChargeCategory", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart", "ContractedCost", "EffectiveCost",
    "InvoiceIssuerName", "ListCost", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName",
    "ServiceSubcategory",
}  # fmt: skip
DECIMAL = {
    "BilledCost", "ConsumedQuantity", "ContractedCost", "ContractedUnitPrice", "EffectiveCost", "ListCost",
    "ListUnitPrice", "PricingQuantity",
}  # fmt: skip
INSTANT = {"BillingPeriodEnd", "BillingPeriodStart", "ChargePeriodEnd", "ChargePeriodStart"}
ALLOWED = {
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {"", "Correction"},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based"},
    "PricingCategory": {"", "Standard", "Dynamic", "Committed", "Other"},
    "CapacityReservationStatus": {"", "Used", "Unused"},
    "ServiceCategory": {
        "AI and Machine Learning", "Analytics", "Business Applications", "Compute", "Databases", "Developer Tools",
        "Multicloud", "Identity", "Integration", "Internet of Things", "Management and Governance", "Media", "Migration",
        "Mobile", "Networking", "Security", "Storage", "Web", "Other",
    },
    "ServiceSubcategory": {"Generative AI", "Other (Compute)"},
}  # fmt: skip
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")
_CURRENCY = re.compile(r"[A-Z]{3}")
_NAME = re.compile(r"(x_)?[A-Z][A-Za-z0-9]*")


def faults(columns: list[str], rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Everything that breaks a rule."""
    yield from (f"{name}: a mandatory column is missing" for name in sorted(MANDATORY - set(columns)))
    yield from (f"{name}: not PascalCase" for name in columns if not _NAME.fullmatch(name))
    own = [name.startswith("x_") for name in columns]
    if own != sorted(own):
        yield "custom columns stand before FOCUS columns"
    for i, row in enumerate(rows):
        yield from (f"row {i}: {fault}" for fault in _row_faults(row))


def _row_faults(row: Mapping[str, str]) -> Iterator[str]:
    yield from (f"{name} is null" for name in sorted(NEVER_NULL) if not row.get(name))
    for name in sorted(DECIMAL):
        if row[name] and not _NUMBER.fullmatch(row[name]):
            yield f"{name}: '{row[name]}' is no decimal"
    for name in sorted(INSTANT):
        if not _INSTANT.fullmatch(row[name]):
            yield f"{name}: '{row[name]}' is no instant in UTC"
    for name, values in ALLOWED.items():
        if row[name] not in values:
            yield f"{name}: '{row[name]}' is not allowed"
    if not _CURRENCY.fullmatch(row["BillingCurrency"]):
        yield f"BillingCurrency: '{row['BillingCurrency']}' is no ISO 4217 code"
    if not row["ChargePeriodStart"] < row["ChargePeriodEnd"]:
        yield "ChargePeriodEnd is not after its start"
    if not row["BillingPeriodStart"] <= row["ChargePeriodStart"] < row["BillingPeriodEnd"]:
        yield "the charge period begins outside of the billing period"
    is_usage = row["ChargeCategory"] == "Usage" and row["ChargeClass"] != "Correction"
    for name in (
        "PricingQuantity",
        "PricingUnit",
        "ListUnitPrice",
        "ContractedUnitPrice",
        "SkuId",
        "SkuPriceId",
        "PricingCategory",
    ):
        if is_usage and not row[name]:
            yield f"{name} is null on a usage row"
    if is_usage != bool(row["ConsumedQuantity"]):
        yield "ConsumedQuantity stands on usage rows, and only there"
    if bool(row["ConsumedQuantity"]) != bool(row["ConsumedUnit"]) or bool(row["PricingQuantity"]) != bool(
        row["PricingUnit"]
    ):
        yield "a quantity without its unit, or a unit without quantity"
    if row["CapacityReservationId"] and row["ChargeCategory"] == "Usage" and not row["CapacityReservationStatus"]:
        yield "CapacityReservationStatus is null on the usage of a reservation"
    if not row["CapacityReservationId"] and row["CapacityReservationStatus"]:
        yield "CapacityReservationStatus without a reservation"
    if row["SkuId"] == "" and (row["SkuMeter"] or row["SkuPriceDetails"]):
        yield "SkuMeter or SkuPriceDetails without SkuId"
    for name in ("Tags", "SkuPriceDetails"):
        try:
            value = json.loads(row[name] or "{}")
        except ValueError:
            yield f"{name} is no JSON"
            continue
        if not isinstance(value, dict):
            yield f"{name} is no JSON object"
    for cost, price in (("ContractedCost", "ContractedUnitPrice"), ("ListCost", "ListUnitPrice")):
        try:
            if row[price] and row["PricingQuantity"]:
                product = Decimal(row[price]) * Decimal(row["PricingQuantity"])
                if abs(product - Decimal(row[cost])) > Decimal("1e-12"):
                    yield f"{cost} {row[cost]} is not {price} x PricingQuantity = {product}"
        except InvalidOperation:
            continue  # said above
