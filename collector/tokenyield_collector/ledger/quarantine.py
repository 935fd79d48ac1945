"""Windows that no agent can have measured, and how they are moved aside. Shared by both engines.

In: an engine's tables. Out: what is impossible, and the SQL that finds it. The bounds of tokenyield_wire/window.py hold
for every shipment that is taken in now; a ledger may have older ones, or ones that another program wrote. And each of a
node's windows may be within its bounds while an hour of them is more than a column holds.

What is moved stays in the table `quarantined`, row by row as JSON; its batches stay known, so that agents that send
them again change nothing.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from tokenyield_collector.ledger.tables import AMOUNT_MAX, NODE_KEYS, SHARE_SUMS, SUM_MAX, TABLES
from tokenyield_wire.latency import LATENCY_KINDS
from tokenyield_wire.window import (
    COUNTS_MAX,
    DEMAND_MAX,
    EVENT_NAMES_MAX,
    GPUS_MAX,
    NAMES_MAX,
    SHARES_MAX,
    STATES,
    WORKLOADS_MAX,
)

WINDOW_KEY = (*NODE_KEYS, "start_ms")
KEY_COLUMNS = ", ".join(WINDOW_KEY)
_OF_ONE = {"measure": 4 * NAMES_MAX, "latency": len(LATENCY_KINDS), "reason": 2}
"""So many times an amount's bound may a window's sum be: by names, kinds, and the energy of four states."""
WINDOW_SUM_MAX = {table: _OF_ONE.get(table, 1) * AMOUNT_MAX for table in TABLES}
"""Of each column of a table over a window, as far as the wire lets it be."""
WINDOW_ROWS_MAX = {
    "gpu": GPUS_MAX,
    "reason": 2 * GPUS_MAX * NAMES_MAX,
    "share": SHARES_MAX,
    "token": COUNTS_MAX * WORKLOADS_MAX,
    "demand": DEMAND_MAX,
    "label": WORKLOADS_MAX,
    "measure": GPUS_MAX * (2 * NAMES_MAX + EVENT_NAMES_MAX) + 3 * NAMES_MAX,
    "latency": len(LATENCY_KINDS) * WORKLOADS_MAX,
}
HOUR_AMOUNT_MAX = AMOUNT_MAX
"""Of a row of an hour whose windows are gone. 78 MW of one GPU."""
assert WINDOW_SUM_MAX.keys() == WINDOW_ROWS_MAX.keys() == TABLES.keys()


class Impossible(NamedTuple):
    """All that one node reported of one window, or of one hour whose windows are gone, and why it cannot be."""

    cluster: str
    node: str
    start_ms: int
    span: Literal["windows", "hours"]
    reason: str


class QuarantinedRows(NamedTuple):
    """A row of the table `quarantined`: the rows of one table (`source`) that were moved, as a JSON list of objects."""

    cluster: str
    node: str
    start_ms: int
    source: str
    reason: str
    moved_ms: int
    digest: str
    content: str


def quarantined_rows(one: Impossible, source: str, rows: Sequence[Mapping[str, Any]], moved_ms: int) -> QuarantinedRows:
    content = msgspec.json.encode(rows).decode()
    digest = hashlib.sha256(content.encode()).hexdigest()[:32]
    return QuarantinedRows(one.cluster, one.node, one.start_ms, source, one.reason, moved_ms, digest, content)


class WindowSource(NamedTuple):
    """Where an engine has a table's windows, and how it adds up without an overflow."""

    of_table: Callable[[str], str]
    """Table -> a FROM clause without WHERE."""
    prefix: str
    """Of the columns of a table."""
    wide: Callable[[str], str]
    """Column or sum of columns -> the same in a type that holds more than 64 bits."""


RowsOf = Callable[[str], list[tuple[Any, ...]]]
"""Runs SQL."""


def findings(rows_of: RowsOf, source: WindowSource, within: str,
             batches: Mapping[tuple[str, str, int], int]) -> dict[tuple[str, str, int], str]:  # fmt: skip
    """(cluster, node, start) -> what is impossible in it, of the windows `within` an hour.
    `batches`: how many there are of a window, where that is not one; 0 where rows are of no batch."""
    found: dict[tuple[str, str, int], str] = {}
    for table, (_, sums) in TABLES.items():
        for *key, count, has_least, has_sum in rows_of(_extremes(table, sums, source, within)):
            window = (key[0], key[1], int(key[2]))
            if (reason := _reason(table, count, has_least, has_sum, sums, batches.get(window, 1))) is not None:
                found.setdefault(window, reason)
    for cluster, node, start_ms in rows_of(_overheld(source, within)):
        found.setdefault((cluster, node, int(start_ms)), "workloads hold more of a GPU than it did")
    return found


def _reason(table: str, count: int, least: Sequence[Any], sums: Sequence[Any], names: Sequence[str],
            batches: int) -> str | None:  # fmt: skip
    batches = max(batches, 1)
    if count > batches * WINDOW_ROWS_MAX[table]:
        return f"{table}: {count} entries, at most {WINDOW_ROWS_MAX[table]} fit one window"
    for name, lowest, total in zip(names, least, sums, strict=True):
        if lowest is not None and lowest < 0:
            return f"{table}.{name}: {int(lowest)}, which is below 0"
        if total is not None and total > batches * WINDOW_SUM_MAX[table]:
            return f"{table}.{name}: a sum of {int(total)}, at most {WINDOW_SUM_MAX[table]} fit one window"
    return None


def _extremes(table: str, sums: Sequence[str], source: WindowSource, within: str) -> str:
    """Windows in which anything of a table is beyond a bound: its key, how many rows, least values, sums."""
    columns = [f"{source.prefix}{name}" for name in sums]
    least = [f"min({column})" for column in columns]
    totals = [f"sum({source.wide(column)})" for column in columns]
    beyond = [f"count(*) > {WINDOW_ROWS_MAX[table]}", *(f"{one} < 0" for one in least)]
    beyond += [f"{one} > {WINDOW_SUM_MAX[table]}" for one in totals]
    key = ", ".join(WINDOW_KEY)
    return (
        f"SELECT {key}, count(*), [{', '.join(map(source.wide, least))}], [{', '.join(totals)}] "
        f"FROM {source.of_table(table)} WHERE {within} GROUP BY {key} HAVING {' OR '.join(beyond)}"
    )


def _overheld(source: WindowSource, within: str) -> str:
    """Windows in which workloads hold more time or energy of a GPU than it has."""
    names = SHARE_SUMS[:4]
    key = f"{', '.join(WINDOW_KEY)}, {source.prefix}gpu_uuid AS gpu_uuid"
    both = [
        f"SELECT {key}, {', '.join(f'{sign}{source.wide(source.prefix + name)} AS {name}' for name in names)} "
        f"FROM {source.of_table(table)} WHERE {within}"
        for table, sign in (("gpu", ""), ("share", "-"))
    ]
    of_gpu = f"{', '.join(WINDOW_KEY)}, gpu_uuid"
    overheld = " OR ".join(f"sum({name}) < 0" for name in names)
    return (
        f"SELECT DISTINCT {', '.join(WINDOW_KEY)} FROM (SELECT {of_gpu} FROM ({' UNION ALL '.join(both)}) "
        f"GROUP BY {of_gpu} HAVING {overheld})"
    )


def beyond_an_hour(rows_of: RowsOf, source: WindowSource, within: str) -> dict[tuple[str, str], str]:
    """(cluster, node) -> which of its amounts is, over all its windows `within` an hour, more than the hour holds."""
    reasons: dict[tuple[str, str], str] = {}
    for table, (keys, sums) in TABLES.items():
        by = ", ".join(key if key in NODE_KEYS else f"{source.prefix}{key}" for key in keys)
        totals = [f"sum({source.wide(source.prefix + name)})" for name in sums]
        for cluster, node, values in rows_of(
            f"SELECT cluster, node, [{', '.join(totals)}] FROM {source.of_table(table)} WHERE {within} GROUP BY {by} "
            f"HAVING {' OR '.join(f'{total} > {SUM_MAX[table]}' for total in totals)}"
        ):
            name = next(name for name, value in zip(sums, values, strict=True) if value and value > SUM_MAX[table])
            reason = f"{table}.{name}: the windows of the hour sum to more than {SUM_MAX[table]}"
            reasons.setdefault((cluster, node), reason)
    return reasons


def impossible_windows(found: Mapping[tuple[str, str, int], str]) -> list[Impossible]:
    """Of what `findings` and an engine's own looks gave."""
    return [Impossible(*window, "windows", reason) for window, reason in sorted(found.items())]


def impossible_together(
    rows_of: RowsOf, source: WindowSource, within: str, windows: Iterable[tuple[Any, ...]]
) -> list[Impossible]:
    """Those of the hour's `windows` (rows that begin with a key) whose node has more in them than the hour holds."""
    reasons = beyond_an_hour(rows_of, source, within)
    return [
        Impossible(cluster, node, int(start_ms), "windows", reasons[cluster, node])
        for cluster, node, start_ms, *_ in sorted(windows)
        if (cluster, node) in reasons
    ]


def impossible_hours(rows_of: RowsOf, hours_of: Callable[[str], str], hour_ms: int) -> list[Impossible]:
    """Of an hour whose windows are gone. `hours_of`: table -> a FROM clause of its hours, without WHERE."""
    nodes: set[tuple[Any, ...]] = set()
    for table in TABLES:
        within = f"hour_ms = {int(hour_ms)} AND ({beyond_a_row(table)})"
        nodes.update(rows_of(f"SELECT DISTINCT cluster, node FROM {hours_of(table)} WHERE {within}"))
    return [Impossible(cluster, node, hour_ms, "hours", HOUR_REASON) for cluster, node in sorted(nodes)]


def beyond_a_row(table: str) -> str:
    """A condition on rows of hours whose windows are gone."""
    return " OR ".join(f"{name} < 0 OR {name} > {HOUR_AMOUNT_MAX}" for name in TABLES[table][1])


STATES_MS = tuple(f"{state}_ms" for state in STATES)
LENGTH_REASON = "a GPU's states do not sum to the window's length"
SPAN_REASON = "the window does not lie within one hour"
BATCHLESS_REASON = "rows that are of no batch"
HOUR_REASON = f"an amount of the hour is below 0 or above {HOUR_AMOUNT_MAX}"
