"""The embedded ledger: one DuckDB file, one writer.

Its parts: file.py (opening, connections, snapshots), writer.py (batches), hours.py (sums and roll-ups), reader.py,
retention.py, versions.py (closed periods), figures.py (what was computed);
usage.py is what reports read. Here they are put together, and what DuckDB raises becomes `LedgerError`.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from tokenyield_collector.errors import LedgerError
from tokenyield_collector.ledger.base import ShipmentReceipt
from tokenyield_collector.ledger.duckdb import activity, facts, observed, outcomes, quarantine, received, spend
from tokenyield_collector.ledger.duckdb.bulk_insert import insert_columns
from tokenyield_collector.ledger.duckdb.export import DuckDbExport
from tokenyield_collector.ledger.duckdb.figures import DuckDbFigures
from tokenyield_collector.ledger.duckdb.file import DuckDbFile, readable
from tokenyield_collector.ledger.duckdb.hours import DuckDbHours
from tokenyield_collector.ledger.duckdb.reader import DuckDbReader
from tokenyield_collector.ledger.duckdb.retention import retire
from tokenyield_collector.ledger.duckdb.usage import DuckDbUsage
from tokenyield_collector.ledger.duckdb.versions import DuckDbVersions
from tokenyield_collector.ledger.duckdb.workload_names import name_conflicts
from tokenyield_collector.ledger.duckdb.writer import DuckDbWriter
from tokenyield_collector.ledger.facts import FACT_KINDS, FactKind, Facts, GpuNow, MadeSlot, WorkSlot
from tokenyield_collector.ledger.name_conflicts import NameConflict
from tokenyield_collector.ledger.outcomes import OutcomeSlice
from tokenyield_collector.ledger.quarantine import Impossible, QuarantinedRows
from tokenyield_collector.ledger.receipts import ReceiptDifference
from tokenyield_collector.spend.otlp.points import ObservedPoint, SeriesState
from tokenyield_collector.spend.otlp.slices import ObservedSum
from tokenyield_collector.spend.slices import SpendSlice
from tokenyield_wire.window import Shipment

log = logging.getLogger(__name__)


class DuckDbLedger:
    """A `Ledger` in one file. Raises `LedgerError` when the file cannot be opened or is of a newer version."""

    is_shared = False

    def __init__(self, path: Path | str, *, memory_limit: str = "300MB", threads: int = 1) -> None:
        self._file = DuckDbFile(path, memory_limit=memory_limit, threads=threads)
        try:
            self._hours = DuckDbHours(self._file)
            self._writer = DuckDbWriter(self._file, self._hours)
        except duckdb.Error as error:
            self._file.connection.close()
            raise self._file.unreadable(error) from error
        self._reader = DuckDbReader(self._file)
        self.versions = DuckDbVersions(self._file)
        self.figures = DuckDbFigures(self._file)

    def leads(self) -> bool:
        return True

    # --- writing -------------------------------------------------------------------------------------------------

    @readable
    def append(
        self, shipments: Sequence[Shipment], received_ms: int, scopes: Sequence[str] = ()
    ) -> list[ShipmentReceipt]:
        return self._writer.append(shipments, received_ms, scopes)

    def try_writing(self) -> None:
        self._file.try_writing()

    def missing(self, shipment: Shipment) -> list[tuple[int, int]]:
        return self._writer.missing(shipment)

    @readable
    def fold(self) -> list[int]:
        return self._hours.fold()

    @readable
    def roll(self, before_ms: int | None = None, hours_max: int | None = None) -> bool:
        return self._hours.roll(before_ms, hours_max)

    def roll_day(self, before_ms: int) -> None:
        return None

    @readable
    def take_rows(self, table: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Rows of a table of roll-ups, or of what they refer to, that another ledger made; for `usage` alone."""
        insert_columns(self._file.connection, table, columns)

    @readable
    def impossible(self, hour_ms: int) -> list[Impossible]:
        return quarantine.impossible(self._file, hour_ms)

    @readable
    def quarantine(self, found: Sequence[Impossible], moved_ms: int) -> None:
        quarantine.quarantine(self._file, self._hours, found, moved_ms)

    @readable
    def replace_outcomes(self, slices: Sequence[OutcomeSlice], imported_ms: int) -> None:
        outcomes.replace_outcomes(self._file, slices, imported_ms)

    @readable
    def replace_spend(self, slices: Sequence[SpendSlice], imported_ms: int) -> None:
        spend.replace_spend(self._file, slices, imported_ms)

    @readable
    def add_observed(self, points: Sequence[ObservedPoint], received_ms: int) -> None:
        observed.add_observed(self._file, points, received_ms)

    @readable
    def retire(self, *, windows_before_ms: int, hours_before_ms: int, counter_bases: dict[str, int]) -> None:
        retire(
            self._file,
            self._hours,
            windows_before_ms=windows_before_ms,
            hours_before_ms=hours_before_ms,
            counter_bases=counter_bases,
        )
        self._writer.read_first_ms()

    # --- reading -------------------------------------------------------------------------------------------------

    @readable
    def facts_of_hours(
        self,
        hours_ms: Sequence[int] | None = None,
        *,
        by_node: bool = True,
        kinds: Sequence[FactKind] = FACT_KINDS,
    ) -> Facts:
        return self._reader.in_snapshot(facts.facts_of_hours, hours_ms, by_node=by_node, kinds=kinds)

    def facts_between(self, start_ms: int, end_ms: int, *, by_node: bool = True) -> Facts:
        (of_stretch,) = self.facts_of_stretches([(start_ms, end_ms)], by_node=by_node)
        return of_stretch

    @readable
    def facts_of_stretches(self, stretches: Sequence[tuple[int, int]], *, by_node: bool = True) -> list[Facts]:
        return self._reader.in_snapshot(facts.facts_of_stretches, stretches, by_node=by_node)

    @readable
    def gpus_between(self, start_ms: int, end_ms: int, known_since_ms: int) -> list[GpuNow]:
        return self._reader.in_snapshot(activity.gpus_between, start_ms, end_ms, known_since_ms)

    @readable
    def work_between(self, start_ms: int, end_ms: int, step_ms: int) -> list[WorkSlot]:
        return self._reader.in_snapshot(activity.work_between, start_ms, end_ms, step_ms)

    @readable
    def made_between(self, start_ms: int, end_ms: int, step_ms: int) -> list[MadeSlot]:
        return self._reader.in_snapshot(activity.made_between, start_ms, end_ms, step_ms)

    @readable
    def last_tokens(self) -> dict[tuple[str, str], int]:
        return self._reader.in_snapshot(activity.last_tokens)

    def first_ms(self) -> int | None:
        return self._writer.first_ms

    @readable
    def last_seen(self) -> dict[tuple[str, str], int]:
        return self._reader.last_seen()

    @readable
    def counter_bases(self) -> dict[str, int]:
        return self._reader.counter_bases()

    @readable
    def usage(self) -> DuckDbUsage:
        return DuckDbUsage(self._file.new_cursor())

    @readable
    def revision(self, start_ms: int, end_ms: int) -> str:
        return self._reader.revision(start_ms, end_ms)

    @readable
    def hour_revisions(self) -> dict[int, int | None]:
        return self._reader.hour_revisions()

    @readable
    def hours(self) -> list[int]:
        return self._reader.hours()

    @readable
    def outcomes(self, start_ms: int, end_ms: int) -> list[OutcomeSlice]:
        return outcomes.read_outcomes(self._file.reader(), start_ms, end_ms)

    @readable
    def spend(self, start_ms: int, end_ms: int) -> list[SpendSlice]:
        return spend.read_spend(self._file.reader(), start_ms, end_ms)

    @readable
    def spend_days(self) -> tuple[int, int] | None:
        return spend.spend_days(self._file.reader())

    @readable
    def spend_days_of(self, source: str, account: str, grain: str) -> list[int]:
        return spend.spend_days_of(self._file.reader(), source, account, grain)

    @readable
    def spend_revision(self, start_ms: int, end_ms: int) -> str:
        return spend.spend_revision(self._file.reader(), start_ms, end_ms)

    @readable
    def observed_states(self, series: Sequence[str]) -> dict[str, SeriesState]:
        return observed.observed_states(self._file.reader(), series)

    @readable
    def observed_days(self, first_ms: int) -> dict[int, tuple[int, int]]:
        return observed.observed_days(self._file.reader(), first_ms)

    @readable
    def observed_sums(self, day_ms: int) -> list[ObservedSum]:
        return self._reader.in_snapshot(observed.observed_sums, day_ms)

    @readable
    def windows_from_ms(self) -> int | None:
        return self._reader.windows_from_ms()

    @readable
    def name_conflicts(self) -> list[NameConflict]:
        return name_conflicts(self._file.reader())

    @readable
    def quarantined(self) -> list[QuarantinedRows]:
        return quarantine.quarantined(self._file.reader())

    @readable
    def doubled(self) -> list[tuple[str, str, int, int]]:
        return self._reader.doubled()

    @readable
    def receipt_differences(self) -> list[ReceiptDifference]:
        return received.differences(self._file.reader())

    # --- the whole -----------------------------------------------------------------------------------------------

    def export(self) -> DuckDbExport:
        """All that it holds, for another engine; of hours what `roll` has written down."""
        return DuckDbExport(self._file.reader())

    def copy_to(self, path: Path) -> None:
        """A copy of the whole as it is now, while others read and write. Raises `LedgerError`."""
        self._file.copy_to(path)

    def size_bytes(self) -> int:
        return self._file.size_bytes()

    def close(self) -> None:
        try:
            self._hours.write_down(sorted(self._hours.dirty))
        except LedgerError as error:  # they are recomputed at the next start
            log.warning("%s", error)
        self._file.close()
