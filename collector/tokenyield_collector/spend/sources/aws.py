"""AWS: rows of a Cost and Usage Report 2.0 (Parquet, CSV, JSON) that are of Bedrock.

The partition of the current month is overwritten by AWS, so import whole months: days are replaced. Rows of other
products are left out, and counted. Team and product come from tags of the principal and of the resource.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from tokenyield_collector.spend.format import (
    ROWS,
    ReadItem,
    ReadOptions,
    SpendFormat,
    SpendGrain,
    SpendNotice,
    SpendRow,
    SpendTable,
    each,
    unknown_document,
)
from tokenyield_collector.spend.slices import TOKENS, SpendAmounts, SpendFields
from tokenyield_collector.spend.values import UnusableSpend, count, currency, day_ms, money, text

VENDOR = "aws"
_PRODUCT = "AmazonBedrock"
_REQUIRED = ("line_item_product_code", "line_item_usage_start_date", "line_item_unblended_cost")
_USAGE_TYPE = re.compile(r"(?:[A-Z]{2,4}\d-)?(?P<model>.+?)-(?P<kind>[a-z-]*(?:input|output)[a-z-]*tokens?[a-z-]*)")
_UNITS = {"1k tokens": 1000, "1m tokens": 10**6, "tokens": 1, "token": 1, "million tokens": 10**6}


class AwsReader:
    """Counts the rows that it leaves out."""

    def __init__(self, _: ReadOptions) -> None:
        self._left_out = 0

    def read(self, document: Any) -> Iterator[ReadItem]:
        if isinstance(document, list):
            yield from each(document, "row", self._row)
        elif isinstance(document, Mapping):
            yield from self._row(document)
        else:
            raise unknown_document("AWS", "rows of a CUR 2.0 export", document)

    def finish(self) -> Iterator[ReadItem]:
        if self._left_out:
            yield SpendNotice(f"{self._left_out} rows of other products than Bedrock left out")

    def _row(self, row: Mapping[str, Any]) -> Iterator[SpendRow]:
        missing = [name for name in _REQUIRED if name not in row]
        if missing:
            raise UnusableSpend(missing[0], expected="a column of CUR 2.0", found="none")
        if not text(row, "line_item_product_code").startswith(_PRODUCT):
            self._left_out += row.get(ROWS, 1)
            return
        model, amounts = _usage(row)
        tags = {**_object(row.get("resource_tags")), **_object(row.get("tags"))}
        fields = SpendFields(
            VENDOR,
            service=TOKENS if amounts.tokens is not None else text(row, "line_item_usage_type", "other"),
            model=model,
            team=_tag(tags, "team"),
            product=_tag(tags, "product"),
            workload=text(row, "line_item_resource_id").rpartition("/")[2],
            person=text(row, "line_item_iam_principal").rpartition("/")[2],
            currency=currency(row.get("line_item_currency_code") or "USD", "line_item_currency_code"),
        )
        cost = money(row.get("line_item_unblended_cost"), "line_item_unblended_cost")
        start_ms = day_ms(row.get("line_item_usage_start_date"), "line_item_usage_start_date")
        account = text(row, "line_item_usage_account_id")
        yield SpendRow("cur2", start_ms, fields, amounts, cost, account=account)


def _usage(row: Mapping[str, Any]) -> tuple[str, SpendAmounts]:
    """(model, tokens) of a usage type such as USE1-Claude4.6Sonnet-output-tokens."""
    match = _USAGE_TYPE.fullmatch(text(row, "line_item_usage_type"))
    unit = _UNITS.get(text(row, "pricing_unit").casefold())
    if match is None:
        return "", SpendAmounts()
    if unit is None:
        return match["model"], SpendAmounts()
    amount = row.get("line_item_usage_amount")
    try:
        tokens = count(round(Decimal(str(amount)) * unit), "line_item_usage_amount")
    except (ArithmeticError, ValueError, TypeError):
        raise UnusableSpend("line_item_usage_amount", expected="an amount", found=str(amount)) from None
    kind = match["kind"]
    if "read" in kind:
        return match["model"], SpendAmounts(cache_read=tokens)
    if "write" in kind:
        return match["model"], SpendAmounts(cache_write=tokens)
    return match["model"], SpendAmounts(output=tokens) if "output" in kind else SpendAmounts(fresh=tokens)


def _tag(tags: Mapping[str, Any], name: str) -> str:
    """Of the principal before the resource's; a table writes keys as AWS does in columns."""
    keys = (f"iamPrincipal/{name}", f"resourceTags/{name}", f"iam_principal_{name}", f"user_{name}", name)
    return next((found for key in keys if (found := text({"tag": tags.get(key)}, "tag"))), "")


def _object(value: Any) -> Mapping[str, Any]:
    """Tables have maps as texts, or as lists of pairs."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError:
            return {}
    return value if isinstance(value, Mapping) else {}


FORMAT = SpendFormat(
    title="AWS",
    documents="Cost and Usage Report 2.0 (Data Exports) with Bedrock, as Parquet, CSV or JSON",
    grains={"cur2": SpendGrain("billed", "Cost and Usage Report 2.0", 3)},
    reader=AwsReader,
    table=SpendTable(
        names=(
            "line_item_usage_start_date",
            "line_item_usage_type",
            "pricing_unit",
            "resource_tags",
            "tags",
            "line_item_resource_id",
            "line_item_iam_principal",
            "line_item_currency_code",
            "line_item_usage_account_id",
        ),
        required=_REQUIRED,
        only=("line_item_product_code", _PRODUCT),
        day="line_item_usage_start_date",
        money="line_item_unblended_cost",
        sums={"line_item_unblended_cost": 12, "line_item_usage_amount": 3},
    ),
)
