"""The roll-ups of `ledger/usage.py` in ClickHouse: SQL with which its servers make those of some hours, of facts alone.

In: the tables of hours. Out: rows of `work_hours`, `capacity_hours` and so on under the number of a new roll, the same
as DuckDB's (duckdb/rollup.py) to the last millisecond and token. What it has window functions for, arrays do here:
servers of 18.16 have none. Nothing of it travels to the collector but of GPUs that several nodes report, which are few.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tokenyield_collector.ledger.clickhouse.gpu_owners import contested_in
from tokenyield_collector.ledger.clickhouse.hours import at_most
from tokenyield_collector.ledger.clickhouse.schema import ROLL_NUMBERS, WORK_NUMBERS
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.duckdb.gpu_owners import WHOLE_MS
from tokenyield_collector.ledger.sql import is_one_of
from tokenyield_collector.ledger.tables import AMOUNT_MAX, INTEGER_MAX, columns_of_hours
from tokenyield_collector.ledger.usage import CAPACITY_SUMS, CAPACITY_TIMES, HELD_TIMES, REPORTED, USAGE_KINDS
from tokenyield_wire.units import MS_PER_HOUR

NOBODY = 0
"""The gpu_group of tokens whose workload held no GPU that is known."""
GPU_GROUP = "sipHash64(cluster, node, gpu_model)"
IDENTITY = "sipHash64(cluster, workload, model, labels)"
"""Numbers of names: in 64 bits that nobody can choose names for."""
_NONE = "materialize('')"
_NUMBERS = 2 * len(USAGE_KINDS)
"""Columns n0 … of what is known of a workload: as many as the most that one source has."""


class RollUp(NamedTuple):
    """What became of one hour: a checksum of all that reports read of it, and `ROLL_NUMBERS`."""

    facts: int
    numbers: Mapping[str, int]


def roll_of(base: int, hour_ms: int) -> int:
    """The number of an hour's roll, of several that are made at once under one `base`."""
    return base + hour_ms // MS_PER_HOUR


def roll_up(tables: ClickHouseTables, hours_ms: Sequence[int], base: int) -> dict[int, RollUp]:
    """Make the roll-ups of these hours. Parts are read before their wholes, see ClickHouseLedger."""
    run, within = tables.client.run, is_one_of(hours_ms)
    rolls = ", ".join(str(roll_of(base, hour_ms)) for hour_ms in hours_ms)
    of_roll = f"{within} AND roll IN ({rolls})"
    roll = f"toUInt64({base} + intDiv(hour_ms, {MS_PER_HOUR}))"
    contested = contested_in(tables, hours_ms)
    places = [(hour_ms, roll_of(base, hour_ms), *place) for hour_ms, *place in contested]
    tables.insert_rows("contested_hours", ("hour_ms", "roll", "gpu_uuid", "cluster", "node"), places)
    owned = tables.of("contested_hours")
    is_contested = f"(hour_ms, gpu_uuid) GLOBAL IN (SELECT hour_ms, gpu_uuid FROM {owned} WHERE {of_roll})"
    counting = within
    if contested:
        counting += (
            f" AND NOT ({is_contested} AND (hour_ms, gpu_uuid, cluster, node) GLOBAL NOT IN "
            f"(SELECT hour_ms, gpu_uuid, cluster, node FROM {owned} WHERE {of_roll}))"
        )
    for table, names, source in (
        ("identities", ("cluster", "workload", "model", "labels"), _identities(tables, within)),
        ("gpu_groups", ("cluster", "node", "gpu_model"), f"{tables.of('gpu_hours')} WHERE {within}"),
    ):
        number = IDENTITY if table == "identities" else GPU_GROUP
        run(
            f"INSERT INTO {tables.of(table)} (id, {', '.join(names)}) "
            f"SELECT DISTINCT {number} AS number, {', '.join(names)} FROM {source} "
            f"{'AND' if table == 'gpu_groups' else 'WHERE'} {number} GLOBAL NOT IN (SELECT id FROM {tables.of(table)})"
        )
    run(
        f"INSERT INTO {tables.of('work_hours')} (hour_ms, roll, gpu_group, identity, {', '.join(WORK_NUMBERS)}) "
        f"SELECT hour_ms, {roll}, if(is_placed, {GPU_GROUP}, toUInt64({NOBODY})), {IDENTITY}, "
        f"{', '.join(f'{name}_' for name in WORK_NUMBERS)} FROM ({_work(tables, within, counting)})"
    )
    sums = ", ".join(at_most(column, INTEGER_MAX) for column in CAPACITY_SUMS)
    run(
        f"INSERT INTO {tables.of('capacity_hours')} (hour_ms, roll, gpu_group, {', '.join(CAPACITY_SUMS)}) "
        f"SELECT hour_ms, {roll}, {GPU_GROUP}, {sums} FROM {tables.of('gpu_hours')} FINAL WHERE {counting} "
        "GROUP BY hour_ms, cluster, node, gpu_model"
    )
    own = ", ".join(("gpu_uuid", "cluster", "node", "gpu_model", *CAPACITY_SUMS))
    spent = " + ".join(f"toFloat64({name})" for name in CAPACITY_TIMES)
    run(
        f"INSERT INTO {tables.of('beyond_hours')} (hour_ms, roll, {own}) SELECT hour_ms, {roll}, {own} "
        f"FROM {tables.of('gpu_hours')} FINAL WHERE {within} AND ({spent} > {WHOLE_MS}"
        f"{f' OR {is_contested}' if contested else ''})"
    )
    return _rolled(tables, hours_ms, within, of_roll)


# --- work ----------------------------------------------------------------------------------------------------------


def _identities(tables: ClickHouseTables, within: str) -> str:
    """Who worked: names alone, so that the division among nodes is not made for them."""
    held = (
        f"SELECT DISTINCT {_source(1)}, hour_ms, cluster, workload, {_NONE} AS name, {_NONE} AS gpu_model, "
        f"{_numbers(())} FROM {tables.of('share_hours')} WHERE {within}"
    )
    return (
        f"(SELECT cluster, workload, m.1 AS model, labels FROM ({_workloads(tables, within, held)}) "
        "ARRAY JOIN models AS m)"
    )


def _work(tables: ClickHouseTables, within: str, counting: str) -> str:
    """Rows of `work_hours`, their numbers named with `_` at the end. Tokens fall to the nodes by the workload's active
    time; where none was active, to the first."""
    held = [at_most(name, AMOUNT_MAX) for name in HELD_TIMES]
    of_nodes = (
        f"SELECT {_source(1)}, hour_ms, cluster, workload, node AS name, gpu_model, "
        f"{_numbers(('toInt64(uniqExact(gpu_uuid))', *held))} FROM {tables.of('share_hours')} FINAL WHERE {counting} "
        "GROUP BY hour_ms, cluster, workload, node, gpu_model"
    )
    active = 4  # of a place: node, GPU model, GPUs, active_ms
    spans = (
        f"SELECT *, arrayCumSum(arrayMap(p -> p.{active}, places)) AS upto, "
        f"arraySum(arrayMap(p -> p.{active}, places)) AS whole, toInt64(length(models)) AS models_ "
        f"FROM ({_workloads(tables, within, of_nodes)})"
    )
    held_by = {name: f"p.{i + active}" for i, name in enumerate(HELD_TIMES)}
    placed = (
        "SELECT hour_ms, cluster, workload, labels, is_placed, models, models_, p.1 AS node, p.2 AS gpu_model, "
        f"p.3 AS gpus_, {', '.join(f'{column} AS {name}_' for name, column in held_by.items())}, "
        f"if(whole > 0, u - p.{active}, toInt64(place != 1)) AS lo, if(whole > 0, u, toInt64(1)) AS hi, "
        f"if(whole > 0, whole, toInt64(1)) AS den FROM ({spans}) "
        "ARRAY JOIN places AS p, upto AS u, arrayEnumerate(places) AS place"
    )
    tokens = {kind: part(f"m.{i + 2}", "lo", "hi", "den") for i, kind in enumerate(USAGE_KINDS)}
    reported = {name: f"m.{i + 2 + len(USAGE_KINDS)}" for i, name in enumerate(REPORTED)}
    passed = ("gpus", "models", *HELD_TIMES)
    return (
        "SELECT hour_ms, cluster, workload, labels, is_placed, node, gpu_model, m.1 AS model, "
        f"{', '.join(f'{name}_' for name in passed)}, "
        f"{', '.join(f'{sql} AS {name}_' for name, sql in (tokens | reported).items())} "
        f"FROM ({placed}) ARRAY JOIN models AS m"
    )


def _workloads(tables: ClickHouseTables, within: str, held: str) -> str:
    """A row for each workload of an hour: its `places`, (node, GPU model, GPUs, times …) in their order, its `models`,
    (model, tokens …, rows that reported them …), and the labels that it carried longest."""
    made = [f"ifNull({at_most(kind, AMOUNT_MAX)}, toInt64(0))" for kind in USAGE_KINDS]
    counts = [f"toInt64(count({kind}))" for kind in USAGE_KINDS]
    sources = (
        held,
        f"SELECT {_source(2)}, hour_ms, cluster, workload, model AS name, {_NONE} AS gpu_model, "
        f"{_numbers((*made, *counts))} FROM {tables.of('token_hours')} FINAL WHERE {within} "
        "GROUP BY hour_ms, cluster, workload, model",
        f"SELECT {_source(3)}, hour_ms, cluster, workload, labels AS name, {_NONE} AS gpu_model, "
        f"{_numbers((at_most('seen_ms', INTEGER_MAX),))} FROM {tables.of('label_hours')} FINAL WHERE {within} "
        "GROUP BY hour_ms, cluster, workload, labels",
    )
    of_place = ", ".join(["name", "gpu_model", *(f"n{i}" for i in range(1 + len(HELD_TIMES)))])
    of_model = ", ".join(["name", *(f"n{i}" for i in range(_NUMBERS))])
    no_place = ", ".join(["''", "''", *("toInt64(0)" for _ in range(1 + len(HELD_TIMES)))])
    no_model = ", ".join(["''", *("toInt64(0)" for _ in range(_NUMBERS))])
    return (
        "SELECT hour_ms, cluster, workload, notEmpty(held) AS is_placed, "
        f"if(empty(held), [tuple({no_place})], held) AS places, if(empty(made), [tuple({no_model})], made) AS models, "
        "if(worn = '', '{}', worn) AS labels FROM ("
        "SELECT hour_ms, cluster, workload, "
        f"arraySort(groupArrayIf(tuple({of_place}), what = 1)) AS held, "
        f"arraySort(groupArrayIf(tuple({of_model}), what = 2)) AS made, "
        "arraySort(groupArrayIf(tuple(n0, name), what = 3))[-1].2 AS worn "
        f"FROM ({' UNION ALL '.join(sources)}) GROUP BY hour_ms, cluster, workload) "
        "WHERE notEmpty(held) OR notEmpty(made)"
    )


def _source(number: int) -> str:
    """Not a constant: old servers do not unite those of several shards."""
    return f"materialize(toUInt8({number})) AS what"


def _numbers(columns: Iterable[str]) -> str:
    """As n0, n1 and so on, with 0 up to `_NUMBERS`."""
    given = [*columns]
    given += ["materialize(toInt64(0))"] * (_NUMBERS - len(given))
    return ", ".join(f"{sql} AS n{i}" for i, sql in enumerate(given))


def part(amount: str, lo: str, hi: str, den: str) -> str:
    """The part [lo, hi) of den of a whole, in 128 bits; the parts sum to it."""

    def up_to(end: str) -> str:
        return f"toInt64(toDecimal128({amount}, 0) * toDecimal128({end}, 0) / toDecimal128({den}, 0))"

    return f"({up_to(hi)} - {up_to(lo)})"


# --- what became of it -----------------------------------------------------------------------------------------------


def _rolled(tables: ClickHouseTables, hours_ms: Sequence[int], within: str, of_roll: str) -> dict[int, RollUp]:
    facts = dict.fromkeys(hours_ms, 0)
    numbers = {hour_ms: dict.fromkeys(ROLL_NUMBERS, 0) for hour_ms in hours_ms}
    work, capacity = ("gpu_group", "identity", *WORK_NUMBERS), ("gpu_group", *CAPACITY_SUMS)
    demand, measure = columns_of_hours("demand"), columns_of_hours("measure")
    hosts = f"{within} AND substring(kind, 1, 4) = 'host'"
    nothing: tuple[str, ...] = ()
    for table, where, hashed, of_hour in (
        ("work_hours", of_roll, work, {
            "work_rows": "count()", "split_rows": "countIf(models > 1)", "times_max": _greatest(HELD_TIMES),
            "tokens_max": _greatest(USAGE_KINDS),
        }),
        ("capacity_hours", of_roll, capacity, {"capacity_max": _greatest(CAPACITY_SUMS)}),
        ("demand_hours", within, demand, {"demand_rows": "count()"}),
        ("measure_hours", hosts, measure, {"host_rows": "count()"}),
        ("latency_hours", within, nothing, {"latency_rows": "count()"}),
        ("beyond_hours", of_roll, nothing, {"beyond_rows": "count()"}),
    ):  # fmt: skip
        known = ", ".join(column if column not in demand[5:] else f"ifNull({column}, -1)" for column in hashed)
        checksum = f"groupBitXor(sipHash64({known}))" if hashed else "0"
        final = "" if where == of_roll else "FINAL"
        rows = tables.client.rows(
            f"SELECT hour_ms, {checksum}, {', '.join(of_hour.values())} FROM {tables.of(table)} {final} "
            f"WHERE {where} GROUP BY hour_ms"
        )
        for hour_ms, checked, *values in rows:
            facts[hour_ms] ^= int(checked)
            numbers[hour_ms].update(zip(of_hour, map(int, values), strict=True))
    return {hour_ms: RollUp(facts[hour_ms], numbers[hour_ms]) for hour_ms in hours_ms}


def _greatest(columns: Sequence[str]) -> str:
    """Of all columns and rows. Old servers compare two at a time."""
    greatest, *others = columns
    for column in others:
        greatest = f"greatest({greatest}, {column})"
    return f"max({greatest})"
