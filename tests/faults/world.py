"""A small world of agents and one collector that go wrong by a seed: the real agent (its tailer, window builder, spool and
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

With `--liar` beside all that (liar.py, tenant_log.py): a node with a token of its own sends whatever the wire might take,
in its name and in others', claims their GPUs, and comes into one commit with them; a tenant on each host swaps a log for links,
FIFOs and devices, truncates it, and writes bytes without lines. Every fact of the others, and their reports, are the same as without it.

What is left out: a record that is damaged in its segment and beside it; power failures (a write that returned is there).
"""

import argparse
import http.client
import logging
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from faults.balance import check, check_beside_liar
from faults.collector import SimulatedCollector
from faults.host import HANG_MS, HOUR_MS, START_MS, STEPS_OF_CLOCKS_MS, Died, SimulatedAgent
from faults.liar import Liar
from tokenyield_agent.shipping import segments as segment_files
from tokenyield_agent.shipping.shipper import CollectorAnswer

STEPS = (20, 80)
SEGMENT_BYTES = 4_000


@dataclass
class World:
    """One schedule."""

    seed: int
    folder: Path
    happened: list[str] = field(default_factory=list)
    has_liar: bool = False
    """A node that lies, and tenants who play with their logs, beside all else."""

    def __post_init__(self) -> None:
        self.chosen = random.Random(self.seed)
        self.liar_chosen = random.Random(self.seed + 1_000_003) if self.has_liar else None
        self.now_ms = START_MS + self.chosen.randrange(HOUR_MS)
        self.no_procs = self.folder / "proc"
        self.no_procs.mkdir()
        self.is_tight = self.chosen.random() < 0.5
        """Spools overflow; then nothing is taken from the ledger, for the batches that it had are not kept."""
        self.forgets = self.chosen.random() < 0.3
        """State of agents is deleted; then likewise."""
        self.collector = SimulatedCollector(self)
        self.partition = 0
        self.delayed: list[bytes] = []
        self.agents = [self._agent(f"n{i}") for i in range(self.chosen.choice([1, 2, 3]))]
        if self.chosen.random() < 0.3:
            first = self.agents[0]
            copy = self.folder / "copied"
            shutil.copytree(first.state_dir, copy)
            self.agents.append(SimulatedAgent(self, "copied", copy))
        if self.has_liar:
            self.liar = Liar(self, [f"GPU-{agent.name}" for agent in self.agents])

    liar: Liar | None = None

    def _agent(self, name: str) -> SimulatedAgent:
        return SimulatedAgent(self, name, self.folder / f"{name}-{self.chosen.randrange(10**9)}")

    @property
    def may_lose_ledgers(self) -> bool:
        return not (self.is_tight or self.forgets)

    # --- the network -------------------------------------------------------------------------------------------------

    def deliver(self, body: bytes) -> CollectorAnswer:
        if self.partition > 0 or self.collector.ledger is None:
            raise TimeoutError("no way")
        luck = self.chosen.random()
        if self.calm or luck < 0.6:
            return self.collector.receive(body)
        if luck < 0.68:
            raise ConnectionResetError("the request is lost")
        if luck < 0.78:
            self.collector.receive(body)
            raise http.client.RemoteDisconnected("the receipt is lost")
        if luck < 0.84:
            self.collector.receive(body)
            return CollectorAnswer(500, b"after the commit", None)
        if luck < 0.90:
            return CollectorAnswer(503, b"later", 0.0)
        self.delayed.append(body)  # a copy that wanders about
        return self.collector.receive(body)

    calm = False

    # --- what happens ------------------------------------------------------------------------------------------------

    def step(self) -> None:
        chosen, collector = self.chosen, self.collector
        self.now_ms += chosen.choice([5_000, 15_000, 15_000, 15_000, 60_000, 1_800_000])
        self.partition -= 1
        event = chosen.random()
        if event < 0.08:
            self.partition = chosen.randrange(1, 12)
            self.happened.append("partition")
        elif event < 0.14 and collector.ledger is not None:
            collector.kill()
            self.happened.append("collector killed")
        elif (
            event < 0.19
            and collector.ledger is not None
            and collector.ledger.first_ms() is not None
            and not collector.is_damaged
        ):
            collector.take_backup()
            self.happened.append("backup")
        elif event < 0.24 and collector.ledger is not None and collector.backup is not None and self.may_lose_ledgers:
            collector.restore()
            self.happened.append("restored")
        elif event < 0.30 and self.delayed and collector.ledger is not None:
            collector.receive(self.delayed.pop(chosen.randrange(len(self.delayed))))
            self.happened.append("late duplicate")
        if collector.ledger is None and chosen.random() < 0.4:
            collector.start()
        if collector.ledger is not None and chosen.random() < 0.1:
            collector.fold()
        for agent in self.agents:
            self._step_of(agent)
        if self.liar is not None:
            self.liar.step()

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
        if agent.tenant_log is not None and (trick := agent.tenant_log.step()) is not None:
            self.happened.append(f"{agent.name}: tenant's log: {trick.replace('_', ' ')}")
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
        if self.collector.ledger is None:
            self.collector.start()
        self.collector.fold()
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
            self.collector.receive(body)
        if self.liar is not None:
            self.liar.commit_alone()


def play(seed: int, root: Path | None = None, has_liar: bool = False) -> Counter[str]:
    """One schedule, to its end. Raises AssertionError where the books do not balance; returns what happened."""
    usual, segment_files.SEGMENT_BYTES_MAX = segment_files.SEGMENT_BYTES_MAX, SEGMENT_BYTES
    try:
        with tempfile.TemporaryDirectory(dir=root, prefix=f"world-{seed}-") as folder:
            world = World(seed, Path(folder), has_liar=has_liar)
            for _ in range(world.chosen.randrange(*STEPS)):
                world.step()
            world.heal()
            check(world)
            if world.liar is not None:
                check_beside_liar(world)
            assert world.collector.ledger is not None
            world.collector.ledger.close()
    finally:
        segment_files.SEGMENT_BYTES_MAX = usual
    lies = world.liar.happened if world.liar is not None else Counter[str]()
    return Counter(event.partition(": ")[2] or event for event in world.happened) + lies


def played(seed: int, has_liar: bool = False) -> tuple[int, Counter[str], str]:
    """The seed, what happened, and why the books do not balance; for a pool of processes."""
    logging.disable(logging.CRITICAL)
    memory = Path("/dev/shm")
    try:
        return seed, play(seed, memory if memory.is_dir() else None, has_liar), ""
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed is what matters
        return seed, Counter(), f"seed {seed}: {type(error).__name__}: {error}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--liar", action="store_true", help="with a node that lies, and tenants who play with logs")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no schedule after them")
    arguments = parser.parse_args()
    end_s = time.monotonic() + arguments.seconds
    happened, failed, done = Counter[str](), [], 0
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.schedules)
    with multiprocessing.Pool(arguments.processes, maxtasksperchild=500) as pool:
        for seed, events, why in pool.imap_unordered(partial(played, has_liar=arguments.liar), seeds, chunksize=4):
            happened += events
            done += 1
            if why:
                failed.append(seed)
                print(why, file=sys.stderr, flush=True)
            if sys.stderr.isatty() or done % 20 == 0:
                print(f"\r{done} schedules, {len(failed)} failed", end="", file=sys.stderr, flush=True)
            if time.monotonic() > end_s:
                pool.terminate()
                break
    print(msgspec.json.encode({"schedules": done, "failed": sorted(failed), "faults": happened}).decode())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
