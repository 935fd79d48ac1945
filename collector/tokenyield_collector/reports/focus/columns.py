"""The columns of each FOCUS dataset by version of the specification, and their types. Pure.

Columns of FOCUS come first, ours after them, each in the order of the alphabet. Left out are those that FOCUS asks for
only where there is what they are about: availability zones, commitment programs, payment in another currency.
"""

from decimal import Decimal

from tokenyield_collector.errors import ParameterError
from tokenyield_collector.reports.rounding import EXACT
from tokenyield_collector.targets.spreadsheet import PlainNumber

DEFAULT_VERSION = "1.2"

_SINCE_1_2 = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType", "BillingCurrency", "BillingPeriodEnd",
    "BillingPeriodStart", "CapacityReservationId", "CapacityReservationStatus", "ChargeCategory",
    "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart",
    "CommitmentDiscountCategory", "CommitmentDiscountId", "CommitmentDiscountName", "CommitmentDiscountQuantity",
    "CommitmentDiscountStatus", "CommitmentDiscountType", "CommitmentDiscountUnit", "ConsumedQuantity", "ConsumedUnit",
    "ContractedCost", "ContractedUnitPrice", "EffectiveCost", "InvoiceId", "InvoiceIssuerName", "ListCost",
    "ListUnitPrice", "PricingCategory", "PricingCurrency", "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice", "PricingQuantity", "PricingUnit", "RegionId",
    "RegionName", "ResourceId", "ResourceName", "ResourceType", "ServiceCategory", "ServiceName", "ServiceSubcategory",
    "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId", "SubAccountId", "SubAccountName", "SubAccountType", "Tags",
)  # fmt: skip
_ONLY_1_2 = ("ProviderName", "PublisherName")
_SINCE_1_4 = (
    "AllocatedMethodDetails", "AllocatedMethodId", "AllocatedResourceId", "AllocatedResourceName", "AllocatedTags",
    "ContractApplied", "HostProviderName", "InvoiceDetailId", "ServiceProviderName",
)  # fmt: skip
_OWN = (
    "x_CostBucket", "x_EnergyCost", "x_GpuHours", "x_Joules", "x_PriceBookVersion", "x_TokenKind", "x_Tokens",
    "x_UnderYieldCost",
)  # fmt: skip
COST_AND_USAGE = {
    "1.2": (*sorted(_SINCE_1_2 + _ONLY_1_2), *_OWN),
    "1.4": (*sorted(_SINCE_1_2 + _SINCE_1_4), *_OWN),
}
BILLING_PERIOD = (
    "BillingPeriodCreated", "BillingPeriodEnd", "BillingPeriodLastUpdated", "BillingPeriodStart",
    "BillingPeriodStatus", "InvoiceIssuerName",
)  # fmt: skip
INVOICE_DETAIL = (
    "BilledCost", "BillingAccountId", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory",
    "InvoiceDetailCreated", "InvoiceDetailDescription", "InvoiceDetailGrain", "InvoiceDetailId",
    "InvoiceDetailLastUpdated", "InvoiceId", "InvoiceIssueDate", "InvoiceIssueStatus", "InvoiceIssuerName",
    "PaymentDueDate", "PaymentTerms", "ReferenceInvoiceId",
)  # fmt: skip

DATASETS: dict[str, dict[str, tuple[str, ...]]] = {
    "1.2": {"CostAndUsage": COST_AND_USAGE["1.2"]},
    "1.4": {"CostAndUsage": COST_AND_USAGE["1.4"], "BillingPeriod": BILLING_PERIOD, "InvoiceDetail": INVOICE_DETAIL},
}
"""Version -> its datasets that are written, with their columns."""
VERSIONS = tuple(DATASETS)

_DECIMAL_ENDINGS = ("Cost", "Price", "Quantity")
_DECIMAL = ("x_GpuHours", "x_Joules", "x_Tokens")
_INSTANT_ENDINGS = ("PeriodStart", "PeriodEnd", "Created", "LastUpdated", "Date")
_JSON = (
    "AllocatedMethodDetails", "AllocatedTags", "ContractApplied", "InvoiceDetailGrain", "SkuPriceDetails", "Tags",
)  # fmt: skip
CURRENCY_DECIMALS = EXACT.digits
PRICE_DECIMALS = 12
"""As exact as the rates of the price book."""
_PRECISION = 38
_SCALE_OF = {"x_Joules": 3, "x_Tokens": 0, "PricingCurrencyEffectiveCost": 12, "ContractedCost": 21, "ListCost": 21}


def check_focus_version(version: str) -> None:
    """Raises `ParameterError`."""
    if version not in VERSIONS:
        raise ParameterError("focus_version", expected=f"one of {', '.join(VERSIONS)}", found=f"'{version[:40]}'")


def data_type(name: str) -> str:
    if name.endswith(_DECIMAL_ENDINGS) or name in _DECIMAL:
        return "Decimal"
    if name.endswith(_INSTANT_ENDINGS):
        return "Date/Time"
    return "JSON" if name in _JSON else "String"


def precision(name: str) -> dict[str, int]:
    """Digits of a number, and those behind its point; empty for what is no number."""
    if data_type(name) != "Decimal":
        return {}
    usual = PRICE_DECIMALS if name.endswith("Price") else CURRENCY_DECIMALS
    return {"NumericPrecision": _PRECISION, "NumberScale": _SCALE_OF.get(name, usual)}


def plain(value: Decimal) -> PlainNumber:
    """Without an exponent, and without zeros that say nothing."""
    text = str(value)
    if "E" in text:
        text = f"{value:f}"
    return PlainNumber((text.rstrip("0").rstrip(".") or "0") if "." in text else text)
