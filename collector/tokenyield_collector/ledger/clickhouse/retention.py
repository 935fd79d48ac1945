"""How a ClickHouse ledger forgets old windows and hours: whole partitions go from the disk, others are not read."""

from collections.abc import Mapping

from tokenyield_collector.ledger.clickhouse.schema import OUTCOME_PARTITION_MS
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.tables import INTEGER_MAX
from tokenyield_collector.ledger.workload_names import KEPT_MS
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR, hour_of_ms


def retire(
    tables: ClickHouseTables, *, windows_before_ms: int, hours_before_ms: int, counter_bases: Mapping[str, int]
) -> None:
    """See `Ledger.retire`. The same cut by several collectors counts once."""
    cut_ms = hour_of_ms(windows_before_ms)
    is_known = "SELECT 1 FROM {counter_bases} WHERE cut_ms >= %d LIMIT 1"
    if counter_bases and not tables.rows(is_known, hours_before_ms):
        rows = [(name, hours_before_ms, min(value, INTEGER_MAX)) for name, value in counter_bases.items()]
        tables.insert_rows("counter_bases", ("name", "cut_ms", "value"), rows)
    tables.insert_rows("retired", ("what", "before_ms"), [("hours", hours_before_ms), ("windows", cut_ms)])
    for shard in tables.shards:
        parts = shard.rows(
            "SELECT DISTINCT table, partition FROM system.parts WHERE database = currentDatabase() AND active "
            "AND (table IN ('windows', 'outcomes', 'spend', 'observed', 'quarantined', 'workload_names', 'work_days', "
            "'capacity_days', 'rolled_days') OR table LIKE '%\\_hours')"
        )
        for table, partition in parts:
            number = int(str(partition).strip("()"))
            if table == "observed":  # two a day: of points, and of cumulative series, which are kept as long as hours
                is_old = number // 2 < (hours_before_ms if number % 2 else cut_ms) // MS_PER_DAY
            else:
                is_old = number < _oldest_partition(str(table), cut_ms, hours_before_ms)
            if is_old:
                shard.run(f"ALTER TABLE {table} DROP PARTITION {number}")
    tables.first_ms = tables.read_first_ms()


def _oldest_partition(table: str, windows_before_ms: int, hours_before_ms: int) -> int:
    """Of those that stay."""
    match table:
        case "windows":
            return windows_before_ms // MS_PER_HOUR
        case "outcomes" | "spend":
            return hours_before_ms // OUTCOME_PARTITION_MS
        case "workload_names":  # whoever has a name keeps it, however short hours are kept
            return (hours_before_ms - KEPT_MS) // OUTCOME_PARTITION_MS
        case _:
            return hours_before_ms // MS_PER_DAY
