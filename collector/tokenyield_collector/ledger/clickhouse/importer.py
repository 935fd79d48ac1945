"""What another ledger held, into a ClickHouse ledger (commands/migrate.py); a second run changes nothing."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenyield_collector.ledger.clickhouse.hours import ClickHouseHours
from tokenyield_collector.ledger.clickhouse.observed import write_observed
from tokenyield_collector.ledger.clickhouse.outcomes import write_outcomes
from tokenyield_collector.ledger.clickhouse.schema import WINDOW_COLUMNS
from tokenyield_collector.ledger.clickhouse.spend import write_spend
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.clickhouse.workload_names import read_uses, write_uses
from tokenyield_collector.ledger.closed import PeriodCheck, StatementRecord
from tokenyield_collector.ledger.joined_names import joined
from tokenyield_collector.ledger.outcomes import OutcomeSlice
from tokenyield_collector.ledger.quarantine import QuarantinedRows
from tokenyield_collector.ledger.workload_names import NameUse
from tokenyield_collector.spend.slices import SpendSlice


class ClickHouseImport:
    """Into one ledger."""

    def __init__(self, tables: ClickHouseTables, hours: ClickHouseHours) -> None:
        self._tables = tables
        self._hours = hours

    def batches_in(self, hour_ms: int) -> int:
        """How many are there already."""
        return self._hours.batches_in(hour_ms)

    def windows(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Batches by `WINDOW_COLUMNS`; those that are here already stay what they are."""
        self._tables.insert("windows", WINDOW_COLUMNS, [columns[name] for name in WINDOW_COLUMNS])

    def refold(self, hour_ms: int) -> None:
        """Recompute an hour whose windows were imported."""
        self._tables.insert_rows("touched", ("hour_ms", "commits"), [(hour_ms, 1)])
        self._hours.recompute_touched()

    def hour(self, hour_ms: int, tables: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
        """The sums of an hour whose windows are gone."""
        for table, columns in tables.items():
            if columns:
                values = [*columns.values(), [1] * len(columns["hour_ms"])]
                self._tables.insert(f"{table}_hours", [*columns, "version"], values)
        for commits in ("touched", "folded"):
            self._tables.insert_rows(commits, ("hour_ms", "commits"), [(hour_ms, 1)])

    def rest(
        self,
        *,
        windows_from_ms: int,
        node_labels: Sequence[tuple[str, str, str]],
        last_seen: Sequence[tuple[str, str, int]],
        counter_bases: Mapping[str, int],
        statements: Sequence[tuple[Any, ...]],
        period_checks: Sequence[PeriodCheck],
        outcomes: Sequence[tuple[OutcomeSlice, int]],
        spend: Sequence[tuple[SpendSlice, int]],
        observed: Iterable[Sequence[tuple[Any, ...]]],
        quarantined: Sequence[QuarantinedRows],
        workload_names: Sequence[NameUse],
    ) -> None:
        """What is of no hour; windows before `windows_from_ms` are gone, and their hours are not recomputed."""
        self._tables.insert_rows("retired", ("what", "before_ms"), [("windows", windows_from_ms)])
        labels = [(*row, 0) for row in node_labels]  # older than all that nodes reported to this ledger
        self._tables.insert_rows("node_labels", ("cluster", "node", "labels", "received_ms"), labels)
        self._tables.insert_rows("seen_nodes", ("cluster", "node", "end_ms"), last_seen)
        bases = [(name, 0, value) for name, value in counter_bases.items()]
        self._tables.insert_rows("counter_bases", ("name", "cut_ms", "value"), bases)
        self._tables.insert_rows("statements", StatementRecord._fields, statements)
        self._tables.insert_rows("period_checks", PeriodCheck._fields, map(tuple, period_checks))
        self._tables.insert_rows("quarantined", QuarantinedRows._fields, quarantined)
        known = read_uses(self._tables, sorted({use.key for use in workload_names}))
        write_uses(self._tables, joined(list(known), workload_names))
        write_outcomes(self._tables, outcomes, 0)  # what was imported into this ledger stays
        write_spend(self._tables, spend, 0)
        for rows in observed:
            write_observed(self._tables, rows)
