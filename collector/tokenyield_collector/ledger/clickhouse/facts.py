"""A ClickHouse ledger's facts, summed over hours or over any stretch of windows.

Several queries see several states of the ledger. What ClickHouseLedger guarantees all the same comes from here: parts
are read before their wholes (the order of `FACT_KINDS`), and stretches again when batches came in meanwhile.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.facts import FACT_KINDS, FactKind, Facts
from tokenyield_collector.ledger.sql import is_one_of, starts_in
from tokenyield_collector.ledger.tables import NODE_KEYS

log = logging.getLogger(__name__)

READS_MAX = 3
"""Reads of one answer while batches come in. Of the live window all should have arrived, so that one is the rule."""


def facts_of_hours(
    tables: ClickHouseTables, hours_ms: Sequence[int] | None, *, by_node: bool, kinds: Sequence[FactKind]
) -> Facts:
    where = f"hour_ms >= {tables.retired_before_ms('hours')}"
    if hours_ms is not None:
        if not hours_ms:
            return Facts(node_labels=_node_labels(tables), **{kind.field: [] for kind in kinds})
        where += f" AND {is_one_of(hours_ms)}"

    def source(table: str) -> str:
        return f"{table}_hours{tables.suffix} FINAL WHERE {where}"

    return _facts(tables, "hour_ms", source, "", by_node=by_node, kinds=kinds)


def facts_of_stretches(tables: ClickHouseTables, stretches: Sequence[tuple[int, int]], *, by_node: bool) -> list[Facts]:
    """Of one state, unless in each of `READS_MAX` reads batches came in meanwhile: then of the last read, in which a
    stretch may have batches that one read before it lacks; its own shares never exceed its GPUs."""
    before = _batches_of(tables, stretches)
    for _ in range(READS_MAX):
        # The longest last, so that a whole never lacks what its parts have.
        order = sorted(range(len(stretches)), key=lambda i: stretches[i][1] - stretches[i][0])
        facts = {i: _facts_of_stretch(tables, *stretches[i], by_node=by_node) for i in order}
        after = _batches_of(tables, stretches)
        if after == before:
            break
        before = after
    else:
        log.debug("batches came in during each of %d reads of %s", READS_MAX, stretches)
    return [facts[i] for i in range(len(stretches))]


def _facts_of_stretch(tables: ClickHouseTables, start_ms: int, end_ms: int, *, by_node: bool) -> Facts:
    def source(table: str) -> str:
        return f"windows{tables.suffix} FINAL ARRAY JOIN {table} AS x WHERE {starts_in(start_ms, end_ms)}"

    return _facts(tables, "0", source, "x.", by_node=by_node, kinds=FACT_KINDS)


def _batches_of(tables: ClickHouseTables, stretches: Sequence[tuple[int, int]]) -> int:
    """How many different batches there are. It only grows, but for what `retire` takes."""
    if not stretches:
        return 0
    within = starts_in(min(start for start, _ in stretches), max(end for _, end in stretches))
    ((batches,),) = tables.rows(f"SELECT count() FROM {{windows}} FINAL WHERE {within}")
    return int(batches)


def _facts(
    tables: ClickHouseTables,
    hour: str,
    source: Callable[[str], str],
    prefix: str,
    *,
    by_node: bool,
    kinds: Sequence[FactKind],
) -> Facts:
    def rows(kind: FactKind) -> list[Any]:
        columns = [key if key in NODE_KEYS else f"{prefix}{key}" for key in kind.columns]
        selected = [
            hour,
            *("''" if column == "node" and not by_node else column for column in columns),
            *([f"toInt64(uniqExact({prefix}gpu_uuid))"] if kind.counts_gpus else []),
            *(f"sum({prefix}{column})" for column in kind.sums),
        ]
        by = [column for column in (hour, *columns) if column != "0" and (by_node or column != "node")]
        of_kind = tables.client.rows(f"SELECT {', '.join(selected)} FROM {source(kind.table)} GROUP BY {', '.join(by)}")
        return kind.rows(sorted(of_kind, key=lambda row: row[: 1 + len(kind.keys)]))

    of_kinds = {kind.field: rows(kind) for kind in kinds}
    return Facts(node_labels=_node_labels(tables), **of_kinds)


def _node_labels(tables: ClickHouseTables) -> dict[tuple[str, str], dict[str, str]]:
    return {node: msgspec.json.decode(labels) for node, labels in tables.node_labels.items()}
