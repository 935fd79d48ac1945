"""A small world of agents and one collector that go wrong by a seed: the real agent (its tailer, window book, spool and
shipper), codec and ledger, with a clock, GPUs, a disk and a network of its own.

A schedule is a seed. `play(seed)` lets it happen, heals everything, drains, and checks the books:
* what each agent closed is in the ledger once, or is counted by the name of what took it away;
* the tokens of each log, and the energy of each GPU's counter, are in the closed windows once;
* a host's windows cover its time, where its clock was not stepped;
* the ledger's hours are the sums of its windows.

Faults: kill -9 of the agent in the middle of a write or between two, of the collector in the middle of a commit or between
two, torn tails, flipped bits in the spool and in the ledger's files, disk full and read-only, requests and receipts lost,
500 and timeout after a commit, 503, duplicates delivered late and out of order, partitions, a collector restored from a
copy, two hosts with one identity, an agent whose state is deleted, clocks stepped both ways (by a leap second, by an
hour), NVML that hangs for 30 s, logs rotated by renaming and by copying.

What is left out: a record that is damaged in its segment and beside it; power failures (a write that returned is there).
"""

import argparse
import gzip
import http.client
import logging
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from faults.host import HANG_MS, HOUR_MS, START_MS, STEPS_OF_CLOCKS_MS, Closed, Died, SimulatedAgent, flip_in
from tokenyield_agent.shipping import segments as segment_files
from tokenyield_agent.shipping.shipper import CollectorAnswer
from tokenyield_collector.errors import LedgerError
from tokenyield_collector.ingest.bounds import too_early
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_wire.codec import decode_shipment, encode_shipment
from tokenyield_wire.window import Batch, GpuWindow, Shipment, StateMillijoules

STEPS = (20, 80)
SEGMENT_BYTES = 4_000
CLOCK_SKEW_MS = 300_000


@dataclass
class World:
    """One schedule."""

    seed: int
    folder: Path
    happened: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chosen = random.Random(self.seed)
        self.now_ms = START_MS + self.chosen.randrange(HOUR_MS)
        self.no_procs = self.folder / "proc"
        self.no_procs.mkdir()
        self._lives = 0
        self.is_tight = self.chosen.random() < 0.5
        """Spools overflow; then nothing is taken from the ledger, for the batches that it had are not kept."""
        self.forgets = self.chosen.random() < 0.3
        """State of agents is deleted; then likewise."""
        self.ledger: DuckDbLedger | None = self._open(None)
        self.backup: Path | None = None
        self._damaged = False
        """A bit of the files was flipped, which may not have been noticed yet."""
        self.partition = 0
        self.delayed: list[bytes] = []
        self.agents = [self._agent(f"n{i}") for i in range(self.chosen.choice([1, 2, 3]))]
        if self.chosen.random() < 0.3:
            first = self.agents[0]
            copy = self.folder / "copied"
            shutil.copytree(first.state_dir, copy)
            self.agents.append(SimulatedAgent(self, "copied", copy))

    def _agent(self, name: str) -> SimulatedAgent:
        return SimulatedAgent(self, name, self.folder / f"{name}-{self.chosen.randrange(10**9)}")

    @property
    def may_lose_ledgers(self) -> bool:
        return not (self.is_tight or self.forgets)

    # --- the collector -----------------------------------------------------------------------------------------------

    def _open(self, copied_from: Path | None) -> DuckDbLedger:
        """A new life of the collector, on a copy of the files as they are (or as they were)."""
        self._lives += 1
        home = self.folder / f"ledger-{self._lives}"
        home.mkdir()
        if copied_from is not None:
            _copy_files(copied_from, home)
        self.home = home
        return DuckDbLedger(home / "ledger.duckdb", memory_limit="200MB")

    def start_collector(self) -> None:
        """After a kill. Of files that were damaged meanwhile, what cannot be read is replaced as the runbook says."""
        if not self._damaged:
            self.ledger = self._open(self._killed)
            return
        try:
            self.ledger = self._open(self._killed)
            self.ledger.fold()
            self.ledger.facts_of_hours()
            self.ledger.facts_between(0, START_MS * 2)
            self.ledger.doubled()
            self.happened.append("ledger damaged, unread part")
        except (LedgerError, duckdb.Error):
            self._replace_damaged()

    def _replace_damaged(self) -> None:
        if self.ledger is not None:
            self._end_process()
        self.ledger, self._damaged = self._open(self.backup or self._before_damage), False
        self.happened.append("ledger damaged, told")

    def fold(self) -> None:
        """What was damaged may be found only now."""
        assert self.ledger is not None
        try:
            self.ledger.fold()
        except LedgerError:
            if not self._damaged:
                raise
            self._replace_damaged()

    def kill_collector(self) -> None:
        """As kill -9 leaves the files: what was committed is there, what was being written is torn."""
        assert self.ledger is not None
        seen = self.folder / f"killed-{self._lives}"
        seen.mkdir()
        _copy_files(self.home, seen)
        wal = seen / "ledger.duckdb.wal"
        if self.chosen.random() < 0.5 and wal.exists():
            committed = wal.stat().st_size
            lost = decode_shipment(encode_shipment(_nobody()))
            self.ledger.append([lost], self.now_ms)  # a commit that nobody was told of
            if (self.home / wal.name).exists():  # the first commit goes into the file at once
                shutil.copyfile(self.home / wal.name, wal)
            grown = wal.stat().st_size
            if grown > committed:
                os.truncate(wal, self.chosen.randrange(committed, grown))
        self._end_process()
        self._killed = seen
        if self.may_lose_ledgers and self.chosen.random() < 0.3:
            if not self._damaged:  # what was damaged before may not have been read yet
                self._before_damage = self.folder / f"{seen.name}-whole"
                self._before_damage.mkdir()
                _copy_files(seen, self._before_damage)
            self._damaged = True
            flip_in(self.chosen.choice(sorted(seen.iterdir())), self.chosen)

    def _end_process(self) -> None:
        """Nothing is written down any more."""
        assert self.ledger is not None
        for connection in (*self.ledger._cursors, self.ledger._connection):
            connection.close()
        self.ledger = None

    def take_backup(self) -> None:
        assert self.ledger is not None
        self.backup = self.folder / f"backup-{self._lives}-{self.chosen.randrange(10**9)}"
        self.backup.mkdir()
        _copy_files(self.home, self.backup)

    def receive(self, body: bytes) -> CollectorAnswer:
        if self.ledger is None:
            raise ConnectionRefusedError
        shipment = decode_shipment(gzip.decompress(body))
        if too_early(shipment, self.now_ms + CLOCK_SKEW_MS):
            return CollectorAnswer(425, b"too early", 60.0)
        receipt = self.ledger.append([shipment], self.now_ms)[0]
        missing = self.ledger.missing(shipment)
        said = {"accepted": receipt.accepted, "duplicates": receipt.duplicates, "missing": missing}
        return CollectorAnswer(200, msgspec.json.encode(said), None)

    # --- the network -------------------------------------------------------------------------------------------------

    def deliver(self, body: bytes) -> CollectorAnswer:
        if self.partition > 0 or self.ledger is None:
            raise TimeoutError("no way")
        luck = self.chosen.random()
        if self.calm or luck < 0.6:
            return self.receive(body)
        if luck < 0.68:
            raise ConnectionResetError("the request is lost")
        if luck < 0.78:
            self.receive(body)
            raise http.client.RemoteDisconnected("the receipt is lost")
        if luck < 0.84:
            self.receive(body)
            return CollectorAnswer(500, b"after the commit", None)
        if luck < 0.90:
            return CollectorAnswer(503, b"later", 0.0)
        self.delayed.append(body)  # a copy that wanders about
        return self.receive(body)

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
        elif event < 0.19 and self.ledger is not None and self.ledger.first_ms() is not None and not self._damaged:
            self.take_backup()
            self.happened.append("backup")
        elif event < 0.24 and self.ledger is not None and self.backup is not None and self.may_lose_ledgers:
            self._end_process()
            self.ledger, self._damaged = self._open(self.backup), False
            self.happened.append("restored")
        elif event < 0.30 and self.delayed and self.ledger is not None:
            self.receive(self.delayed.pop(chosen.randrange(len(self.delayed))))
            self.happened.append("late duplicate")
        if self.ledger is None and chosen.random() < 0.4:
            self.start_collector()
        if self.ledger is not None and chosen.random() < 0.1:
            self.fold()
        for agent in self.agents:
            self._step_of(agent)

    def _step_of(self, agent: SimulatedAgent) -> None:
        self._on_the_host(agent)
        if not agent.is_up:
            self._while_down(agent)
            return
        chosen = self.chosen
        event = chosen.random()
        if event < 0.05:
            agent.disk.dies_in = chosen.randrange(1, 6)
        elif event < 0.08:
            agent.disk.error = chosen.choice([28, 30])
            self.happened.append(f"{agent.name}: disk error")
        elif event < 0.20:
            agent.disk.error = None
        try:
            agent.agent.poll()
            for _ in range(chosen.randrange(4)):
                if not agent.shipper.ship_once():
                    break
            if chosen.random() < 0.05:
                raise Died
        except Died:
            agent.stop_dead()
            agent.disk.error = None
            self.happened.append(f"{agent.name}: killed")

    def _on_the_host(self, agent: SimulatedAgent) -> None:
        agent.log.write()
        event = self.chosen.random()
        if event < 0.04:
            if agent.log.rotate():
                self.happened.append(
                    f"{agent.name}: log {'copied and truncated' if agent.log.is_by_copy else 'renamed'}"
                )
        elif event < 0.07:
            agent.step_clock(self.chosen.choice(STEPS_OF_CLOCKS_MS))
            self.happened.append(f"{agent.name}: clock stepped")
        elif event < 0.09:
            agent.gpu.hangs_ms = HANG_MS
            self.happened.append(f"{agent.name}: NVML hung")

    def _while_down(self, agent: SimulatedAgent) -> None:
        event = self.chosen.random()
        if event < 0.15:
            agent.flip_a_bit()
            self.happened.append(f"{agent.name}: bit flipped")
        elif event < 0.25 and self.forgets and agent.state_dir.exists():
            agent.delete_state()
            self.happened.append(f"{agent.name}: state deleted")
        elif event < 0.30:
            agent.reboot()
            self.happened.append(f"{agent.name}: rebooted")
        if self.chosen.random() < 0.5:
            self._started(agent)

    def _started(self, agent: SimulatedAgent) -> None:
        try:
            agent.start()
        except Died:
            agent.stop_dead()

    # --- the end -----------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Everything works again, and all that waits arrives."""
        self.calm, self.partition = True, 0
        if self.ledger is None:
            self.start_collector()
        self.fold()
        for agent in self.agents:
            agent.disk.error = agent.disk.dies_in = None
            if agent.clock.offset_ms:
                agent.step_clock(-agent.clock.offset_ms)
            if not agent.is_up:
                agent.start()
            agent.agent.poll()
        # A window more, whose receipt tells what a restored collector lacks; and time for clocks that were ahead.
        self.now_ms += max(15_000, *(agent.clock.ahead_ms_max for agent in self.agents))
        for agent in self.agents:
            agent.flush()
            for _ in range(500):
                if not agent.shipper.ship_once() and agent.agent.spool.waiting(batches_max=1) is None:
                    break
            assert agent.agent.spool.depth()[0] == 0, f"seed {self.seed}: {agent.name} does not drain"
        for body in self.delayed:
            self.receive(body)

    def check(self) -> None:
        """The books balance."""
        assert self.ledger is not None
        said = f"seed {self.seed}"
        self.ledger.fold()
        connection = self.ledger._connection
        batches: list[Any] = connection.execute(
            "SELECT node, epoch, seq, end_ms - start_ms FROM batches WHERE node != 'nobody'"
        ).fetchall()
        kept = {(node, epoch, seq): length_ms for node, epoch, seq, length_ms in batches}
        assert len(kept) == len(batches), f"{said}: counted twice: {len(batches) - len(kept)}"
        for agent in self.agents:
            agent.stop_dead()
            closed = {(agent.name, *key): one for key, one in agent.closed.items()}
            mine = {key: length_ms for key, length_ms in kept.items() if key[0] == agent.name}
            assert mine.items() <= {key: one.length_ms for key, one in closed.items()}.items(), (
                f"{said}: {agent.name} never closed {sorted(mine.keys() - closed.keys())}"
            )
            lost = closed.keys() - mine.keys()
            counted = sum(agent.gone.values())
            assert len(lost) <= counted, f"{said}: {agent.name} lost {sorted(lost)}, counted {dict(agent.gone)}"
            self._check_host(agent)
            self._check_sums(agent, [closed[key] for key in mine])

    def _check_host(self, agent: SimulatedAgent) -> None:
        """What happened on the host is in its closed windows."""
        said, closed = f"seed {self.seed}: {agent.name}", agent.closed.values()
        tokens = sum(one.tokens for one in closed) + agent.skipped
        assert tokens <= agent.log.tokens, f"{said} closed {tokens} of {agent.log.tokens} tokens"
        energy_mj, made_mj = sum(one.energy_mj for one in closed), agent.gpu.made_mj - agent.first_mj
        assert energy_mj <= made_mj, f"{said} closed {energy_mj} of {made_mj} mJ"
        if agent.windows_dropped:
            return
        assert tokens == agent.log.tokens, f"{said} closed {tokens} of {agent.log.tokens} tokens"
        if agent.is_unbroken:
            passed_ms, length_ms = self.now_ms - agent.first_ms, sum(one.length_ms for one in closed)
            assert length_ms == passed_ms, f"{said} closed {length_ms} ms of {passed_ms}"
            assert energy_mj == made_mj or agent.clock.boots, f"{said} closed {energy_mj} of {made_mj} mJ"

    def _check_sums(self, agent: SimulatedAgent, kept: list[Closed]) -> None:
        """Hours and windows both hold the sums of the batches that are there."""
        assert self.ledger is not None
        wanted = [sum(one.tokens for one in kept), sum(one.gpu_ms for one in kept), sum(one.energy_mj for one in kept)]
        for facts, name in (
            (self.ledger.facts_of_hours(), "hours"),
            (self.ledger.facts_between(0, START_MS * 2), "windows"),
        ):
            gpus = [gpu for gpu in facts.gpus if gpu.node == agent.name]
            found = [
                sum(row.completion or 0 for row in facts.tokens if row.node == agent.name),
                sum(gpu.active_ms + gpu.idle_ms + gpu.unallocated_ms + gpu.unknown_ms for gpu in gpus),
                sum(gpu.active_mj + gpu.idle_mj + gpu.unallocated_mj + gpu.unknown_mj for gpu in gpus),
            ]
            assert found == wanted, f"seed {self.seed}: {agent.name}: {name} hold {found} of {wanted}"


def _copy_files(source: Path, target: Path) -> None:
    for file in source.iterdir():
        if file.is_file():
            shutil.copyfile(file, target / file.name)


def _nobody() -> Shipment:
    gpu = GpuWindow(uuid="GPU-nobody", model="G", active_ms=1000, energy_mj=StateMillijoules(active=1000))
    batch = Batch(seq=1, start_ms=START_MS, end_ms=START_MS + 1000, gpus=(gpu,))
    return Shipment(schema=1, agent_id="nobody", epoch="e", cluster="sim", node="nobody", batches=(batch,))


def play(seed: int, root: Path | None = None) -> Counter[str]:
    """One schedule, to its end. Raises AssertionError where the books do not balance; returns what happened."""
    usual, segment_files.SEGMENT_BYTES_MAX = segment_files.SEGMENT_BYTES_MAX, SEGMENT_BYTES
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
        segment_files.SEGMENT_BYTES_MAX = usual
    return Counter(each.partition(": ")[2] or each for each in world.happened)


def played(seed: int) -> tuple[int, Counter[str], str]:
    """The seed, what happened, and why the books do not balance; for a pool of processes."""
    logging.disable(logging.CRITICAL)
    memory = Path("/dev/shm")
    try:
        return seed, play(seed, memory if memory.is_dir() else None), ""
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed is what matters
        return seed, Counter(), f"seed {seed}: {type(error).__name__}: {error}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    happened, failed, done = Counter[str](), [], 0
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.schedules)
    with multiprocessing.Pool(arguments.processes, maxtasksperchild=500) as pool:
        for seed, what, why in pool.imap_unordered(played, seeds, chunksize=4):
            happened += what
            done += 1
            if why:
                failed.append(seed)
                print(why, file=sys.stderr)
            if sys.stderr.isatty() or done % 500 == 0:
                print(f"\r{done} schedules, {len(failed)} failed", end="", file=sys.stderr, flush=True)
    print(msgspec.json.encode({"schedules": done, "failed": sorted(failed), "faults": happened}).decode())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
