"""How a DuckDB ledger forgets old windows and hours. Of the writing thread only."""

from collections.abc import Mapping

from tokenyield_collector.ledger.duckdb.bulk_insert import insert_rows
from tokenyield_collector.ledger.duckdb.file import DuckDbFile
from tokenyield_collector.ledger.duckdb.hours import DuckDbHours
from tokenyield_collector.ledger.tables import INTEGER_MAX, TABLES
from tokenyield_collector.ledger.workload_names import KEPT_MS
from tokenyield_wire.units import MS_PER_DAY, hour_of_ms

ROLL_UP_TABLES = (
    "work_hours",
    "capacity_hours",
    "unrolled_hours",
    "rolled_hours",
    "hour_revisions",
    "gpu_contested",
    "gpu_history",
)


def retire(
    file: DuckDbFile,
    hours: DuckDbHours,
    *,
    windows_before_ms: int,
    hours_before_ms: int,
    counter_bases: Mapping[str, int],
) -> None:
    """See `Ledger.retire`."""
    cut_ms = hour_of_ms(windows_before_ms)  # whole hours only: what is left of an hour could not recompute it
    hours.write_down([hour_ms for hour_ms in hours.dirty if hour_ms < max(cut_ms, hours_before_ms)])
    connection = file.connection
    with file.transaction("cannot remove old windows"):
        for table in ("batches", *(f"{table}_windows" for table in TABLES)):
            connection.execute(f"DELETE FROM {table} WHERE start_ms < {cut_ms}")
        connection.execute(f"DELETE FROM received_hours WHERE hour_ms < {cut_ms}")
        for table in (*ROLL_UP_TABLES, *(f"{table}_hours" for table in TABLES)):
            connection.execute(f"DELETE FROM {table} WHERE hour_ms < {hours_before_ms}")
        connection.execute(f"DELETE FROM quarantined WHERE start_ms < {hours_before_ms}")
        # Whoever has a name keeps it, however short hours are kept.
        connection.execute(f"DELETE FROM workload_names WHERE seen_ms < {hours_before_ms - KEPT_MS}")
        connection.execute(f"DELETE FROM outcomes WHERE day_ms + {MS_PER_DAY} <= {hours_before_ms}")
        connection.execute(f"DELETE FROM spend WHERE day_ms + {MS_PER_DAY} <= {hours_before_ms}")
        connection.execute(
            f"DELETE FROM observed WHERE day_ms + {MS_PER_DAY} <= if(is_total = 1, {hours_before_ms}, {cut_ms})"
        )
        if counter_bases:
            bases: dict[str, int] = dict(file.rows("SELECT name, value FROM counter_bases"))
            for name, value in counter_bases.items():
                bases[name] = min(bases.get(name, 0) + value, INTEGER_MAX)
            connection.execute("DELETE FROM counter_bases")
            insert_rows(connection, "counter_bases", ["name", "value"], list(bases.items()))
