"""The embedded ledger: one DuckDB file, one writer.

Rows go in as columns of numpy arrays, one INSERT per table and commit group: measured here 20,000 rows of 27 columns in
0.08 s, against 2 s with executemany. A commit is durable when it returns (DuckDB syncs its write-ahead log).

Who has been received is held in memory as number ranges, read from the `batches` table at start, because a unique
index over millions of batches would cost more memory than the rest of the collector. One writer makes that safe.
"""

import logging
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import duckdb
import msgspec

from tokenyield_collector.errors import LedgerError, LedgerInUse
from tokenyield_collector.ledger.base import Facts, GpuNow, MadeSlot, Receipt, StatementRecord, WorkSlot
from tokenyield_collector.ledger.duckdb.export import DuckDbExport
from tokenyield_collector.ledger.duckdb.facts import (
    facts_of_hours,
    facts_of_stretches,
    gpus,
    hours_of,
    last_tokens,
    made,
    work,
)
from tokenyield_collector.ledger.duckdb.live_hours import DATABASE as LIVE
from tokenyield_collector.ledger.duckdb.live_hours import LiveHours, summed
from tokenyield_collector.ledger.duckdb.rollup import roll
from tokenyield_collector.ledger.duckdb.schema import (
    MIGRATIONS,
    SCHEMA_VERSION,
    insert_columns,
    insert_rows,
    make_table,
)
from tokenyield_collector.ledger.duckdb.usage import DuckDbUsage
from tokenyield_collector.ledger.receipts import NumberSet
from tokenyield_collector.ledger.rows import (
    BATCH_COLUMNS,
    INTEGER_MAX,
    TABLES,
    Rows,
    Sender,
    columns_of_windows,
    rows_of_batch,
    sender_of,
)
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR, hour_of_ms
from tokenyield_wire.window import Shipment

log = logging.getLogger(__name__)

Asked = ParamSpec("Asked")
Said = TypeVar("Said")

GAPS_MAX = 16
ROLL_HOURS = 24
"""Hours rolled up in one transaction: at 10,000 GPUs one takes 0.03 s."""
CHECKPOINT_BYTES = "64MB"
"""Write-ahead log before DuckDB moves it into the file, for which commits wait: at its own 16 MB that is four times as
often, and an eighth of all time that commits take. A start reads it in a second or two."""
LIVE_ROWS_MAX = 3_000_000
"""Rows of hours held in memory before they are written down though they may still grow: about 0.5 GiB."""


def _told(
    method: Callable[Concatenate["DuckDbLedger", Asked], Said],
) -> Callable[Concatenate["DuckDbLedger", Asked], Said]:
    """What DuckDB raises as `LedgerError`, so that a damaged file does not end who asks."""

    @wraps(method)
    def telling(self: "DuckDbLedger", /, *args: Asked.args, **named: Asked.kwargs) -> Said:
        try:
            return method(self, *args, **named)
        except duckdb.Error as error:
            raise self._unreadable(error) from error

    return telling


class DuckDbLedger:
    """A `Ledger` in one file. Raises `LedgerError` when the file cannot be opened or is of a newer version."""

    is_shared = False

    def __init__(self, path: Path | str, *, memory_limit: str = "800MB", threads: int = 1) -> None:
        self._path = Path(path)
        try:
            if str(path) != ":memory:":
                self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = duckdb.connect(str(path))
        except (duckdb.Error, OSError) as error:
            if "set lock" in str(error):
                raise LedgerInUse(f"ledger {path} cannot be opened: {error}; another collector may hold it") from error
            raise LedgerError(
                f"ledger {path} cannot be opened: {error}; is its folder writable? If it is damaged, put the newest "
                "backup there"
            ) from error
        try:
            self._open(memory_limit, threads)
        except duckdb.Error as error:
            self._connection.close()
            raise self._unreadable(error) from error

    def _open(self, memory_limit: str, threads: int) -> None:
        self._connection.execute(
            f"SET memory_limit = '{memory_limit}'; SET threads = {int(threads)}; "
            f"SET checkpoint_threshold = '{CHECKPOINT_BYTES}'"
        )
        self._migrate()
        self._received: dict[Sender, NumberSet] | None = None  # read at the first batch: reports need none
        self._node_labels = {
            (cluster, node): labels
            for cluster, node, labels in self._connection.execute("SELECT * FROM node_labels").fetchall()
        }
        self._dirty = {row[0] for row in self._connection.execute("SELECT hour_ms FROM dirty_hours").fetchall()}
        """Hours of which the file does not hold all sums."""
        self._unread = set(self._dirty)
        """Of those, the hours whose sums are not in memory either."""
        self._live = LiveHours(self._connection)
        self._writing_down = threading.Lock()
        """Held while an hour goes from memory to the file, and where a reader's snapshot of both begins."""
        self._changed: set[int] = set()
        self._first_ms = self._read_first_ms()
        self._is_new = self._first_ms is None
        """Then nothing is missed of agents that were there before it."""
        self._readers = threading.local()
        self._cursors: weakref.WeakSet[Any] = weakref.WeakSet()

    def _unreadable(self, error: Exception) -> LedgerError:
        return LedgerError(
            f"ledger {self._path} cannot be read: {error}; if the file is damaged, stop and put the newest backup there"
        )

    def leads(self) -> bool:
        return True

    # --- writing -------------------------------------------------------------------------------------------------

    @_told
    def append(self, shipments: Sequence[Shipment], received_ms: int) -> list[Receipt]:
        rows: Rows = defaultdict(list)
        if self._received is None:
            self._received = self._read_received()
        receipts: list[Receipt] = []
        told: dict[tuple[str, str], str] = {}
        fresh: dict[Sender, NumberSet] = {}
        dirty: set[int] = set()
        for shipment in shipments:
            key = sender_of(shipment)
            known, group = self._received.get(key), fresh.setdefault(key, NumberSet())
            accepted = 0
            labels = msgspec.json.encode(shipment.labels, order="sorted").decode()
            if self._node_labels.get((shipment.cluster, shipment.node), "{}") != labels:
                told[shipment.cluster, shipment.node] = labels
            for batch in shipment.batches:
                if (known is not None and batch.seq in known) or not group.add(batch.seq):
                    continue
                accepted += 1
                dirty.add(hour_of_ms(batch.start_ms))
                rows_of_batch(rows, shipment, batch, received_ms)
            receipts.append(Receipt(accepted, len(shipment.batches) - accepted))
        if rows:
            newly_dirty = dirty - self._dirty
            self._commit(rows, newly_dirty, told)
            # What was committed is known before anything else can fail: its sender would send it again.
            for key, group in fresh.items():
                received = self._received.setdefault(key, NumberSet())
                for start, end in group.ranges():
                    for number in range(start, end + 1):
                        received.add(number)
            self._node_labels |= told
            self._dirty |= newly_dirty
            self._changed |= dirty
            self._add_live(rows)
            if self._first_ms is None:
                self._write_into_the_file()
            oldest = min(row[BATCH_COLUMNS.index("start_ms")] for row in rows["batches"])
            self._first_ms = oldest if self._first_ms is None else min(self._first_ms, oldest)
        return receipts

    def missing(self, shipment: Shipment) -> list[tuple[int, int]]:
        known = (self._received or {}).get(sender_of(shipment))
        return known.gaps(from_one=not self._is_new, newest=GAPS_MAX) if known is not None else []

    def _commit(self, rows: Rows, newly_dirty: set[int], labels: dict[tuple[str, str], str]) -> None:
        with self._transaction("cannot be written"):
            for (cluster, node), text in labels.items():
                self._connection.execute("DELETE FROM node_labels WHERE cluster = ? AND node = ?", [cluster, node])
                self._connection.execute("INSERT INTO node_labels VALUES (?, ?, ?)", [cluster, node, text])
            for table, table_rows in rows.items():
                columns = BATCH_COLUMNS if table == "batches" else columns_of_windows(table.removesuffix("_windows"))
                make_table(self._connection, f"fresh_{table}", columns, table_rows)
                self._connection.execute(f"INSERT INTO {table} BY NAME FROM fresh_{table}")
            if newly_dirty:
                insert_rows(self._connection, "dirty_hours", ["hour_ms"], [(hour_ms,) for hour_ms in newly_dirty])

    def _write_into_the_file(self) -> None:
        """So that a ledger never has all of its batches in the write-ahead log: DuckDB may cut a damaged one without a
        word, and an empty ledger would look like a new one, which misses nothing of its agents."""
        try:
            self._connection.execute("CHECKPOINT")
        except duckdb.Error as error:
            log.debug("checkpoint: %s", error)

    def _add_live(self, rows: Rows) -> None:
        try:
            self._live.add(table.removesuffix("_windows") for table in rows if table != "batches")
            for table in rows:
                self._connection.execute(f"DROP TABLE fresh_{table}")
        except Exception as error:  # noqa: BLE001 - what was committed stays, and has its receipt
            self._read_live_again(error)

    @contextmanager
    def _transaction(self, failing: str) -> Iterator[None]:
        """All or nothing. Raises `LedgerError`, which says `failing`, when it cannot be committed."""
        try:
            self._connection.execute("BEGIN")
            yield
            self._connection.execute("COMMIT")
        except (duckdb.Error, OSError) as error:
            self._rollback()
            raise LedgerError(f"ledger {self._path} {failing}: {error}; check the disk") from error

    def _rollback(self) -> None:
        try:
            self._connection.execute("ROLLBACK")
        except duckdb.Error as nothing_begun:
            log.debug("rollback: %s", nothing_begun)

    @_told
    def fold(self) -> list[int]:
        try:
            self._live.compact()
        except duckdb.Error as error:
            self._read_live_again(error)
        if self._live.rows > LIVE_ROWS_MAX:
            self._write_down(sorted(self._dirty)[: max(1, len(self._dirty) - 1)])
        self._read_again()
        changed, self._changed = sorted(self._changed), set()
        return changed

    def _read_live_again(self, error: Exception) -> None:
        self._rollback()
        log.warning("hours that still grow are recomputed from their windows: %s", error)
        self._live.clear()
        self._unread |= self._dirty

    def _read_again(self) -> None:
        """The hours whose sums are not in memory, from their windows."""
        self._changed |= self._unread
        for hour_ms in sorted(self._unread):
            windows = f"start_ms >= {hour_ms} AND start_ms < {hour_ms + MS_PER_HOUR}"
            with self._moving([hour_ms]):
                for table in TABLES:
                    self._connection.execute(f"DELETE FROM {table}_hours WHERE hour_ms = {hour_ms}")
                    self._connection.execute(
                        f"INSERT INTO {table}_hours BY NAME SELECT {summed(table)} "
                        f"FROM (SELECT *, {hour_ms} AS hour_ms FROM {table}_windows WHERE {windows}) GROUP BY ALL"
                    )

    def _write_down(self, hours_ms: Sequence[int]) -> None:
        """What memory holds of these hours goes to the file."""
        self._read_again()
        hours_ms = [hour_ms for hour_ms in hours_ms if hour_ms in self._dirty]
        if not hours_ms:
            return
        within = f"WHERE hour_ms IN ({', '.join(map(str, hours_ms))})"
        with self._moving(hours_ms):
            for table in TABLES:
                both = f"FROM {table}_hours {within} UNION ALL BY NAME FROM {LIVE}.{table}_hours {within}"
                self._connection.execute(
                    f"CREATE OR REPLACE TEMP TABLE whole AS SELECT {summed(table)} FROM ({both}) GROUP BY ALL"
                )
                self._connection.execute(f"DELETE FROM {table}_hours {within}")
                self._connection.execute(f"INSERT INTO {table}_hours BY NAME FROM whole")
            self._connection.execute("DROP TABLE whole")

    @contextmanager
    def _moving(self, hours_ms: Sequence[int]) -> Iterator[None]:
        """A transaction that puts all sums of these hours into the file."""
        listed = ", ".join(map(str, hours_ms))
        with self._writing_down:
            with self._transaction("cannot write its hours down"):
                yield
                self._connection.execute(f"DELETE FROM dirty_hours WHERE hour_ms IN ({listed})")
                self._connection.execute(f"DELETE FROM unrolled_hours WHERE hour_ms IN ({listed})")
                insert_rows(self._connection, "unrolled_hours", ["hour_ms"], [(hour_ms,) for hour_ms in hours_ms])
            self._dirty.difference_update(hours_ms)
            self._unread.difference_update(hours_ms)
            try:
                self._live.forget(hours_ms)
            except duckdb.Error as error:
                self._read_live_again(error)

    def take_hours(
        self,
        hours_ms: Sequence[int],
        columns: Mapping[str, Mapping[str, Sequence[Any]]],
        node_labels: Mapping[tuple[str, str], str],
    ) -> None:
        """Put hours made by another ledger in the place of those here; `columns` are those of each table's hours."""
        listed = ", ".join(map(str, hours_ms))
        with self._transaction("cannot take in hours"):
            for table in TABLES:
                self._connection.execute(f"DELETE FROM {table}_hours WHERE hour_ms IN ({listed})")
                insert_columns(self._connection, f"{table}_hours", columns.get(table, {}))
            self._connection.execute("DELETE FROM node_labels")
            insert_rows(self._connection, "node_labels", ["cluster", "node", "labels"],
                        [(*node, labels) for node, labels in node_labels.items()])  # fmt: skip
            self._connection.execute(f"DELETE FROM unrolled_hours WHERE hour_ms IN ({listed})")
            insert_rows(self._connection, "unrolled_hours", ["hour_ms"], [(hour_ms,) for hour_ms in hours_ms])

    @_told
    def roll(self, before_ms: int | None = None, hours_max: int | None = None) -> bool:
        dirty = sorted(hour_ms for hour_ms in self._dirty if before_ms is None or hour_ms < before_ms)
        self._write_down(dirty[:hours_max])
        where = "" if before_ms is None else f"WHERE hour_ms < {int(before_ms)}"
        found = self._connection.execute(f"SELECT DISTINCT hour_ms FROM unrolled_hours {where} ORDER BY 1")
        every = [row[0] for row in found.fetchall()]
        hours = every[:hours_max]
        for i in range(0, len(hours), ROLL_HOURS):
            some = hours[i : i + ROLL_HOURS]
            with self._transaction("cannot roll up its hours"):
                roll(self._connection, some)
                listed = ", ".join(map(str, some))
                self._connection.execute(f"DELETE FROM unrolled_hours WHERE hour_ms IN ({listed})")
        return len(hours) < len(every) or (hours_max is not None and hours_max < len(dirty))

    @_told
    def statements(self, period: str) -> list[StatementRecord]:
        rows = self._connection.execute(
            "SELECT * FROM statements WHERE period = ? ORDER BY version", [period]
        ).fetchall()
        return [StatementRecord(*row) for row in rows]

    def add_statement(self, record: StatementRecord) -> None:
        with self._transaction("cannot be written"):
            self._connection.execute("INSERT INTO statements VALUES (?, ?, ?, ?, ?, ?)", list(record))

    def retire(self, *, windows_before_ms: int, hours_before_ms: int, counter_bases: dict[str, int]) -> None:
        cut_ms = hour_of_ms(windows_before_ms)  # whole hours only: what is left of an hour could not recompute it
        self._write_down([hour_ms for hour_ms in self._dirty if hour_ms < max(cut_ms, hours_before_ms)])
        bases = self.counter_bases()
        for name, value in counter_bases.items():
            bases[name] = min(bases.get(name, 0) + value, INTEGER_MAX)
        with self._transaction("cannot remove old windows"):
            for table in TABLES:
                self._connection.execute(f"DELETE FROM {table}_windows WHERE start_ms < {cut_ms}")
                self._connection.execute(f"DELETE FROM {table}_hours WHERE hour_ms < {hours_before_ms}")
            for table in ("work_hours", "capacity_hours", "unrolled_hours", "rolled_hours"):
                self._connection.execute(f"DELETE FROM {table} WHERE hour_ms < {hours_before_ms}")
            self._connection.execute(f"DELETE FROM batches WHERE start_ms < {cut_ms}")
            if counter_bases:
                self._connection.execute("DELETE FROM counter_bases")
                insert_rows(self._connection, "counter_bases", ["name", "value"], list(bases.items()))

    @_told
    def counter_bases(self) -> dict[str, int]:
        return dict(self._reading().execute("SELECT name, value FROM counter_bases").fetchall())

    # --- reading -------------------------------------------------------------------------------------------------

    @_told
    def facts_of_hours(self, hours_ms: Sequence[int] | None = None, *, by_node: bool = True) -> Facts:
        with self._snapshot() as connection:
            return facts_of_hours(connection, hours_ms, by_node=by_node)

    def facts_between(self, start_ms: int, end_ms: int, *, by_node: bool = True) -> Facts:
        (facts,) = self.facts_of_stretches([(start_ms, end_ms)], by_node=by_node)
        return facts

    @_told
    def facts_of_stretches(self, stretches: Sequence[tuple[int, int]], *, by_node: bool = True) -> list[Facts]:
        with self._snapshot() as connection:
            return facts_of_stretches(connection, stretches, by_node=by_node)

    @_told
    def usage(self) -> DuckDbUsage:
        return DuckDbUsage(self._new_cursor())

    def export(self) -> DuckDbExport:
        """All that it holds, for another engine; of hours what `roll` has written down."""
        return DuckDbExport(self._reading())

    def _reading(self) -> Any:
        """The calling thread's own connection."""
        if not hasattr(self._readers, "connection"):
            self._readers.connection = self._new_cursor()
        return self._readers.connection

    def _new_cursor(self) -> Any:
        """A connection of its own, which is closed with the ledger or when nobody holds it any more."""
        cursor = self._connection.cursor()
        self._cursors.add(cursor)
        return cursor

    @contextmanager
    def _snapshot(self) -> Iterator[Any]:
        """A connection whose reads are all of one state of the ledger, while others commit: each batch is in all of its
        tables or in none, and an hour is either in memory or in the file, while it may go from one to the other."""
        connection = self._reading()
        try:
            with self._writing_down:
                connection.execute("BEGIN")
                connection.execute(f"SELECT 1 FROM dirty_hours, {LIVE}.gpu_hours LIMIT 1")
            yield connection
        finally:
            with suppress(duckdb.Error):  # of a read that failed, whose error is the one to show
                connection.execute("ROLLBACK")

    @_told
    def gpus_between(self, start_ms: int, end_ms: int, known_since_ms: int) -> list[GpuNow]:
        with self._snapshot() as connection:
            return gpus(connection, start_ms, end_ms, known_since_ms)

    @_told
    def work_between(self, start_ms: int, end_ms: int, step_ms: int) -> list[WorkSlot]:
        with self._snapshot() as connection:
            return work(connection, start_ms, end_ms, step_ms)

    @_told
    def made_between(self, start_ms: int, end_ms: int, step_ms: int) -> list[MadeSlot]:
        with self._snapshot() as connection:
            return made(connection, start_ms, end_ms, step_ms)

    @_told
    def last_tokens(self) -> dict[tuple[str, str], int]:
        with self._snapshot() as connection:
            return last_tokens(connection)

    def first_ms(self) -> int | None:
        return self._first_ms

    @_told
    def last_seen(self) -> dict[tuple[str, str], int]:
        rows = self._reading().execute(
            "SELECT cluster, node, max(end_ms) FROM batches "
            f"WHERE start_ms > (SELECT max(start_ms) FROM batches) - {MS_PER_DAY} GROUP BY ALL"
        )
        return {(cluster, node): end_ms for cluster, node, end_ms in rows.fetchall()}

    @_told
    def hours(self) -> list[int]:
        tables = ("gpu", "token", "demand")  # what a node may tell of alone
        sql = " UNION ".join(f"SELECT hour_ms FROM {hours_of(table)}" for table in tables) + " ORDER BY 1"
        with self._snapshot() as connection:
            return [row[0] for row in connection.execute(sql).fetchall()]

    @_told
    def windows_from_ms(self) -> int | None:
        row = self._reading().execute("SELECT min(start_ms) FROM batches").fetchone()
        return row[0] if row else None

    @_told
    def doubled(self) -> list[tuple[str, str, int, int]]:
        sql = "SELECT cluster, node, start_ms, count(*) FROM batches GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL"
        found: list[tuple[str, str, int, int]] = self._reading().execute(sql).fetchall()
        return found

    def copy_to(self, path: Path) -> None:
        """A copy of the whole as it is now, while others read and write. Raises `LedgerError`."""
        connection = self._connection.cursor()
        try:
            ((own,),) = connection.execute("SELECT current_database()").fetchall()
            quoted = str(path).replace("'", "''")
            connection.execute(f"ATTACH '{quoted}' AS backup")
            try:
                connection.execute(f'COPY FROM DATABASE "{own}" TO backup')
            finally:
                connection.execute("DETACH backup")
        except (duckdb.Error, OSError) as error:
            raise LedgerError(f"ledger {self._path} cannot be copied to {path}: {error}; check the disk") from error
        finally:
            connection.close()

    def size_bytes(self) -> int:
        files = (self._path, self._path.with_name(self._path.name + ".wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        try:
            self._write_down(sorted(self._dirty))
        except LedgerError as error:  # they are recomputed at the next start
            log.warning("%s", error)
        for cursor in list(self._cursors):
            cursor.close()
        self._connection.close()

    # --- opening -------------------------------------------------------------------------------------------------

    def _migrate(self) -> None:
        self._connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT)")
        row = self._connection.execute("SELECT max(version) FROM schema_version").fetchone()
        version = (row and row[0]) or 0
        if version > SCHEMA_VERSION:
            raise LedgerError(
                f"ledger {self._path} has schema version {version}, this collector knows {SCHEMA_VERSION}: "
                "run the newer collector, or restore the copy made before the upgrade"
            )
        for step in range(version + 1, SCHEMA_VERSION + 1):
            self._connection.execute("BEGIN")
            for statement in MIGRATIONS[step]():
                self._connection.execute(statement)
            self._connection.execute("INSERT INTO schema_version VALUES (?)", [step])
            self._connection.execute("COMMIT")

    def _read_received(self) -> dict[Sender, NumberSet]:
        sender = ", ".join(Sender._fields)
        rows = self._connection.execute(
            f"SELECT {sender}, min(seq), max(seq) FROM ("
            f"  SELECT {sender}, seq, seq - row_number() OVER (PARTITION BY {sender} ORDER BY seq) AS island"
            f"  FROM batches) GROUP BY {sender}, island ORDER BY {sender}, min(seq)"
        ).fetchall()
        ranges: dict[Sender, list[tuple[int, int]]] = defaultdict(list)
        for *names, first, last in rows:
            ranges[Sender(*names)].append((first, last))
        return {key: NumberSet(found) for key, found in ranges.items()}

    def _read_first_ms(self) -> int | None:
        found = self._connection.execute(
            "SELECT (SELECT min(start_ms) FROM batches), (SELECT min(hour_ms) FROM gpu_hours)"
        ).fetchone()
        window_ms: int | None
        hour_ms: int | None
        window_ms, hour_ms = found or (None, None)
        if window_ms is None or (hour_ms is not None and hour_ms < hour_of_ms(window_ms)):
            return hour_ms  # the windows of the first hour are gone
        return window_ms
