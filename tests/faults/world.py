"""A small world of agents and one collector that go wrong by a seed: the real spool, shipper, codec and ledger, with a clock,
a disk and a network of its own.

A schedule is a seed. `play(seed)` lets it happen, heals everything, drains, and checks the books:
* what each agent closed is in the ledger once, or is counted by the name of what took it away;
* the ledger's hours are the sums of its windows.

Faults: kill -9 of the agent in the middle of a write or between two, of the collector in the middle of a commit or between
two, torn tails, flipped bits in the spool, disk full and read-only, requests and receipts lost, 500 and timeout after a
commit, 503, duplicates delivered late and out of order, partitions, a collector restored from a copy, two hosts with one
identity, an agent whose state is deleted.

What is left out: a record that is damaged in its segment and beside it; power failures (a write that returned is there).
"""

import gzip
import http.client
import os
import random
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tokenyield_agent import spool as spool_module
from tokenyield_agent.config import Settings
from tokenyield_agent.disk import Disk
from tokenyield_agent.ship import Answer, Shipper
from tokenyield_agent.spool import Spool, Waiting
from tokenyield_collector.ledger.duckdb import DuckDbLedger
from tokenyield_wire.codec import decode_shipment, encode_shipment
from tokenyield_wire.window import Batch, GpuWindow, StateMillijoules, TokenCount, Workload

START_MS = 1_795_435_200_000
HOUR_MS = 3_600_000
STEPS = (20, 80)
SPOOL_BYTES = 6_000
SEGMENT_BYTES = 1_500


class Died(Exception):
    """kill -9: nothing after it happens."""


class BadDisk(Disk):
    """Tears a write and dies, or takes none."""

    def __init__(self, chosen: random.Random) -> None:
        self._chosen = chosen
        self.dies_in: int | None = None
        """Writes until the process dies in one."""
        self.error: int | None = None

    def _before(self) -> bool:
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        if self.dies_in is None:
            return False
        self.dies_in -= 1
        return self.dies_in <= 0

    def create(self, path: Path, data: bytes) -> None:
        if self._before():
            if self._chosen.random() < 0.5:
                path.with_suffix(".new").write_bytes(data[: self._chosen.randrange(len(data) + 1)])
            else:
                super().create(path, data)
            raise Died
        super().create(path, data)

    def append(self, path: Path, offset: int, data: bytes) -> None:
        if self._before():
            with path.open("r+b") as file:
                file.seek(offset)
                file.write(data[: self._chosen.randrange(len(data) + 1)])
            raise Died
        super().append(path, offset, data)

    def replace(self, path: Path, data: bytes) -> None:
        if self._before():
            way = self._chosen.randrange(3)
            if way == 0:
                path.with_suffix(".new").write_bytes(data[: self._chosen.randrange(len(data) + 1)])
            elif way == 1:
                super().replace(path, data)
            else:
                super().replace(path, b"")  # renamed, and its content lost with the power
            raise Died
        super().replace(path, data)

    def delete(self, path: Path) -> None:
        if self._before():
            raise Died
        super().delete(path)

    def _write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)  # the world has no power failures that a sync would help against

    def _sync_folder(self, folder: Path) -> None: ...


class SimulatedShipper(Shipper):
    """The real one, whose requests go into the world's network."""

    def __init__(self, world: "World", settings: Settings, spool: Spool, agent_id: str, rejected: Path) -> None:
        super().__init__(settings, spool, agent_id, rejected)
        self._world = world

    def _post(self, waiting: Waiting) -> Answer:
        return self._world.deliver(gzip.compress(encode_shipment(self._shipment(waiting)), 1))

    def ship_once(self) -> bool:
        """Whether there was something to ship, and it went well."""
        waiting = self._spool.waiting(batches_max=self._batches_max)
        return waiting is not None and self._ship(waiting, 1) is None


@dataclass
class Closed:
    """One window as the agent closed it."""

    tokens: int
    length_ms: int


class SimulatedAgent:
    """A source of tokens, and what the agent makes of them: a window for each step, and its state beside it."""

    def __init__(self, world: "World", name: str, folder: Path, agent_id: str, clock_ms: int) -> None:
        self.world, self.name, self.folder, self.agent_id = world, name, folder, agent_id
        self.made = 0
        """Tokens in the log, whoever reads them."""
        self.closed: dict[tuple[str, int], Closed] = {}
        self.gone: Counter[str] = Counter()
        """Batches taken away, by the name under which that is counted."""
        self.disk = BadDisk(world.chosen)
        self.is_up = False
        self.unread = 0
        self.first_ms = clock_ms
        self.skipped = Closed(0, 0)
        """Never closed: lost with deleted state."""
        self.start()

    def start(self) -> None:
        self.disk.dies_in = None
        size = SPOOL_BYTES if self.world.is_tight else 1_000_000
        self.spool = Spool(self.folder, bytes_max=size, keep_bytes=size // 3, disk=self.disk)
        settings = Settings(node=self.name, cluster="sim", collector_url="http://sim")
        self.shipper = SimulatedShipper(
            self.world, settings, self.spool, self.agent_id, self.folder.parent / "rejected"
        )
        resume = self.spool.resume or {"position": self.made, "end_ms": self.world.now_ms}
        self.position, self.end_ms = resume["position"], resume["end_ms"]
        self.is_up = True
        # Numbers that were given again after a crash: what stood under them was never whole on the disk.
        self.closed = {
            key: one for key, one in self.closed.items() if key[0] != self.spool.epoch or key[1] < self.spool.next_seq
        }
        if self.spool.resume is None:
            self._save([])

    def stop_dead(self) -> None:
        self.is_up = False
        for name in ("dropped", "corrupt"):
            self.gone[name] += self.spool.counts[name]
        self.gone["rejected"] += self.shipper.counts["rejected"]

    def close_window(self) -> None:
        """Everything since the last one; one batch an hour."""
        batches: list[Batch] = []
        at_ms, position = self.end_ms, self.position
        tokens = self.made - position
        while at_ms < self.world.now_ms:
            end_ms = min(self.world.now_ms, at_ms - at_ms % HOUR_MS + HOUR_MS)
            batches.append(_batch(self.spool.next_seq + len(batches), at_ms, end_ms, tokens, self.name))
            tokens, at_ms = 0, end_ms
        if not batches:
            return
        before = self.position, self.end_ms
        self.position, self.end_ms = self.made, at_ms
        try:
            self._save(batches)
        except OSError:
            self.position, self.end_ms = before  # kept in memory, closed with the next one
            return

    def _save(self, batches: list[Batch]) -> None:
        # Written down first: a write that dies may be whole on the disk all the same.
        for batch in batches:
            tokens = batch.workloads[0].tokens[0].completion or 0
            self.closed[self.spool.epoch, batch.seq] = Closed(tokens, batch.end_ms - batch.start_ms)
        try:
            self.spool.append(batches, {"position": self.position, "end_ms": self.end_ms})
        except OSError:
            for batch in batches:
                del self.closed[self.spool.epoch, batch.seq]
            raise

    def flip_a_bit(self) -> None:
        beside = self.folder / "newest"
        newest = spool_module._decoded(beside.read_bytes()) if beside.exists() else None
        if newest is None or newest.next_seq < self.spool.next_seq:
            return  # died before it stood beside: the one fault that is left out
        path = self.world.chosen.choice(sorted(self.folder.glob("*.seg")))
        data = bytearray(path.read_bytes())
        data[self.world.chosen.randrange(len(data))] ^= 1 << self.world.chosen.randrange(8)
        path.write_bytes(data)


def _batch(seq: int, start_ms: int, end_ms: int, tokens: int, node: str) -> Batch:
    length_ms = end_ms - start_ms
    gpu = GpuWindow(uuid=f"GPU-{node}", model="G", active_ms=length_ms, energy_mj=StateMillijoules(active=length_ms))
    work = Workload(
        key="w", server="vllm", place=node, model="m", tokens=(TokenCount(method="count", completion=tokens),)
    )
    return Batch(seq=seq, start_ms=start_ms, end_ms=end_ms, gpus=(gpu,), workloads=(work,))


@dataclass
class World:
    """One schedule."""

    seed: int
    folder: Path
    happened: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chosen = random.Random(self.seed)
        self.now_ms = START_MS + self.chosen.randrange(HOUR_MS)
        self._lives = 0
        self.is_tight = self.chosen.random() < 0.5
        """Spools overflow; then a collector is not restored, for the batches that it had are not kept."""
        self.ledger: DuckDbLedger | None = self._open(None)
        self.backup: Path | None = None
        self.partition = 0
        self.delayed: list[bytes] = []
        self.agents = [self._agent(f"n{i}") for i in range(self.chosen.choice([1, 2, 3]))]
        if self.chosen.random() < 0.3:
            first = self.agents[0]
            copy = self.folder / "copied"
            shutil.copytree(first.folder, copy)
            self.agents.append(SimulatedAgent(self, "copied", copy, first.agent_id, self.now_ms))

    def _agent(self, name: str) -> SimulatedAgent:
        return SimulatedAgent(
            self, name, self.folder / f"{name}-{self.chosen.randrange(10**9)}" / "spool", f"id-{name}", self.now_ms
        )

    # --- the collector -----------------------------------------------------------------------------------------------

    def _open(self, copied_from: Path | None) -> DuckDbLedger:
        """A new life of the collector, on a copy of the files as they are (or as they were)."""
        self._lives += 1
        home = self.folder / f"ledger-{self._lives}"
        home.mkdir()
        if copied_from is not None:
            for file in copied_from.iterdir():
                if file.is_file():
                    shutil.copyfile(file, home / file.name)
        self.home = home
        return DuckDbLedger(home / "ledger.duckdb", memory_limit="200MB")

    def kill_collector(self) -> None:
        """As kill -9 leaves the files: what was committed is there, what was being written is torn."""
        assert self.ledger is not None
        seen = self.folder / f"killed-{self._lives}"
        seen.mkdir()
        for file in self.home.iterdir():
            if file.is_file():
                shutil.copyfile(file, seen / file.name)
        wal = seen / "ledger.duckdb.wal"
        if self.chosen.random() < 0.5 and wal.exists():
            committed = wal.stat().st_size
            lost = decode_shipment(encode_shipment(_nobody()))
            self.ledger.append([lost], self.now_ms)  # a commit that nobody was told of
            shutil.copyfile(self.home / wal.name, wal)
            grown = wal.stat().st_size
            if grown > committed:
                os.truncate(wal, self.chosen.randrange(committed, grown))
        self.ledger.close()
        self.ledger = None
        self._killed = seen

    def take_backup(self) -> None:
        assert self.ledger is not None
        self.backup = self.folder / f"backup-{self._lives}-{self.chosen.randrange(10**9)}"
        self.backup.mkdir()
        for file in self.home.iterdir():
            if file.is_file():
                shutil.copyfile(file, self.backup / file.name)

    def receive(self, body: bytes) -> tuple[int, bytes]:
        if self.ledger is None:
            raise ConnectionRefusedError
        shipment = decode_shipment(gzip.decompress(body))
        receipt = self.ledger.append([shipment], self.now_ms)[0]
        missing = self.ledger.missing(shipment)
        return 200, msgspec.json.encode(
            {"accepted": receipt.accepted, "duplicates": receipt.duplicates, "missing": missing}
        )

    # --- the network -------------------------------------------------------------------------------------------------

    def deliver(self, body: bytes) -> Answer:
        if self.partition > 0 or self.ledger is None:
            raise TimeoutError("no way")
        luck = self.chosen.random()
        if self.calm or luck < 0.6:
            status, said = self.receive(body)
            return Answer(status, said, None)
        if luck < 0.68:
            raise ConnectionResetError("the request is lost")
        if luck < 0.78:
            self.receive(body)
            raise http.client.RemoteDisconnected("the receipt is lost")
        if luck < 0.84:
            self.receive(body)
            return Answer(500, b"after the commit", None)
        if luck < 0.90:
            return Answer(503, b"later", 0.0)
        self.delayed.append(body)  # a copy that wanders about
        status, said = self.receive(body)
        return Answer(status, said, None)

    calm = False

    # --- what happens ------------------------------------------------------------------------------------------------

    def step(self) -> None:
        chosen = self.chosen
        self.now_ms += chosen.choice([5_000, 15_000, 15_000, 15_000, 60_000, 1_800_000])
        self.partition -= 1
        event = chosen.random()
        if event < 0.08:
            self.partition = chosen.randrange(1, 12)
            self.happened.append("partition")
        elif event < 0.14 and self.ledger is not None:
            self.kill_collector()
            self.happened.append("collector killed")
        elif event < 0.19 and self.ledger is not None and self.ledger.first_ms() is not None:
            self.take_backup()
            self.happened.append("backup")
        elif event < 0.24 and self.ledger is not None and self.backup is not None and not self.is_tight:
            self.ledger.close()
            self.ledger = self._open(self.backup)
            self.happened.append("restored")
        elif event < 0.30 and self.delayed and self.ledger is not None:
            self.receive(self.delayed.pop(chosen.randrange(len(self.delayed))))
            self.happened.append("late duplicate")
        if self.ledger is None and chosen.random() < 0.4:
            self.ledger = self._open(self._killed)
        if self.ledger is not None and chosen.random() < 0.1:
            self.ledger.fold()
        for agent in self.agents:
            self._step_of(agent)

    def _step_of(self, agent: SimulatedAgent) -> None:
        chosen = self.chosen
        agent.made += chosen.randrange(1000)
        if not agent.is_up:
            if chosen.random() < 0.15:
                agent.flip_a_bit()
                self.happened.append(f"{agent.name}: bit flipped")
            if chosen.random() < 0.5:
                agent.start()
            return
        event = chosen.random()
        if event < 0.05:
            agent.disk.dies_in = chosen.randrange(1, 6)
        elif event < 0.08:
            agent.disk.error = chosen.choice([28, 30])
            self.happened.append(f"{agent.name}: disk error")
        elif event < 0.20:
            agent.disk.error = None
        try:
            agent.close_window()
            for _ in range(chosen.randrange(4)):
                if not agent.shipper.ship_once():
                    break
            if chosen.random() < 0.05:
                raise Died
        except Died:
            agent.stop_dead()
            agent.disk.error = None
            self.happened.append(f"{agent.name}: killed")

    # --- the end -----------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Everything works again, and all that waits arrives."""
        self.calm, self.partition = True, 0
        self.now_ms += 15_000  # a window more, whose receipt tells what a restored collector lacks
        if self.ledger is None:
            self.ledger = self._open(self._killed)
        for agent in self.agents:
            agent.disk.error = agent.disk.dies_in = None
            if not agent.is_up:
                agent.start()
            agent.close_window()
            for _ in range(500):
                if not agent.shipper.ship_once() and agent.spool.waiting(batches_max=1) is None:
                    break
            assert agent.spool.depth()[0] == 0, f"seed {self.seed}: {agent.name} does not drain"
        for body in self.delayed:
            self.receive(body)

    def check(self) -> None:
        """The books balance."""
        assert self.ledger is not None
        said = f"seed {self.seed}"
        self.ledger.fold()
        hours, windows = self.ledger.facts_of_hours(), self.ledger.facts_between(0, START_MS * 2)
        connection = self.ledger._connection
        rows: list[Any] = connection.execute(
            "SELECT b.node, b.epoch, b.seq, sum(t.completion)::BIGINT, max(b.end_ms - b.start_ms) FROM batches b "
            "LEFT JOIN token_windows t ON t.node = b.node AND t.start_ms = b.start_ms GROUP BY ALL"
        ).fetchall()
        doubled = connection.execute("SELECT node, start_ms FROM batches GROUP BY ALL HAVING count(*) > 1").fetchall()
        assert not doubled, f"{said}: counted twice: {doubled}"
        kept = {
            (node, epoch, seq): (tokens, length_ms) for node, epoch, seq, tokens, length_ms in rows if node != "nobody"
        }
        for agent in self.agents:
            agent.stop_dead()
            closed = {(agent.name, *key): (one.tokens, one.length_ms) for key, one in agent.closed.items()}
            mine = {key: value for key, value in kept.items() if key[0] == agent.name}
            assert mine.items() <= closed.items(), f"{said}: {agent.name} never closed {mine.items() - closed.items()}"
            lost = closed.keys() - mine.keys()
            counted = sum(agent.gone.values())
            assert len(lost) <= counted, f"{said}: {agent.name} lost {sorted(lost)}, counted {dict(agent.gone)}"
            total = sum(one.tokens for one in agent.closed.values())
            assert total == agent.made, f"{said}: {agent.name} closed {total} of {agent.made} tokens"
        for sums, name in ((hours, "hours"), (windows, "windows")):
            time_ms = sum(row.active_ms for row in sums.gpus)
            tokens = sum(row.completion or 0 for row in sums.tokens)
            assert (tokens, time_ms) == (
                sum(value[0] for value in kept.values()),
                sum(value[1] for value in kept.values()),
            ), f"{said}: {name}"


def _nobody() -> Any:
    from tokenyield_wire.window import Shipment

    batch = _batch(1, START_MS, START_MS + 1000, 0, "nobody")
    return Shipment(schema=1, agent_id="nobody", epoch="e", cluster="sim", node="nobody", batches=(batch,))


def play(seed: int, root: Path | None = None) -> Counter[str]:
    """One schedule, to its end. Raises AssertionError where the books do not balance; returns what happened."""
    usual, spool_module.SEGMENT_BYTES_MAX = spool_module.SEGMENT_BYTES_MAX, SEGMENT_BYTES
    try:
        with tempfile.TemporaryDirectory(dir=root, prefix=f"world-{seed}-") as folder:
            world = World(seed, Path(folder))
            for _ in range(world.chosen.randrange(*STEPS)):
                world.step()
            world.heal()
            world.check()
            assert world.ledger is not None
            world.ledger.close()
    finally:
        spool_module.SEGMENT_BYTES_MAX = usual
    return Counter(each.partition(": ")[2] or each for each in world.happened)


if __name__ == "__main__":
    import argparse
    import logging
    import sys

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--first-seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    happened, failed = Counter[str](), []
    memory = Path("/dev/shm")
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.schedules):
        try:
            happened += play(seed, memory if memory.is_dir() else None)
        except AssertionError as error:
            failed.append(seed)
            print(error, file=sys.stderr)
        if sys.stderr.isatty():
            print(f"\r{seed + 1 - arguments.first_seed} schedules, {len(failed)} failed", end="", file=sys.stderr)
    print(msgspec.json.encode({"schedules": arguments.schedules, "failed": failed, "faults": happened}).decode())
    sys.exit(bool(failed))
