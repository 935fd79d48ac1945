"""Facts that do not fit each other are named with their amount and the fix, and change nobody's cost."""

from decimal import Decimal
from pathlib import Path

import pytest

from collector.fleet import HOUR_MS, Fleet, Gpu, Held, Server, prices, rules
from tokenyield_collector.reports.report import Report
from tokenyield_wire.window import Demand

HOUR = "2026-10-20T10:00"
BOOK = "pools: [{name: h100, rented: {per_gpu_hour: 2}}]"


def served(demand: list[Demand]) -> Fleet:
    """One server that made a million completion tokens in 100 requests."""
    fleet = Fleet()
    held = Held(workload="w", active_min=60, active_j=1000)
    fleet.hour(HOUR, [Gpu(held=[held])], [Server(key="w", completion=1_000_000, requests=100)], demand)
    return fleet


def asked(
    tokens: int, *, gateway: str = "litellm", model: str = "llama", team: str = "a", requests: int = 100
) -> Demand:
    caller = {"team": team} if team else {}
    return Demand(gateway=gateway, model=model, caller=caller, completion=tokens, requests=requests)


def report(fleet: Fleet, tmp_path: Path, aliases: dict[str, str] | None = None) -> Report:
    policy = rules(tmp_path, {"gateway_models": aliases or {}})
    return fleet.maker(prices(tmp_path, BOOK), policy).report("2026-10", ["team"])


def found(report: Report) -> list[tuple[str, str, int]]:
    return [(gap.kind.name, gap.subject, gap.amounts.tokens) for gap in report.gaps]


def test_demand_that_was_served_is_no_gap(tmp_path: Path) -> None:
    assert found(report(served([asked(600_000), asked(400_000, team="b")]), tmp_path)) == []
    assert found(report(served([asked(1_005_000)]), tmp_path)) == [], "gateways count some tokens otherwise"


def test_demand_for_a_model_that_no_server_ran_is_named_until_its_alias_is(tmp_path: Path) -> None:
    fleet = served([asked(500_000, model="gpt-5"), asked(300_000)])
    named = report(fleet, tmp_path)
    assert found(named) == [("not_served", "c: model gpt-5, by gateway litellm", 500_000)]
    assert named.gaps[0].amounts.requests == 100
    assert {row.by["team"]: row.figures["tokens"] for row in named.rows} == {"a": 300_000, "unattributed": 700_000}
    assert found(report(fleet, tmp_path, {"gpt-5": "llama"})) == []


def test_demand_above_what_was_served_is_named_by_what_is_beyond(tmp_path: Path) -> None:
    above = report(served([asked(1_500_000)]), tmp_path)
    assert found(above) == [("beyond_served", "c: model llama, by gateway litellm", 500_000)]
    assert above.total.cost == report(served([asked(1_000_000)]), tmp_path).total.cost


def by_team(report: Report) -> dict[str, tuple[int, Decimal]]:
    return {row.by["team"]: (row.figures["tokens"], row.cost) for row in report.rows if row.figures["tokens"]}


OUTER = [asked(600_000), asked(400_000, team="b")]


def test_requests_of_chained_gateways_count_once_by_the_callers_of_the_outer_one(tmp_path: Path) -> None:
    """To the inner one all callers are the outer one."""
    chained = report(served([*OUTER, asked(1_000_000, gateway="envoy", team="litellm", requests=200)]), tmp_path)
    assert found(chained) == [("gateways_chained", "c: model llama, gateway envoy behind litellm", 1_000_000)]
    assert by_team(chained) == by_team(report(served(OUTER), tmp_path))
    three = [asked(1_000_000, gateway=name, team="") for name in ("envoy", "kong")]
    assert by_team(report(served([*OUTER, *three]), tmp_path)) == by_team(chained)


def test_who_calls_the_inner_gateway_alone_is_charged_to_nobody_else(tmp_path: Path) -> None:
    outer = [asked(400_000), asked(200_000, team="b"), asked(100_000, team="d")]
    inner = [asked(700_000, gateway="envoy", team="litellm"), asked(300_000, gateway="envoy", team="cron")]
    chained = by_team(report(served([*outer, *inner]), tmp_path))
    assert {team: tokens for team, (tokens, _) in chained.items()} == {
        "a": 400_000,
        "b": 200_000,
        "d": 100_000,
        "unattributed": 300_000,
    }


def test_gateways_with_requests_of_their_own_all_count(tmp_path: Path) -> None:
    split = report(served([asked(500_000), asked(500_000, gateway="envoy", team="b")]), tmp_path)
    assert found(split) == []
    with_caches = report(served([asked(600_000), asked(500_000, gateway="envoy", team="b")]), tmp_path)
    assert found(with_caches) == [("beyond_served", "c: model llama, by gateways envoy, litellm", 100_000)]
    assert set(by_team(with_caches)) == {"a", "b"}
    third = [*OUTER, asked(1_000_000, gateway="envoy", team="litellm"), asked(200_000, gateway="kong", team="cron")]
    fleet = served(third)
    fleet.hour(HOUR, [Gpu(uuid="GPU-1")], [Server(key="v", completion=200_000, requests=20)], node="n2")
    of_three = by_team(report(fleet, tmp_path))
    assert [of_three[team][0] for team in ("a", "b", "cron")] == pytest.approx([600_000, 400_000, 200_000], abs=1)


def test_chained_gateways_are_found_of_a_model_that_is_bought(tmp_path: Path) -> None:
    bought = [asked(700_000, model="gpt-5"), asked(700_000, model="gpt-5", gateway="envoy", team="")]
    assert found(report(served(bought), tmp_path)) == [
        ("not_served", "c: model gpt-5, by gateway litellm", 700_000),
        ("gateways_chained", "c: model gpt-5, gateway envoy behind litellm", 700_000),
    ]


def test_a_kind_that_no_server_reports_is_not_compared(tmp_path: Path) -> None:
    fleet = served([Demand(gateway="g", model="llama", caller={}, prompt_unsplit=9_000_000, completion=1, requests=1)])
    assert found(report(fleet, tmp_path)) == []


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_a_gpu_that_is_reported_twice_is_named_with_what_is_too_much(tmp_path: Path, node: str) -> None:
    """By another node, or by a second agent on its own."""
    fleet = served([])
    fleet.hour(HOUR, [Gpu(held=[Held(workload="w", active_min=60, active_j=1000)])], [Server(key="w")], node=node)
    (gap,) = report(fleet, tmp_path).gaps
    named = ("gpu_twice", "GPU-0, by two agents of c/n1") if node == "n1" else (
        "gpu_contested", "GPU-0 of c/n1, also by c/n2")  # fmt: skip
    assert (gap.kind.name, gap.subject) == named
    assert (gap.amounts.gpu_ms, gap.amounts.energy_mj) == (HOUR_MS, 1_000_000)


def test_a_gpu_that_moved_is_no_gap(tmp_path: Path) -> None:
    fleet = served([])
    fleet.hour("2026-10-20T11:00", [Gpu(held=[Held(workload="w", active_min=60)])], [Server(key="w")], node="n2")
    assert report(fleet, tmp_path).gaps == []
