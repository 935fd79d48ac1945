"""What reports read of a ClickHouse ledger beside work and capacity: hosts, waits, foreign names, and the best days."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tokenyield_collector.ledger.clickhouse.hours import at_most
from tokenyield_collector.ledger.clickhouse.names import NO_LABELS, IdentityName
from tokenyield_collector.ledger.clickhouse.tables import ClickHouseTables
from tokenyield_collector.ledger.contradictions import ForeignDay
from tokenyield_collector.ledger.duckdb.caller_split import NO_CALLER
from tokenyield_collector.ledger.sql import between
from tokenyield_collector.ledger.tables import HOST_KINDS, INTEGER_MAX, LATENCY_COUNTS
from tokenyield_collector.ledger.usage import BEST_DAYS, BestHour, HostDay, WorkIdentity, WorkLatency
from tokenyield_wire.units import MS_PER_DAY
from tokenyield_wire.window import TOKEN_KINDS

_DAY_MS = f"intDiv(hour_ms, {MS_PER_DAY}) * {MS_PER_DAY}"


def host_days(tables: ClickHouseTables, stretches: Iterable[tuple[tuple[int, int], str]]) -> list[HostDay]:
    """`stretches`: of each day its start and end, and the condition of its roll-ups. A node whose GPUs all count for
    others in an hour would set what the hosts of its pool draw, for everybody: its hours are left out."""
    known = ", ".join(f"sumIf(toDecimal128(amount, 0), kind = '{kind}')" for kind in HOST_KINDS)
    days: list[HostDay] = []
    for (start_ms, end_ms), within in stretches:
        present = (
            "SELECT hour_ms, cluster, node FROM ("
            f"SELECT DISTINCT hour_ms, gpu_group FROM {tables.of('capacity_hours')} WHERE {within}) AS rolled "
            f"ANY INNER JOIN (SELECT id AS gpu_group, cluster, node FROM {tables.of('gpu_groups')}) AS named "
            "USING gpu_group"
        )
        rows = tables.client.rows(
            f"SELECT {_DAY_MS} AS day_ms, cluster, node, name, {known} FROM {tables.of('measure_hours')} FINAL "
            f"WHERE {between('hour_ms', start_ms, end_ms)} AND kind IN {HOST_KINDS} "
            f"AND (hour_ms, cluster, node) GLOBAL IN ({present}) GROUP BY day_ms, cluster, node, name"
        )
        days += sorted(
            HostDay(day_ms, cluster, node, name, *map(int, sums)) for day_ms, cluster, node, name, *sums in rows
        )
    return days


def foreign_days(tables: ClickHouseTables, identities: Mapping[int, IdentityName], where: str) -> list[ForeignDay]:
    sums = (
        "intDiv(active_ms + idle_ms, models)",
        "intDiv(active_mj + idle_mj, models)",
        " + ".join(TOKEN_KINDS),
        "requests",
    )
    rows = tables.client.rows(
        f"SELECT {_DAY_MS} AS day_ms, identity, {', '.join(f'sum(toDecimal128({sql}, 0))' for sql in sums)} "
        f"FROM {tables.of('work_hours')} WHERE {where} GROUP BY day_ms, identity"
    )
    days: dict[tuple[int, str, str], list[int]] = defaultdict(lambda: [0] * len(sums))
    for day_ms, number, *amounts in rows:
        name = identities[int(number)]
        of_day = days[day_ms, name.cluster, name.workload]
        of_day[:] = (known + int(amount) for known, amount in zip(of_day, amounts, strict=True))
    return [ForeignDay(*key, *amounts) for key, amounts in sorted(days.items())]


def latency(tables: ClickHouseTables, start_ms: int, end_ms: int) -> list[WorkLatency]:
    within = between("hour_ms", start_ms, end_ms)
    sums = ", ".join(at_most(name, INTEGER_MAX) for name in ("sum_ms", *LATENCY_COUNTS))
    waits = tables.client.rows(
        f"SELECT cluster, workload, model, kind, {sums} FROM {tables.of('latency_hours')} FINAL WHERE {within} "
        "GROUP BY cluster, workload, model, kind"
    )
    carried = tables.client.rows(
        f"SELECT cluster, workload, labels, sum(toDecimal128(seen_ms, 0)) FROM {tables.of('label_hours')} FINAL "
        f"WHERE {within} AND (cluster, workload) GLOBAL IN (SELECT cluster, workload "
        f"FROM {tables.of('latency_hours')} WHERE {within}) GROUP BY cluster, workload, labels"
    )
    longest: dict[tuple[str, str], tuple[int, str]] = {}
    for cluster, workload, labels, seen_ms in carried:
        of_workload = (int(seen_ms), labels)
        longest[cluster, workload] = max(of_workload, longest.get((cluster, workload), of_workload))
    known = [
        (cluster, workload, model, longest.get((cluster, workload), (0, NO_LABELS))[1], kind, *map(int, amounts))
        for cluster, workload, model, kind, *amounts in waits
    ]
    return [
        WorkLatency(WorkIdentity(cluster, workload, model, labels, NO_CALLER), kind, sum_ms, tuple(counts))
        for cluster, workload, model, labels, kind, sum_ms, *counts in sorted(known)
    ]


def best_days(hours: Sequence[BestHour]) -> list[BestHour]:
    """Of the best hours of two sources, those of the `BEST_DAYS` best days of each instance on each node."""
    days: dict[tuple[object, ...], BestHour] = {}
    for one in hours:
        key = (one.instance, one.cluster, one.node, one.hour_ms // MS_PER_DAY)
        known = days.get(key)
        days[key] = one if known is None else max(known, one, key=lambda best: (best.pace, -best.hour_ms))
    by_instance: dict[tuple[object, ...], list[BestHour]] = defaultdict(list)
    for one in sorted(days.values(), key=lambda best: (-best.pace, best.hour_ms)):
        of_instance = by_instance[one.instance, one.cluster, one.node]
        if len(of_instance) < BEST_DAYS:
            of_instance.append(one)
    return [one for of_instance in by_instance.values() for one in of_instance]
