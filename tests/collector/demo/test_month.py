"""The made-up month and the worked example: the same every time, and priced by the example price book."""

import importlib.util
from pathlib import Path

import pytest

from tokenyield_collector.attribution.rules import load_rules
from tokenyield_collector.demo.month import make_month
from tokenyield_collector.errors import LedgerError
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.load import load_prices
from tokenyield_collector.reports.maker import ReportMaker

ROOT = Path(__file__).parents[3]


def report_of(path: Path) -> bytes:
    ledger = DuckDbLedger(path)
    maker = ReportMaker(
        ledger=ledger,
        policy=Policy(
            prices=load_prices(ROOT / "collector" / "prices.yaml"),
            rules=load_rules(ROOT / "collector" / "attribution.yaml"),
        ),
        now_ms=1_900_000_000_000,
    )
    try:
        assert maker.report("2026-10", ["team"]).total.figures["price_missing_gpu_hours"] == 0
        return maker.encode("2026-10", ["team", "model", "pool"], "json")
    finally:
        ledger.close()


def test_the_month_is_the_same_every_time_in_every_ledger(tmp_path: Path) -> None:
    make_month("2026-10", tmp_path / "a.duckdb")
    make_month("2026-10", tmp_path / "b.duckdb")
    assert report_of(tmp_path / "a.duckdb") == report_of(tmp_path / "b.duckdb")
    with pytest.raises(LedgerError, match="expected a new file"):
        make_month("2026-10", tmp_path / "a.duckdb")


def test_the_worked_example_is_what_the_code_computes() -> None:
    spec = importlib.util.spec_from_file_location("load_example", ROOT / "docs" / "load_example.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.page() == (ROOT / "docs" / "load-example.md").read_text()
