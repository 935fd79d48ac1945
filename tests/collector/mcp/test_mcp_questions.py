"""Thirty questions of the kind that people ask, each with the calls that answer it (three at most), over a made-up month.

What is expected is summed here from the lines of the statement, one by one, and not by a report.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tokenyield_collector.demo.month import make_month
from tokenyield_collector.examples import example_text
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.mcp.answers import Asked
from tokenyield_collector.mcp.tools import BY_NAME
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.load import load_prices
from tokenyield_collector.prices.money import QUANTA_PER_UNIT
from tokenyield_collector.prices.period import parse_period
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.statements.lines import Sums
from tokenyield_collector.statements.names import column_values
from tokenyield_collector.statements.source import Grain

MONTH, FIRST, SECOND = "2026-10", "2026-10-05..2026-10-11", "2026-10-12..2026-10-18"
WEEKEND, MONDAY = "2026-10-10..2026-10-11", "2026-10-12"
CALLS_MAX = 3
Amount = Callable[[Sums], Fraction]


def cost(sums: Sums) -> Fraction:
    return Fraction(sums.total, QUANTA_PER_UNIT)


def bucket(name: str) -> Amount:
    return lambda sums: Fraction(sums.cost(name), QUANTA_PER_UNIT)


def idle(sums: Sums) -> Fraction:
    return Fraction(sums.idle_capacity, QUANTA_PER_UNIT)


def count(name: str) -> Amount:
    return lambda sums: Fraction(sums.get(name))


def hours(name: str) -> Amount:
    return lambda sums: Fraction(sums.get(f"{name}_ms"), 3_600_000)


def tokens(sums: Sums) -> Fraction:
    return Fraction(sums.tokens)


class Expected(NamedTuple):
    """The amount of all lines with these values; where `of` is given, that of the value of `of` that has most of it."""

    amount: Amount
    period: str = MONTH
    where: Mapping[str, str] = MappingProxyType({})
    of: str = ""


class Question(NamedTuple):
    text: str
    tool: str
    arguments: dict[str, Any]
    measure: str
    """Of the total, or of the first row where `expected.of` is given."""
    expected: Expected


def query(text: str, measure: str, expected: Expected) -> Question:
    arguments: dict[str, Any] = {"period": expected.period, "measures": [measure], "where": dict(expected.where)}
    if expected.of:
        arguments["by"] = [expected.of]
    return Question(text, "query", arguments, measure, expected)


def idling(text: str, measure: str, expected: Expected) -> Question:
    arguments = {"period": expected.period, "by": [expected.of or "team"]}
    return Question(text, "find_idle", arguments, measure, expected)


QUESTIONS = (
    query("What did October cost?", "cost", Expected(cost)),
    query("What did the week from the 5th cost?", "cost", Expected(cost, FIRST)),
    query("What did search cost in October?", "cost", Expected(cost, where={"team": "search"})),
    query("Which team costs most?", "cost", Expected(cost, of="team")),
    query("Which model costs most?", "cost", Expected(cost, of="model")),
    query("Which workload costs most?", "cost", Expected(cost, of="workload")),
    query("Which pool costs most?", "cost", Expected(cost, of="pool")),
    query("Which node costs most?", "cost", Expected(cost, of="node")),
    query("Which day was the most expensive?", "cost", Expected(cost, of="day")),
    query("What does ads pay for qwen?", "cost", Expected(cost, where={"team": "ads", "model": "qwen3-32b"})),
    query("How many tokens did we make?", "tokens", Expected(tokens)),
    query("Which team uses most tokens?", "tokens", Expected(tokens, of="team")),
    query("How many tokens came out of the cache?", "prompt_cached", Expected(count("prompt_cached"))),
    query("How many answers' tokens did docs get?", "completion", Expected(count("completion"), where={"team": "docs"})),
    query("How many requests did support send?", "requests", Expected(count("requests"), where={"team": "support"})),
    query("How many GPU-hours were active?", "active_gpu_hours",
          Expected(lambda sums: Fraction(sums.active_ms, 3_600_000))),
    query("How much did the energy cost?", "cost_of_energy",
          Expected(lambda sums: Fraction(sums.component("energy"), QUANTA_PER_UNIT))),
    query("How many joules did the GPUs use?", "joules_gpu", Expected(lambda sums: Fraction(sums.get("gpu_mj"), 1000))),
    query("Whose work is slower than it could be?", "cost_under_yield", Expected(bucket("under_yield"), of="workload")),
    query("What did the weekend cost?", "cost", Expected(cost, WEEKEND)),
    query("What has no price?", "price_missing_gpu_hours", Expected(lambda sums: Fraction(sums.unpriced_ms, 3_600_000))),
    idling("What did idle capacity cost?", "idle_capacity_cost", Expected(idle)),
    idling("Which team idles most?", "idle_capacity_cost", Expected(idle, of="team")),
    idling("Which node is the most idle?", "idle_capacity_cost", Expected(idle, of="node")),
    idling("How many GPU-hours did nobody hold?", "unallocated_gpu_hours", Expected(hours("unallocated"))),
    idling("What did dark GPUs cost?", "cost_dark", Expected(bucket("dark"))),
    idling("How long were loaded models without use?", "parked_gpu_hours", Expected(hours("parked"))),
    Question("Why did spend change last week?", "explain_change", {"period": SECOND, "against": FIRST}, "", Expected(cost)),
    Question("Why did search cost another amount?", "explain_change",
             {"period": SECOND, "against": FIRST, "where": {"team": "search"}}, "", Expected(cost, where={"team": "search"})),
    Question("Why was Monday not as Sunday?", "explain_change",
             {"period": MONDAY, "against": "2026-10-11", "by": ["workload"]}, "", Expected(cost)),
)  # fmt: skip


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("questions")
    make_month(MONTH, folder / "ledger.duckdb")
    (folder / "prices.yaml").write_text(example_text("prices.yaml"))
    ledger = DuckDbLedger(folder / "ledger.duckdb")
    now_ms = parse_period("2026-11-20").start_ms
    yield ReportMaker(ledger=ledger, policy=Policy(prices=load_prices(folder / "prices.yaml")), now_ms=now_ms)
    ledger.close()


_Lines = list[tuple[Any, Sums]]


@pytest.fixture(scope="module")
def lines(maker: ReportMaker) -> Callable[[str], _Lines]:
    """All lines of a period, read once."""
    known: dict[str, _Lines] = {}

    def of(period: str) -> _Lines:
        if period not in known:
            known[period] = list(maker.read(period, Grain(node=True, workload=True, cluster=True)).statement.lines())
        return known[period]

    return of


def summed(lines: _Lines, expected: Expected, dimensions: tuple[str, ...]) -> dict[str, Fraction]:
    found: dict[str, Fraction] = defaultdict(Fraction)
    for key, sums in lines:
        if column_values(key, tuple(expected.where), dimensions) == tuple(expected.where.values()):
            name = column_values(key, (expected.of,), dimensions)[0] if expected.of else ""
            found[name] += expected.amount(sums)
    return found


def close(shown: Any, exact: Fraction) -> bool:
    """As exact as the figure is written: nine decimals of money, doubles of others."""
    return abs(Fraction(shown) - exact) <= max(Fraction(1, 10**8), abs(exact) / 10**12)


def test_there_are_thirty() -> None:
    assert len({question.text for question in QUESTIONS}) == 30


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.text)
def test_a_question_is_answered_with_the_figures_of_the_ledger(
    question: Question, maker: ReportMaker, lines: Callable[[str], _Lines]
) -> None:
    calls = 0

    def call(tool: str, arguments: dict[str, Any]) -> Any:
        nonlocal calls
        calls += 1

        def never(*_: Any) -> Any:
            raise AssertionError("not needed")

        return BY_NAME[tool].call(Asked(maker=maker, diagnose=never, find_shadow=never), arguments)

    dimensions, expected = maker.policy.rules.dimensions, question.expected
    answer = call(question.tool, question.arguments)
    if question.tool == "explain_change":
        sums = [
            sum(summed(lines(question.arguments[name]), expected, dimensions).values(), Fraction())
            for name in ("against", "period")
        ]
        assert close(answer["total"]["difference"], sums[1] - sums[0])
        assert sum(answer["total"]["effects"].values()) == answer["total"]["difference"] != 0
        assert f"{abs(answer['total']['shown']['difference']):,} USD" in answer["text"]
    else:
        found = summed(lines(expected.period), expected, dimensions)
        row = answer["rows"][0] if expected.of else answer["total"]
        most = max(found.values())
        assert close(row[question.measure], most if expected.of else sum(found.values(), Fraction()))
        if expected.of:
            assert found[row[expected.of]] == most
    assert answer["provenance"]["route"].startswith("/v1/")
    assert {"unit", "as_of", "coverage"} <= set(answer)
    assert calls <= CALLS_MAX
