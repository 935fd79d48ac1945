"""Any table by a mapping: invoices, card statements, exports of vendors without a source of their own.

The mapping says which column is which field, and who is paid: one vendor for all rows, or by what a column's text
contains; rows that fit no entry are left out, and counted.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from tokenyield_collector.spend.format import (
    ReadItem,
    ReadOptions,
    SpendFormat,
    SpendGrain,
    SpendNotice,
    SpendRow,
    unknown_document,
)
from tokenyield_collector.spend.slices import LAYERS, UNNAMED, SpendAmounts, SpendFields
from tokenyield_collector.spend.values import UnusableSpend, count_at, currency, day_ms, money, text, within_days
from tokenyield_collector.spend.vendors import vendor_of

NAMES = ("model", "team", "product", "project", "api_key", "workload", "person", "agent_task", "session", "service")
COUNTS = ("fresh", "cache_read", "cache_write", "output", "reasoning", "requests")
_KNOWN = {"vendor", "vendors", "service", "account", "layer", "currency", "columns", "day_format", "decimal"}
_COLUMNS = {"day", "cost", "currency", "vendor", "account", *NAMES, *COUNTS}
VENDORS_MAX = 1000


class CsvReader:
    """Under one mapping. Raises `UnusableSpend` for a mapping that cannot be used."""

    def __init__(self, options: ReadOptions) -> None:
        mapping = options.mapping
        self._columns = _checked(mapping)
        self._vendor = str(mapping.get("vendor") or "")
        vendors = mapping.get("vendors") or {}
        self._vendors = [(str(part).casefold(), vendor_of(str(name))) for part, name in vendors.items()]
        self._service = str(mapping.get("service") or UNNAMED)
        self._account = str(mapping.get("account") or "")
        self._currency = str(mapping.get("currency") or "USD")
        self._grain = f"{mapping.get('layer') or 'billed'}"
        self._day_format = str(mapping.get("day_format") or "")
        self._has_comma = mapping.get("decimal") == ","
        self._left_out = 0

    def read(self, document: Any) -> Iterator[ReadItem]:
        if not isinstance(document, Mapping):
            raise unknown_document("whoever wrote it", "a table with a header", document)
        missing = [column for column in self._columns.values() if column not in document]
        if missing:
            raise UnusableSpend(
                "columns",
                expected=f"a column '{missing[0]}', as the mapping says",
                found=", ".join(map(str, document)),
                fix="correct the mapping",
            )
        row = {field: document[column] for field, column in self._columns.items()}
        vendor = self._vendor_of(row)
        if not vendor:
            self._left_out += 1
            return
        fields = SpendFields(
            vendor,
            **{"service": self._service, **{name: text(row, name) for name in NAMES if row.get(name)}},
            currency=currency(row.get("currency") or self._currency, "currency"),
        )
        amounts = SpendAmounts(**{name: count_at(row, name) for name in COUNTS if name in row})
        cost = money(self._amount(row.get("cost")), "cost")
        account = text(row, "account") or self._account
        yield SpendRow(self._grain, self._day(row["day"]), fields, amounts, cost, account=account)

    def finish(self) -> Iterator[ReadItem]:
        if self._left_out:
            yield SpendNotice(f"{self._left_out} rows that fit no entry of `vendors` left out")

    def _vendor_of(self, row: Mapping[str, Any]) -> str:
        named = text(row, "vendor")
        if self._vendors:
            plain = named.casefold()
            return next((vendor for part, vendor in self._vendors if part in plain), "")
        return vendor_of(named or self._vendor)

    def _day(self, value: Any) -> int:
        if not self._day_format:
            return day_ms(value, "day")
        try:
            day = datetime.strptime(str(value), self._day_format)
        except ValueError:
            raise UnusableSpend("day", expected=f"a day as {self._day_format}", found=str(value)) from None
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return within_days(int(start.timestamp()) * 1000, "day")

    def _amount(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        plain = value.strip().replace(" ", "").replace("\u00a0", "")
        return plain.replace(".", "").replace(",", ".") if self._has_comma else plain.replace(",", "")


def _checked(mapping: Mapping[str, Any]) -> dict[str, str]:
    """Field -> column."""
    if not mapping:
        raise UnusableSpend("mapping", expected="a mapping", found="none", fix="give --mapping FILE, see docs/spend.md")
    for name in mapping:
        if name not in _KNOWN:
            raise UnusableSpend(f"mapping.{name}", expected=f"one of {', '.join(sorted(_KNOWN))}", found=str(name))
    columns = mapping.get("columns")
    if not isinstance(columns, Mapping) or "day" not in columns or not {"cost", *COUNTS} & {*columns}:
        raise UnusableSpend("mapping.columns", expected="day, and cost or a count, each with a column",
                            found=", ".join(map(str, columns or ())) or "nothing")  # fmt: skip
    for name in columns:
        if name not in _COLUMNS:
            raise UnusableSpend(f"mapping.columns.{name}", expected=f"one of {', '.join(sorted(_COLUMNS))}",
                                found=str(name))  # fmt: skip
    vendors = mapping.get("vendors")
    if vendors is not None and (not isinstance(vendors, Mapping) or len(vendors) > VENDORS_MAX):
        raise UnusableSpend("mapping.vendors", expected=f"a mapping of at most {VENDORS_MAX} texts to vendors",
                            found=type(vendors).__name__)  # fmt: skip
    if (vendors or not mapping.get("vendor")) and "vendor" not in columns:
        raise UnusableSpend("mapping", expected="vendor, or columns.vendor with vendors", found="neither")
    if mapping.get("layer", "billed") not in LAYERS:
        raise UnusableSpend("mapping.layer", expected=f"one of {', '.join(LAYERS)}", found=str(mapping["layer"]))
    if mapping.get("decimal", ".") not in (".", ","):
        raise UnusableSpend("mapping.decimal", expected="'.' or ','", found=str(mapping["decimal"]))
    return {str(name): str(column) for name, column in columns.items()}


FORMAT = SpendFormat(
    title="CSV",
    documents="any table with a header (CSV, Parquet, JSON lines), with --mapping FILE",
    grains={layer: SpendGrain(layer, f"a table of what was {layer}", 0) for layer in LAYERS},
    reader=CsvReader,
)
