"""Two periods of a real ledger explained: the words, the sums in every direction, the program and the API."""

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from collector.fleet import Fleet, Gpu, Held, Server, close_months, ms, prices, rules
from collector.reports.test_sums import fleet_of, read_policy
from collector.statements.test_statement_properties import books, hours, policies
from tokenyield_collector.cli import main
from tokenyield_collector.errors import ParameterError
from tokenyield_collector.insight.explain import explain
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.spend.slices import SpendAmounts, SpendFields, SpendKey, SpendLine, SpendSlice
from tokenyield_collector.statements.bought import BoughtCosts

BOOK = """
pools:
  - {name: h100, match: {gpu: "*H100*"}, rented: {per_gpu_hour: 4}}
  - {name: l4, match: {gpu: "*L4*"}, rented: {per_gpu_hour: 1}}
"""
MONDAY, TUESDAY = "2026-10-05", "2026-10-06"
EXAMPLES = int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "10"))


def bought(day: str, output: int, micro: int) -> SpendSlice:
    fields = SpendFields("anthropic", model="opus", team="search")
    line = SpendLine(fields, SpendAmounts(fresh=0, output=output, requests=1, cost_micro=micro))
    return SpendSlice(SpendKey("anthropic", "default", ms(day), "cost_report"), "billed", (line,))


def filled(path: Path | str = ":memory:") -> Fleet:
    """On Tuesday search's own model makes twice the tokens in twice the time, its second GPU is held and idle, a new
    workload of ads begins, and Opus costs half as much a token."""
    fleet = Fleet(path)
    labels = {"team": "search"}
    fleet.hour(
        f"{MONDAY}T10:00",
        [Gpu(held=[Held(workload="chat", active_min=30, idle_min=30)]), Gpu(uuid="GPU-1")],
        [Server(key="chat", labels=labels, prompt_computed=1000, prompt_cached=0, completion=1000)],
    )
    fleet.hour(
        f"{TUESDAY}T10:00",
        [
            Gpu(held=[Held(workload="chat", active_min=60)]),
            Gpu(uuid="GPU-1", held=[Held(workload="chat", idle_min=60)]),
            Gpu(uuid="GPU-2", model="NVIDIA L4", held=[Held(workload="rank", active_min=30, idle_min=30)]),
        ],
        [
            Server(key="chat", labels=labels, prompt_computed=2000, prompt_cached=0, completion=2000),
            Server(key="rank", model="bge", labels={"team": "ads"}, completion=10),
        ],
    )
    fleet.ledger.replace_spend(
        [bought(f"{MONDAY}T00:00", 1000, 10_000_000), bought(f"{TUESDAY}T00:00", 1000, 5_000_000)], 1
    )
    return fleet


@pytest.fixture
def maker(tmp_path: Path) -> ReportMaker:
    fleet = filled()
    of_team = rules(tmp_path, {"dimensions": ["team"]})
    return fleet.maker(prices(tmp_path, BOOK), of_team, others=(BoughtCosts(fleet.ledger),))


def test_the_causes_are_named_with_their_money(maker: ReportMaker) -> None:
    """Tokens of all of search are two thirds more; all that came are of the cheaper model."""
    document = explain(maker, TUESDAY, MONDAY, ["team"])
    assert {
        row["by"]["team"]: {name: str(money) for name, money in row["effects"].items()} for row in document["rows"]
    } == {
        "search": {"volume": "8.00", "mix": "-6.00", "idle": "2.00", "price": "-5.00"},
        "(unallocated)": {"unallocated": "-4.00"},
        "ads": {"new": "1.00"},
    }
    assert document["text"] == (
        "2026-10-06 cost 4.00 USD less than 2026-10-05 (14.00 against 18.00 USD, -22.2 %): 8.00 more by the volume of "
        "search; 6.00 less by the mix of models of search; 5.00 less by the price of search; 4.00 less by unallocated "
        "GPUs; 2.00 more by idle time of search; 1.00 more from all else."
    )


def test_by_team_and_model_which_is_the_default(maker: ReportMaker) -> None:
    document = explain(maker, TUESDAY, MONDAY)
    assert (document["by"], document["rest"]) == (["team", "model"], Decimal("0"))
    assert document["text"].partition(": ")[2] == (
        "5.00 less by the price of search / opus; 4.00 less by unallocated GPUs; 2.00 more by idle time of search / "
        "llama; 2.00 more by the volume of search / llama; 1.00 more from ads / bge, which is new."
    )
    assert explain(maker, MONDAY, TUESDAY)["text"].partition(": ")[2].endswith("from ads / bge, which is gone.")


def test_a_period_against_itself_and_against_nothing(maker: ReportMaker) -> None:
    same = explain(maker, MONDAY, MONDAY)
    assert same["text"] == f"{MONDAY} cost as much as {MONDAY} (18.00 against 18.00 USD)."
    assert (same["causes"], same["total"]["effects"]) == ([], {})
    first = explain(maker, MONDAY, "2026-09-05", ["team"])
    assert first["total"]["cost_from"] == 0
    assert "2026-09-05: the ledger has nothing of this period" in first["notes"]
    assert {name for row in first["rows"] for name in row["effects"]} == {"new", "unallocated"}


def test_a_filter_and_the_rows_that_moved_most(maker: ReportMaker) -> None:
    search = explain(maker, TUESDAY, MONDAY, ["model"], {"team": "search"})
    assert [row["by"]["model"] for row in search["rows"]] == ["opus", "llama"]
    assert search["total"]["difference"] == -1
    top = explain(maker, TUESDAY, MONDAY, ["model"], top=1)
    assert [row["by"]["model"] for row in top["rows"]] == ["opus", "(other)"]
    assert top["rows"][1]["effects"] == {
        "new": 1, "volume": 2, "idle": 2, "unallocated": -4
    }, "of different rows"  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"by": ["day"]}, "by"),
        ({"by": ["teem"]}, "by"),
        ({"where": {"hour": "x"}}, "by"),
        ({"where": {"teem": "x"}}, "teem"),
        ({"top": 0}, "top"),
        ({"against": "last week"}, "against"),
        ({"period": "last week"}, "period"),
    ],
)
def test_what_cannot_be_compared_is_refused(maker: ReportMaker, changed: dict[str, Any], field: str) -> None:
    with pytest.raises(ParameterError) as refused:
        explain(maker, **{"period": TUESDAY, "against": MONDAY, **changed})
    assert refused.value.field == field


def test_a_closed_month_is_explained_as_it_was_closed(tmp_path: Path) -> None:
    """Prices of November are twice as high; October stays at its own, whatever the price book says later."""
    fleet = Fleet()
    for month in ("2026-10", "2026-11"):
        fleet.hour(
            f"{month}-05T00:00", [Gpu(held=[Held(workload="w", active_min=60)])], [Server(key="w", completion=9)]
        )
    close_months(fleet.maker(prices(tmp_path, BOOK), now="2026-11-02T00:00"))
    maker = fleet.maker(prices(tmp_path, BOOK.replace("per_gpu_hour: 4", "per_gpu_hour: 8")))
    effects = explain(maker, "2026-11-05", "2026-10-05", ["model"])["total"]["effects"]
    assert effects == {"price": 4}
    document = explain(maker, "2026-11", "2026-10", ["pool"])
    assert [document[which]["state"] for which in ("against", "period")] == ["closed", "closing"]
    whole = document["total"]
    assert whole["cost_to"] - whole["cost_from"] == sum(whole["effects"].values())


def test_two_currencies_are_not_compared(tmp_path: Path) -> None:
    fleet = Fleet()
    for month in ("2026-10", "2026-11"):
        fleet.hour(
            f"{month}-05T10:00", [Gpu(held=[Held(workload="w", active_min=60)])], [Server(key="w", completion=9)]
        )
    close_months(fleet.maker(prices(tmp_path, BOOK), now="2026-11-02T00:00"))
    maker = fleet.maker(prices(tmp_path, "currency: EUR" + BOOK))
    with pytest.raises(ParameterError, match="against: expected a period in EUR, found one in USD"):
        explain(maker, "2026-11", "2026-10", ["model"])


def test_the_command_says_it_in_words_and_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(tmp_path / "l.duckdb").ledger.close()
    (tmp_path / "p.yaml").write_text(BOOK)
    (tmp_path / "r.yaml").write_text("dimensions: [team]")
    call = ["explain", "--period", TUESDAY, "--against", MONDAY, "--by", "team", "--ledger", f"{tmp_path}/l.duckdb",
            "--prices", f"{tmp_path}/p.yaml", "--rules", f"{tmp_path}/r.yaml"]  # fmt: skip
    assert main(call) == 0
    shown = capsys.readouterr().out
    assert "cost 4.00 USD less than 2026-10-05" in shown
    assert [word for word in ("model mix", "-6.00", "search", "volume +8.00", "-22.2 %") if word not in shown] == []
    assert main([*call, "--format", "json", "--where", "team=ads"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["where"], document["total"]["effects"]) == ({"team": "ads"}, {"new": 1})
    assert main([*call, "--where", "ads"]) == 2
    assert "where: expected a column and a value" in capsys.readouterr().err


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    hours(least=4), books(), policies,
    st.sampled_from([["team"], ["team", "model"], ["workload", "cluster"], ["node"], ["pool", "source"]]),
    st.sampled_from([{}, {"team": "search"}, {"model": "llama"}]), st.sampled_from([None, 1, 3]),
    st.sampled_from([(MONDAY, TUESDAY), (TUESDAY, MONDAY), (f"{MONDAY}..{TUESDAY}", MONDAY), (MONDAY, MONDAY)]),
)  # fmt: skip
def test_rows_and_effects_sum_in_both_directions(
    listed: list[dict[str, Any]],
    document: dict[str, Any],
    policy: dict[str, Any],
    by: list[str],
    where: dict[str, str],
    top: int | None,
    periods: tuple[str, str],
) -> None:
    maker = fleet_of(listed).maker(*read_policy(document, policy))
    explained = explain(maker, *periods, by, where, top)
    for total, rows in (
        (explained["total"], explained["rows"]),
        (explained["total"]["shown"], [row["shown"] for row in explained["rows"]]),
    ):
        for name in ("cost_from", "cost_to", "difference"):
            assert sum((row[name] for row in rows), Decimal()) == total[name]
        for one in (total, *rows):
            assert one["cost_from"] + one["difference"] == one["cost_to"]
            assert sum(one["effects"].values(), Decimal()) == one["difference"]
        for effect in {name for one in rows for name in one["effects"]}:
            of_rows = sum((row["effects"].get(effect, Decimal()) for row in rows), Decimal())
            assert of_rows == total["effects"].get(effect, Decimal())
    caused = sum((cause["amount"] for cause in explained["causes"]), Decimal())
    assert caused + explained["rest"] == explained["total"]["shown"]["difference"]
    for name, period in (("cost_to", periods[0]), ("cost_from", periods[1])):
        report = maker.report(period, by, where)
        assert abs(report.total.cost - explained["total"][name]) < Decimal("1e-8")  # type: ignore[literal-required]
    if periods[0] == periods[1]:
        assert explained["rows"] == [] or all(not row["effects"] for row in explained["rows"])
