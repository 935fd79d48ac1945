"""A table that is added up before it is read gives the slices of one that is read row by row, to the millionth."""

import csv
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pytest

from tokenyield_collector.ingest import spend_import, spend_tables
from tokenyield_collector.ingest.spend_import import SpendImport, read_spend_files
from tokenyield_collector.ingest.spend_tables import added_up
from tokenyield_collector.spend.format import ROWS
from tokenyield_collector.spend.sources import load_source

Row = dict[str, Any]
AWS_TABLE, FOCUS_TABLE = (load_source(name).table for name in ("aws", "focus"))


def aws(chosen: Random) -> Row:
    return {
        "line_item_product_code": chosen.choice(["AmazonBedrock", "AmazonBedrock", "AmazonEC2"]),
        "line_item_usage_start_date": f"2026-10-0{chosen.randrange(1, 4)}"
        + chosen.choice(["", "T00:00:00Z", "T23:00:00.5Z", " 07:00:00", "T23:30:00-05:00", "T01:00:00+00:00"]),
        "line_item_usage_account_id": chosen.choice(["1", "2"]),
        "line_item_usage_type": chosen.choice(["USE1-Opus-input-tokens", "Opus-output-tokens", "Guardrail-hours"]),
        "line_item_usage_amount": chosen.choice(["1.5", "0.25", "7", "0.0004", "0.3333333333333333333"]),
        "pricing_unit": chosen.choice(["1K tokens", "1M tokens", ""]),
        "line_item_unblended_cost": chosen.choice(["0.1", "-0.25", "0.000000000001", "0.0000000000015", "1E-7", "", "3"]),
        "line_item_currency_code": chosen.choice(["USD", "EUR", ""]),
        "line_item_resource_id": chosen.choice(["", "arn:x/p1", "arn:x/p'2\""]),
        "line_item_iam_principal": chosen.choice(["", "arn:y/ada"]),
        "tags": chosen.choice(["", json.dumps({"iamPrincipal/team": "search"})]),
        "not_read": chosen.random(),
    }  # fmt: skip


def focus(chosen: Random) -> Row:
    return {
        "ServiceCategory": chosen.choice(["AI and Machine Learning", "Compute", "AI and Machine Learning, other"]),
        "BilledCost": chosen.choice(["0.1", "-0.25", "0.0000000000014", "12.5", ""]),
        "BillingCurrency": chosen.choice(["USD", "EUR"]),
        "ChargePeriodStart": f"2026-10-0{chosen.randrange(1, 4)}" + chosen.choice(["", "T05:00:00Z", "T23:30:00-05:00"]),
        "ServiceProviderName": chosen.choice(["", "Anthropic"]),
        "PublisherName": chosen.choice(["OpenAI", "a, \"b\"\nc"]),
        "SubAccountId": chosen.choice(["", "team-1"]),
        "BillingAccountId": "acme",
    }  # fmt: skip


def write_csv(file: Path, rows: list[Row]) -> None:
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(file: Path, rows: list[Row]) -> None:
    table = file.with_suffix(".csv.part")
    write_csv(table, rows)
    duckdb.sql(f"COPY (SELECT * FROM read_csv('{table}', all_varchar = true)) TO '{file}' (FORMAT parquet)")
    table.unlink()


def read(source: str, *files: Path) -> SpendImport:
    return read_spend_files(source, files, people=lambda fields, day_ms: fields)


def row_by_row(source: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> SpendImport:
    with monkeypatch.context() as patched:
        patched.setattr(spend_import, "added_up", lambda file, table: None)
        return read(source, file)


@pytest.mark.parametrize("write", [write_csv, write_parquet])
@pytest.mark.parametrize(("source", "row"), [("aws", aws), ("focus", focus)])
def test_added_up_or_row_by_row(
    source: str,
    row: Callable[[Random], Row],
    write: Callable[[Path, list[Row]], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = Random(7)
    write(tmp_path / "table", [row(chosen) for _ in range(3_000)])
    file = (tmp_path / "table").rename(tmp_path / "it's a table")
    table = load_source(source).table
    assert table is not None
    groups = added_up(file, table)
    assert groups is not None
    assert len(groups) < 2_200
    assert sum(group[ROWS] for group in groups) == 3_000
    quick, slow = read(source, file), row_by_row(source, file, monkeypatch)
    assert (quick.slices, quick.rows, quick.refused) == (slow.slices, slow.rows, 0)
    assert quick.notices == slow.notices != []


def test_types_of_a_table_are_read_as_texts_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times, doubles, decimals and maps, as exports have them."""
    file = tmp_path / "cur.parquet"
    duckdb.sql(
        "COPY (SELECT 'AmazonBedrock' AS line_item_product_code, TIMESTAMP '2026-10-05' + INTERVAL (i % 50) HOUR AS "
        "line_item_usage_start_date, 'Opus-output-tokens' AS line_item_usage_type, (i % 7) / 4.0::DOUBLE AS "
        "line_item_usage_amount, '1K tokens' AS pricing_unit, ((i % 3) * 0.0137)::DOUBLE AS line_item_unblended_cost, "
        "MAP {'iamPrincipal/team': 'team-' || (i % 2)} AS tags FROM range(5000) AS t(i)) "
        f"TO '{file}' (FORMAT parquet)"
    )
    assert AWS_TABLE is not None
    groups = added_up(file, AWS_TABLE)
    assert groups is not None
    assert len(groups) <= 6, "three days of two teams"
    quick, slow = read("aws", file), row_by_row("aws", file, monkeypatch)
    assert (quick.slices, quick.rows, quick.refused) == (slow.slices, 5_000, 0)
    lines = [line for one in quick.slices for line in one.lines]
    assert sum(line.amounts.cost_micro or 0 for line in lines) == round(Decimal("0.0137") * 4_999 * 10**6)
    assert {line.fields.team for line in lines} == {"team-0", "team-1"}


def test_a_row_that_cannot_be_used_is_named_by_its_line(tmp_path: Path) -> None:
    chosen, file = Random(3), tmp_path / "focus.csv"
    rows = [{**focus(chosen), "ServiceCategory": "AI and Machine Learning"} for _ in range(50)]
    rows[20]["BilledCost"] = "a lot"
    rows[30]["BillingCurrency"] = "dollars"
    rows[40]["ChargePeriodStart"] = "yesterday"
    for one in rows:
        one["PublisherName"] = "OpenAI"
    write_csv(file, rows)
    found = read("focus", file)
    assert (found.rows, found.refused) == (47, 3)
    assert [why.partition(":")[0] for _, why in found.refusals] == [f"line {number}" for number in (22, 32, 42)]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"ServiceCategory,BilledCost\nAI and Machine Learning,1\n",
        b'ServiceCategory,BilledCost,BillingCurrency,ChargePeriodStart\n"open,1,USD,2026-10-01\n',
        b"ServiceCategory,BilledCost,BillingCurrency,ChargePeriodStart\nAI and Machine Learning,1,USD\n",
        b"ServiceCategory,BilledCost,BillingCurrency,ChargePeriodStart\nAI \xff,1,USD,2026-10-01\n",
        b"PAR1 and nothing",
    ],
)
def test_what_is_no_such_table_is_read_row_by_row(content: bytes, tmp_path: Path) -> None:
    assert FOCUS_TABLE is not None
    file = tmp_path / "x.csv"
    file.write_bytes(content)
    groups = added_up(file, FOCUS_TABLE)
    assert groups is None or groups == []
    assert read("focus", file).rows == 0


def test_a_name_with_a_star_is_one_file(tmp_path: Path) -> None:
    chosen = Random(5)
    for name in ("a.csv", "*.csv"):
        write_csv(tmp_path / name, [focus(chosen) for _ in range(20)])
    assert FOCUS_TABLE is not None
    assert added_up(tmp_path / "*.csv", FOCUS_TABLE) is None


def test_too_many_groups_are_read_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spend_tables, "GROUPS_MAX", 10)
    chosen, file = Random(5), tmp_path / "x.csv"
    write_csv(file, [focus(chosen) for _ in range(200)])
    assert FOCUS_TABLE is not None
    assert added_up(file, FOCUS_TABLE) is None
    assert read("focus", file).refused == 0
