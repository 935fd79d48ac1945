"""How batches get into a ClickHouse ledger: each as one row, which is written whole or not at all.

A batch may reach any collector, twice if need be: it is one row again by its identity. So what is known is looked up
in ClickHouse, and a batch that two collectors take in at once still counts once.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

from tokenyield_collector.ledger.base import ShipmentReceipt
from tokenyield_collector.ledger.clickhouse.client import quoted
from tokenyield_collector.ledger.clickhouse.schema import IDENTITY, WINDOW_COLUMNS
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.clickhouse.workload_names import AGAIN_AFTER_MS, read_uses, write_uses
from tokenyield_collector.ledger.intake import BatchSender, intake_of, sender_of
from tokenyield_collector.ledger.rows import TableRows, rows_of_batch
from tokenyield_collector.ledger.sql import starts_in_hour
from tokenyield_collector.ledger.tables import BATCH_COLUMNS, TABLES, columns_of_batch, columns_of_windows
from tokenyield_collector.ledger.workload_names import WorkloadNames
from tokenyield_wire.units import hour_of_ms
from tokenyield_wire.window import Batch, Shipment

LOOK_UP_BATCHES = 500
"""Batches in one look-up of those that are known: within the 256 kB that a server takes as one statement."""

BatchIdentity = tuple[BatchSender, int]


class ClickHouseWriter:
    """Into the tables of one ledger."""

    def __init__(self, tables: ClickHouseTables) -> None:
        self._tables = tables
        self._names = WorkloadNames(partial(read_uses, tables), AGAIN_AFTER_MS)

    def append(self, shipments: Sequence[Shipment], received_ms: int, scopes: Sequence[str]) -> list[ShipmentReceipt]:
        named = self._names.decided(shipments, scopes, received_ms, partial(write_uses, self._tables))
        return self._append(named, received_ms)

    def _append(self, shipments: Sequence[Shipment], received_ms: int) -> list[ShipmentReceipt]:
        known = self._known(shipments)

        def is_new(sender: BatchSender, seq: int) -> bool:
            count = len(known)
            known.add((sender, seq))
            return len(known) > count

        intake = intake_of(shipments, is_new, self._tables.node_labels)
        if intake.batches:
            self._write(intake.batches, received_ms)
            if intake.node_labels:
                self._write_labels(intake.node_labels, received_ms)
            oldest_ms, first_ms = min(batch.start_ms for _, batch in intake.batches), self._tables.first_ms
            self._tables.first_ms = oldest_ms if first_ms is None else min(first_ms, oldest_ms)
        # Of known batches too: the collector that wrote them may have died before it came to this.
        hours_ms = {hour_of_ms(batch.start_ms) for shipment in shipments for batch in shipment.batches}
        self._tables.insert_rows("touched", ("hour_ms", "commits"), [(hour_ms, 1) for hour_ms in sorted(hours_ms)])
        return intake.receipts

    def _known(self, shipments: Sequence[Shipment]) -> set[BatchIdentity]:
        """Those of the batches that are in the ledger already."""
        by_hour: dict[int, list[str]] = defaultdict(list)
        for shipment in shipments:
            sender = ", ".join(map(quoted, sender_of(shipment)))
            for batch in shipment.batches:
                by_hour[hour_of_ms(batch.start_ms)].append(f"({sender}, {batch.seq})")
        known: set[BatchIdentity] = set()
        for hour_ms, identities in by_hour.items():
            for i in range(0, len(identities), LOOK_UP_BATCHES):
                rows = self._tables.client.rows(  # not `rows` of the tables: senders' names may have any character
                    f"SELECT {IDENTITY} FROM windows{self._tables.suffix} WHERE {starts_in_hour(hour_ms)} "
                    f"AND ({IDENTITY}) IN ({', '.join(identities[i : i + LOOK_UP_BATCHES])})"
                )
                known.update((BatchSender(*sender), int(seq)) for *sender, seq in rows)
        return known

    def _write(self, batches: Sequence[tuple[Shipment, Batch]], received_ms: int) -> None:
        values: list[list[Any]] = [[] for _ in WINDOW_COLUMNS]
        seen: dict[tuple[str, str], int] = {}
        for shipment, batch in batches:
            node = (shipment.cluster, shipment.node)
            seen[node] = max(batch.end_ms, seen.get(node, 0))
            for column, value in zip(values, _window(shipment, batch, received_ms), strict=True):
                column.append(value)
        self._tables.insert("windows", WINDOW_COLUMNS, values)
        ends = [(*node, end_ms) for node, end_ms in seen.items()]
        self._tables.insert_rows("seen_nodes", ("cluster", "node", "end_ms"), ends)

    def _write_labels(self, node_labels: dict[tuple[str, str], str], received_ms: int) -> None:
        rows = [(*node, labels, received_ms) for node, labels in node_labels.items()]
        self._tables.insert_rows("node_labels", ("cluster", "node", "labels", "received_ms"), rows)
        self._tables.node_labels = self._tables.node_labels | node_labels


def _window(shipment: Shipment, batch: Batch, received_ms: int) -> list[Any]:
    """One batch as one row, in the order of `WINDOW_COLUMNS`."""
    rows: TableRows = defaultdict(list)
    rows_of_batch(rows, shipment, batch, received_ms)
    (of_batch,) = rows["batches"]
    row = dict(zip(BATCH_COLUMNS, of_batch, strict=True))
    for table in TABLES:
        names = columns_of_windows(table)
        columns = dict(zip(names, zip(*rows[f"{table}_windows"], strict=True), strict=False))
        row |= {f"{table}.{column}": columns.get(column, ()) for column in columns_of_batch(table)}
    return [row[column] for column in WINDOW_COLUMNS]
