"""How batches get into a DuckDB ledger. Of the writing thread only.

A commit is durable when it returns (DuckDB syncs its write-ahead log). Which batches were received is kept in memory as
number ranges, read at the first batch (received.py), because a unique index over millions of batches would cost more
memory than the rest of the collector. One writer makes that safe.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from tokenyield_collector.ledger.base import ShipmentReceipt
from tokenyield_collector.ledger.duckdb.bulk_insert import insert_rows, make_table
from tokenyield_collector.ledger.duckdb.file import DuckDbFile
from tokenyield_collector.ledger.duckdb.hours import DuckDbHours
from tokenyield_collector.ledger.duckdb.received import Received, read_received
from tokenyield_collector.ledger.duckdb.workload_names import read_uses, write_uses
from tokenyield_collector.ledger.intake import BatchSender, Intake, intake_of, sender_of
from tokenyield_collector.ledger.receipts import NumberSet
from tokenyield_collector.ledger.rows import TableRows, rows_of_batch
from tokenyield_collector.ledger.tables import BATCH_COLUMNS, columns_of_windows
from tokenyield_collector.ledger.workload_names import NameUse, WorkloadNames
from tokenyield_wire.units import hour_of_ms
from tokenyield_wire.window import Shipment

GAPS_MAX = 16


class DuckDbWriter:
    """Into one file."""

    def __init__(self, file: DuckDbFile, hours: DuckDbHours) -> None:
        self._file = file
        self._hours = hours
        self._names = WorkloadNames(partial(read_uses, file))
        self._received: Received | None = None  # read at the first batch: reports need none
        self._node_labels = {
            (cluster, node): labels for cluster, node, labels in file.rows("SELECT * FROM node_labels")
        }
        self.first_ms: int | None = None
        """Start of the oldest window, or hour, that is kept."""
        self.read_first_ms()
        self._is_new = self.first_ms is None
        """Then nothing is missing of agents that were there before it."""

    def append(self, shipments: Sequence[Shipment], received_ms: int, scopes: Sequence[str]) -> list[ShipmentReceipt]:
        shipments, uses = self._names.named(shipments, scopes, received_ms)
        are_kept = False
        try:
            receipts, are_kept = self._append(shipments, uses, received_ms)
        finally:
            if uses and not are_kept:
                self._names.forget()
        return receipts

    def _append(
        self, shipments: Sequence[Shipment], uses: Sequence[NameUse], received_ms: int
    ) -> tuple[list[ShipmentReceipt], bool]:
        """Receipts, and whether there was anything to commit."""
        if self._received is None:
            self._received = read_received(self._file.connection)
        received, fresh = self._received, defaultdict[BatchSender, NumberSet](NumberSet)

        def is_new(sender: BatchSender, seq: int) -> bool:
            return not (sender in received and seq in received[sender]) and fresh[sender].add(seq)

        intake = intake_of(shipments, is_new, self._node_labels)
        if intake.batches:
            self._keep(intake, received, fresh, received_ms, uses)
        return intake.receipts, bool(intake.batches)

    def _keep(
        self, intake: Intake, received: Received, fresh: Received, received_ms: int, uses: Sequence[NameUse]
    ) -> None:
        rows: TableRows = defaultdict(list)
        for shipment, batch in intake.batches:
            rows_of_batch(rows, shipment, batch, received_ms)
        starts_ms = [batch.start_ms for _, batch in intake.batches]
        hours_ms = {hour_of_ms(start_ms) for start_ms in starts_ms}
        self._commit(rows, hours_ms - self._hours.dirty, intake.node_labels, uses)
        # What was committed is known before anything else can fail: its sender would send it again.
        for sender, numbers in fresh.items():
            known = received.setdefault(sender, NumberSet())
            for start, end in numbers.ranges():
                for number in range(start, end + 1):
                    known.add(number)
        self._node_labels |= intake.node_labels
        self._hours.add(hours_ms, [table.removesuffix("_windows") for table in rows if table != "batches"])
        if self.first_ms is None:
            self._file.checkpoint()
        oldest_ms = min(starts_ms)
        self.first_ms = oldest_ms if self.first_ms is None else min(self.first_ms, oldest_ms)

    def _commit(
        self, rows: TableRows, newly_dirty: set[int], labels: dict[tuple[str, str], str], uses: Sequence[NameUse]
    ) -> None:
        connection = self._file.connection
        with self._file.transaction("cannot be written"):
            for (cluster, node), text in labels.items():
                connection.execute("DELETE FROM node_labels WHERE cluster = ? AND node = ?", [cluster, node])
                connection.execute("INSERT INTO node_labels VALUES (?, ?, ?)", [cluster, node, text])
            write_uses(connection, uses)
            insert_rows(connection, "batches", BATCH_COLUMNS, rows["batches"])
            for table, table_rows in rows.items():
                if table != "batches":
                    columns = columns_of_windows(table.removesuffix("_windows"))
                    make_table(connection, f"fresh_{table}", columns, table_rows)
                    connection.execute(f"INSERT INTO {table} BY NAME FROM fresh_{table}")
            if newly_dirty:
                insert_rows(connection, "dirty_hours", ["hour_ms"], [(hour_ms,) for hour_ms in newly_dirty])

    def missing(self, shipment: Shipment) -> list[tuple[int, int]]:
        known = (self._received or {}).get(sender_of(shipment))
        return known.gaps(from_one=not self._is_new, newest=GAPS_MAX) if known is not None else []

    def read_first_ms(self) -> None:
        """Where the ledger begins, as the file has it."""
        rows: list[tuple[int | None, int | None]] = self._file.rows(
            "SELECT (SELECT min(start_ms) FROM batches), (SELECT min(hour_ms) FROM gpu_hours)"
        )
        ((window_ms, hour_ms),) = rows
        if window_ms is None or (hour_ms is not None and hour_ms < hour_of_ms(window_ms)):
            self.first_ms = hour_ms  # the windows of the first hour are gone
        else:
            self.first_ms = window_ms
