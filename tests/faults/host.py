"""One simulated host: its clocks, its GPU and NVML, a server's log, a disk that fails, and the real agent's lives on it.

What an agent closes is written down in `closed`, and what took batches away in `gone`, so that the world can check the books.
"""

import gzip
import os
import random
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from faults.tenant_log import LINE, TenantLog
from tokenyield_agent.config import Settings, WorkloadSettings
from tokenyield_agent.daemon import Agent
from tokenyield_agent.errors import SetUpError
from tokenyield_agent.gpu.reading import GpuReading, Snapshot
from tokenyield_agent.host.clock import HostClock
from tokenyield_agent.shipping.disk import Disk
from tokenyield_agent.shipping.record import SpoolRecord, decoded
from tokenyield_agent.shipping.shipper import CollectorAnswer, Shipper
from tokenyield_agent.shipping.spool import Spool, WaitingBatches
from tokenyield_agent.tokens.log_source import LogFiles
from tokenyield_agent.tokens.open_file import FileMark
from tokenyield_wire.codec import encode_shipment
from tokenyield_wire.window import Batch

if TYPE_CHECKING:
    from faults.world import World

START_MS = 1_795_435_200_000
HOUR_MS = 3_600_000
SPOOL_BYTES = 12_000
GPU_MW = 300_000
HANG_MS = 30_000
WORKLOAD = "w"
"""Whose tokens are followed."""
STEPS_OF_CLOCKS_MS = (-3_600_000, -90_000, -1_000, -1, 1, 1_000, 90_000, 3_600_000)


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

    def __init__(self, world: "World", settings: Settings, spool: Spool, agent_id: str) -> None:
        super().__init__(settings, spool, agent_id)
        self._world = world

    def _post(self, waiting: WaitingBatches) -> CollectorAnswer:
        return self._world.deliver(gzip.compress(encode_shipment(self._shipment(waiting)), 1))

    def ship_once(self) -> bool:
        """Whether there was something to ship, and it went well."""
        waiting = self._spool.waiting(batches_max=self._batches_max)
        return waiting is not None and self._ship(waiting, 1) is None


class SimulatedClock(HostClock):
    """A host's clocks: the monotonic one goes with the world, the other is `offset_ms` off."""

    def __init__(self, world: "World", name: str) -> None:
        self._world = world
        self.offset_ms = self.ahead_ms_max = 0
        self.boots = 0
        self.name = name

    def boot_id(self) -> str:
        return f"{self.name}-{self.boots}"

    def mono_ns(self) -> int:
        return self._world.now_ms * 1_000_000

    def wall_ns(self) -> int:
        return (self._world.now_ms + self.offset_ms) * 1_000_000


class SimulatedGpu:
    """One GPU at 300 W, and an NVML that may hang in a call."""

    faults: dict[str, int] = {}  # noqa: RUF012
    read_seconds = 0.0

    def __init__(self, world: "World", uuid: str) -> None:
        self._world, self._uuid = world, uuid
        self.hangs_ms = 0
        self._loaded_ms = START_MS
        self._made_mj = 0

    @property
    def counter_mj(self) -> int:
        """Since the driver was loaded."""
        return (self._world.now_ms - self._loaded_ms) * GPU_MW // 1000

    @property
    def made_mj(self) -> int:
        return self._made_mj + self.counter_mj

    def load_driver(self) -> None:
        self._made_mj, self._loaded_ms = self.made_mj, self._world.now_ms

    def read(self) -> Snapshot:
        self._world.now_ms += self.hangs_ms
        self.hangs_ms = 0
        busy = self._world.chosen.choice([0, 80])
        reading = GpuReading(
            uuid=self._uuid,
            index=0,
            model="G",
            energy_mj=self.counter_mj,
            power_mw=GPU_MW,
            utilization_percent=busy,
            processes=(),
        )
        return Snapshot(gpus=(reading,))

    def close(self) -> None: ...


class Log:
    """A llama-server's log, rotated as people do it. `tokens` is what was written to it."""

    def __init__(self, world: "World", path: Path) -> None:
        self._world, self.path = world, path
        self.tokens = 0
        self._requests = self._rotations = self._writes = 0
        self.is_by_copy = world.chosen.random() < 0.3
        self.is_known = self.may_be_copied = False
        """The agent has written down that there is one; and how it begins. What is written to a log and taken away before
        that is lost."""

    def write(self) -> None:
        lines = []
        for _ in range(self._world.chosen.randrange(4)):
            self._requests += 1
            completion = self._world.chosen.randrange(1, 500)
            self.tokens += completion
            lines.append(LINE.format(n=self._requests, p=9, c=completion, length=9 + completion - 1))
        with self.path.open("a") as file:
            file.write("".join(lines))
        self._stamp()

    def rotate(self) -> bool:
        """Whether it could be."""
        if not self.is_known or not self.path.stat().st_size or (self.is_by_copy and not self.may_be_copied):
            return False
        self._rotations += 1
        rotated = self.path.with_name(f"{self.path.name}.{self._rotations:06d}")
        if self.is_by_copy:
            shutil.copy2(self.path, rotated)
            os.truncate(self.path, 0)
            self.may_be_copied = False
        else:
            self.path.rename(rotated)
        self.write()
        return True

    def _stamp(self) -> None:
        """The world is faster than the file system's clock, which would give two files one time."""
        self._writes += 1
        at_ns = self._world.now_ms * 1_000_000 + self._writes
        os.utime(self.path, ns=(at_ns, at_ns))


@dataclass
class Closed:
    """One window as the agent closed it."""

    tokens: int
    length_ms: int
    gpu_ms: int
    energy_mj: int


class RecordedAgent(Agent):
    """The real one; what it closes is written down."""

    closed: dict[tuple[str, int], Closed]
    log: Log

    def _save(self, batches: list[Batch], taken: int = 0) -> None:
        # Written down first: a write that dies may be whole on the disk all the same.
        for batch in batches:
            self.closed[self.spool.epoch, batch.seq] = Closed(
                sum(
                    count.completion or 0
                    for workload in batch.workloads
                    if workload.key == WORKLOAD
                    for count in workload.tokens
                ),
                batch.end_ms - batch.start_ms,
                sum(gpu.active_ms + gpu.idle_ms + gpu.unallocated_ms + gpu.unknown_ms for gpu in batch.gpus),
                sum(sum(msgspec.structs.astuple(gpu.energy_mj)) for gpu in batch.gpus),
            )
        try:
            super()._save(batches, taken)
        except OSError:
            for batch in batches:
                del self.closed[self.spool.epoch, batch.seq]
            raise
        self.log.is_known |= self.follows_its_log()
        size = self.log.path.stat().st_size if self.log.path.exists() else 0
        # A mark beyond the end is of what the file held before it was copied and truncated.
        self.log.may_be_copied = any(mark.head_length and mark.offset <= size for mark in self._marks())

    def follows_its_log(self) -> bool:
        return bool(self._marks())

    def _marks(self) -> list[FileMark]:
        source = self.roster.configured[WORKLOAD].log
        return (
            [mark for file in source.files.values() for mark in file.tail.mark().files]
            if isinstance(source, LogFiles)
            else []
        )


class SimulatedAgent:
    """A host: its clock, GPU, log and disk, and the lives of the agent on it."""

    def __init__(self, world: "World", name: str, state_dir: Path) -> None:
        self.world, self.name, self.state_dir = world, name, state_dir
        self.log = Log(world, world.folder / f"{name}.log")
        self.clock = SimulatedClock(world, name)
        self.gpu = SimulatedGpu(world, f"GPU-{name}")
        self.disk = BadDisk(world.chosen)
        self.closed: dict[tuple[str, int], Closed] = {}
        self.gone: Counter[str] = Counter()
        """Batches taken away, by the name under which that is counted."""
        self.windows_dropped = 0
        """Given up in memory, while the disk took nothing."""
        self.skipped = 0
        """Tokens that were lost with deleted state before any window of them was closed."""
        self.is_up = self.was_deleted = False
        self.is_unbroken = True
        """No clock was stepped, no state deleted, and it was never away for longer than a restart bridges."""
        self.first_ms, self.first_mj = world.now_ms, self.gpu.made_mj
        self.window_s = world.chosen.choice([15, 60, 60, 60, 60])
        """Longer ones make the world faster."""
        self.tenants: tuple[WorkloadSettings, ...] = ()
        """Others on the host, see liar.py."""
        self.tenant_log: TenantLog | None = None
        if world.liar_chosen is not None:
            path = self.log.path.with_name(f"{name}-tenant.log")
            self.tenants = (WorkloadSettings(name="tenant", log=str(path)),)
            self.tenant_log = TenantLog(path, self.log.path, world.liar_chosen)
        self.size = SPOOL_BYTES if world.is_tight else 1_000_000
        self.start()

    def start(self) -> None:
        settings = Settings(
            node=self.name, cluster="sim", collector_url="http://sim", state_dir=str(self.state_dir), status_listen="",
            pods_dir=str(self.state_dir / "pods"), docker_dir=str(self.state_dir / "docker"),
            window_length_s=self.window_s, spool_bytes_max=self.size, spool_keep_bytes=self.size // 3, discover=False, proc_dir=str(self.world.no_procs),
            pod_resources_socket="", slurm_jobs_dir="", workloads=(WorkloadSettings(name=WORKLOAD, log=str(self.log.path), gpus=(0,)), *self.tenants),
        )  # fmt: skip
        self.disk.dies_in = None
        self.agent = RecordedAgent(settings, clock=self.clock, disk=self.disk, reader=self.gpu)
        self.agent.closed, self.agent.log = self.closed, self.log
        left_ms = self.agent._builder.end_ms or self.first_ms
        spool = self.agent.spool
        # Numbers that were given again after a crash: what stood under them was never whole on the disk.
        for key in [key for key in self.closed if key[0] == spool.epoch and key[1] >= spool.next_seq]:
            del self.closed[key]
        if self.was_deleted:
            self.skipped = self.log.tokens - sum(one.tokens for one in self.closed.values())
            self.was_deleted = False
        self.log.is_known = self.agent.follows_its_log()
        self.shipper = SimulatedShipper(self.world, settings, spool, self.agent.agent_id)
        self.is_up = True
        try:
            self.agent.begin()
        except SetUpError:
            self.stop_dead()
        if self.world.now_ms - left_ms > settings.restart_bridge_s * 1000:  # NVML may have hung meanwhile
            self.is_unbroken = False

    def stop_dead(self) -> None:
        self.is_up = False
        for name in ("dropped", "corrupt"):
            self.gone[name] += self.agent.spool.counts[name]
        self.windows_dropped += self.agent._builder.dropped
        self.gone["rejected"] += self.shipper.counts["rejected"]
        self.agent.roster.close()

    def flush(self) -> None:
        self.agent.poll()
        self.agent._take(flush=True)

    def delete_state(self) -> None:
        """Somebody empties the folder while the agent is down."""
        spool = self.agent.spool
        self.gone["deleted"] += sum(key[0] == spool.epoch and key[1] > spool._acknowledged for key in self.closed)
        shutil.rmtree(self.state_dir)
        self.was_deleted = True
        self.is_unbroken = False

    def step_clock(self, by_ms: int) -> None:
        self.clock.offset_ms += by_ms
        self.clock.ahead_ms_max = max(self.clock.ahead_ms_max, self.clock.offset_ms)
        self.is_unbroken = False

    def reboot(self) -> None:
        self.clock.boots += 1
        self.gpu.load_driver()

    def flip_a_bit(self) -> None:
        folder = self.state_dir / "spool"
        segments = sorted(folder.glob("*.seg"))
        beside = folder / "newest"
        newest = decoded(beside.read_bytes()) if beside.exists() else None
        if not isinstance(newest, SpoolRecord) or newest.next_seq < self.agent.spool.next_seq or not segments:
            return  # died before it stood beside: the one fault that is left out
        flip_in(self.world.chosen.choice(segments), self.world.chosen)


def flip_in(path: Path, chosen: random.Random) -> None:
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        at = chosen.randrange(max(1, size))
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1 << chosen.randrange(8)]) if byte else b"")
