"""The time of an hour among pools, for random price books and fleets: all of it somewhere, and no pool has too much."""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, cast

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collector.fleet import HOUR_MS, ms, prices
from tokenyield_collector.ledger.usage import CAPACITY_SUMS, REPORTED, USAGE_KINDS, WORK_SUMS, GpuGroup, UsageReader
from tokenyield_collector.prices.book import is_capped, is_paid
from tokenyield_collector.prices.calendar import in_force
from tokenyield_collector.statements.division import Division
from tokenyield_collector.statements.placement import Placements, Portion

START_MS = ms("2026-10-05T22:00")
HOURS = 4
GPUS = ("H100", "A100", "L4")


class Reported:
    """GPU time by model and hour, as a `UsageReader`."""

    def __init__(self, times: Mapping[tuple[str, int], int]) -> None:
        self.times = times

    def gpu_groups(self) -> list[GpuGroup]:
        return [GpuGroup("c", "n", gpu) for gpu in GPUS]

    def reported_ms(
        self, start_ms: int, end_ms: int, chain_of: Callable[[GpuGroup], str]
    ) -> Mapping[tuple[str, int], int]:
        sums: dict[tuple[str, int], int] = defaultdict(int)
        for (gpu, hour_ms), time_ms in self.times.items():
            sums[chain_of(GpuGroup("c", "n", gpu)), hour_ms] += time_ms
        return sums


days = st.sampled_from([None, date(2026, 10, 5), date(2026, 10, 6)])


@st.composite
def pools(draw: st.DrawFn) -> dict[str, Any]:
    terms: dict[str, Any] = {"per_gpu_hour": 1, "kind": draw(st.sampled_from(["reserved", "on_demand"]))}
    terms["count"] = draw(st.integers(0, 5)) if terms["kind"] == "reserved" else draw(st.sampled_from([None, 2]))
    if terms["kind"] == "reserved" and draw(st.booleans()):
        terms["overflow_per_gpu_hour"] = 2
    terms |= draw(st.sampled_from([{}, {"starts": date(2026, 10, 6)}, {"ends": date(2026, 10, 6)}]))
    match = draw(st.sampled_from([{}, {"gpu": "H100"}, {"gpu": "*100"}, {"gpu": "L4"}]))
    return {"match": match, "rented": terms}


books = st.lists(pools(), max_size=5).map(
    lambda listed: {"pools": [{"name": f"p{i}"} | pool for i, pool in enumerate(listed)]}
)
times = st.dictionaries(
    st.tuples(st.sampled_from(GPUS), st.integers(0, HOURS - 1).map(lambda hour: START_MS + hour * HOUR_MS)),
    st.one_of(st.integers(0, 9 * HOUR_MS), st.integers(0, 9).map(lambda gpus: gpus * HOUR_MS)),
)


ROUNDED_TO_ALL = {"pools": [{"name": "p", "rented": {"per_gpu_hour": 1, "kind": "reserved", "count": 1}},
                            {"name": "q", "rented": {"per_gpu_hour": 1, "ends": date(2027, 1, 1)}},
                            {"name": "r", "match": {"gpu": "H100"}, "rented": {"per_gpu_hour": 1}}]}  # fmt: skip


@settings(max_examples=300, deadline=None)
@example(ROUNDED_TO_ALL, {("H100", START_MS): 1, ("A100", START_MS): HOUR_MS}, False)
@given(books, times, st.booleans())
def test_all_time_is_somewhere_and_no_pool_has_more_than_its_count(
    document: dict[str, Any], reported: dict[tuple[str, int], int], by_hour: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        book = prices(Path(folder), yaml.safe_dump(document))
    reader = Reported(reported)
    end_ms = START_MS + HOURS * HOUR_MS
    placements = Placements(book, cast(UsageReader, reader), START_MS, end_ms, by_hour=by_hour)
    missing: dict[tuple[str, int], int] = defaultdict(int)
    for one in placements.unreported:
        missing[one.pool, one.start_ms] += one.missing_ms
    for i in range(HOURS):
        hour_ms = START_MS + i * HOUR_MS
        day = date(2026, 10, 5 if i < 2 else 6)
        taken: dict[str | None, int] = defaultdict(int)
        of_chain: dict[str, int] = defaultdict(int)
        for gpu in GPUS:
            of_chain[placements.chain_of(GpuGroup("c", "n", gpu))] += reported.get((gpu, hour_ms), 0)
        for chain, whole_ms in of_chain.items():
            portions = placements.portions[chain][placements.segments[chain][i]]
            parts = [portion.part_ms for portion in portions] if len(portions) > 1 else [whole_ms]
            assert sum(parts) == whole_ms, "no millisecond is made or lost"
            assert all(part > 0 for part in parts) or len(parts) == 1
            for portion, part in zip(portions, parts, strict=True):
                taken[portion.pool] += part
            order = [pool.name for pool in book.pools]
            listed = [order.index(portion.pool) for portion in portions if portion.pool is not None]
            assert listed == sorted(listed), "pools take in their order"
        for pool in book.pools:
            terms = in_force(pool.terms, day)
            holds = terms is not None and is_paid(terms, day)
            assert holds or not taken[pool.name], "what does not hold takes nothing"
            if terms is None or not holds or terms.count is None:
                assert not missing[pool.name, hour_ms]
                continue
            count_ms = terms.count * HOUR_MS
            assert missing[pool.name, hour_ms] == max(0, count_ms - taken[pool.name])
            if is_capped(terms):
                assert taken[pool.name] <= count_ms, "nobody has more than was bought"
                is_full = taken[pool.name] == count_ms
                first_ms = sum(
                    reported.get((gpu, hour_ms), 0)
                    for gpu in GPUS
                    if pool.match.fits("c", "n", gpu, {}) and book.pools_of("c", "n", gpu)[0] is pool
                )
                assert is_full or first_ms <= taken[pool.name], "what matches it first is taken up to the count"


amounts = st.integers(0, 10**7)
work = st.lists(
    st.fixed_dictionaries(dict.fromkeys(WORK_SUMS, amounts)).map(
        lambda row: (
            row
            | {
                "unrated_ms": min(row["unrated_ms"], row["productive_ms"]),
                "parked_ms": min(row["parked_ms"], row["idle_ms"]),
                "parked_mj": min(row["parked_mj"], row["idle_mj"]),
            }
        )
    ),
    max_size=6,
)
capacity = st.lists(st.lists(amounts, min_size=len(CAPACITY_SUMS), max_size=len(CAPACITY_SUMS)), max_size=4)


@settings(max_examples=200, deadline=None)
@given(work, capacity, st.lists(st.integers(1, 10**6), min_size=2, max_size=4))
def test_rows_are_divided_to_the_last_unit(
    rows: list[dict[str, int]], free: list[list[int]], shares: list[int]
) -> None:
    """Each part is a whole number, at least 0; parts sum to the row; a pool has exactly its part of all time."""
    active = ("productive_ms", "under_yield_ms", "idle_ms")
    states = len(CAPACITY_SUMS) // 2
    whole_ms = sum(row[name] for row in rows for name in active) + sum(sum(row[:states]) for row in free)
    weight = sum(shares)
    cuts = [sum(shares[:i]) * whole_ms // weight for i in range(len(shares) + 1)]
    portions = [Portion(f"p{i}", None, cuts[i + 1] - cuts[i]) for i in range(len(shares))]
    portions = [portion for portion in portions if portion.part_ms]
    if len(portions) < 2:
        return
    division = Division(portions)
    got = [0] * len(portions)
    listed = [[row[name] for name in WORK_SUMS] for row in rows]
    for row, sums, parts in zip(rows, listed, division.work(listed), strict=True):
        for i, name in enumerate(WORK_SUMS):
            values = [part[i] for part in parts]
            assert min(values) >= 0
            assert name in REPORTED or sum(values) == sums[i], name
        for part in parts:
            named = dict(zip(WORK_SUMS, part, strict=True))
            assert named["unrated_ms"] <= named["productive_ms"]
            assert named["parked_ms"] <= named["idle_ms"]
            assert all(named[f"{kind}_reported"] == row[f"{kind}_reported"] for kind in USAGE_KINDS)
        for i, part in enumerate(parts):
            got[i] += sum(dict(zip(WORK_SUMS, part, strict=True))[name] for name in active)
    for sums, parts in zip(free, division.capacity(free), strict=True):
        assert [sum(values) for values in zip(*parts, strict=True)] == sums
        assert min(min(part) for part in parts) >= 0
        for i, part in enumerate(parts):
            got[i] += sum(part[:states])
    assert got == [portion.part_ms for portion in portions]
