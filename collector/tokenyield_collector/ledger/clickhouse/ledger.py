"""The ledger of a fleet that outgrows one machine: ClickHouse, and any number of collectors before it.

A collector keeps nothing that ClickHouse does not have, so that a balancer may send a batch to any of them, twice if
need be. How that is held stands in clickhouse_schema.py. Reports are made by DuckDB from the hours of their period
(clickhouse_usage.py), so that both engines give the same cents.
"""

import contextlib
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from tokenyield_collector.errors import LedgerError
from tokenyield_collector.ledger.base import (
    DemandSums,
    Facts,
    GpuNow,
    GpuSums,
    LabelSums,
    MadeSlot,
    MeasureSums,
    ReasonSums,
    Receipt,
    ShareSums,
    StatementRecord,
    TokenSums,
    WorkSlot,
)
from tokenyield_collector.ledger.clickhouse.client import Address, Client, NativeClient, quoted
from tokenyield_collector.ledger.clickhouse.schema import (
    IDENTITY,
    NAMES,
    SCHEMA_VERSION,
    WINDOW_COLUMNS,
    columns_wanted,
    distributed_tables,
    local_tables,
)
from tokenyield_collector.ledger.clickhouse.usage import ClickHouseUsage
from tokenyield_collector.ledger.rows import (
    DEMAND_SUMS,
    GPU_SUMS,
    INTEGER_MAX,
    NODE_KEYS,
    SHARE_SUMS,
    TABLES,
    TOKEN_SUMS,
    Rows,
    Sender,
    nested,
    rows_of_batch,
    sender_of,
)
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR, hour_of_ms
from tokenyield_wire.window import TOKEN_KINDS, Batch, Shipment

log = logging.getLogger(__name__)

AnyRow = TypeVar("AnyRow")
Identity = tuple[Sender, int]

LEASE_MS = 15_000
"""A collector that was silent for this long leads no more."""
BEAT_MS = 4_000
GONE_MS = 2**62
ASKED_AT_ONCE = 500
"""Batches in one question whether they are known: within the 256 kB that a server takes as one statement."""
SIZE_EVERY_S = 60.0
READS_MAX = 3
"""Reads of one answer while batches come in. Of the live window all should have arrived, so that one is the rule."""
LAST_HOURS_MAX = 24
"""Hours of which it is looked up when in them a workload made its last token."""


def connect(address: Address, password: str, cluster: str) -> "ClickHouseLedger":
    """Makes the tables where they are missing, on every shard. Raises `LedgerError`."""
    first = NativeClient(address, password, database="default")
    hosts = [(address.host, address.port)]
    if cluster:
        hosts = [
            (str(host), int(port))
            for host, port in first.rows(
                f"SELECT host_name, port FROM system.clusters WHERE cluster = {quoted(cluster)} "
                "ORDER BY shard_num, replica_num"
            )
        ]
        if not hosts:
            raise LedgerError(f"ledger_cluster: {address.name} knows no cluster '{cluster}'; see its remote_servers")
    shards: list[Client] = []
    for host, port in hosts:
        place = address._replace(host=host, port=port)
        maker = NativeClient(place, password, database="default")
        maker.run(f"CREATE DATABASE IF NOT EXISTS `{address.database}`")
        maker.close()
        shards.append(NativeClient(place, password))
    first.close()
    return ClickHouseLedger(NativeClient(address, password), shards, address.name, cluster, address.database)


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
        self, client: Client, shards: Sequence[Client], name: str, cluster: str = "", database: str = "tokenyield"
    ) -> None:
        self._client = client
        self._shards = shards
        self._name = name
        self._all = "_all" if cluster else ""
        self._make_tables(cluster, database)
        self._node_labels = self._read_node_labels()
        self._known_folds = self._folds()
        self._first_ms = self._read_first_ms()
        self._size = (0.0, 0)
        self._id, self._beat_at_ms, self._leads = uuid.uuid4().hex, 0, True
        self._usage = ClickHouseUsage(client, self._all, self._folds, self._read_node_labels)

    def leads(self) -> bool:
        ((now_ms,),) = self._client.rows("SELECT toInt64(toUnixTimestamp(now())) * 1000")
        if now_ms - self._beat_at_ms >= BEAT_MS:
            self._insert_rows("collectors", ("id", "seen_ms"), [(self._id, now_ms)])
            self._beat_at_ms = now_ms
        sql = "SELECT id, max(seen_ms) AS seen FROM {collectors} GROUP BY id HAVING seen > %d AND seen < %d"
        rows = self._rows(sql, now_ms - LEASE_MS, GONE_MS)
        self._leads = min(str(row[0]) for row in rows) == self._id
        return self._leads

    # --- writing -------------------------------------------------------------------------------------------------

    def append(self, shipments: Sequence[Shipment], received_ms: int) -> list[Receipt]:
        known = self._known(shipments)
        values: list[list[Any]] = [[] for _ in WINDOW_COLUMNS]
        hours: set[int] = set()
        seen: dict[tuple[str, str], int] = {}
        told: dict[tuple[str, str], str] = {}
        receipts = []
        for shipment in shipments:
            accepted = 0
            node = (shipment.cluster, shipment.node)
            labels = msgspec.json.encode(shipment.labels, order="sorted").decode()
            if self._node_labels.get(node, "{}") != labels:
                told[node] = labels
            for batch in shipment.batches:
                hours.add(hour_of_ms(batch.start_ms))
                identity = (sender_of(shipment), batch.seq)
                if identity in known:
                    continue
                known.add(identity)
                accepted += 1
                seen[node] = max(batch.end_ms, seen.get(node, 0))
                _add_window(values, shipment, batch, received_ms)
            receipts.append(Receipt(accepted, len(shipment.batches) - accepted))
        if values[0]:
            self._insert("windows", WINDOW_COLUMNS, values)
            self._insert_rows("seen_nodes", ("cluster", "node", "end_ms"), [(*node, end) for node, end in seen.items()])
            if told:
                named = [(*node, labels, received_ms) for node, labels in told.items()]
                self._insert_rows("node_labels", ("cluster", "node", "labels", "received_ms"), named)
                self._node_labels = self._node_labels | told  # others may be reading the one before
            oldest = min(values[WINDOW_COLUMNS.index("start_ms")])
            self._first_ms = oldest if self._first_ms is None else min(self._first_ms, oldest)
        # Of known batches too: who wrote them may have died before it came to this.
        self._insert_rows("touched", ("hour_ms", "commits"), [(hour_ms, 1) for hour_ms in sorted(hours)])
        return receipts

    def _known(self, shipments: Sequence[Shipment]) -> set[Identity]:
        """Those of the batches that are in the ledger already."""
        by_hour: dict[int, list[str]] = defaultdict(list)
        for shipment in shipments:
            sender = ", ".join(map(quoted, sender_of(shipment)))
            for batch in shipment.batches:
                by_hour[hour_of_ms(batch.start_ms)].append(f"({sender}, {batch.seq})")
        found: set[Identity] = set()
        for hour_ms, asked in by_hour.items():
            for i in range(0, len(asked), ASKED_AT_ONCE):
                rows = self._client.rows(
                    f"SELECT {IDENTITY} FROM windows{self._all} WHERE {_in_hour('start_ms', hour_ms)} "
                    f"AND ({IDENTITY}) IN ({', '.join(asked[i : i + ASKED_AT_ONCE])})"
                )
                found.update((Sender(*sender), int(seq)) for *sender, seq in rows)
        return found

    def missing(self, shipment: Shipment) -> list[tuple[int, int]]:
        return []

    def fold(self) -> list[int]:
        """The leading collector recomputes hours; all are told which changed."""
        folds, known = self._recompute_touched() if self._leads else self._folds(), self._known_folds
        changed = sorted(hour_ms for hour_ms, commits in folds.items() if commits != known.get(hour_ms))
        self._known_folds = folds
        if changed:
            self._first_ms = self._read_first_ms()
            self._node_labels = self._read_node_labels()
        return changed

    def _recompute_touched(self) -> dict[int, int]:
        """Hour -> up to how many commits its sums hold, now that all hours are recomputed."""
        touched, folds = self._touched(), self._folds()
        for hour_ms, commits in sorted(touched.items()):
            if commits > folds.get(hour_ms, 0):
                self._recompute(hour_ms)
                self._insert_rows("folded", ("hour_ms", "commits"), [(hour_ms, commits)])
                folds[hour_ms] = commits
        return folds

    def _recompute(self, hour_ms: int) -> None:
        within, batches = _in_hour("start_ms", hour_ms), self.batches_in(hour_ms)
        assert next(iter(TABLES)) == "gpu", "wholes are written before their parts, see the class"
        for table, (keys, sums) in TABLES.items():
            selected = [key if key in NODE_KEYS else f"x.{key}" for key in keys]
            totals = ", ".join(f"sum(x.{column})" for column in sums)
            self._client.run(
                f"INSERT INTO {table}_hours{self._all} (hour_ms, {', '.join([*keys, *sums])}, version) "
                f"SELECT {hour_ms}, {', '.join(selected)}, {totals}, {batches} FROM windows{self._all} FINAL "
                f"ARRAY JOIN {table} AS x WHERE {within} GROUP BY {', '.join(selected)}"
            )

    def roll(self, before_ms: int | None = None, hours_max: int | None = None) -> bool:
        """Folds; reports fetch and roll up the hours that they need by themselves."""
        self._recompute_touched()
        return False

    def retire(self, *, windows_before_ms: int, hours_before_ms: int, counter_bases: dict[str, int]) -> None:
        """The same cut by several collectors counts once. Whole days of hours go from the disk, others are not read."""
        if counter_bases and not self._rows(
            "SELECT 1 FROM {counter_bases} WHERE cut_ms >= %d LIMIT 1", hours_before_ms
        ):
            rows = [(name, hours_before_ms, min(value, INTEGER_MAX)) for name, value in counter_bases.items()]
            self._insert_rows("counter_bases", ("name", "cut_ms", "value"), rows)
        cut_ms = hour_of_ms(windows_before_ms)
        self._insert_rows("retired", ("what", "before_ms"), [("hours", hours_before_ms), ("windows", cut_ms)])
        for shard in self._shards:
            parts = shard.rows(
                "SELECT DISTINCT table, partition FROM system.parts WHERE database = currentDatabase() AND active "
                "AND (table = 'windows' OR table LIKE '%\\_hours')"
            )
            for table, partition in parts:
                number = int(str(partition).strip("()"))
                is_old = (
                    number < cut_ms // MS_PER_HOUR if table == "windows" else number < hours_before_ms // MS_PER_DAY
                )
                if is_old:
                    shard.run(f"ALTER TABLE {table} DROP PARTITION {number}")
        self._usage.forget(hours_before_ms)
        self._first_ms = self._read_first_ms()

    def add_statement(self, record: StatementRecord) -> None:
        self._insert_rows("statements", StatementRecord._fields, [tuple(record)])

    # --- what another ledger held (migrate.py) -------------------------------------------------------------------

    def batches_in(self, hour_ms: int) -> int:
        sql = f"SELECT uniqExact({IDENTITY}) FROM windows{self._all} WHERE {_in_hour('start_ms', hour_ms)}"
        ((batches,),) = self._client.rows(sql)
        return int(batches)

    def take_windows(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Batches by `WINDOW_COLUMNS`; those that are here already stay what they are."""
        self._insert("windows", WINDOW_COLUMNS, [columns[name] for name in WINDOW_COLUMNS])

    def refold(self, hour_ms: int) -> None:
        """Recompute an hour whose windows were taken."""
        self._insert_rows("touched", ("hour_ms", "commits"), [(hour_ms, 1)])
        self._recompute_touched()

    def take_hour(self, hour_ms: int, tables: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
        """The sums of an hour whose windows are gone."""
        for table, columns in tables.items():
            if columns:
                values = [*columns.values(), [1] * len(columns["hour_ms"])]
                self._insert(f"{table}_hours", [*columns, "version"], values)
        for book in ("touched", "folded"):
            self._insert_rows(book, ("hour_ms", "commits"), [(hour_ms, 1)])

    def take_rest(
        self,
        *,
        windows_from_ms: int,
        node_labels: Sequence[tuple[str, str, str]],
        last_seen: Sequence[tuple[str, str, int]],
        counter_bases: Mapping[str, int],
        statements: Sequence[tuple[Any, ...]],
    ) -> None:
        """What is of no hour; windows before `windows_from_ms` are gone, and their hours are not recomputed."""
        self._insert_rows("retired", ("what", "before_ms"), [("windows", windows_from_ms)])
        labels = [(*row, 0) for row in node_labels]  # older than all that was told to this ledger
        self._insert_rows("node_labels", ("cluster", "node", "labels", "received_ms"), labels)
        self._insert_rows("seen_nodes", ("cluster", "node", "end_ms"), last_seen)
        bases = [(name, 0, value) for name, value in counter_bases.items()]
        self._insert_rows("counter_bases", ("name", "cut_ms", "value"), bases)
        self._insert_rows("statements", StatementRecord._fields, statements)

    # --- reading -------------------------------------------------------------------------------------------------

    def facts_of_hours(self, hours_ms: Sequence[int] | None = None, *, by_node: bool = True) -> Facts:
        where = f"hour_ms >= {self._retired('hours')}"
        if hours_ms is not None:
            if not hours_ms:
                return self._no_facts()
            where += f" AND hour_ms IN ({', '.join(map(str, hours_ms))})"

        def source(table: str) -> str:
            return f"{table}_hours{self._all} FINAL WHERE {where}"

        return self._facts("hour_ms", source, "", by_node)

    def facts_between(self, start_ms: int, end_ms: int, *, by_node: bool = True) -> Facts:
        (facts,) = self.facts_of_stretches([(start_ms, end_ms)], by_node=by_node)
        return facts

    def facts_of_stretches(self, stretches: Sequence[tuple[int, int]], *, by_node: bool = True) -> list[Facts]:
        """Of one state, unless in each of `READS_MAX` reads batches came in meanwhile: then of the last read, in which
        a stretch may hold batches that one read before it lacks; its own shares never exceed its GPUs."""
        before = self._batches_of(stretches)
        for _ in range(READS_MAX):
            # The longest last, so that a whole never lacks what its parts hold.
            order = sorted(range(len(stretches)), key=lambda i: stretches[i][1] - stretches[i][0])
            found = {i: self._facts_of_stretch(*stretches[i], by_node=by_node) for i in order}
            after = self._batches_of(stretches)
            if after == before:
                break
            before = after
        else:
            log.debug("batches came in during each of %d reads of %s", READS_MAX, stretches)
        return [found[i] for i in range(len(stretches))]

    def _facts_of_stretch(self, start_ms: int, end_ms: int, *, by_node: bool) -> Facts:
        def source(table: str) -> str:
            return f"windows{self._all} FINAL ARRAY JOIN {table} AS x WHERE {_starts_in(start_ms, end_ms)}"

        return self._facts("0", source, "x.", by_node)

    def _batches_of(self, stretches: Sequence[tuple[int, int]]) -> int:
        """How many different batches there are. It only grows, but for what `retire` takes."""
        if not stretches:
            return 0
        within = _starts_in(min(start for start, _ in stretches), max(end for _, end in stretches))
        ((batches,),) = self._client.rows(f"SELECT count() FROM windows{self._all} FINAL WHERE {within}")
        return int(batches)

    def _facts(self, hour: str, source: Callable[[str], str], prefix: str, by_node: bool) -> Facts:
        def rows(
            record: type[AnyRow], table: str, keys: Sequence[str], sums: Sequence[str], gpus: str = ""
        ) -> list[AnyRow]:
            columns = [key if key in NODE_KEYS else f"{prefix}{key}" for key in keys]
            grouped = [hour, *(column for column in columns if by_node or column != "node")]
            shown = ["''" if column == "node" and not by_node else column for column in columns]
            counted = [f"toInt64(uniqExact({prefix}{gpus}))"] if gpus else []
            names = ["hour_ms", *keys, *(["gpus"] if gpus else []), *sums]
            selected = [hour, *shown, *counted, *(f"sum({prefix}{column})" for column in sums)]
            by = [column for column in grouped if column != "0"]
            found = self._client.rows(f"SELECT {', '.join(selected)} FROM {source(table)} GROUP BY {', '.join(by)}")
            found.sort(key=lambda row: row[: 1 + len(keys)])
            return [record(**dict(zip(names, row, strict=True))) for row in found]

        return Facts(  # in this order: parts before their wholes, see the class
            tokens=rows(TokenSums, "token", (*NODE_KEYS, "workload", "server", "model", "method"), TOKEN_SUMS),
            demand=rows(DemandSums, "demand", (*NODE_KEYS, "gateway", "model", "asker"), DEMAND_SUMS),
            labels=rows(LabelSums, "label", (*NODE_KEYS, "workload", "labels"), ["seen_ms"]),
            shares=rows(ShareSums, "share", (*NODE_KEYS, "gpu_model", "workload"), SHARE_SUMS),
            reasons=rows(ReasonSums, "reason", (*NODE_KEYS, "kind", "reason"), ["duration_ms"]),
            measures=rows(MeasureSums, "measure", (*NODE_KEYS, "kind", "name"), ["amount"]),
            gpus=rows(GpuSums, "gpu", (*NODE_KEYS, "gpu_model"), GPU_SUMS, "gpu_uuid"),
            node_labels=self._labels_of_nodes(),
        )

    def _no_facts(self) -> Facts:
        return Facts(
            gpus=[],
            measures=[],
            reasons=[],
            shares=[],
            tokens=[],
            demand=[],
            labels=[],
            node_labels=self._labels_of_nodes(),
        )

    def _labels_of_nodes(self) -> dict[tuple[str, str], dict[str, str]]:
        return {node: msgspec.json.decode(labels) for node, labels in self._node_labels.items()}

    def gpus_between(self, start_ms: int, end_ms: int, known_since_ms: int) -> list[GpuNow]:
        states = ("active_ms", "idle_ms", "unallocated_ms", "unknown_ms")
        within = f"WHERE start_ms >= {int(start_ms)} AND start_ms < {int(end_ms)}"
        windows = f"windows{self._all} FINAL"
        known = self._client.rows(
            f"SELECT cluster, node, gpu_uuid, max(gpu_model) FROM gpu_hours{self._all} "
            f"WHERE hour_ms >= {hour_of_ms(known_since_ms)} GROUP BY cluster, node, gpu_uuid"
        )
        energy = " + ".join(f"sum(x.{name.removesuffix('_ms')}_mj)" for name in states)
        now = {
            row[:3]: row[3:]
            for row in self._client.rows(
                f"SELECT cluster, node, x.gpu_uuid, {', '.join(f'sum(x.{name})' for name in states)}, {energy} "
                f"FROM {windows} ARRAY JOIN gpu AS x {within} GROUP BY cluster, node, x.gpu_uuid"
            )
        }
        holders: dict[tuple[Any, ...], tuple[int, str]] = {}
        for *place, workload, held_ms in self._client.rows(
            "SELECT cluster, node, x.gpu_uuid, x.workload, sum(x.active_ms + x.idle_ms) "
            f"FROM {windows} ARRAY JOIN share AS x {within} GROUP BY cluster, node, x.gpu_uuid, x.workload"
        ):
            holders[tuple(place)] = max((held_ms, workload), holders.get(tuple(place), (-1, "")))
        return [
            GpuNow._make((*row, *now.get(row[:3], (0,) * 5), holders.get(row[:3], (0, ""))[1]))
            for row in sorted(known, key=lambda row: row[:3])
        ]

    def work_between(self, start_ms: int, end_ms: int, step_ms: int) -> list[WorkSlot]:
        """A GPU and its shares stand in one row, so that nothing is joined."""

        def of_gpu(column: str) -> str:
            return f"gpu.{column}[indexOf(gpu.gpu_uuid, s.gpu_uuid)]"

        held = f"((s.active_ms + s.idle_ms) / ({of_gpu('active_ms')} + {of_gpu('idle_ms')}))"

        def part(what: str) -> str:
            # Of a GPU that was not held at all the quotient is no number, and of one that told nothing it is missing.
            return f"sum(if(s.active_ms + s.idle_ms = 0, 0, {what} * {held}))"

        throttled = (
            "arrayReduce('max', arrayConcat([toInt64(0)], arrayMap((k, u, d) -> if(k = 'throttled' AND u = s.gpu_uuid, "
            "d, toInt64(0)), reason.kind, reason.gpu_uuid, reason.duration_ms)))"
        )
        lost = (
            "arraySum((k, u, a) -> if(k = 'throttled_lost' AND u = s.gpu_uuid, a, toInt64(0)), "
            "measure.kind, measure.gpu_uuid, measure.amount)"
        )
        slot = _slot(step_ms)
        sums = ", ".join(f"sum(s.{name})" for name in ("active_ms", "idle_ms", "parked_ms", "active_mj", "idle_mj"))
        parts = [
            of_gpu("activity_known_ms"),
            *(of_gpu(f"{unit}_ms") for unit in ("sm", "tensor", "dram")),
            throttled,
            lost,
        ]
        rows = self._client.rows(
            f"SELECT cluster, s.workload, s.gpu_model, {slot} AS slot, toInt64(uniqExact(node, s.gpu_uuid)), {sums}, "
            f"{', '.join(part(what) for what in parts)} FROM windows{self._all} FINAL ARRAY JOIN share AS s "
            f"WHERE start_ms >= {int(start_ms)} AND start_ms < {int(end_ms)} "
            f"GROUP BY cluster, s.workload, s.gpu_model, slot"
        )
        found = []
        for row in rows:
            known, sm, tensor, dram, held_down, gone = row[10:]
            whole = (None if value is None else round(value) for value in (sm, tensor, dram))
            found.append(
                WorkSlot._make((*row[:10], round(known or 0), *whole, round(held_down or 0), round(gone or 0)))
            )
        return sorted(found, key=lambda row: row[:4])

    def made_between(self, start_ms: int, end_ms: int, step_ms: int) -> list[MadeSlot]:
        sums = ", ".join(f"sum(x.{name})" for name in MadeSlot._fields[5:])
        rows = self._client.rows(
            f"SELECT cluster, x.workload, x.server, x.model, {_slot(step_ms)} AS slot, {sums} "
            f"FROM windows{self._all} FINAL ARRAY JOIN token AS x "
            f"WHERE start_ms >= {int(start_ms)} AND start_ms < {int(end_ms)} "
            "GROUP BY cluster, x.workload, x.server, x.model, slot"
        )
        return sorted((MadeSlot(*row) for row in rows), key=lambda row: row[:5])

    def last_tokens(self) -> dict[tuple[str, str], int]:
        kinds = " + ".join(f"ifNull({kind}, 0)" for kind in TOKEN_KINDS)
        hours = self._rows(
            f"SELECT cluster, workload, max(hour_ms) FROM {{token_hours}} WHERE {kinds} > 0 GROUP BY cluster, workload"
        )
        made = " + ".join(f"ifNull(x.{kind}, 0)" for kind in TOKEN_KINDS)
        found: dict[tuple[str, str], int] = {}
        for hour_ms in sorted({row[2] for row in hours}, reverse=True)[:LAST_HOURS_MAX]:
            for cluster, workload, at_ms in self._client.rows(
                f"SELECT cluster, x.workload, max(start_ms) FROM windows{self._all} ARRAY JOIN token AS x "
                f"WHERE {_in_hour('start_ms', hour_ms)} AND {made} > 0 GROUP BY cluster, x.workload"
            ):
                found.setdefault((cluster, workload), at_ms)
        return found

    def usage(self) -> ClickHouseUsage:
        return self._usage

    def first_ms(self) -> int | None:
        return self._first_ms

    def last_seen(self) -> dict[tuple[str, str], int]:
        rows = self._rows("SELECT cluster, node, max(end_ms) FROM {seen_nodes} GROUP BY cluster, node")
        newest = max((end_ms for _, _, end_ms in rows), default=0)
        return {(cluster, node): end_ms for cluster, node, end_ms in rows if end_ms > newest - MS_PER_DAY}

    def counter_bases(self) -> dict[str, int]:
        return dict(self._rows("SELECT name, sum(value) FROM {counter_bases} FINAL GROUP BY name"))

    def statements(self, period: str) -> list[StatementRecord]:
        rows = self._rows(
            f"SELECT {', '.join(StatementRecord._fields)} FROM {{statements}} FINAL "
            f"WHERE period = {quoted(period)} ORDER BY version"
        )
        return [StatementRecord(*row) for row in rows]

    def hours(self) -> list[int]:
        return sorted(self._folds())

    def windows_from_ms(self) -> int | None:
        ((start_ms, windows),) = self._rows("SELECT min(start_ms), count() FROM {windows}")
        return int(start_ms) if windows else None

    def doubled(self) -> list[tuple[str, str, int, int]]:
        rows = self._rows(
            "SELECT cluster, node, start_ms, toInt64(count()) FROM {windows} FINAL GROUP BY cluster, node, start_ms "
            "HAVING count() > 1 ORDER BY cluster, node, start_ms"
        )
        return [(cluster, node, start_ms, count) for cluster, node, start_ms, count in rows]

    def size_bytes(self) -> int:
        read_at_s, size = self._size
        if time.monotonic() - read_at_s > SIZE_EVERY_S or not size:
            sql = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase()"
            size = sum(int(row[0] or 0) for shard in self._shards for row in shard.rows(sql))
            self._size = time.monotonic(), size
        return size

    def close(self) -> None:
        self._usage.close()
        if self._beat_at_ms:
            with contextlib.suppress(LedgerError):  # then the others wait for LEASE_MS
                self._insert_rows("collectors", ("id", "seen_ms"), [(self._id, GONE_MS)])
        for client in (self._client, *self._shards):
            client.close()

    # --- plumbing ------------------------------------------------------------------------------------------------

    def _make_tables(self, cluster: str, database: str) -> None:
        for shard in self._shards:
            for statement in local_tables():
                shard.run(statement)
            if cluster:
                for statement in distributed_tables(cluster, database):
                    shard.run(statement)
            _add_columns(shard, ("", "_all") if cluster else ("",))
        ((version,),) = self._rows("SELECT max(version) FROM {schema_version}")
        if version > SCHEMA_VERSION:
            raise LedgerError(
                f"ledger {self._name} has schema version {version}, this collector knows {SCHEMA_VERSION}: "
                "run the newer collector, or restore the copy made before the upgrade"
            )
        if version < SCHEMA_VERSION:
            self._insert_rows("schema_version", ("version",), [(SCHEMA_VERSION,)])

    def _rows(self, sql: str, *numbers: int) -> list[tuple[Any, ...]]:
        """`{name}` stands for a table as it is reached from here."""
        return self._client.rows(sql.format_map({name: name + self._all for name in NAMES}) % numbers)

    def _insert(self, table: str, columns: Sequence[str], values: Sequence[Sequence[Any]]) -> None:
        self._client.insert(table + self._all, columns, values)

    def _insert_rows(self, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
        values = list(zip(*rows, strict=True))
        if values:
            self._insert(table, columns, values)

    def _touched(self) -> dict[int, int]:
        """Hour -> commits into it."""
        sql = "SELECT hour_ms, sum(commits) FROM {touched} WHERE hour_ms >= %d GROUP BY hour_ms"
        return dict(self._rows(sql, self._retired("windows")))

    def _folds(self) -> dict[int, int]:
        """Hour -> up to how many commits its sums hold."""
        sql = "SELECT hour_ms, max(commits) FROM {folded} WHERE hour_ms >= %d GROUP BY hour_ms"
        return dict(self._rows(sql, self._retired("hours")))

    def _retired(self, what: str) -> int:
        ((before_ms,),) = self._rows(f"SELECT max(before_ms) FROM {{retired}} WHERE what = {quoted(what)}")
        return int(before_ms or 0)

    def _read_node_labels(self) -> dict[tuple[str, str], str]:
        sql = "SELECT cluster, node, argMax(labels, received_ms) FROM {node_labels} GROUP BY cluster, node"
        return {(cluster, node): labels for cluster, node, labels in self._rows(sql)}

    def _read_first_ms(self) -> int | None:
        hours = self._rows("SELECT min(hour_ms), count() FROM {touched} WHERE hour_ms >= %d", self._retired("hours"))
        ((hour_ms, count),) = hours
        if not count:
            return None
        where = f"WHERE {_in_hour('start_ms', hour_ms)}"
        ((start_ms, windows),) = self._rows(f"SELECT min(start_ms), count() FROM {{windows}} {where}")
        return int(start_ms) if windows else int(hour_ms)


def _add_columns(shard: Client, endings: Iterable[str]) -> None:
    """What tables of an earlier version lack; another collector may do the same at this moment."""
    for table, wanted in columns_wanted().items():
        for name in (table + ending for ending in endings):
            known = {column for column, *_ in shard.rows(f"DESCRIBE TABLE {name}")}
            for column, kind in wanted.items():
                if column in known:
                    continue
                try:
                    shard.run(f"ALTER TABLE {name} ADD COLUMN {column} {kind}")
                except LedgerError:
                    if column not in {found for found, *_ in shard.rows(f"DESCRIBE TABLE {name}")}:
                        raise


def _slot(step_ms: int) -> str:
    """Where a window's step begins. Not by `%`: old servers give its result too small a type."""
    return f"intDiv(start_ms, {int(step_ms)}) * {int(step_ms)}"


def _starts_in(start_ms: int, end_ms: int) -> str:
    return f"start_ms >= {int(start_ms)} AND start_ms < {int(end_ms)}"


def _in_hour(column: str, hour_ms: int) -> str:
    return f"{column} >= {hour_ms} AND {column} < {hour_ms + MS_PER_HOUR}"


def _add_window(values: list[list[Any]], shipment: Shipment, batch: Batch, received_ms: int) -> None:
    """One batch as one row, in the order of `WINDOW_COLUMNS`."""
    rows: Rows = defaultdict(list)
    rows_of_batch(rows, shipment, batch, received_ms)
    ((*row,),) = rows["batches"]
    for table, (keys, _) in TABLES.items():
        # Of (cluster, node, keys..., start_ms, sums...) those that are the row's own.
        of_table = rows.get(f"{table}_windows", ())
        columns = list(zip(*of_table, strict=True))
        own = [*range(2, len(keys)), *range(len(keys) + 1, len(keys) + 1 + len(TABLES[table][1]))]
        row += [columns[i] if columns else () for i in own]
        assert len(own) == len(nested(table))
    for column, value in zip(values, row, strict=True):
        column.append(value)
