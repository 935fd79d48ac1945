"""The ledger of a fleet that outgrows one machine: ClickHouse, and any number of collectors before it.

A collector keeps nothing that ClickHouse does not have, so that a balancer may send a batch to any of them, twice if
need be; schema.py shows how. Its servers make roll-ups (rolls.py, rollup.py) and sum them for reports (usage.py), to
the same cents as DuckDB. Its parts: opening.py, tables.py, writer.py (batches), hours.py (sums), facts.py, activity.py
and reader.py, retention.py, leadership.py, versions.py (closed periods), figures.py (what was computed).
"""

from collections.abc import Sequence

from tokenyield_collector.ledger.base import ShipmentReceipt
from tokenyield_collector.ledger.clickhouse import activity, facts, observed, outcomes, quarantine, spend
from tokenyield_collector.ledger.clickhouse.client import ClickHouseAddress, ClickHouseClient
from tokenyield_collector.ledger.clickhouse.figures import ClickHouseFigures
from tokenyield_collector.ledger.clickhouse.hours import ClickHouseHours
from tokenyield_collector.ledger.clickhouse.importer import ClickHouseImport
from tokenyield_collector.ledger.clickhouse.leadership import ClickHouseLeadership
from tokenyield_collector.ledger.clickhouse.names import RollUpNames
from tokenyield_collector.ledger.clickhouse.opening import connect_shards, make_tables
from tokenyield_collector.ledger.clickhouse.reader import ClickHouseReader
from tokenyield_collector.ledger.clickhouse.retention import retire
from tokenyield_collector.ledger.clickhouse.rolls import ClickHouseRolls
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.clickhouse.usage import ClickHouseUsage
from tokenyield_collector.ledger.clickhouse.versions import ClickHouseVersions
from tokenyield_collector.ledger.clickhouse.workload_names import name_conflicts
from tokenyield_collector.ledger.clickhouse.writer import ClickHouseWriter
from tokenyield_collector.ledger.facts import FACT_KINDS, FactKind, Facts, GpuNow, MadeSlot, WorkSlot
from tokenyield_collector.ledger.name_conflicts import NameConflict
from tokenyield_collector.ledger.outcomes import OutcomeSlice
from tokenyield_collector.ledger.quarantine import Impossible, QuarantinedRows
from tokenyield_collector.ledger.receipts import ReceiptDifference
from tokenyield_collector.spend.otlp.points import ObservedPoint, SeriesState
from tokenyield_collector.spend.otlp.slices import ObservedSum
from tokenyield_collector.spend.slices import SpendSlice
from tokenyield_wire.window import Shipment


def connect(address: ClickHouseAddress, password: str, cluster: str) -> "ClickHouseLedger":
    """Makes the tables where they are missing, on every shard. Raises `LedgerError`."""
    client, shards, first_replicas = connect_shards(address, password, cluster)
    return ClickHouseLedger(client, shards, address.name, cluster, address.database, first_replicas)


class ClickHouseLedger:
    """A `Ledger` over one server, or over the shards of a cluster. Raises `LedgerError`.

    ClickHouse has no snapshot over several queries. What is guaranteed instead: a batch is one row, and an hour's GPUs
    are written before its shares, while readers take parts (shares, tokens) before wholes (GPUs). So whatever is
    written meanwhile, no share in an answer exceeds its GPUs. `facts_of_stretches` also reads again, up to `READS_MAX`
    times, when batches of its stretches came in meanwhile; an hour that was recomputed while it was read is reported by
    the next `fold`, after which it is read again.
    """

    is_shared = True

    def __init__(
        self,
        client: ClickHouseClient,
        shards: Sequence[ClickHouseClient],
        name: str,
        cluster: str = "",
        database: str = "tokenyield",
        first_replicas: Sequence[ClickHouseClient] = (),
    ) -> None:
        self._tables = ClickHouseTables(client, shards, is_cluster=bool(cluster), first_replicas=first_replicas)
        make_tables(self._tables, name, cluster, database)
        self._tables.load()
        self._leadership = ClickHouseLeadership(self._tables)
        self._hours = ClickHouseHours(self._tables, self._leadership)
        self._writer = ClickHouseWriter(self._tables)
        self._reader = ClickHouseReader(self._tables)
        self._rolls = ClickHouseRolls(self._tables)
        self._names = RollUpNames(self._tables)
        self.versions = ClickHouseVersions(self._tables)
        self.figures = ClickHouseFigures(self._tables)

    def leads(self) -> bool:
        return self._leadership.check()

    # --- writing -------------------------------------------------------------------------------------------------

    def append(
        self, shipments: Sequence[Shipment], received_ms: int, scopes: Sequence[str] = ()
    ) -> list[ShipmentReceipt]:
        return self._writer.append(shipments, received_ms, scopes)

    def try_writing(self) -> None:
        self._tables.insert_rows("touched", ("hour_ms", "commits"), [(0, 0)])  # no hour, and no commit

    def missing(self, shipment: Shipment) -> list[tuple[int, int]]:
        return []

    def fold(self) -> list[int]:
        return self._hours.fold()

    def roll(self, before_ms: int | None = None, hours_max: int | None = None) -> bool:
        self._hours.recompute_touched()
        return self._rolls.roll(before_ms, hours_max)

    def roll_day(self, before_ms: int) -> int | None:
        return self._rolls.roll_day(before_ms)

    def retire(self, *, windows_before_ms: int, hours_before_ms: int, counter_bases: dict[str, int]) -> None:
        retire(
            self._tables,
            windows_before_ms=windows_before_ms,
            hours_before_ms=hours_before_ms,
            counter_bases=counter_bases,
        )
        self._rolls.remove_old()

    def impossible(self, hour_ms: int) -> list[Impossible]:
        return quarantine.impossible(self._tables, hour_ms)

    def quarantine(self, found: Sequence[Impossible], moved_ms: int) -> None:
        quarantine.quarantine(self._tables, found, moved_ms)

    def replace_outcomes(self, slices: Sequence[OutcomeSlice], imported_ms: int) -> None:
        outcomes.replace_outcomes(self._tables, slices, imported_ms)

    def replace_spend(self, slices: Sequence[SpendSlice], imported_ms: int) -> None:
        spend.replace_spend(self._tables, slices, imported_ms)

    def add_observed(self, points: Sequence[ObservedPoint], received_ms: int) -> None:
        observed.add_observed(self._tables, points, received_ms)

    def importer(self) -> ClickHouseImport:
        """What takes in another ledger."""
        return ClickHouseImport(self._tables, self._hours)

    # --- reading -------------------------------------------------------------------------------------------------

    def facts_of_hours(
        self,
        hours_ms: Sequence[int] | None = None,
        *,
        by_node: bool = True,
        kinds: Sequence[FactKind] = FACT_KINDS,
    ) -> Facts:
        return facts.facts_of_hours(self._tables, hours_ms, by_node=by_node, kinds=kinds)

    def facts_between(self, start_ms: int, end_ms: int, *, by_node: bool = True) -> Facts:
        (of_stretch,) = self.facts_of_stretches([(start_ms, end_ms)], by_node=by_node)
        return of_stretch

    def facts_of_stretches(self, stretches: Sequence[tuple[int, int]], *, by_node: bool = True) -> list[Facts]:
        return facts.facts_of_stretches(self._tables, stretches, by_node=by_node)

    def gpus_between(self, start_ms: int, end_ms: int, known_since_ms: int) -> list[GpuNow]:
        return activity.gpus_between(self._tables, start_ms, end_ms, known_since_ms)

    def work_between(self, start_ms: int, end_ms: int, step_ms: int) -> list[WorkSlot]:
        return activity.work_between(self._tables, start_ms, end_ms, step_ms)

    def made_between(self, start_ms: int, end_ms: int, step_ms: int) -> list[MadeSlot]:
        return activity.made_between(self._tables, start_ms, end_ms, step_ms)

    def last_tokens(self) -> dict[tuple[str, str], int]:
        return activity.last_tokens(self._tables)

    def first_ms(self) -> int | None:
        return self._tables.first_ms

    def last_seen(self) -> dict[tuple[str, str], int]:
        return self._reader.last_seen()

    def counter_bases(self) -> dict[str, int]:
        return self._reader.counter_bases()

    def usage(self) -> ClickHouseUsage:
        return ClickHouseUsage(self._tables, self._rolls, self._names)

    def revision(self, start_ms: int, end_ms: int) -> str:
        return self._reader.revision(start_ms, end_ms)

    def outcomes(self, start_ms: int, end_ms: int) -> list[OutcomeSlice]:
        return outcomes.read_outcomes(self._tables, start_ms, end_ms)

    def spend(self, start_ms: int, end_ms: int) -> list[SpendSlice]:
        return spend.read_spend(self._tables, start_ms, end_ms)

    def spend_days(self) -> tuple[int, int] | None:
        return spend.spend_days(self._tables)

    def spend_days_of(self, source: str, account: str, grain: str) -> list[int]:
        return spend.spend_days_of(self._tables, source, account, grain)

    def spend_revision(self, start_ms: int, end_ms: int) -> str:
        return spend.spend_revision(self._tables, start_ms, end_ms)

    def observed_states(self, series: Sequence[str]) -> dict[str, SeriesState]:
        return observed.observed_states(self._tables, series)

    def observed_days(self, first_ms: int) -> dict[int, tuple[int, int]]:
        return observed.observed_days(self._tables, first_ms)

    def observed_sums(self, day_ms: int) -> list[ObservedSum]:
        return observed.observed_sums(self._tables, day_ms)

    def hour_revisions(self) -> dict[int, int | None]:
        return {**self._tables.folds()}

    def hours(self) -> list[int]:
        return self._reader.hours()

    def windows_from_ms(self) -> int | None:
        return self._reader.windows_from_ms()

    def name_conflicts(self) -> list[NameConflict]:
        return name_conflicts(self._tables)

    def quarantined(self) -> list[QuarantinedRows]:
        return quarantine.quarantined(self._tables)

    def doubled(self) -> list[tuple[str, str, int, int]]:
        return self._reader.doubled()

    def receipt_differences(self) -> list[ReceiptDifference]:
        return []  # what is known is looked up in the batches

    # --- the whole -----------------------------------------------------------------------------------------------

    def size_bytes(self) -> int:
        return self._reader.size_bytes()

    def close(self) -> None:
        self._leadership.leave()
        self._tables.close()
        for client in (self._tables.client, *self._tables.shards):
            client.close()
