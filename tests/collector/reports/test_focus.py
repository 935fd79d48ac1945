"""FOCUS files against the published rules of version 1.2, and against the report."""

import csv
import io
from decimal import Decimal
from pathlib import Path

import pytest

from collector.fleet import Fleet, Gpu, Held, Server, prices, rules
from collector.reports.test_reports import PRICE_BOOK, month
from focus_rules import faults
from tokenyield_collector.reports.maker import ReportMaker


def rows(maker: ReportMaker) -> tuple[list[str], list[dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(maker.encode("2026-10", ["team"], "focus").decode()))
    return list(reader.fieldnames or ()), list(reader)


@pytest.mark.parametrize("way", ["apart", "usage", "ownership"])
def test_every_row_keeps_the_rules(way: str, tmp_path: Path) -> None:
    policy = rules(tmp_path, {"sharing": {"dark": way, "unallocated": way, "idle": way}})
    price_book = prices(tmp_path, PRICE_BOOK.replace("name: h100,", "name: h100, owner: {team: lab},"))
    columns, lines = rows(month().maker(price_book, policy))
    assert len(lines) > 10
    assert list(faults(columns, list(lines))) == []
    assert {row["ChargeCategory"] for row in lines} == ({"Usage"} if way == "apart" else {"Usage", "Adjustment"})


def test_the_rules_find_faults(tmp_path: Path) -> None:
    columns, lines = rows(month().maker(prices(tmp_path, PRICE_BOOK)))
    broken = dict(
        lines[0], EffectiveCost="1,5", ChargeCategory="Use", ContractedCost="99", ConsumedUnit="", BillingCurrency="$"
    )
    message = "\n".join(faults([*columns[1:], "lower"], [broken]))
    for expected in (
        "BilledCost: a mandatory",
        "lower: not Pascal",
        "'1,5' is no decimal",
        "'Use' is not allowed",
        "99 is not",
    ):
        assert expected in message


def test_tokens_and_idle_capacity_have_rows_of_their_own(tmp_path: Path) -> None:
    maker = month().maker(prices(tmp_path, PRICE_BOOK))
    _, lines = rows(maker)
    report = maker.report("2026-10", ["team"])
    by_meter: dict[str, Decimal] = {}
    for row in lines:
        key = f"{row['SkuMeter']}/{row['CapacityReservationStatus']}/{row['x_CostBucket']}"
        by_meter[key] = by_meter.get(key, Decimal(0)) + Decimal(row["EffectiveCost"])
    for bucket in ("dark", "idle", "unallocated"):
        assert by_meter[f"GPU Idle Time/Unused/{bucket}"] == report.waterfall[bucket]
    assert by_meter["Output Tokens/Used/used"] > by_meter["Cached Prompt Tokens/Used/used"] > 0
    tokens = sum(int(row["ConsumedQuantity"]) for row in lines if row["ConsumedUnit"] == "Tokens")
    assert tokens == report.total.figures["tokens"] == sum(int(row["x_Tokens"] or 0) for row in lines)
    listed = sum(Decimal(row["ListCost"]) for row in lines if row["ConsumedUnit"] == "Tokens")
    assert listed == report.total.figures["revenue"], "list price is the token price"


def test_metadata_go_with_it(tmp_path: Path) -> None:
    import json

    maker = month().maker(prices(tmp_path, PRICE_BOOK))
    document = json.loads(maker.encode("2026-10", (), "focus-metadata"))
    columns, _ = rows(maker)
    assert [column["ColumnName"] for column in document["Schema"]["ColumnDefinition"]] == columns
    assert (document["Schema"]["FocusVersion"], document["StatementVersion"]) == ("1.2", None)  # nobody closed it


@pytest.mark.parametrize(("prompt", "completion"), [(-(2**40), 50), (-(2**40), None), (-7, -3)])
def test_tokens_that_no_node_can_have_made_cost_what_they_cost(
    prompt: int, completion: int | None, tmp_path: Path
) -> None:
    """Windows from before a check may have counts below 0, until `verify --quarantine` moves them aside: the file ended
    with an error."""
    fleet = Fleet()
    held = [Held(workload="w", active_min=60, active_j=3_600_000)]
    fleet.hour("2026-10-05T10:00", [Gpu(held=held)], [Server(key="w", prompt_computed=prompt, completion=completion)])
    maker = fleet.maker(prices(tmp_path, PRICE_BOOK))
    _, lines = rows(maker)
    total = sum(Decimal(row["EffectiveCost"]) for row in lines)
    assert total == maker.report("2026-10", ["team"]).total.cost > 0
    assert sum(Decimal(row["x_GpuHours"] or 0) for row in lines if row["x_TokenKind"]) == 1
