"""A server's time is split among its models when it is read, by the weights of the query, to the last millisecond."""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.samples import HOUR_MS, NOON_MS
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.duckdb.schema import MIGRATIONS
from tokenyield_collector.ledger.tables import GPU_KEYS, SHARE_KEYS, TOKEN_KEYS
from tokenyield_collector.ledger.usage import WORK_SUMS, UsageQuery, WorkIdentity
from tokenyield_wire.window import TOKEN_KINDS

DEFAULT = {"prompt_computed": 1000, "prompt_cached": 100, "prompt_unsplit": 1000, "completion": 4000}
TIMES = ("active_ms", "idle_ms", "active_mj", "idle_mj", "parked_ms", "parked_mj")
GPU_TIMES = (*TIMES, "unallocated_ms", "unknown_ms", "unallocated_mj", "unknown_mj")
Place = tuple[str, str]


class Served(NamedTuple):
    """What a server used on each (node, GPU model), as `TIMES`, and each model's tokens, as `TOKEN_KINDS`."""

    times: dict[Place, tuple[int, ...]]
    tokens: dict[str, tuple[int, ...]]


counts = st.one_of(st.just(0), st.integers(0, 50), st.integers(0, 10**12))
servers = st.builds(
    Served,
    st.dictionaries(
        st.tuples(st.sampled_from(["n1", "n2", "n3"]), st.sampled_from(["H100", "L40S"])),
        st.tuples(*[counts] * len(TIMES)),
        min_size=1,
        max_size=4,
    ),
    st.dictionaries(st.sampled_from("abcd"), st.tuples(*[counts] * len(TOKEN_KINDS)), min_size=1, max_size=4),
)
weightings = st.fixed_dictionaries({kind: st.integers(0, 10_000) for kind in TOKEN_KINDS})
checks = settings(
    max_examples=int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "8")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[DuckDbLedger]:
    opened = DuckDbLedger(tmp_path / "ledger.duckdb")
    yield opened
    opened.close()


def fill(ledger: DuckDbLedger, workloads: Mapping[str, Served]) -> None:
    """The hour of noon is what these used and made, and is rolled up."""
    shares, tokens = [], []
    for workload, served in workloads.items():
        for (node, gpu_model), times in served.times.items():
            shares.append((NOON_MS, "c", node, f"{node}-{gpu_model}", gpu_model, workload, "sm", *times))
        for model, made in served.tokens.items():
            tokens.append((NOON_MS, "c", "n1", workload, "vllm", "n1", model, "rate", *made))
    for table, rows in (
        ("share", columns(["hour_ms", *SHARE_KEYS, *TIMES], shares)),
        ("gpu", columns(["hour_ms", *GPU_KEYS, *GPU_TIMES], [(*row[:5], *row[7:], 0, 0, 0, 0) for row in shares])),
        ("token", columns(["hour_ms", *TOKEN_KEYS, *TOKEN_KINDS], tokens)),
    ):
        ledger._file.connection.execute(f"DELETE FROM {table}_hours")
        ledger.take_rows(f"{table}_hours", rows)
    ledger._file.connection.execute(f"INSERT INTO unrolled_hours VALUES ({NOON_MS})")
    ledger.roll()


def columns(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    return dict(zip(names, zip(*rows, strict=True), strict=True))


def read(ledger: DuckDbLedger, weights: Mapping[str, int]) -> dict[tuple[str, str, Place], dict[str, int]]:
    """(workload, model, place) -> sums."""
    identities: list[WorkIdentity] = []

    def number(identity: WorkIdentity) -> int:
        if identity not in identities:
            identities.append(identity)
        return identities.index(identity)

    query = UsageQuery(
        start_ms=NOON_MS,
        end_ms=NOON_MS + HOUR_MS,
        by_node=True,
        weights=weights,
        chain_of=lambda group: group.gpu_model,
        segments={"H100": [1], "L40S": [1]},
        references={},
        gateway_models={},
        group_of=number,
    )
    sums = {}
    for row in ledger.usage().usage(query).work:
        identity = identities[row.group]
        place = row.node[1], row.chain or ""
        sums[identity.workload, identity.model, place] = dict(zip(WORK_SUMS, row.sums, strict=True))
    return sums


def times_of(sums: Mapping[str, int]) -> tuple[int, ...]:
    return (
        sums["productive_ms"] + sums["under_yield_ms"],
        sums["idle_ms"],
        sums["productive_mj"] + sums["under_yield_mj"],
        sums["idle_mj"],
        sums["parked_ms"],
        sums["parked_mj"],
    )


def split(amount: int, shares: Sequence[int]) -> list[int]:
    """`amount` in proportion to `shares`, to the whole; the first has it where nobody has a share."""
    whole = sum(shares)
    if not whole:
        return [amount, *[0] * (len(shares) - 1)]
    return [amount * hi // whole - amount * lo // whole for lo, hi in pairwise(accumulate(shares, initial=0))]


def expected(served: Served, weights: Mapping[str, int]) -> dict[tuple[str, Place], tuple[int, ...]]:
    """(model, place) -> times, by the arithmetic that roll-ups did with weights of their own until schema 6."""
    models = sorted(served.tokens)
    units = [sum(weights[kind] * n for kind, n in zip(TOKEN_KINDS, served.tokens[m], strict=True)) for m in models]
    parts = {place: [split(x, units) for x in times] for place, times in served.times.items()}
    return {(m, place): tuple(x[i] for x in split_times) for i, m in enumerate(models) for place, split_times in parts.items()}  # fmt: skip


@given(several=st.lists(servers, min_size=1, max_size=3), weights=st.one_of(st.just(DEFAULT), weightings))
@checks
def test_models_have_the_whole_by_the_weights_of_the_query(
    ledger: DuckDbLedger, several: list[Served], weights: dict[str, int]
) -> None:
    workloads = {f"w{i}": served for i, served in enumerate(several)}
    fill(ledger, workloads)
    rows = read(ledger, weights)
    assert {key: times_of(sums) for key, sums in rows.items()} == {
        (workload, model, place): times
        for workload, served in workloads.items()
        for (model, place), times in expected(served, weights).items()
    }
    for workload, served in workloads.items():
        for place, times in served.times.items():
            parts = [times_of(rows[workload, model, place]) for model in served.tokens]
            assert tuple(map(sum, zip(*parts, strict=True))) == times
        for model, tokens in served.tokens.items():
            made = [rows[workload, model, place] for place in served.times]
            assert tuple(sum(sums[kind] for sums in made) for kind in TOKEN_KINDS) == tokens


@given(served=servers, weights=weightings)
@checks
def test_one_model_has_the_same_whatever_tokens_weigh(
    ledger: DuckDbLedger, served: Served, weights: dict[str, int]
) -> None:
    model = min(served.tokens)
    fill(ledger, {"w": Served(served.times, {model: served.tokens[model]})})
    rows = read(ledger, weights)
    assert rows == read(ledger, DEFAULT)
    assert {place: times_of(sums) for (_, _, place), sums in rows.items()} == served.times


@given(served=servers, weights=weightings)
@checks
def test_the_checksum_of_an_hour_is_of_its_facts_alone(
    ledger: DuckDbLedger, served: Served, weights: dict[str, int]
) -> None:
    fill(ledger, {"w": served})
    before = ledger.usage().checksum(NOON_MS, NOON_MS + HOUR_MS)
    read(ledger, weights)
    fill(ledger, {"w": served})
    assert ledger.usage().checksum(NOON_MS, NOON_MS + HOUR_MS) == before


def test_the_best_hour_is_of_the_time_that_the_weights_give(ledger: DuckDbLedger) -> None:
    """Model b made all its tokens in a third of the hour by one weighting, in two thirds by the other."""
    fill(
        ledger,
        {"w": Served({("n1", "H100"): (3_000_000, 0, 0, 0, 0, 0)}, {"a": (1_000, 0, 0, 0), "b": (0, 0, 0, 500)})},
    )
    for completion, active_ms in ((1000, 1_000_000), (4000, 2_000_000)):
        weights = {**DEFAULT, "completion": completion}
        best = {hour.instance.model: hour for hour in ledger.usage().best_hours(NOON_MS, NOON_MS + 1, weights)}
        assert (best["b"].active_ms, best["b"].units) == (active_ms, 500 * completion)
        assert best["a"].active_ms == 3_000_000 - active_ms


def test_a_ledger_rolled_up_with_weights_of_its_own_is_rolled_up_again(tmp_path: Path) -> None:
    """Schema 5 as it was released: work_hours hold split times."""
    path = tmp_path / "ledger.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE schema_version (version BIGINT)")
        for version in range(1, 6):
            for statement in MIGRATIONS[version]():
                connection.execute(statement)
        connection.execute("INSERT INTO schema_version VALUES (5)")
        hour = f"{NOON_MS} AS hour_ms, 'c' AS cluster, 'n1' AS node, 'w' AS workload"
        for table, row in (
            ("share_hours", f"{hour}, 'g' AS gpu_uuid, 'H100' AS gpu_model, 10000 AS active_ms, 5000 AS idle_ms, "
                            "100 AS active_mj, 50 AS idle_mj, 2000 AS parked_ms, 20 AS parked_mj"),
            ("gpu_hours", f"{NOON_MS} AS hour_ms, 'c' AS cluster, 'n1' AS node, 'g' AS gpu_uuid, 'H100' AS gpu_model"),
            ("token_hours", f"{hour}, 'a' AS model, 1 AS prompt_computed"),
            ("token_hours", f"{hour}, 'b' AS model, 1 AS completion"),
            ("gpu_groups", "1 AS id, 'c' AS cluster, 'n1' AS node, 'H100' AS gpu_model"),
            ("identities", "1 AS id, 'c' AS cluster, 'w' AS workload, 'a' AS model, '{}' AS labels"),
            ("work_hours", f"{NOON_MS} AS hour_ms, 1 AS gpu_group, 1 AS identity, 1 AS gpus, 2000 AS active_ms, "
                           "1 AS prompt_computed_told"),
            ("rolled_hours", f"{NOON_MS} AS hour_ms, 1 AS facts"),
        ):  # fmt: skip
            connection.execute(f"INSERT INTO {table} BY NAME SELECT {row}")
    ledger = DuckDbLedger(path)
    ledger.roll()
    rows = read(ledger, dict.fromkeys(TOKEN_KINDS, 1))
    assert {model: times_of(sums) for (_, model, _), sums in rows.items()} == {
        "a": (5_000, 2_500, 50, 25, 1_000, 10),
        "b": (5_000, 2_500, 50, 25, 1_000, 10),
    }
    assert [rows["w", model, ("n1", "H100")]["completion_reported"] for model in "ab"] == [0, 1]
    ledger.close()
