"""Reports as files: the same totals in every format, the same bytes every time, a new version when something changed."""

import csv
import io
import json
import re
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import pytest

from collector.fleet import HOUR_MS, Fleet, Gpu, Held, Server, close_months, ms, policy, prices, rules
from tokenyield_collector.errors import ParameterError
from tokenyield_collector.prices.period import parse_period
from tokenyield_collector.reports.document_changes import differences
from tokenyield_collector.reports.maker import ReportMaker

PRICE_BOOK = """
facilities: {a: {pue: 1.3, per_kwh: 0.08, carbon_g_per_kwh: 400, host_watts_per_gpu: 100}}
pools: [{name: h100, match: {gpu: "*H100*"}, owned: {count: 3, gpu: 35040, life_years: 4}}]
token_prices: [{name: standard, per_million: 3}]
api_prices: [{name: an API, model: "llama*", per_million: {prompt: 1, completion: 2}, source: test, as_of: 2026-10-01}]
"""


def month_into(path: Path) -> None:
    """The month in a file, closed."""
    ledger = month(path).ledger
    ledger.fold()
    ledger.close()


def month(path: Path | str = ":memory:") -> Fleet:
    fleet = Fleet(path)
    for hour in range(30):
        busy = 20 + hour % 24
        gpus = [
            Gpu(uuid=f"GPU-{i}", held=[Held(workload=name, active_min=busy, idle_min=59 - busy, active_j=busy * 40_000, idle_j=99)])
            for i, name in enumerate(("chat", "<b>rank & \"sort\"</b>"))
        ]  # fmt: skip
        servers = [
            Server(key="chat", model="llama-70b", labels={"team": "search", "product": "assistant"},
                   completion=busy * 90_001, prompt_computed=busy * 250_000, prompt_cached=busy * 7, requests=busy),
            Server(key="<b>rank & \"sort\"</b>", model="qwen", labels={"team": "ads"}, completion=busy * 11_003),
        ]  # fmt: skip
        fleet.hour(ms("2026-10-05") + hour * HOUR_MS, gpus, servers)
    return fleet


@pytest.fixture
def maker(tmp_path: Path) -> ReportMaker:
    return month().maker(prices(tmp_path, PRICE_BOOK), now="2026-11-20")


def test_every_format_has_the_same_totals(maker: ReportMaker, tmp_path: Path) -> None:
    report = maker.report("2026-10", ["team", "model"])
    whole = report.total.cost
    shown = report.total.shown["cost"]
    assert shown > 80
    assert abs(whole - shown) <= Decimal("0.005")
    document = json.loads(maker.encode("2026-10", ["team", "model"], "json"), parse_float=Decimal)
    assert document["total"]["cost"] == whole == sum(row["cost"] for row in document["rows"])
    assert sum(row["cost"] for row in document["waterfall"]) == whole
    rows = list(csv.DictReader(io.StringIO(maker.encode("2026-10", ["team", "model"], "csv").decode())))
    assert sum(Decimal(row["cost"]) for row in rows) == whole
    assert {row["team"] for row in rows} == {"search", "ads", "(unallocated)", "(dark)"}
    (tmp_path / "r.parquet").write_bytes(maker.encode("2026-10", ["team", "model"], "parquet"))
    (tmp_path / "r.csv").write_bytes(maker.encode("2026-10", ["team"], "focus"))
    with duckdb.connect() as connection:
        row = connection.execute(f"SELECT sum(cost) FROM '{tmp_path}/r.parquet'").fetchone()
        assert row == (whole,)
        exact = "sum(EffectiveCost::DECIMAL(38, 9))"
        row = connection.execute(f"SELECT {exact} FROM '{tmp_path}/r.csv'").fetchone()
        assert row == (whole,)
        by_team = dict(
            connection.execute(f"SELECT SubAccountId, {exact} FROM '{tmp_path}/r.csv' GROUP BY 1").fetchall()
        )
    for team in ("search", "ads"):
        cost = sum((row.cost for row in report.rows if row.by["team"] == team), Decimal(0))
        assert abs(by_team[team] - cost) <= Decimal("1e-6"), "a row is rounded elsewhere, by a millionth of a millionth"
    assert f"{shown:,.2f}" in maker.encode("2026-10", ["team"], "table").decode()
    assert f"{shown:,.2f}" in maker.encode("2026-10", ["team"], "html").decode()


@pytest.mark.parametrize("form", ["table", "csv", "json", "parquet", "html", "focus"])
def test_a_closed_period_gives_the_same_bytes(maker: ReportMaker, form: str) -> None:
    assert maker.encode("2026-10", ["team", "workload", "day"], form) == maker.encode(
        "2026-10", ["team", "workload", "day"], form
    )


def test_a_changed_price_book_is_a_new_version_that_says_what_changed(maker: ReportMaker, tmp_path: Path) -> None:
    first = close_months(maker).report("2026-10", ["team"])
    assert (first.version, first.state) == (1, "closed")
    changed = prices(tmp_path, PRICE_BOOK.replace("35040", "70080"))
    again = close_months(ReportMaker(ledger=maker.ledger, policy=policy(changed), now_ms=maker.now_ms))
    second = again.report("2026-10", ["team"])
    assert second.version == 2
    assert "version 2, changed against version 1: prices: pools.h100.owned.gpu: 35040 -> 70080" in second.notes
    assert again.report("2026-10", ["model"]).version == 2, "another view of the same statement"
    shared = policy(changed, rules(tmp_path, {"sharing": {"dark": "usage"}}))
    third = close_months(ReportMaker(ledger=maker.ledger, policy=shared, now_ms=maker.now_ms))
    assert any('sharing.dark: "apart" -> "usage"' in note for note in third.report("2026-10", ["team"]).notes)


def test_late_data_is_a_new_version(tmp_path: Path) -> None:
    fleet = month()
    maker = close_months(fleet.maker(prices(tmp_path, PRICE_BOOK), now="2026-11-20"))
    assert maker.report("2026-10", ["team"]).version == 1
    fleet.hour("2026-10-20T10:00", [Gpu(uuid="late")], node="n2")
    late = close_months(maker).report("2026-10", ["team"])
    assert late.version == 2
    assert "version 2, changed against version 1: facts: late windows of 2026-10-20: nodes c/n2" in late.notes


def test_an_open_period_says_so(tmp_path: Path) -> None:
    report = month().maker(prices(tmp_path, PRICE_BOOK), now="2026-10-06T12:30").report("2026-10", ["team"])
    assert (report.state, report.version) == ("open", None)
    assert report.end == "2026-10-06T12:00:00Z"
    assert any("open" in note for note in report.notes)


def test_an_empty_ledger_and_no_price_book(tmp_path: Path) -> None:
    empty = Fleet().maker(prices(tmp_path, PRICE_BOOK)).report("2026-10", ["team"])
    assert empty.total.cost == 0
    assert "the ledger has nothing of this period" in empty.notes
    for form in ("table", "csv", "json", "parquet", "html", "focus"):
        assert Fleet().maker(prices(tmp_path, PRICE_BOOK)).encode("2026-10", ["team"], form)
    unpriced = month().maker(prices(tmp_path, "pools: []")).report("2026-10", ["team"])
    assert unpriced.total.cost == 0
    assert unpriced.total.figures["price_missing_gpu_hours"] == 60
    assert any("no price book" in note for note in unpriced.notes)


def test_unknown_is_null_and_not_zero(maker: ReportMaker) -> None:
    rows = {row.by["model"]: row.figures for row in maker.report("2026-10", ["model"]).rows}
    assert rows["qwen"]["prompt_cached"] is None
    assert rows["llama-70b"]["prompt_cached"] > 0
    assert rows["(dark)"]["tokens"] is None
    assert rows["(dark)"]["cost_per_mtok_direct"] is None


def test_what_cannot_be_made_is_refused_with_the_fix(maker: ReportMaker) -> None:
    with pytest.raises(ParameterError, match="expected a column, found 'tem'; did you mean 'team'"):
        maker.report("2026-10", ["tem"])
    with pytest.raises(ParameterError, match="write 2026-10, 2026-10-05 or"):
        maker.report("October", ["team"])
    with pytest.raises(ParameterError, match="1 to 400 days"):
        maker.report("2026-10-05..2026-10-01", ["team"])


@pytest.mark.parametrize(
    ("text", "start", "days"), [("2026-02", "2026-02-01", 28), ("2026-12", "2026-12-01", 31), ("2024-02-28..2024-03-01", "2024-02-28", 3)]
)  # fmt: skip
def test_periods(text: str, start: str, days: int) -> None:
    period = parse_period(text)
    assert (period.start_ms, period.days) == (ms(start), days)


def test_differences_name_pools_and_not_their_numbers() -> None:
    old = '{"pools":[{"name":"a","x":1},{"name":"b","x":2}]}'
    new = '{"pools":[{"name":"b","x":3}],"currency":"EUR"}'
    assert differences(old, new) == [
        'currency: (nothing) -> "EUR"', 'pools.a: {"name": "a", "x": 1} -> (nothing)', "pools.b.x: 2 -> 3",
    ]  # fmt: skip


class _Page(HTMLParser):
    """Notes open tags, and everything that would load something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.bold: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "rect"):
            self.open.append(tag)
        self.loads += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href", "srcset", "action")]
        if tag in ("script", "link", "iframe", "img"):
            self.loads.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect",):
            assert self.open.pop() == tag, f"{tag} closes something else"


def test_the_page_stands_alone_and_names_are_only_text(maker: ReportMaker) -> None:
    text = maker.encode("2026-10", ["team", "workload"], "html").decode()
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert page.loads == []
    assert "url(" not in text
    assert "@import" not in text
    assert "&lt;b&gt;rank &amp; &#34;sort&#34;&lt;/b&gt;" in text
    assert not re.search(r"<b>rank", text)
    assert text.count("<svg") == 2


def test_a_part_of_a_report_is_the_same_as_in_the_whole(tmp_path: Path) -> None:
    maker = month().maker(prices(tmp_path, PRICE_BOOK))
    whole = maker.report("2026-10", ["team", "model"])
    for row in whole.rows:
        part = maker.report("2026-10", ["model"], {"team": row.by["team"], "model": row.by["model"]})
        assert part.total.cost == pytest.approx(row.cost, abs=Decimal("1e-7")), "a part is rounded by itself"
        assert part.total.figures["tokens"] == row.figures["tokens"]
        assert sum(part.waterfall.values()) == part.total.cost
    assert maker.report("2026-10", ["team"], {"team": "nobody at all"}).rows == []
    with pytest.raises(ParameterError, match="expected a column, found 'tem'; did you mean 'team'"):
        maker.report("2026-10", ["team"], {"tem": "search"})
    with pytest.raises(ParameterError, match="FOCUS file is of the whole fleet"):
        maker.encode("2026-10", ["team"], "focus", {"team": "search"})


def test_the_top_rows_and_the_rest_are_the_whole(tmp_path: Path) -> None:
    maker = month().maker(prices(tmp_path, PRICE_BOOK))
    whole, top = maker.report("2026-10", ["team", "model"]), maker.report("2026-10", ["team", "model"], top=1)
    assert len(whole.rows) > 2
    assert [row.by["team"] == "(other)" for row in top.rows].count(True) == 1
    assert len(top.rows) == 2
    assert top.total == whole.total
    most = max(
        whole.rows, key=lambda row: sum(row.parts[name] for name in ("dark", "unallocated", "idle", "under_yield"))
    )
    assert most.by in [row.by for row in top.rows]
    with pytest.raises(ParameterError, match="at least 1"):
        maker.report("2026-10", ["team"], top=0)
