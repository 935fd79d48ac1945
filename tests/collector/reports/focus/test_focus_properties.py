"""FOCUS files of random fleets, prices and rules: they keep the rules of each version, and sum to the report exactly."""

import csv
import io
import tempfile
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from collector.fleet import Fleet, close_months, prices, rules
from collector.statements.test_statement_properties import EXAMPLES, books, hours, policies
from focus_rules import faults, invoice_detail_faults
from tokenyield_collector.prices.money import QUANTA_PER_UNIT, rounded, scaled
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.statements.buckets import COSTS
from tokenyield_collector.statements.lines import Sums
from tokenyield_collector.statements.source import Grain, Span
from tokenyield_collector.statements.statement import fleet_statement
from tokenyield_wire.units import MS_PER_HOUR

PERIOD = "2026-10-05..2026-10-06"
currencies = st.sampled_from([None, "EUR"])
tiers = st.sampled_from([0, 3, "0.07", {"prompt": "0.5", "completion": "1.5"}, {"prompt": 3, "cached": "0.3", "completion": 15}])  # fmt: skip
kinds = st.sampled_from(["on_demand", "reserved", "spot"])


@st.composite
def priced_books(draw: st.DrawFn) -> dict[str, Any]:
    """Those of the statement's properties, with other currencies, terms and tiers."""
    book = draw(books())
    book["exchange_rates"] = {"EUR": [{"rate": "1.0837"}]}
    for pool in book["pools"]:
        if "rented" in pool:
            pool["rented"] |= {"kind": draw(kinds), "currency": draw(currencies), "count": draw(st.integers(1, 3))}
    listed = [{"name": "search", "match": {"team": "search"}, "per_million": draw(tiers), "currency": draw(currencies)}]
    if draw(st.booleans()):
        listed.append({"name": "others", "per_million": draw(tiers), "currency": draw(currencies)})
    return book | {"token_prices": draw(st.sampled_from([[], listed]))}


def read(text: str) -> tuple[list[str], list[dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(text))
    return list(reader.fieldnames or ()), list(reader)


def summed(rows: list[dict[str, str]], column: str) -> Decimal:
    return sum((Decimal(row[column]) for row in rows if row[column]), Decimal(0))


def by_bucket(rows: list[dict[str, str]], column: str) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        sums[row["x_CostBucket"]] += Decimal(row[column])
        if row["x_UnderYieldCost"]:
            sums["under_yield"] += Decimal(row["x_UnderYieldCost"])
    sums["productive"] = sums.pop("used", Decimal(0)) - sums["under_yield"]
    return sums


def whole_of(maker: ReportMaker) -> Sums:
    whole = Sums()
    stretch = maker.stretch(PERIOD)
    span = Span(stretch.start_ms, stretch.end_ms)
    for _, sums in fleet_statement(maker.ledger.usage(), maker.policy, span, Grain()).lines():
        whole.take(sums)
    return whole


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(hours(), priced_books(), policies, st.sampled_from(["1.2", "1.4"]))
def test_a_file_keeps_the_rules_and_sums_to_the_report(
    listed: list[dict[str, Any]], document: dict[str, Any], policy: dict[str, Any], version: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        book, attribution = prices(Path(folder), yaml.safe_dump(document)), rules(Path(folder), policy)
    fleet = Fleet()
    for one in listed:
        fleet.hour(one["start"], one["gpus"], one["servers"], one["demand"], node=one["node"])
    maker = close_months(fleet.maker(book, attribution, now="2026-11-05"))
    out, invoice = io.StringIO(), io.StringIO()
    total = maker.focus(PERIOD, out, focus_version=version, beside={"focus-invoice-detail": invoice})
    columns, rows = read(out.getvalue())
    assert list(faults(columns, rows, version)) == []

    whole, report = whole_of(maker), maker.report(PERIOD, ["team"])
    exact = report.total.parts
    for column in ("BilledCost", "EffectiveCost"):
        found = by_bucket(rows, column)
        assert {name: found[name] for name in COSTS} == exact, "to the last decimal, bucket by bucket"
        assert summed(rows, column) == total == sum(exact.values()), "and in sum"
    assert total == report.total.cost

    hours_ms = whole.gpu_ms
    assert summed(rows, "x_GpuHours") == scaled(rounded(hours_ms * 10**9, MS_PER_HOUR), 9)
    shown = report.total.figures
    names = ("active", "idle", "unallocated", "dark")
    assert float(summed(rows, "x_GpuHours")) == pytest.approx(sum(shown[f"{name}_gpu_hours"] for name in names))
    assert summed(rows, "x_Joules") == Decimal(whole.get("gpu_mj")) / 1000
    assert float(summed(rows, "x_Joules")) == pytest.approx(shown["joules_gpu"])
    assert summed(rows, "x_Tokens") == (shown["tokens"] or 0)
    used = [row for row in rows if row["PricingUnit"] == "1000000 Tokens"]
    assert summed(used, "ListCost") * QUANTA_PER_UNIT == whole.get("revenue"), "the price list is what callers pay"
    if version == "1.4":
        assert list(invoice_detail_faults(*read(invoice.getvalue()), rows)) == []
        assert summed(read(invoice.getvalue())[1], "BilledCost") == total
