"""Outcomes beside costs: tied by what their labels say, null with a reason where they say nothing."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from collector.fleet import HOUR_MS, Fleet, Gpu, Held, Server, ms, prices, rules
from tokenyield_collector.ingest.outcomes import AllowedDays, outcome_row
from tokenyield_collector.ledger.outcomes import slices_of
from tokenyield_collector.reports.maker import ReportMaker

TWO = "pools: [{name: p, rented: {per_gpu_hour: 2}}]"


def maker(tmp_path: Path, *outcomes: dict[str, Any], book: str = TWO, document: Any = None) -> ReportMaker:
    """Two teams with a GPU each for 10 hours at 2: 20 each; and a third GPU that nobody holds."""
    from datetime import date

    fleet = Fleet()
    for hour in range(10):
        gpus = [Gpu(uuid=f"GPU-{team}", held=[Held(workload=team, active_min=60)]) for team in ("search", "ads")]
        servers = [
            Server(key=t, model=f"m-{t}", labels={"team": t, "product": "p"}, completion=5) for t in ("search", "ads")
        ]
        fleet.hour(ms("2026-10-05") + hour * HOUR_MS, [*gpus, Gpu(uuid="GPU-3")], servers)
    days = AllowedDays(date(2026, 1, 1), date(2026, 12, 31))
    rows = [outcome_row({"day": "2026-10-05", "name": "tickets", **fields}, days) for fields in outcomes]
    fleet.ledger.replace_outcomes(slices_of(rows), 1)
    return fleet.maker(prices(tmp_path, book), rules(tmp_path, document or {}))


def figures(report_maker: ReportMaker, by: str, name: str = "tickets", **more: Any) -> dict[str, tuple[Any, Any]]:
    report = report_maker.report("2026-10-05", by.split(","), **more)
    rows = {"/".join(row.by.values()): row.figures for row in report.rows}
    rows["sum"] = report.total.figures
    return {who: (one[f"outcomes_{name}"], one[f"cost_per_outcome_{name}"]) for who, one in rows.items()}


def test_by_a_dimension(tmp_path: Path) -> None:
    made = maker(tmp_path, {"count": 8, "team": "search"}, {"count": 5, "team": "ads"})
    assert figures(made, "team") == {
        "search": (8, 2.5), "ads": (5, 4.0), "(unallocated)": (None, None), "sum": (13, pytest.approx(60 / 13)),
    }  # fmt: skip


def test_a_column_that_they_are_not_known_by_is_null_and_says_so(tmp_path: Path) -> None:
    made = maker(tmp_path, {"count": 8, "team": "search"})
    assert figures(made, "team,model")["search/m-search"] == (None, None)
    assert figures(made, "team,model")["sum"] == (8, 7.5), "the whole is known whatever the columns"
    (outcome,) = made.report("2026-10-05", ["team", "model"]).outcomes
    assert outcome.reason == "it is not known by model"
    assert (
        "outcome tickets: rows do not have it, because it is not known by model"
        in made.report("2026-10-05", ["model"]).notes
    )


def test_the_rules_say_who_a_label_belongs_to(tmp_path: Path) -> None:
    """A count by workload or namespace is tied to the team that the rules give such a workload."""
    document = {"dimensions": ["team"], "rules": [{"match": {"workload": "search*"}, "set": {"team": "search"}},
                                                  {"match": {"labels": {"team": "?*"}}, "set": {"team": "{labels.team}"}}]}  # fmt: skip
    made = maker(tmp_path, {"count": 4, "workload": "search"}, document=document)
    assert figures(made, "team")["search"] == (4, 5.0)
    assert figures(made, "workload")["search"] == (4, 5.0)


def test_filters_and_days(tmp_path: Path) -> None:
    made = maker(tmp_path, {"count": 8, "team": "search"}, {"count": 5, "team": "ads"})
    assert figures(made, "day", where={"team": "ads"}) == {"2026-10-05": (5, 4.0), "sum": (5, 4.0)}
    assert figures(made, "day", where={"model": "m-ads"})["sum"] == (None, None), "not known by model"
    assert figures(made, "hour")["sum"] == (13, pytest.approx(60 / 13))


def test_what_fits_no_row_is_counted_in_the_sum_and_named(tmp_path: Path) -> None:
    made = maker(tmp_path, {"count": 8, "team": "search"}, {"count": 2, "team": "sales"}, {"count": 1})
    report = made.report("2026-10-05", ["team"])
    assert "outcome tickets: 3 of 11 fit no row of this report" in report.notes
    assert figures(made, "team")["sum"][0] == 11
    rows = figures(made, "team", top=1)
    assert rows["(unallocated)"] == (None, None)
    assert rows["(other)"] == (11, pytest.approx(40 / 11)), "with --top all of them are in the row of all others"


def test_a_team_called_like_a_marker_is_another(tmp_path: Path) -> None:
    made = maker(tmp_path, {"count": 8, "team": "(unallocated)"})
    assert figures(made, "team")["(unallocated)"] == (None, None)


def test_unpriced_time_makes_no_cheap_outcome(tmp_path: Path) -> None:
    made = maker(
        tmp_path,
        {"count": 8, "team": "search"},
        book="pools: [{name: p, match: {cluster: other}, rented: {per_gpu_hour: 2}}]",
    )
    assert figures(made, "team")["search"] == (8, None)
    assert any("no cost per outcome" in note for note in made.report("2026-10-05", ["team"]).notes)


def test_without_outcomes_a_report_is_as_it_was(tmp_path: Path) -> None:
    report = maker(tmp_path).report("2026-10-05", ["team"])
    assert not [name for name in report.column_names if "outcome" in name]


def test_every_format_has_them(tmp_path: Path) -> None:
    import duckdb

    made = maker(tmp_path, {"count": 8, "team": "search"})
    rows = {
        row["team"]: row for row in csv.DictReader(io.StringIO(made.encode("2026-10-05", ["team"], "csv").decode()))
    }
    assert (rows["search"]["outcomes_tickets"], float(rows["search"]["cost_per_outcome_tickets"])) == ("8", 2.5)
    assert rows["ads"]["outcomes_tickets"] == ""
    document = json.loads(made.encode("2026-10-05", ["team"], "json"))
    assert document["outcomes"] == [{"name": "tickets", "count": 8, "days": 1, "reason": "", "no_row": 0}]
    assert document["total"]["outcomes_tickets"] == 8
    (tmp_path / "x.parquet").write_bytes(made.encode("2026-10-05", ["team"], "parquet"))
    sql = f"SELECT outcomes_tickets, cost_per_outcome_tickets FROM '{tmp_path}/x.parquet' WHERE team = 'search'"
    assert duckdb.connect().execute(sql).fetchall() == [(8, 2.5)]
    for form in ("table", "html"):
        text = made.encode("2026-10-05", ["team"], form).decode()
        assert "tickets" in text
        assert "2.5" in text


def test_a_dimension_cannot_be_called_like_a_figure_of_them(tmp_path: Path) -> None:
    from tokenyield_settings.loader import SettingsError

    with pytest.raises(SettingsError, match="does not begin with outcomes_"):
        rules(tmp_path, {"dimensions": ["team", "outcomes_tickets"], "rules": []})


COUNTS = st.lists(
    st.tuples(
        st.sampled_from(["search", "ads", "sales", "(unallocated)", "unattributed", "", "=1+1", "\x1b[31m"]),
        st.sampled_from(["p", "q", ""]),
        st.integers(0, 2**48),
    ),
    max_size=8,
)


@settings(
    max_examples=6,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(COUNTS, st.sampled_from(["team", "product", "team,product", "day", "team,day"]))
def test_rows_and_what_fits_none_sum_to_what_was_imported(
    tmp_path: Path, counts: list[tuple[str, str, int]], by: str
) -> None:
    made = maker(tmp_path, *({"count": count, "team": team, "product": product} for team, product, count in counts))
    report = made.report("2026-10-05", by.split(","))
    if not counts:
        assert report.outcomes == []
        return
    (outcome,) = report.outcomes
    known = [row.figures["outcomes_tickets"] for row in report.rows if row.figures["outcomes_tickets"] is not None]
    assert outcome.count == report.total.figures["outcomes_tickets"] == sum(count for _, _, count in counts)
    assert sum(known) + outcome.no_row == (0 if outcome.reason else outcome.count)
    for form in ("csv", "json", "table", "html"):
        text = made.encode("2026-10-05", by.split(","), form).decode()
        assert "\x1b" not in text
