"""Every table of a report sums to the waterfall beside it, by bucket, row and column, in each format as it is read back."""

import csv
import io
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from collector.fleet import HOUR_MS, Fleet, Gpu, Held, Server, ms, prices, rules
from collector.statements.test_statement_properties import books, hours, policies
from tokenyield_collector.prices.components import COMPONENTS
from tokenyield_collector.reports.formats.csv import to_csv
from tokenyield_collector.reports.formats.html import to_html
from tokenyield_collector.reports.formats.json import to_json
from tokenyield_collector.reports.formats.parquet import to_parquet
from tokenyield_collector.reports.formats.table import to_text
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.statements.buckets import BUCKETS, BY_NAME, COSTS, IDLE_CAPACITY
from tokenyield_wire.window import Demand

PERIOD = "2026-10-05..2026-10-06"
EXAMPLES = int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "8"))
"""Each with hours of several nodes, and read at two grains."""
PARTS = tuple(f"cost_{name}" for name in COSTS)
ADDITIVE = (
    "cost", *PARTS, *(f"cost_of_{name}" for name in COMPONENTS), "energy_cost", "idle_capacity_cost", "hardware_cost",
    "hardware_cost_owned", "hardware_cost_rented", "parked_cost", "revenue", "revenue_without_cost", "margin",
)  # fmt: skip
CENT = Decimal("0.01")
Amounts = Mapping[str, Any]

columns = st.sampled_from(
    [["team"], ["team", "model"], ["day"], ["hour"], ["workload", "cluster"], ["node"], ["pool", "product"]]
)
tariffs = st.sampled_from([None, "-0.5", "-0.04", "0.000001"])


@st.composite
def signed_books(draw: st.DrawFn) -> dict[str, Any]:
    """Those of the statement's properties, with tariffs below 0 and amounts far below a cent."""
    book = draw(books())
    (band,) = book["facilities"]["a"]["bands"]
    if (tariff := draw(tariffs)) is not None:
        band |= {"per_kwh": float(tariff), "hours": draw(st.sampled_from(["22:30-06:15", "00:00-24:00"]))}
    if draw(st.booleans()):
        for pool in book["pools"]:
            if "rented" in pool:
                pool["rented"]["per_gpu_hour"] = 0.0003
    return book


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    hours(least=4), signed_books(), policies, st.lists(columns, min_size=2, max_size=2, unique_by=tuple),
    st.sampled_from([{}, {"team": "search"}, {"model": "llama"}, {"day": "2026-10-05"}]), st.sampled_from([None, 1, 3]),
)  # fmt: skip
def test_every_format_sums(
    listed: list[dict[str, Any]],
    document: dict[str, Any],
    policy: dict[str, Any],
    grains: list[list[str]],
    where: dict[str, str],
    top: int | None,
) -> None:
    maker = fleet_of(listed).maker(*read_policy(document, policy))
    for by in grains:
        check_report(maker, PERIOD, by, where, top)


def fleet_of(listed: list[dict[str, Any]]) -> Fleet:
    fleet = Fleet()
    for one in listed:
        fleet.hour(one["start"], one["gpus"], one["servers"], one["demand"], node=one["node"])
    return fleet


def read_policy(document: dict[str, Any], policy: dict[str, Any]) -> tuple[Any, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return prices(Path(folder), yaml.safe_dump(document)), rules(Path(folder), policy)


def check_report(
    maker: ReportMaker, period: str, by: Sequence[str], where: Mapping[str, str] = {}, top: int | None = None
) -> None:
    """Each format of one report, read back."""
    report = maker.report(period, by, where, top)
    document = json.loads(to_json(report), parse_float=Decimal)
    check_amounts(document["rows"], document["total"], waterfall_of(document, shown=False), document["currency"])
    shown = [row["shown"] for row in document["rows"]]
    check_amounts(shown, document["total"]["shown"], waterfall_of(document, shown=True), document["currency"])
    assert all(amount == round(amount, 2) for row in shown for amount in row.values())
    for row in (*document["rows"], document["total"]):
        assert all(abs(row["shown"][name] - row[name]) < 50 * CENT for name in row["shown"] if row[name] is not None)
        assert abs(row["shown"]["cost"] - row["cost"]) <= 3 * CENT, "a row is near its exact cost"
    assert abs(document["total"]["shown"]["cost"] - document["total"]["cost"]) <= CENT / 2
    assert document["idle_capacity"]["cost"] == sum(
        step["cost"] for step in document["waterfall"] if step["bucket"] in IDLE_CAPACITY
    )

    exact = rows_of_csv(to_csv(report))
    assert [[row[name] for name in ADDITIVE if name in row] for row in exact] == [
        [row[name] for name in ADDITIVE if name in row] for row in document["rows"]
    ], "CSV has the numbers of JSON"
    assert rows_of_parquet(to_parquet(report)) == [
        {name: row[name] for name in ADDITIVE if name in row} for row in exact
    ], "and so has Parquet"
    check_text(to_text(report).decode(), document)
    check_html(to_html(report).decode(), document, len(by))


def waterfall_of(document: Mapping[str, Any], *, shown: bool) -> dict[str, tuple[Decimal, Decimal]]:
    """Bucket -> its cost, and what of it was shared."""
    steps = {step["bucket"]: step["shown"] if shown else step for step in document["waterfall"]}
    return {name: (step["cost"], step["cost_shared"] or Decimal(0)) for name, step in steps.items()}


def check_amounts(
    rows: Sequence[Amounts], total: Amounts, waterfall: Mapping[str, tuple[Decimal, Decimal]], currency: str
) -> None:
    assert currency == "USD"
    for name in ADDITIVE:
        if name in total and total[name] is not None:
            known = [row[name] for row in rows if row.get(name) is not None]
            assert sum(known) == total[name], f"the column {name} sums to its total"
    for row in (*rows, total):
        assert sum(row[name] for name in PARTS) == row["cost"]
        assert sum(row[f"cost_of_{name}"] for name in COMPONENTS) == row["cost"]
        assert sum(row[f"cost_{name}"] for name in IDLE_CAPACITY) == row["idle_capacity_cost"]
        assert row["hardware_cost_owned"] + row["hardware_cost_rented"] == row["hardware_cost"]
        if row.get("margin") is not None:
            assert row["revenue"] - row["revenue_without_cost"] - row["cost"] == row["margin"]
    assert sum(cost for cost, _ in waterfall.values()) == total["cost"]
    for bucket, (cost, shared) in waterfall.items():
        assert cost == total[f"cost_{bucket}"] + shared, f"{bucket}: what rows have, and what was shared"
    if "shared" not in waterfall:
        assert sum(shared for _, shared in waterfall.values()) == total["cost_shared"]


def rows_of_csv(data: bytes) -> list[dict[str, Decimal | None]]:
    found = []
    for row in csv.DictReader(io.StringIO(data.decode())):
        assert not any(re.search(r"\de", row[name]) for name in ADDITIVE if name in row), "no exponents"
        found.append({name: Decimal(row[name]) if row[name] else None for name in ADDITIVE if name in row})
    return found


def rows_of_parquet(data: bytes) -> list[dict[str, Decimal | None]]:
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        file = Path(folder) / "report.parquet"
        file.write_bytes(data)
        relation = connection.sql(f"SELECT * FROM '{file}'")
        kinds = dict(zip(relation.columns, map(str, relation.types), strict=True))
        names = [name for name in ADDITIVE if name in kinds]
        assert {kinds[name] for name in names if name not in ("revenue", "revenue_without_cost", "margin")} == {
            "DECIMAL(38,9)"
        }
        return [
            {name: value for name, value in zip(relation.columns, row, strict=True) if name in names}
            for row in relation.fetchall()
        ]


# --- text ----------------------------------------------------------------------------------------------------------------


def check_text(text: str, document: Mapping[str, Any]) -> None:
    """The table of a terminal: its waterfall and its rows, as they are read from the text."""
    total, by = document["total"]["shown"], document["by"]
    head, waterfall = table_of_text(text, "where the cost goes")
    assert re.search(r" USD( +of it shared)?$", head)
    sums = waterfall[-1].split()[1:]
    for at in range(1, len(sums) + 1):
        column = [money(line.split()[-at]) for line in waterfall]
        assert sum(column[:-1]) == column[-1], "the waterfall sums"
    assert money(sums[0]) == total["cost"]
    titles = [BY_NAME[step["bucket"]].title for step in document["waterfall"]]
    assert [line.split()[0] for line in waterfall[:-1]] == titles

    head, rows = table_of_text(text, f"{by[0]} ")
    names = head.split()[len(by) :]
    for title, name in {"USD": "cost", "idle": "cost_idle", "shared": "cost_shared", "revenue": "revenue"}.items():
        if title not in names:
            continue
        at = names.index(title) - len(names)
        column = cells([line.split()[at] for line in rows])
        assert sum(column[:-1]) == column[-1] == total[name], f"the column {title} sums"
    small = sum(0 < abs(row["cost"]) < CENT for row in document["rows"])
    assert bool(re.search(r"\b\d+ rows? costs? less than 0.01 USD", text)) == bool(small)


def table_of_text(text: str, start: str) -> tuple[str, list[str]]:
    """The head of a table, and its lines up to the sum."""
    lines = [line.strip() for line in text.splitlines()]
    at = next(i for i, line in enumerate(lines) if line.startswith(start))
    end = next(i for i, line in enumerate(lines) if i > at and line.split()[:1] == ["sum"])
    return lines[at], [line for line in lines[at + 2 : end + 1] if re.search(r"\.\d\d", line)]


def money(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))


def cells(column: Sequence[str]) -> list[Decimal]:
    """Of a column of rows and their total; of a row where it is not known, nothing."""
    return [Decimal(0) if text == "-" else money(text) for text in column]


class _Tables(HTMLParser):
    """The cells of all tables of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self._cell: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = []

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            assert self._cell is not None
            self.tables[-1][-1].append(" ".join(part.strip() for part in self._cell if part.strip()))
            self._cell = None


def check_html(text: str, document: Mapping[str, Any], keys: int) -> None:
    small = sum(0 < abs(row["cost"]) < CENT for row in document["rows"])
    assert bool(re.search(r"\b\d+ rows? costs? less than 0.01 USD", text)) == bool(small), "the page says so too"
    page = _Tables()
    page.feed(text)
    waterfall, rows = page.tables[:2]
    shown = document["total"]["shown"]
    for at in range(4, len(waterfall[0])):
        column = [money(line[at]) for line in waterfall[1:]]
        assert sum(column[:-1]) == column[-1]
    assert money(waterfall[-1][4]) == shown["cost"]
    by_title = {BY_NAME[name].title: f"cost_{name}" for name in COSTS} | {
        "USD": "cost",
        "revenue": "revenue",
        "margin": "margin",
    }
    checked = set()
    for at, title in enumerate(rows[0][keys:], keys):
        if (name := by_title.get(title)) is not None:
            texts = [line[at] for line in rows[1:]]
            unknown = sum(row[name] is None for row in document["rows"])
            assert texts[:-1].count("-") == unknown, "what is not known, and nothing else, is a dash"
            assert (texts[-1] == "-") == (document["total"][name] is None)
            if texts[-1] != "-":
                amounts = cells(texts)
                assert sum(amounts[:-1]) == amounts[-1] == shown[name], f"the column {title} sums"
            checked.add(name)
    assert checked >= {"cost", *(f"cost_{name}" for name in BUCKETS)}
    for line in rows[1:]:
        costs = {by_title[title]: cells([line[at]])[0] for at, title in enumerate(rows[0]) if title in by_title}
        assert sum(costs.get(name, Decimal(0)) for name in PARTS) == costs["cost"], "and so does each row"


# --- faults that were seen -----------------------------------------------------------------------------------------------


TASKS_BOOK = "pools: [{name: h100, rented: {per_gpu_hour: 2}}]"
"""Of a GPU that is active for 40 and idle for 20 minutes of each of 24 hours: 48.00, of which 16.00 are idle."""


def tasks(count: int) -> Fleet:
    """A day of `count` equal tasks, each a workload of its own."""
    fleet, of_hour = Fleet(), count // 24
    for hour in range(24):
        names = [f"task-{hour}-{i}" for i in range(of_hour)]
        held = [Held(workload=name, active_min=40 / of_hour, idle_min=20 / of_hour) for name in names]
        servers = [Server(key=name, completion=1000, requests=1) for name in names]
        fleet.hour(ms("2026-10-05") + hour * HOUR_MS, [Gpu(held=held)], servers)
    return fleet


def test_a_row_without_a_margin_leaves_the_margins_summing_to_their_total(tmp_path: Path) -> None:
    """Half a cent is sold of what has no cost: the row has no margin, and takes no cent of that of the others."""
    book = """
    pools: [{name: h100, rented: {per_gpu_hour: 0.004}}]
    token_prices: [{name: x, per_million: 5}]
    """
    fleet = Fleet()
    made = [Server(key="w", completion=3800, labels={"team": "search"})]
    fleet.hour("2026-10-05T01:00", [Gpu(held=[Held(workload="w", active_min=60)])], made)
    lost = [Server(key=f"v{i}", completion=1000 + i, labels={"team": f"t{i}"}) for i in range(3)]
    fleet.hour("2026-10-05T02:00", [], lost, node="n2")
    maker = fleet.maker(prices(tmp_path, book))
    report = maker.report("2026-10-05", ["team"])
    margins = {row.by["team"]: (row.figures["margin"], row.shown["margin"]) for row in report.rows}
    assert {margins[f"t{i}"] for i in range(3)} == {(None, Decimal(0))}
    assert report.total.shown["margin"] == margins["search"][1]
    check_report(maker, "2026-10-05", ["team"])


def test_who_bought_a_token_of_priced_time_has_a_margin(tmp_path: Path) -> None:
    """A token of a billion: its share of the time is no millisecond and costs nothing, but it was sold. The same caller
    has tokens of time without a price too, which are in no margin."""
    book = """
    pools: [{name: h100, match: {gpu: "*H100*"}, rented: {per_gpu_hour: 4}}]
    token_prices: [{name: x, per_million: 5}]
    """
    fleet = Fleet()
    for hour, gpu in (("2026-10-05T01:00", "NVIDIA H100 80GB HBM3"), ("2026-10-05T02:00", "NVIDIA L4")):
        demand = [
            Demand(gateway="g", model="llama", caller={"team": team}, completion=tokens)
            for team, tokens in (("search", 10**9), ("ads", 1))
        ]
        held = [Held(workload="w", active_min=60)]
        fleet.hour(hour, [Gpu(model=gpu, held=held)], [Server(key="w", completion=10**9 + 1)], demand)
    maker = fleet.maker(prices(tmp_path, book))
    margins = {row.by["team"]: row.figures["margin"] for row in maker.report("2026-10-05", ["team"]).rows}
    assert margins["ads"] == Decimal("0.000005")
    check_report(maker, "2026-10-05", ["team"])


def test_figures_that_nobody_knows_are_dashes(tmp_path: Path) -> None:
    """Revenue is known and margin is not: all of it is of tokens that were made on no GPU."""
    book = """
    pools: [{name: h100, rented: {per_gpu_hour: 4}}]
    token_prices: [{name: x, per_million: 45}]
    """
    fleet = Fleet()
    fleet.hour("2026-10-05T01:00", [], [Server(key="w", completion=10**9, labels={"team": "search"})])
    maker = fleet.maker(prices(tmp_path, book))
    report = maker.report("2026-10-05", ["hour"])
    assert (report.total.figures["revenue"], report.total.figures["margin"]) == (45_000, None)
    check_report(maker, "2026-10-05", ["hour"])


def test_tasks_that_cost_less_than_a_cent_keep_their_cost_and_the_waterfall(tmp_path: Path) -> None:
    """3.00 in equal parts: 1,200 of 0.0025, a third of each idle."""
    maker = tasks(1200).maker(prices(tmp_path, TASKS_BOOK.replace("2}", "0.125}")))
    report = maker.report("2026-10-05", ["workload"])
    assert len(report.rows) == 1200
    assert {row.cost for row in report.rows} == {Decimal("0.0025")}
    assert [report.total.cost, report.steps["idle"].shown, report.steps["productive"].shown] == [3, 1, 2]
    assert report.total.shown["cost_idle"] == sum(row.shown["cost_idle"] for row in report.rows) == 1
    assert {row.shown["cost"] for row in report.rows} == {Decimal("0.00"), CENT}
    assert "1200 rows cost less than 0.01 USD: cents add up to the sum, csv and json have exact amounts" in report.notes
    text = to_text(report).decode()
    assert "(1000 more rows)" in text
    check_report(maker, "2026-10-05", ["workload"])
    assert all(row.figures["cost_per_request_loaded"] == pytest.approx(0.0025) for row in report.rows)
    assert " 0.002500 " in text, "a request's cost is not 0.00"


@pytest.mark.parametrize("by", ["day", "hour", "team", "workload", "node"])
def test_the_total_is_that_of_the_waterfall_whatever_the_grain(tmp_path: Path, by: str) -> None:
    """Prices that leave a fraction in every hour and day."""
    fleet = Fleet()
    for hour in range(0, 72, 5):
        gpus = [
            Gpu(uuid=f"g{i}", held=[Held(workload=f"w{i}", active_min=7 + i, idle_min=11, active_j=99_991, idle_j=777)])
            for i in range(3)
        ]
        servers = [Server(key=f"w{i}", completion=333, labels={"team": f"t{i}"}) for i in range(3)]
        fleet.hour(ms("2026-10-05") + hour * HOUR_MS, gpus, servers)
    book = """
    facilities: {a: {pue: 1.37, per_kwh: 0.0913, host_watts_per_gpu: 133}}
    pools: [{name: h100, owned: {gpu: 31234.56, life_years: 3, count: 5}}]
    """
    maker = fleet.maker(prices(tmp_path, book))
    whole = maker.report("2026-10", ["pool"]).total.cost
    report = maker.report("2026-10", [by])
    assert report.total.cost == whole == sum(report.waterfall.values())
    check_report(maker, "2026-10", [by])
    days = [sum(day.values()) for day in report.days.values()]
    assert sum(days) == report.total.shown["cost"], "the plot of days sums to the table beside it"


def test_a_tariff_below_0_does_not_end_a_report(tmp_path: Path) -> None:
    book = """
    facilities: {a: {pue: 1.2, host_watts_per_gpu: 700, bands: [{name: wind, hours: "00:00-24:00", per_kwh: -0.75}]}}
    pools: [{name: h100, owned: {gpu: 10, life_years: 4}}]
    token_prices: [{name: x, per_million: 3}]
    """
    fleet = tasks(48)
    for sharing in ("apart", "usage", "even"):
        attribution = rules(tmp_path, {"sharing": {"idle": sharing, "unallocated": sharing, "dark": sharing}})
        maker = fleet.maker(prices(tmp_path, book), attribution)
        report = maker.report("2026-10-05", ["workload"])
        assert report.total.cost < 0
        check_report(maker, "2026-10-05", ["workload"])
        out = io.StringIO()
        assert maker.focus("2026-10-05", out) == report.total.cost


def test_what_was_shared_is_shown_beside_where_it_was_lost(tmp_path: Path) -> None:
    attribution = rules(tmp_path, {"sharing": {"idle": "usage", "unallocated": "usage", "dark": "usage"}})
    maker = tasks(24).maker(prices(tmp_path, TASKS_BOOK), attribution)
    report = maker.report("2026-10-05", ["workload"])
    step = report.steps["idle"]
    assert [step.cost, step.shared, report.total.parts["idle"], report.total.parts["shared"]] == [16, 16, 0, 16]
    assert report.idle_capacity.cost == 16, "the head line is of the fleet, before sharing"
    assert "16.00 USD idle-capacity cost" in to_text(report).decode()
    part = maker.report("2026-10-05", ["workload"], {"workload": "task-3-0"})
    assert list(part.waterfall) == [*BUCKETS, "shared"]
    assert sum(part.waterfall.values()) == part.total.cost == 2
