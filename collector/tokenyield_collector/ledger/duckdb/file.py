"""The file of a DuckDB ledger: how it is opened and brought to the newest schema, and its connections.

One connection writes, in transactions; every reading thread has one of its own. `snapshot` gives readers one state of
the file and of the hours in memory (live_hours.py), while the writer commits.
"""

import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import duckdb

from tokenyield_collector.errors import LedgerError, LedgerInUse, UnstorableShipment
from tokenyield_collector.ledger.duckdb.live_hours import DATABASE as LIVE
from tokenyield_collector.ledger.duckdb.schema import MIGRATIONS, SCHEMA_VERSION
from tokenyield_collector.ledger.schema_version import check_schema_version

log = logging.getLogger(__name__)

CHECKPOINT_BYTES = "64MB"
"""Write-ahead log before DuckDB moves it into the file, for which commits wait: at its own 16 MB that is four times as
often, and an eighth of all time that commits take. A start reads it in a second or two."""
_OF_VALUES = (duckdb.DataError, duckdb.IntegrityError, OverflowError, UnicodeError)
"""What DuckDB and numpy raise for values that no column holds."""


class DuckDbFile:
    """Raises `LedgerError` when the file cannot be opened or is of a newer version."""

    def __init__(self, path: Path | str, *, memory_limit: str, threads: int) -> None:
        self.path = Path(path)
        self.connection = self._connect(str(path))
        """The writer's."""
        self.moving_hours = threading.Lock()
        """Taken while an hour goes from memory to the file, and where a reader's snapshot of both begins."""
        self.cursors: weakref.WeakSet[Any] = weakref.WeakSet()
        self._readers = threading.local()
        try:
            self.connection.execute(
                f"SET memory_limit = '{memory_limit}'; SET threads = {int(threads)}; "
                f"SET checkpoint_threshold = '{CHECKPOINT_BYTES}'; "
                "SET allocator_background_threads = true"  # gives back what it has freed; else it keeps 100 MB and more
            )
            self._migrate()
        except duckdb.Error as error:
            self.connection.close()
            raise self.unreadable(error) from error

    def _connect(self, path: str) -> Any:
        try:
            if path != ":memory:":
                self.path.parent.mkdir(parents=True, exist_ok=True)
            return duckdb.connect(path)
        except (duckdb.Error, OSError) as error:
            if "set lock" in str(error):
                raise LedgerInUse(
                    f"ledger {path} cannot be opened: {error}; another collector may have it open"
                ) from error
            raise LedgerError(
                f"ledger {path} cannot be opened: {error}; is its folder writable? If it is damaged, put the newest "
                "backup there"
            ) from error

    def _migrate(self) -> None:
        self.connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT)")
        row = self.connection.execute("SELECT max(version) FROM schema_version").fetchone()
        version = (row and row[0]) or 0
        check_schema_version(str(self.path), version, SCHEMA_VERSION)
        for step in range(version + 1, SCHEMA_VERSION + 1):
            self.connection.execute("BEGIN")
            for statement in MIGRATIONS[step]():
                self.connection.execute(statement)
            self.connection.execute("INSERT INTO schema_version VALUES (?)", [step])
            self.connection.execute("COMMIT")

    def unreadable(self, error: Exception) -> LedgerError:
        return LedgerError(
            f"ledger {self.path} cannot be read: {error}; if the file is damaged, stop and put the newest backup there"
        )

    # --- writing -------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self, failure: str) -> Iterator[None]:
        """All or nothing, whatever is raised within. Raises `LedgerError`, which reports the `failure`, when it cannot
        be committed, and `UnstorableShipment` when that is for the values themselves."""
        try:
            self.connection.execute("BEGIN")
            yield
            self.connection.execute("COMMIT")
        except _OF_VALUES as error:
            self.rollback()
            raise UnstorableShipment(f"ledger {self.path} {failure}: {error}") from error
        except (duckdb.Error, OSError) as error:
            self.rollback()
            raise LedgerError(f"ledger {self.path} {failure}: {error}; check the disk") from error
        except BaseException:
            self.rollback()  # a transaction that stays open would refuse all that come after
            raise

    def try_writing(self) -> None:
        """Raises `LedgerError` where nothing can be written."""
        with self.transaction("cannot be written"):
            ((version,),) = self.rows("SELECT max(version) FROM schema_version")
            self.connection.execute("DELETE FROM schema_version WHERE version = ?", [version])
            self.connection.execute("INSERT INTO schema_version VALUES (?)", [version])

    def rollback(self) -> None:
        try:
            self.connection.execute("ROLLBACK")
        except duckdb.Error as nothing_begun:
            log.debug("rollback: %s", nothing_begun)

    def checkpoint(self) -> None:
        """So that a ledger never has all of its batches in the write-ahead log: DuckDB may cut a damaged one without a
        word, and an empty ledger would look like a new one, which misses nothing of its agents."""
        try:
            self.connection.execute("CHECKPOINT")
        except duckdb.Error as error:
            log.debug("checkpoint: %s", error)

    def rows(self, sql: str) -> list[Any]:
        """As the writer reads it."""
        rows: list[Any] = self.connection.execute(sql).fetchall()
        return rows

    # --- reading -------------------------------------------------------------------------------------------------

    def reader(self) -> Any:
        """The calling thread's own connection."""
        if not hasattr(self._readers, "connection"):
            self._readers.connection = self.new_cursor()
        return self._readers.connection

    def new_cursor(self) -> Any:
        """A connection of its own, which is closed with the ledger or when nothing refers to it any more."""
        cursor = self.connection.cursor()
        self.cursors.add(cursor)
        return cursor

    @contextmanager
    def snapshot(self) -> Iterator[Any]:
        """A connection whose reads are all of one state of the ledger, while others commit: each batch is in all of its
        tables or in none, and an hour is either in memory or in the file, while it may go from one to the other."""
        connection = self.reader()
        try:
            with self.moving_hours:
                connection.execute("BEGIN")
                connection.execute(f"SELECT 1 FROM dirty_hours, {LIVE}.gpu_hours LIMIT 1")
            yield connection
        finally:
            with suppress(duckdb.Error):  # of a read that failed, whose error is the one to show
                connection.execute("ROLLBACK")

    # --- the whole -----------------------------------------------------------------------------------------------

    def copy_to(self, path: Path) -> None:
        """A copy of the whole as it is now, while others read and write. Raises `LedgerError`."""
        connection = self.connection.cursor()
        try:
            ((own,),) = connection.execute("SELECT current_database()").fetchall()
            quoted = str(path).replace("'", "''")
            connection.execute(f"ATTACH '{quoted}' AS backup")
            try:
                connection.execute(f'COPY FROM DATABASE "{own}" TO backup')
            finally:
                connection.execute("DETACH backup")
        except (duckdb.Error, OSError) as error:
            raise LedgerError(f"ledger {self.path} cannot be copied to {path}: {error}; check the disk") from error
        finally:
            connection.close()

    def size_bytes(self) -> int:
        files = (self.path, self.path.with_name(self.path.name + ".wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        for cursor in list(self.cursors):
            cursor.close()
        self.connection.close()


class _OfOneFile(Protocol):
    _file: DuckDbFile


Owner = TypeVar("Owner", bound=_OfOneFile)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def readable(
    method: Callable[Concatenate[Owner, Arguments], Result],
) -> Callable[Concatenate[Owner, Arguments], Result]:
    """What DuckDB raises as `LedgerError`, so that a damaged file does not end the caller."""

    @wraps(method)
    def translated(self: Owner, /, *args: Arguments.args, **named: Arguments.kwargs) -> Result:
        try:
            return method(self, *args, **named)
        except duckdb.Error as error:
            raise self._file.unreadable(error) from error

    return translated
