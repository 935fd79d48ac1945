"""What is rounded sums to what its sum is rounded to: of parts, of tables, and of rows that come one by one."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenyield_collector.prices.money import QUANTA_PER_UNIT
from tokenyield_collector.reports.figure import unit_cost
from tokenyield_collector.reports.report_money import whole_money
from tokenyield_collector.reports.rounding import CENTS, EXACT, Rounding, RunningRound, for_people
from tokenyield_collector.statements.buckets import BUCKETS, COSTS

amounts = st.one_of(
    st.just(0), st.integers(-(10**24), 10**24), st.integers(-5, 5).map(lambda cents: cents * 36 * 10**18)
)
roundings = st.sampled_from([CENTS, EXACT, Rounding(1, 0), Rounding(7, 9), Rounding(3_600_000, 9)])


@given(st.lists(amounts, max_size=20), roundings)
def test_rows_sum_to_the_rounded_whole_and_none_is_off_by_more_than_a_step(
    values: list[int], rounding: Rounding
) -> None:
    running = RunningRound(rounding)
    steps = [running.next(value) for value in values]
    assert sum(steps) == running.given == rounding.whole(sum(values))
    assert running.exact == sum(values)
    assert all(is_near(rounding, step, value) for step, value in zip(steps, values, strict=True))


@given(st.lists(amounts, min_size=1, max_size=40), roundings)
def test_parts_sum_to_the_rounded_whole_and_each_is_within_one_step(values: list[int], rounding: Rounding) -> None:
    parts = rounding.divided(rounding.whole(sum(values)), values)
    assert sum(parts) == rounding.whole(sum(values))
    assert all(is_near(rounding, part, value) for part, value in zip(parts, values, strict=True))
    assert all(part == 0 for part, value in zip(parts, values, strict=True) if not value), "nothing stays nothing"


def is_near(rounding: Rounding, steps: int, exact: int) -> bool:
    off: int = abs(steps * rounding.per_unit - exact * 10**rounding.digits)
    return off <= rounding.per_unit


@given(
    st.integers(1, 6).flatmap(lambda n: st.lists(st.lists(amounts, min_size=n, max_size=n), min_size=1, max_size=30))
)
def test_columns_of_a_table_sum_to_their_wholes_and_rows_stay_near(rows: list[list[int]]) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)]
    wholes = CENTS.divided(CENTS.whole(sum(map(sum, columns))), [sum(column) for column in columns])
    table = CENTS.table(columns, wholes)
    assert [sum(column) for column in table] == wholes
    for steps, exact in zip(zip(*table, strict=True), rows, strict=True):
        assert all(is_near(CENTS, step, value) for step, value in zip(steps, exact, strict=True))
        assert all(step == 0 for step, value in zip(steps, exact, strict=True) if not value)


def test_equal_rows_that_are_smaller_than_a_cent_do_not_all_get_it_in_one_column() -> None:
    """19,200 tasks of 0.0025: 16.00 idle and 32.00 productive, and no row with more than a cent."""
    idle, productive = QUANTA_PER_UNIT // 1200, QUANTA_PER_UNIT // 600
    table = CENTS.table([[idle] * 19_200, [productive] * 19_200], [1600, 3200])
    assert [sum(column) for column in table] == [1600, 3200]
    assert {sum(cells) for cells in zip(*table, strict=True)} == {0, 1}


@given(st.lists(amounts, min_size=6, max_size=6), st.lists(st.sampled_from([0, 1, 2, 3]), min_size=5, max_size=5))
def test_the_waterfall_is_what_stayed_and_what_was_shared(caused: list[int], moved: list[int]) -> None:
    before = dict(zip(BUCKETS, caused, strict=False))
    shared = {name: before[name] * part // 3 for name, part in zip(BUCKETS, moved, strict=True)}
    after = {name: before[name] - shared[name] for name in BUCKETS} | {"shared": sum(shared.values())}
    for rounding in (CENTS, EXACT):
        money = whole_money(rounding, after, before)
        assert sum(money.waterfall.values()) == sum(money.columns.values()) == rounding.whole(sum(before.values()))
        assert all(is_near(rounding, money.waterfall[name], before[name]) for name in BUCKETS)
        assert {name: money.columns[name] + money.shared[name] for name in BUCKETS} == money.waterfall
        assert sum(money.shared.values()) == money.columns["shared"]
        part = whole_money(rounding, after)
        assert part.waterfall == part.columns
        assert set(part.columns) == set(COSTS)


def test_there_may_be_no_rows_and_nothing_to_give() -> None:
    assert CENTS.divided(0, []) == []
    assert CENTS.table([[], []], [0, 0]) == [[], []]
    assert CENTS.divided(5, [0, 0]) == [5, 0]
    assert sum(CENTS.divided(-3, [QUANTA_PER_UNIT // 100, 0, QUANTA_PER_UNIT // 50])) == -3


@pytest.mark.parametrize(
    ("steps", "text"),
    [(0, "0.00"), (2_500_000, "0.0025"), (1, "1E-9"), (12_000_000_000, "12.00"), (-7_500_000_000, "-7.50"), (10**9 + 1, "1.000000001")],
)  # fmt: skip
def test_exact_amounts_have_as_many_decimals_as_the_money_has(steps: int, text: str) -> None:
    assert str(EXACT.plain(steps)) == text
    assert EXACT.plain(steps) * 10**9 == steps


@pytest.mark.parametrize(
    ("amount", "digits"), [("0", 2), ("1", 2), ("-12345", 2), ("0.5", 3), ("0.005", 5), ("-0.0001", 6), ("1e-12", 9)]
)
def test_small_wholes_are_shown_with_more_decimals(amount: str, digits: int) -> None:
    assert for_people(int(Decimal(amount) * QUANTA_PER_UNIT)).digits == digits


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0.00"), (0.0025, "0.002500"), (0.00000123456, "0.000001235"), (0.427, "0.4270"), (3, "3.000"), (12.3456, "12.35"), (1234.5678, "1,234.57"), (-0.0025, "-0.002500")],
)  # fmt: skip
def test_unit_costs_have_four_significant_digits(value: float | None, text: str) -> None:
    assert unit_cost(value) == text


@given(st.floats(1e-12, 1e9))
def test_no_unit_cost_reads_like_nothing(value: float) -> None:
    assert float(unit_cost(value).replace(",", "")) == pytest.approx(value, rel=5.1e-4)
