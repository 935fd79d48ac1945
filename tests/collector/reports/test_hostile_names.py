"""Names of teams, workloads, models and pods that mean harm: no sum, share or row changes in any format, nothing acts.

The same fleet is reported twice, once under plain names; what differs is how its rows are called.
"""

import csv
import io
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.fleet import Fleet, Gpu, Held, Server, ms, prices, rules
from hostile import LONG, NAMES, acting, as_written, is_formula
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.statements.names import own_name
from tokenyield_collector.targets.spreadsheet import csv_text
from tokenyield_settings.visible import visible
from tokenyield_wire.window import Demand

EXAMPLES = int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "8"))
PERIOD = "2026-10-05"
PRICES = """
pools:
  - {name: h100, match: {gpu: "*H100*", node: n1}, owned: {count: %d, gpu: 35040, life_years: 4}}
  - {name: dearer, match: {gpu: "*H100*", node: n2}, owned: {count: 1, gpu: 70080, life_years: 4}}
token_prices: [{name: standard, per_million: 3}]
"""
RULES = {
    "dimensions": ["team", "product"],
    "rules": [
        {"match": {"gateway": {"team": "?*"}}, "set": {"team": "{gateway.team}", "product": "{gateway.tags}"}},
        {"match": {"labels": {"team": "?*"}}, "set": {"team": "{labels.team}", "product": "{labels.pod}"}},
    ],
}
BY = ["team", "product", "workload", "model"]


class Case(NamedTuple):
    """A fleet under hostile names and under plain ones."""

    hostile: ReportMaker
    plain: ReportMaker


def _maker(names: Sequence[str]) -> ReportMaker:
    """Each name is that of a workload, its model, its team and its pod. Beside it all that has no name: dark time,
    unallocated time, a process of no workload, a workload of no team, GPUs without a price."""
    fleet = Fleet()
    start = ms(f"{PERIOD}T08:00")
    gpus = [
        Gpu(
            uuid=f"GPU-{i}", held=[Held(workload=name, active_min=10 + i % 20, idle_min=5, active_j=1000 + i, idle_j=9)]
        )
        for i, name in enumerate(names)
    ]
    servers = [
        Server(key=name, model=name, labels={"team": name, "pod": name}, completion=1_000 + i, requests=1)
        for i, name in enumerate(names)
    ]
    nobody = Gpu(uuid="GPU-nobody", held=[Held(workload="bare", active_min=7, active_j=5)])
    fleet.hour(start, [*gpus, nobody], [*servers, Server(key="bare", model="", completion=3)])
    demand = [
        Demand(gateway="litellm", model="shared", caller={"team": name, "tags": name}, completion=70 + i, requests=1)
        for i, name in enumerate(names)
    ]
    shared = Gpu(uuid="GPU-s", held=[Held(workload="shared", active_min=50, active_j=77)])
    server = Server(
        key="shared", model="shared", labels={"team": "owner"}, completion=sum(70 + i for i in range(len(names)))
    )
    fleet.hour(start, [shared], [server], demand, node="n2")
    fleet.hour(start, [Gpu(uuid="GPU-x", rest_j=50)], node="n3")
    with tempfile.TemporaryDirectory() as folder:
        book = prices(Path(folder), PRICES % (len(names) + 3))
        return fleet.maker(book, rules(Path(folder), yaml.safe_dump(RULES)))


def _case(names: Sequence[str]) -> Case:
    return Case(_maker(names), _maker([f"plain {i}" for i in range(len(names))]))


@pytest.fixture(scope="module")
def case() -> Case:
    return _case(NAMES)


Rows = list[dict[str, Any]]
FIGURES = ("cost", "revenue", "active_gpu_hours", "idle_gpu_hours", "unallocated_gpu_hours", "dark_gpu_hours",
           "price_missing_gpu_hours", "tokens", "requests", "joules_gpu")  # fmt: skip


def _of_json(body: bytes) -> Rows:
    rows: Rows = json.loads(body, parse_float=Decimal)["rows"]
    return rows


def _of_csv(body: bytes) -> Rows:
    return list(csv.DictReader(io.StringIO(body.decode(), newline="")))


def _of_parquet(body: bytes) -> Rows:
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        path = Path(folder) / "r.parquet"
        path.write_bytes(body)
        found = connection.execute(f"SELECT * FROM '{path}'")
        assert found.description is not None
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


class _Cells(HTMLParser):
    """The rows of the table of the report's columns; what is an element that no template has."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.elements: Counter[str] = Counter()
        self._in_body = self._in_cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        if tag == "tbody":
            self.rows, self._in_body = [], True
        elif tag == "tr" and self._in_body:
            self.rows.append([])
        elif tag == "td" and self._in_body:
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "tbody"):
            self._in_cell = False
            self._in_body = self._in_body and tag != "tbody"

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.rows[-1][-1] += data


def _of_html(body: bytes) -> Rows:
    table = re.search(r"<h2>By .*?</table>", body.decode(), re.DOTALL)
    assert table is not None
    page = _Cells()
    page.feed(table[0])
    return [dict(zip([*BY, "cost"], row, strict=False)) for row in page.rows]


READERS = {"json": _of_json, "csv": _of_csv, "parquet": _of_parquet}


@pytest.mark.parametrize("form", READERS)
def test_every_name_is_one_row_and_no_sum_changes(case: Case, form: str) -> None:
    hostile, plain = (READERS[form](maker.encode(PERIOD, BY, form)) for maker in case)
    _same_but_for_names(hostile, plain)


def _same_but_for_names(hostile: Rows, plain: Rows) -> None:
    assert len(hostile) == len(plain)
    assert len({tuple(row[name] for name in BY) for row in hostile}) == len(hostile), "each row is called otherwise"
    for name in FIGURES:
        one, other = ([Decimal(str(row[name] or 0)) for row in rows] for rows in (hostile, plain))
        assert sum(one) == pytest.approx(sum(other), abs=Decimal("1e-9")), name
        if name in ("tokens", "requests"):  # what is divided leaves a cent or a ms by the order of names
            assert sorted(one) == sorted(other), name
    markers = [name for name in BY for row in plain if str(row[name]).startswith("(")]
    assert markers == [name for name in BY for row in hostile if str(row[name]).startswith("(")]


def test_names_are_written_as_they_are_where_programs_read_them(case: Case) -> None:
    """JSON and Parquet; the JSON has no character that a terminal would obey."""
    body = case.hostile.encode(PERIOD, BY, "json")
    for rows in (_of_json(body), _of_parquet(case.hostile.encode(PERIOD, BY, "parquet"))):
        for column in BY:
            names = NAMES if column in ("workload", "model") else [name for name in NAMES if len(name) <= 200]
            assert {row[column] for row in rows} >= {own_name(name) for name in names}
    assert not acting(body.decode())
    assert "quotes" in json.loads(body)["names"]
    assert b"names" in case.hostile.encode(PERIOD, BY, "parquet"), "in its metadata"


@pytest.mark.parametrize("form", ["csv", "focus"])
def test_no_spreadsheet_computes_a_name(case: Case, form: str) -> None:
    text = case.hostile.encode(PERIOD, BY if form == "csv" else (), form).decode()
    assert not acting(text)
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len(rows) == text.count("\n"), "a row is one line"
    assert len({len(row) for row in rows}) == 1
    cells = {cell for row in rows for cell in row if not re.fullmatch(r"-?[\d.]+(e-\d+)?", cell)}
    assert not [cell for cell in cells if is_formula(cell)]
    assert {as_written(cell.removeprefix("'")) for cell in cells} | {"1"} >= {own_name(name) for name in NAMES}
    assert csv_text("+1") == "'+1" in cells
    for line in text.splitlines():
        assert not re.search(r"(?:^|[;|])[=+@-]", re.sub(r'"(?:[^"]|"")*"', "", line)), "nor one with another separator"


def test_a_focus_file_has_the_same_rows_and_sums(case: Case) -> None:
    hostile, plain = (_of_csv(maker.encode(PERIOD, (), "focus")) for maker in case)
    assert len(hostile) == len(plain)
    for name in ("BilledCost", "EffectiveCost"):
        assert sum(Decimal(row[name]) for row in hostile) == sum(Decimal(row[name]) for row in plain)
    assert sorted(row["x_Tokens"] for row in hostile) == sorted(row["x_Tokens"] for row in plain)
    for name in ("ResourceId", "SubAccountId", "SkuId", "Tags", "ResourceName"):
        assert len({row[name] for row in hostile}) == len({row[name] for row in plain}), name
    tags = [json.loads(row["Tags"]) for row in hostile]
    assert {tag["team"] for tag in tags if "team" in tag} >= {own_name(name) for name in NAMES if len(name) <= 200}


def test_the_metadata_of_a_focus_file_say_how_names_are_written(case: Case) -> None:
    metadata = json.loads(case.hostile.encode(PERIOD, (), "focus-metadata"))
    assert "apostrophe" in metadata["TextNeutralization"]


def test_a_page_shows_every_name_as_text(case: Case) -> None:
    pages = [maker.encode(PERIOD, BY, "html").decode() for maker in case]
    assert not acting(pages[0])
    elements = []
    for page in pages:
        parser = _Cells()
        parser.feed(page)
        elements.append(parser.elements)
    assert elements[0]["tr"] == elements[1]["tr"]
    assert elements[0]["td"] == elements[1]["td"]
    assert set(elements[0]) == set(elements[1]), "no element that is not the template's"
    hostile, plain = (_of_html(page.encode()) for page in pages)
    assert len(hostile) == len(plain)
    shown = {as_written(row[column]) for row in hostile for column in BY}
    assert shown >= {own_name(name) for name in NAMES}
    one, other = (sum(Decimal(row["cost"].replace(",", "")) for row in rows) for rows in (hostile, plain))
    assert one == other


def test_a_terminal_shows_every_name_and_obeys_none(case: Case) -> None:
    text, plain = (maker.encode(PERIOD, ["workload"], "table").decode() for maker in case)
    assert not acting(text)
    assert _sums(text) == _sums(plain)
    for name in NAMES:
        if len(written := visible(own_name(name))) < 60:
            assert re.search(rf"^ {re.escape(written)} ", text, re.MULTILINE), name


def _sums(text: str) -> list[str]:
    """The costs in the last row of each table."""
    return re.findall(r"^ +sum +([\d,.]+)", text, re.MULTILINE)


@pytest.mark.parametrize("by", ["cluster", "node", "workload", "model", "pool", "team"])
def test_the_row_of_all_others_never_takes_a_name_s_place(by: str, tmp_path: Path) -> None:
    fleet = Fleet()
    for i, name in enumerate(("(other)", "b", "d")):
        held = [Held(workload=name, active_min=5, idle_min=50 - i)]
        labels = {"team": name}
        fleet.hour(f"{PERIOD}T08:00", [Gpu(uuid=f"GPU-{i}", held=held)], [Server(key=name, model=name, labels=labels)],
                   node=name, cluster=name)  # fmt: skip
    pools = [{"name": name, "match": {"node": name}, "rented": {"per_gpu_hour": 2}} for name in ("(other)", "b", "d")]
    maker = fleet.maker(prices(tmp_path, yaml.safe_dump({"pools": pools})))
    report = maker.report(PERIOD, [by], top=1)
    assert report.total.cost == maker.report(PERIOD, [by]).total.cost > 0
    assert [row.by[by] for row in report.rows] == ['"(other)"', "(other)"] or len(report.rows) == 2


def test_a_filter_takes_a_name_by_the_text_that_its_row_shows(case: Case) -> None:
    rows = _of_json(case.hostile.encode(PERIOD, ["team"], "json"))
    for row in [row for row in rows if not row["team"].isalnum()][::4]:
        (only,) = _of_json(case.hostile.encode(PERIOD, ["team"], "json", {"team": row["team"]}))
        assert only["tokens"] == row["tokens"]
        assert only["cost"] == pytest.approx(row["cost"], abs=Decimal("0.02"))


def test_labels_as_long_as_the_wire_allows_keep_their_identity(tmp_path: Path) -> None:
    teams = [LONG * 2 + "a", LONG * 2 + "b", LONG * 2 + "a\n"]
    fleet = Fleet()
    servers = [Server(key=f"w{i}", labels={"team": team}, completion=i + 1) for i, team in enumerate(teams)]
    fleet.hour(f"{PERIOD}T08:00", [], servers)
    maker = fleet.maker(prices(tmp_path, "pools: []"))
    rows = maker.report(PERIOD, ["team"]).rows
    assert sorted(row.figures["tokens"] for row in rows) == [1, 2, 3]
    assert all(len(row.by["team"]) <= 200 for row in rows)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
tricky = st.text("()\"'=+-@ \\nrtxu01bdark\x1b\n\u202e\u200b", min_size=1, max_size=12)


@pytest.mark.timeout(1500)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(texts, tricky, st.sampled_from(NAMES)), min_size=1, max_size=5, unique=True))
def test_any_names_give_the_same_rows_and_sums_in_every_format(names: list[str]) -> None:
    case = _case(names)
    bodies = {
        form: [maker.encode(PERIOD, () if form == "focus" else BY, form) for maker in case]
        for form in (*READERS, "focus", "html", "table")
    }
    for maker in case:
        assert isinstance(maker.ledger, DuckDbLedger)
        maker.ledger.close()
    for form, read in READERS.items():
        _same_but_for_names(*map(read, bodies[form]))
    hostile, plain = map(_of_csv, bodies["focus"])
    assert len(hostile) == len(plain)
    assert sum(Decimal(row["BilledCost"]) for row in hostile) == sum(Decimal(row["BilledCost"]) for row in plain)
    assert len({*map(len, map(_of_html, bodies["html"]))}) == 1
    assert _sums(bodies["table"][0].decode())[0] == _sums(bodies["table"][1].decode())[0]
    for form in bodies.keys() - {"parquet"}:
        assert not acting(bodies[form][0].decode()), form
