"""The example month, recomputed from the windows that went in, against what every format says of it."""

import ast
import json
from collections.abc import Iterator
from decimal import localcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from oracle.agreement import (
    focus_differences,
    report_differences,
    rows_differences,
    shown_differences,
)
from oracle.columns import rows_of
from oracle.product import Product, product_of
from oracle.recompute import DIGITS, statement_of
from oracle.statement import Statement
from tokenyield_collector.demo.month import made_up
from tokenyield_collector.prices.period import parse_period

ROOT = Path(__file__).parents[2]
PRICES, RULES = ROOT / "collector" / "prices.yaml", ROOT / "collector" / "attribution.yaml"
MONTH = "2026-10"
BY_TEAM, BY_DAY, BY_PLACE = ("team", "model"), ("day",), ("hour", "node", "pool")
GRAINS = (BY_TEAM, BY_DAY, BY_PLACE)


@pytest.fixture(scope="module", autouse=True)
def digits() -> Iterator[None]:
    with localcontext(prec=DIGITS):
        yield


@pytest.fixture(scope="module")
def windows() -> list[dict[str, Any]]:
    return [json.loads(msgspec.json.encode(shipment)) for shipment in made_up(parse_period(MONTH))]


@pytest.fixture(scope="module")
def recomputed(windows: list[dict[str, Any]]) -> Statement:
    with localcontext(prec=DIGITS):
        return statement_of(windows, yaml.safe_load(PRICES.read_text()), yaml.safe_load(RULES.read_text()), MONTH)


@pytest.fixture(scope="module")
def product(windows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    product = product_of(windows, PRICES, RULES, tmp_path_factory.mktemp("month"))
    yield product
    product.close()


def test_the_second_opinion_shares_no_code_with_the_product() -> None:
    of_product = {"tokenyield_agent", "tokenyield_collector", "tokenyield_settings", "tokenyield_wire"}
    for name in (
        "facts",
        "terms",
        "people",
        "tiers",
        "placement",
        "lines",
        "work",
        "carrying",
        "statement",
        "columns",
        "recompute",
        "agreement",
    ):
        tree = ast.parse((Path(__file__).parent / f"{name}.py").read_text())
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        roots = {module.partition(".")[0] for module in imported}
        assert not roots & of_product, name
        assert "oracle.product" not in imported


@pytest.mark.parametrize("by", GRAINS, ids=",".join)
def test_json_says_what_was_recomputed(recomputed: Statement, product: Product, by: tuple[str, ...]) -> None:
    assert list(report_differences(recomputed, product.json(MONTH, by))) == []


@pytest.mark.parametrize(("by", "form"), [(by, form) for by in GRAINS for form in ("csv", "parquet")])
def test_flat_files_say_what_was_recomputed(
    recomputed: Statement, product: Product, by: tuple[str, ...], form: str
) -> None:
    found = product.csv(MONTH, by) if form == "csv" else product.parquet(MONTH, by)
    assert list(rows_differences(rows_of(recomputed, by), by, found, is_csv=form == "csv")) == []


@pytest.mark.parametrize("by", [BY_TEAM, BY_DAY], ids=",".join)
@pytest.mark.parametrize("form", ["table", "html"])
def test_tables_for_people_say_it_to_the_cent(
    recomputed: Statement, product: Product, by: tuple[str, ...], form: str
) -> None:
    cells = product.table(MONTH, by) if form == "table" else product.html(MONTH, by)
    assert list(shown_differences(recomputed, by, cells)) == []


@pytest.mark.parametrize("version", ["1.2", "1.4"])
def test_focus_sums_to_what_was_recomputed(recomputed: Statement, product: Product, version: str) -> None:
    rows = product.csv(MONTH, BY_TEAM, "focus", focus_version=version)
    assert list(focus_differences(recomputed, rows)) == []
