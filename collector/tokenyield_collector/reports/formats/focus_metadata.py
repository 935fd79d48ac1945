"""The metadata that FOCUS requires beside a file, as JSON: schema, generator, columns."""

import json
from typing import Any

from tokenyield_collector.prices.period import iso
from tokenyield_collector.reports.formats import PeriodStatement, StatementFormat, TextWriter
from tokenyield_collector.reports.formats.focus import COLUMNS, FOCUS_VERSION
from tokenyield_collector.targets.spreadsheet import NAMES_IN_CSV
from tokenyield_collector.version import VERSION


def write_metadata(whole: PeriodStatement, out: TextWriter) -> None:
    out.write(json.dumps(metadata(whole), indent=2) + "\n")


def metadata(whole: PeriodStatement) -> dict[str, Any]:
    prices, period = whole.statement.policy.prices, whole.period
    return {
        "DataGenerator": f"tokenyield-collector {VERSION}",
        "Schema": {
            "SchemaId": f"tokenyield-focus-{FOCUS_VERSION}-1",
            "FocusVersion": FOCUS_VERSION,
            "CreationDate": iso(period.end_ms),
            "ColumnDefinition": [{"ColumnName": name, "DataType": _data_type(name)} for name in COLUMNS],
        },
        "BillingPeriod": {"Start": iso(period.start_ms), "End": iso(period.end_ms)},
        "BillingCurrency": prices.currency,
        "PriceBookVersion": prices.fingerprint,
        "StatementVersion": whole.version,
        "TextNeutralization": NAMES_IN_CSV,
    }


def _data_type(name: str) -> str:
    if name.endswith(("Cost", "Price", "Quantity")) or name in ("x_GpuHours", "x_Joules", "x_Tokens"):
        return "Decimal"
    if name.startswith(("BillingPeriod", "ChargePeriod")):
        return "Date/Time"
    return "JSON" if name in ("Tags", "SkuPriceDetails") else "String"


FORMAT = StatementFormat(name="focus-metadata", media_type="application/json", write=write_metadata)
