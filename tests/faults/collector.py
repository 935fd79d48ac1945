"""The world's collector: the codec and the ledger on real files, which are killed, damaged, backed up and restored."""

import gzip
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import msgspec

from faults.host import START_MS, WORKLOAD, flip_in
from tokenyield_agent.shipping.shipper import CollectorAnswer
from tokenyield_collector.errors import LedgerError, UnstorableShipment
from tokenyield_collector.ingest.bounds import too_early
from tokenyield_collector.ledger.base import ShipmentReceipt
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_wire.codec import decode_shipment, encode_shipment
from tokenyield_wire.window import Batch, GpuWindow, Shipment, StateMillijoules, Workload

if TYPE_CHECKING:
    from faults.world import World

CLOCK_SKEW_MS = 300_000
FLEET_SCOPE, LIAR_SCOPE = "fleet", "liar"
"""Of the tokens of the honest nodes, and of the one that lies."""


class SimulatedCollector:
    """`ledger` is None while it is down."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._lives = 0
        self.ledger: DuckDbLedger | None = self.open(None)
        if world.has_liar:  # who uses a name first has it (decision 0016): here an honest node
            self.ledger.append([_nobody(WORKLOAD)], world.now_ms, [FLEET_SCOPE])
        self.backup: Path | None = None
        self.is_damaged = False
        """A bit of the files was flipped, which may not have been noticed yet."""
        self.received: list[Shipment] = []
        """All that honest nodes sent, in worlds with a liar."""

    def open(self, copied_from: Path | None) -> DuckDbLedger:
        """A new life of the collector, on a copy of the files as they are (or as they were)."""
        self._lives += 1
        home = self._world.folder / f"ledger-{self._lives}"
        home.mkdir()
        if copied_from is not None:
            _copy_files(copied_from, home)
        self.home = home
        return DuckDbLedger(home / "ledger.duckdb", memory_limit="200MB")

    def start(self) -> None:
        """After a kill. Of files that were damaged meanwhile, what cannot be read is replaced as the runbook says."""
        if not self.is_damaged:
            self.ledger = self.open(self._killed)
            return
        try:
            self.ledger = self.open(self._killed)
            self.ledger.fold()
            self.ledger.facts_of_hours()
            self.ledger.facts_between(0, START_MS * 2)
            self.ledger.doubled()
            self.ledger.name_conflicts()
            self._world.happened.append("ledger damaged, unread part")
        except (LedgerError, duckdb.Error):
            self._replace_damaged()

    def _replace_damaged(self) -> None:
        if self.ledger is not None:
            self.end_process()
        self.ledger, self.is_damaged = self.open(self.backup or self._before_damage), False
        self._world.happened.append("ledger damaged, reported")

    def fold(self) -> None:
        """What was damaged may be found only now."""
        assert self.ledger is not None
        try:
            self.ledger.fold()
        except LedgerError:
            if not self.is_damaged:
                raise
            self._replace_damaged()

    def kill(self) -> None:
        """As kill -9 leaves the files: what was committed is there, what was being written is torn."""
        assert self.ledger is not None
        seen = self._world.folder / f"killed-{self._lives}"
        seen.mkdir()
        _copy_files(self.home, seen)
        wal = seen / "ledger.duckdb.wal"
        if self._world.chosen.random() < 0.5 and wal.exists():
            committed = wal.stat().st_size
            lost = decode_shipment(encode_shipment(_nobody()))
            self.ledger.append([lost], self._world.now_ms)  # a commit without a receipt
            if (self.home / wal.name).exists():  # the first commit goes into the file at once
                shutil.copyfile(self.home / wal.name, wal)
            grown = wal.stat().st_size
            if grown > committed:
                os.truncate(wal, self._world.chosen.randrange(committed, grown))
        self.end_process()
        self._killed = seen
        if self._world.may_lose_ledgers and self._world.chosen.random() < 0.3:
            if not self.is_damaged:  # what was damaged before may not have been read yet
                self._before_damage = self._world.folder / f"{seen.name}-whole"
                self._before_damage.mkdir()
                _copy_files(seen, self._before_damage)
            self.is_damaged = True
            flip_in(self._world.chosen.choice(sorted(seen.iterdir())), self._world.chosen)

    def end_process(self) -> None:
        """Nothing is written down any more."""
        assert self.ledger is not None
        for connection in (*self.ledger._file.cursors, self.ledger._file.connection):
            connection.close()
        self.ledger = None

    def take_backup(self) -> None:
        assert self.ledger is not None
        self.backup = self._world.folder / f"backup-{self._lives}-{self._world.chosen.randrange(10**9)}"
        self.backup.mkdir()
        _copy_files(self.home, self.backup)

    def receive(self, body: bytes) -> CollectorAnswer:
        if self.ledger is None:
            raise ConnectionRefusedError
        shipment = decode_shipment(gzip.decompress(body))
        if too_early(shipment, self._world.now_ms + CLOCK_SKEW_MS):
            return CollectorAnswer(425, b"too early", 60.0)
        try:
            receipt = self._append(shipment)
            missing = self.ledger.missing(shipment)
        except LedgerError:  # what was damaged may be found only now
            if not self.is_damaged:
                raise
            self._replace_damaged()
            return CollectorAnswer(503, b"the ledger cannot be read", 0.0)
        said = {
            "accepted": receipt.accepted, "duplicates": receipt.duplicates, "missing": missing, "epoch": shipment.epoch,
            "first_seq": shipment.batches[0].seq, "last_seq": shipment.batches[-1].seq,
        }  # fmt: skip
        return CollectorAnswer(200, msgspec.json.encode(said), None)

    def _append(self, shipment: Shipment) -> ShipmentReceipt:
        """In one group with what a liar sent, and alone where that group cannot be stored, as the committer does."""
        assert self.ledger is not None
        liar = self._world.liar
        if liar is None:
            return self.ledger.append([shipment], self._world.now_ms)[0]
        self.received.append(shipment)
        try:
            scopes = [*[LIAR_SCOPE] * len(liar.waiting), FLEET_SCOPE]
            receipt = self.ledger.append([*liar.waiting, shipment], self._world.now_ms, scopes)[-1]
            liar.waiting = []
        except UnstorableShipment:
            receipt = self.ledger.append([shipment], self._world.now_ms, [FLEET_SCOPE])[0]
            liar.commit_alone()
        return receipt

    def restore(self) -> None:
        """From the last backup."""
        self.end_process()
        self.ledger, self.is_damaged = self.open(self.backup), False


def _copy_files(source: Path, target: Path) -> None:
    for file in source.iterdir():
        if file.is_file():
            shutil.copyfile(file, target / file.name)


def _nobody(*workloads: str) -> Shipment:
    """Of a node that no figure is checked of; it uses these names."""
    used = tuple(Workload(key=name, server="vllm", place="/w") for name in workloads)
    gpu = GpuWindow(uuid="GPU-nobody", model="G", active_ms=1000, energy_mj=StateMillijoules(active=1000))
    batch = Batch(seq=1, start_ms=START_MS, end_ms=START_MS + 1000, gpus=(gpu,), workloads=used)
    return Shipment(schema=1, agent_id="nobody", epoch="e", cluster="sim", node="nobody", batches=(batch,))
