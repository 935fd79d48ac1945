"""FOCUS 1.0 to 1.4 of any provider, as CSV or Parquet: the rows of AI services.

`BilledCost` is what the invoice sums to. Rows of other services (ServiceCategory) are left out, and counted. Token
counts are in a file only where the provider bills by them; units differ, so that they are not read.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tokenyield_collector.spend.format import (
    ROWS,
    ReadItem,
    ReadOptions,
    SpendFormat,
    SpendGrain,
    SpendNotice,
    SpendRow,
    SpendTable,
    unknown_document,
)
from tokenyield_collector.spend.slices import NO_AMOUNTS, UNNAMED, SpendFields
from tokenyield_collector.spend.values import currency, day_ms, money, text
from tokenyield_collector.spend.vendors import vendor_of

CATEGORY = "AI and Machine Learning"
_REQUIRED = ("BilledCost", "BillingCurrency", "ChargePeriodStart", "ServiceCategory")
_VENDOR_COLUMNS = ("ServiceProviderName", "ProviderName", "PublisherName", "InvoiceIssuerName")
"""The first that has a value: FOCUS 1.3 renamed ProviderName."""


class FocusReader:
    """Counts the rows that it leaves out."""

    def __init__(self, _: ReadOptions) -> None:
        self._left_out = 0

    def read(self, document: Any) -> Iterator[ReadItem]:
        missing = [name for name in _REQUIRED if not isinstance(document, Mapping) or name not in document]
        if missing:
            raise unknown_document("the provider", f"a FOCUS row with {', '.join(missing)}", document)
        if document["ServiceCategory"] != CATEGORY:
            self._left_out += document.get(ROWS, 1)
            return
        vendor = next((name for column in _VENDOR_COLUMNS if (name := text(document, column))), "")
        fields = SpendFields(
            vendor_of(vendor),
            service=UNNAMED,
            product=text(document, "ServiceName") or text(document, "ServiceSubcategory"),
            project=text(document, "SubAccountName") or text(document, "SubAccountId"),
            workload=text(document, "ResourceName") or text(document, "ResourceId"),
            currency=currency(document["BillingCurrency"], "BillingCurrency"),
        )
        yield SpendRow(
            "cost_and_usage",
            day_ms(str(document["ChargePeriodStart"]), "ChargePeriodStart"),
            fields,
            NO_AMOUNTS,
            money(document["BilledCost"], "BilledCost"),
            account=text(document, "BillingAccountId"),
        )

    def finish(self) -> Iterator[ReadItem]:
        if self._left_out:
            yield SpendNotice(f"{self._left_out} rows of other services than '{CATEGORY}' left out")


FORMAT = SpendFormat(
    title="FOCUS",
    documents="cost and usage of any provider as CSV or Parquet, FOCUS 1.0 to 1.4",
    grains={"cost_and_usage": SpendGrain("billed", "cost and usage", 2)},
    reader=FocusReader,
    table=SpendTable(
        names=(
            "BillingCurrency",
            "ChargePeriodStart",
            *_VENDOR_COLUMNS,
            "ServiceName",
            "ServiceSubcategory",
            "SubAccountName",
            "SubAccountId",
            "ResourceName",
            "ResourceId",
            "BillingAccountId",
        ),
        required=_REQUIRED,
        only=("ServiceCategory", CATEGORY),
        day="ChargePeriodStart",
        money="BilledCost",
        sums={"BilledCost": 12},
    ),
)
