"""FOCUS 1.4: what the sharing policy split, the period, its invoice, and the metadata of all three datasets."""

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import pytest

from collector.fleet import Fleet, Gpu, close_months, prices, rules
from collector.reports.test_reports import PRICE_BOOK, month
from focus_rules import billing_period_faults, faults, invoice_detail_faults
from tokenyield_collector.errors import ParameterError
from tokenyield_collector.reports.maker import ReportMaker

OPEN = "2026-10-20T12:00"
OVER = "2026-11-20"


def read(data: bytes) -> tuple[list[str], list[dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(data.decode()))
    return list(reader.fieldnames or ()), list(reader)


def charges(maker: ReportMaker, version: str = "1.4") -> tuple[list[str], list[dict[str, str]]]:
    return read(maker.encode("2026-10", (), "focus", focus_version=version))


@pytest.fixture
def maker(tmp_path: Path) -> ReportMaker:
    book = PRICE_BOOK.replace("name: h100,", "name: h100, owner: {team: lab},")
    sharing = {"dark": "usage", "unallocated": "even", "idle": "ownership"}
    return close_months(month().maker(prices(tmp_path, book), rules(tmp_path, {"sharing": sharing}), now=OVER))


def test_what_1_4_removed_is_gone_and_what_it_added_is_there(maker: ReportMaker) -> None:
    old, _ = charges(maker, "1.2")
    new, rows = charges(maker)
    assert set(old) - set(new) == {"ProviderName", "PublisherName"}
    assert set(new) - set(old) == {
        "AllocatedMethodDetails", "AllocatedMethodId", "AllocatedResourceId", "AllocatedResourceName", "AllocatedTags",
        "ContractApplied", "HostProviderName", "InvoiceDetailId", "ServiceProviderName",
    }  # fmt: skip
    own = [name for name in new if name.startswith("x_")]
    assert new == sorted(set(new) - set(own)) + sorted(own)
    assert {row["ServiceProviderName"] for row in rows} == {"Platform Engineering"}


@pytest.mark.parametrize("version", ["1.2", "1.4"])
def test_both_versions_say_the_same_of_money(maker: ReportMaker, version: str) -> None:
    columns, rows = charges(maker, version)
    assert list(faults(columns, rows, version)) == []
    _, others = charges(maker, "1.2")
    money = ("SubAccountId", "SkuId", "x_CostBucket", "BilledCost", "ListCost", "x_GpuHours", "x_Joules")
    assert [[row[name] for name in money] for row in rows] == [[row[name] for name in money] for row in others]


def test_what_is_shared_names_who_it_was_given_to_and_how(maker: ReportMaker) -> None:
    _, rows = charges(maker)
    shared = [row for row in rows if row["AllocatedMethodId"]]
    assert {row["x_CostBucket"] for row in shared} == {"shared"}
    assert {row["AllocatedMethodId"] for row in shared} == {"tokenyield-sharing"}
    assert {row["ResourceId"] for row in shared} == {"h100/-"}, "the origin is the pool"
    chat = [row for row in shared if row["AllocatedResourceName"] == "chat"]
    assert json.loads(chat[0]["AllocatedTags"])["team"] == chat[0]["SubAccountId"] == "search"
    details = json.loads(chat[0]["AllocatedMethodDetails"])
    assert (details["x_Dark"], details["x_Unallocated"], details["x_Idle"]) == ("usage", "even", "ownership")
    assert 0 < details["Elements"][0]["AllocatedRatio"] < 1


def test_a_closed_period_has_an_invoice_that_sums_its_charges(maker: ReportMaker) -> None:
    _, rows = charges(maker)
    columns, lines = read(maker.encode("2026-10", (), "focus-invoice-detail"))
    assert list(invoice_detail_faults(columns, lines, rows)) == []
    assert sum(Decimal(line["BilledCost"]) for line in lines) == sum(Decimal(row["BilledCost"]) for row in rows)
    assert {(line["InvoiceId"], line["ReferenceInvoiceId"]) for line in lines} == {("gpu-fleet-2026-10-v1",) * 2}
    assert {line["InvoiceDetailId"] for line in lines} >= {
        "search/Self-hosted inference/Usage", "search/GPU capacity/Adjustment", "ads/GPU capacity/Usage",
    }  # fmt: skip
    columns, periods = read(maker.encode("2026-10", (), "focus-billing-period"))
    assert list(billing_period_faults(columns, periods)) == []
    assert [period["BillingPeriodStatus"] for period in periods] == ["Closed"]


def test_the_invoice_of_a_later_version_names_the_one_it_replaces(tmp_path: Path) -> None:
    fleet = month()
    maker = close_months(fleet.maker(prices(tmp_path, PRICE_BOOK), now=OVER))
    fleet.hour("2026-10-20T10:00", [Gpu(uuid="late")], node="n2")
    close_months(maker)
    _, lines = read(maker.encode("2026-10", (), "focus-invoice-detail"))
    found = {(line["InvoiceId"], line["ReferenceInvoiceId"]) for line in lines}
    assert found == {("gpu-fleet-2026-10-v2", "gpu-fleet-2026-10-v1")}


def test_an_open_period_has_no_invoice_yet(tmp_path: Path) -> None:
    maker = month().maker(prices(tmp_path, PRICE_BOOK), now=OPEN)
    columns, lines = read(maker.encode("2026-10", (), "focus-invoice-detail"))
    assert (len(columns), lines) == (18, [])
    _, rows = charges(maker)
    assert {(row["InvoiceId"], row["InvoiceDetailId"]) for row in rows} == {("", "")}
    _, (period,) = read(maker.encode("2026-10", (), "focus-billing-period"))
    assert (period["BillingPeriodStatus"], period["BillingPeriodLastUpdated"]) == ("Open", "2026-10-20T12:00:00Z")


def test_an_empty_ledger_has_a_period_and_nothing_in_it(tmp_path: Path) -> None:
    maker = Fleet().maker(prices(tmp_path, PRICE_BOOK))
    assert charges(maker)[1] == read(maker.encode("2026-10", (), "focus-invoice-detail"))[1] == []
    columns, periods = read(maker.encode("2026-10", (), "focus-billing-period"))
    assert list(billing_period_faults(columns, periods)) == []


@pytest.mark.parametrize("version", ["1.2", "1.4"])
def test_metadata_name_every_column_with_its_type(maker: ReportMaker, version: str) -> None:
    document = json.loads(maker.encode("2026-10", (), "focus-metadata", focus_version=version))
    schemas = document["Schema"] if version == "1.4" else [document["Schema"]]
    assert {schema["FocusVersion"] for schema in schemas} == {version}
    listed = [[column["ColumnName"] for column in schema["ColumnDefinition"]] for schema in schemas]
    columns, rows = charges(maker, version)
    assert listed[0] == columns
    for column in schemas[0]["ColumnDefinition"]:
        for value in (row[column["ColumnName"]] for row in rows):
            if column["DataType"] == "Decimal" and value:
                assert len(value.partition(".")[2]) <= column["NumberScale"], column
            if column["DataType"] == "JSON" and value:
                json.loads(value)
    if version == "1.4":
        datasets = [instance["FocusDatasetId"] for instance in document["DatasetInstance"]]
        assert datasets == ["CostAndUsage", "BillingPeriod", "InvoiceDetail"]
        assert listed[1:] == [
            read(maker.encode("2026-10", (), form))[0] for form in ("focus-billing-period", "focus-invoice-detail")
        ]


def test_another_version_is_refused_with_those_there_are(maker: ReportMaker) -> None:
    with pytest.raises(ParameterError, match=r"focus_version: expected one of 1\.2, 1\.4, found '1\.3'"):
        maker.encode("2026-10", (), "focus", focus_version="1.3")


def test_a_row_of_tokens_names_its_model(tmp_path: Path) -> None:
    _, rows = charges(month().maker(prices(tmp_path, PRICE_BOOK)))
    details = {row["SkuId"]: json.loads(row["SkuPriceDetails"]) for row in rows if row["x_TokenKind"]}
    assert details["llama-70b/completion"]["ModelId"] == "llama-70b"


@pytest.mark.parametrize("version", ["1.2", "1.4"])
@pytest.mark.parametrize("reserved", [False, True])
def test_a_correction_adds_rows_and_changes_none(tmp_path: Path, version: str, reserved: bool) -> None:
    terms = (
        "rented: {per_gpu_hour: 1, kind: reserved, count: 3}"
        if reserved
        else "owned: {count: 3, gpu: 35040, life_years: 4}"
    )
    book = PRICE_BOOK.replace("owned: {count: 3, gpu: 35040, life_years: 4}", terms)
    fleet = month()
    maker = close_months(fleet.maker(prices(tmp_path, book), now=OVER))
    assert read(maker.encode("2026-10", (), "focus-corrections", focus_version=version))[1] == [], (
        "of the first version"
    )
    fleet.hour("2026-10-20T10:00", [Gpu(uuid="late")], node="n2")
    close_months(maker)
    columns, first = read(maker.encode("2026-10", (), "focus", focus_version=version, version=1))
    named, corrections = read(maker.encode("2026-10", (), "focus-corrections", focus_version=version, version=2))
    _, second = read(maker.encode("2026-10", (), "focus", focus_version=version, version=2))
    assert named == columns
    assert {row["ChargeClass"] for row in corrections} == {"Correction"}
    assert {row["ChargeClass"] for row in (*first, *second)} == {""}
    assert {row["ChargePeriodStart"] for row in corrections} == {"2026-10-20T00:00:00Z"}, "only the day that changed"
    billed = {(row["BillingPeriodStart"], row["BillingPeriodEnd"], row["InvoiceId"]) for row in corrections}
    assert billed == {("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z", "gpu-fleet-2026-10-v2")}
    assert {row["InvoiceId"] for row in first} == {"gpu-fleet-2026-10-v1"}
    for column in ("BilledCost", "EffectiveCost", "x_GpuHours", "x_Joules", "x_Tokens"):
        old, moved, new = (sum(Decimal(row[column] or 0) for row in rows) for rows in (first, corrections, second))
        assert old + moved == pytest.approx(new, abs=Decimal("2e-9"))
    if version == "1.4" and reserved:
        applied = [json.loads(row["ContractApplied"])["Elements"][0] for row in corrections if row["ContractApplied"]]
        assert sum(Decimal(str(one["ContractCommitmentAppliedQuantity"])) for one in applied) == pytest.approx(
            sum(Decimal(row["CommitmentDiscountQuantity"] or 0) for row in corrections)
        )


def test_an_invoice_is_issued_when_its_version_was_made(maker: ReportMaker) -> None:
    _, lines = read(maker.encode("2026-10", (), "focus-invoice-detail"))
    assert {line["InvoiceIssueDate"] for line in lines} == {"2026-11-20T00:00:00Z"}
    assert {line["BillingPeriodEnd"] for line in lines} == {"2026-11-01T00:00:00Z"}
