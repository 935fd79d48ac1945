"""The agent at work: one loop that polls, and around it signals, reload and shutdown.

Each poll: read the GPUs, lay what they did on the timeline, read the logs, lay their tokens, and put windows that have
settled into the spool together with the state that continues from there. Shipping and the status page run in threads
of their own; nothing that they do holds up a poll.

There is no event loop and no HTTP framework here, on purpose: importing aiohttp alone costs 20 MB of the 45 MB that an
agent may take beside the GPUs (docs/decisions/0001).
"""

import logging
import signal
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec

from tokenyield_agent.config import Settings
from tokenyield_agent.errors import SetUpError
from tokenyield_agent.gpu.readers import open_bounded_reader
from tokenyield_agent.gpu.reading import GpuReader, GpuReading, ReaderOptions, Snapshot
from tokenyield_agent.host.energy import HostMeter
from tokenyield_agent.shipping.disk import Disk
from tokenyield_agent.shipping.shipper import Shipper
from tokenyield_agent.shipping.spool import Spool
from tokenyield_agent.status.server import StatusServer
from tokenyield_agent.status.snapshot import Status
from tokenyield_agent.tokens.workload_tokens import TokensMark
from tokenyield_agent.version import VERSION
from tokenyield_agent.windows.builder import BookState, WindowBook
from tokenyield_agent.windows.energy import Energy
from tokenyield_agent.windows.parked import mark_parked
from tokenyield_agent.windows.span import GpuSpan, span_between, unread
from tokenyield_agent.windows.timeline import Timeline
from tokenyield_agent.windows.totals import GpuTotals
from tokenyield_agent.workloads.roster import Roster
from tokenyield_settings.notify import ALIVE, READY, STOPPING, notify
from tokenyield_wire.window import Batch

log = logging.getLogger(__name__)

GAP_MS_MAX = 3_000
"""Longest span between two readings over which power may be integrated and a state claimed (InferenceX's rule)."""
READ_PART_MAX = 0.8
"""Of the time between two polls: how long a reading of the GPUs may hold up everything else."""
DRAIN_S = 5.0
"""How long a stopping agent tries to ship what it has; the rest is in the spool for its next start."""


class Resume(msgspec.Struct, kw_only=True):
    """All that must outlive the process. Stands in the spool beside the batches that it follows from."""

    boot_id: str
    book: BookState
    models: dict[str, str | None]
    """Product name of each GPU seen."""
    counters_mj: dict[str, int]
    """The last energy counter of each GPU; void after a reboot."""
    tokens: dict[str, TokensMark] = {}
    """Of each workload and gateway."""
    journal_cursor: str | None = None


class Clock:
    """The host's two clocks, in ns, and the boot since which the monotonic one goes."""

    def mono_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.time_ns()

    def boot_id(self) -> str:
        """Empty where the system does not tell."""
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:
            return ""


class Agent:
    """One node's agent. `run` returns when it is told to stop."""

    def __init__(
        self,
        settings: Settings,
        reload_settings: Callable[[], Settings] | None = None,
        *,
        clock: Clock | None = None,
        disk: Disk | None = None,
        reader: GpuReader | None = None,
    ) -> None:
        """`clock`, `disk` and `reader` are the host's, but for tests that play faults."""
        self.settings = settings
        self._clock = clock or Clock()
        self._reload_settings = reload_settings
        state_dir = Path(settings.state_dir)
        try:
            state_dir.mkdir(parents=True, exist_ok=True)
            self.agent_id = _agent_id(state_dir / "agent_id")
            self.spool = Spool(
                state_dir / "spool",
                bytes_max=settings.spool_bytes_max,
                keep_bytes=settings.spool_keep_bytes,
                disk=disk,
            )
        except OSError as error:
            raise SetUpError(
                f"state_dir: {state_dir} cannot be used ({error}); make it writable for this user"
            ) from error
        self._boot_id = self._clock.boot_id()
        resume = msgspec.convert(self.spool.resume, Resume) if self.spool.resume is not None else None
        # A GPU that is lost just when an agent starts still has its time; one taken out while the host was off has not.
        self._is_same_boot = resume is not None and resume.boot_id == self._boot_id
        self._reader = reader or _reader(settings, tuple(resume.models) if resume and self._is_same_boot else ())
        self._book = WindowBook(
            length_ms=settings.window_length_s * 1000,
            settle_ms=settings.window_settle_s * 1000,
            state=resume.book if resume else None,
        )
        self._models = dict(resume.models) if resume else {}
        self._counters_mj = dict(resume.counters_mj) if resume and self._is_same_boot else {}
        self._timeline = Timeline(self._clock.mono_ns(), self._clock.wall_ns())
        last_ms = resume.book.end_ms if resume else None
        self.roster = Roster(
            settings,
            marks=resume.tokens if resume else {},
            journal_cursor=resume.journal_cursor if resume else None,
            watched_since_s=(self._timeline.now_ms(self._clock.mono_ns()) if last_ms is None else last_ms) / 1000,
        )
        self._last_readings: dict[str, GpuReading] = {}
        self._indices: dict[str, str] = {}
        self._totals = GpuTotals()
        self._host = HostMeter(settings.host_energy)
        self._snapshot = Snapshot()
        self._polls = 0
        self._last_poll_mono_s = 0.0
        self._stop = threading.Event()
        self._reload = threading.Event()
        self.shipper = Shipper(settings, self.spool, self.agent_id, state_dir / "rejected")
        self.status_server = StatusServer(settings, self.status) if settings.status_address else None

    # --- life ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Poll until SIGTERM or SIGINT; SIGHUP reads the configuration again."""
        signal.signal(signal.SIGTERM, lambda *_: self._stop.set())
        signal.signal(signal.SIGINT, lambda *_: self._stop.set())
        signal.signal(signal.SIGHUP, lambda *_: self._reload.set())
        self.start()
        notify(READY)
        interval_s = self.settings.poll_interval_ms / 1000
        next_s = time.monotonic()
        while not self._stop.wait(max(0.0, next_s - time.monotonic())):
            if self._reload.is_set():
                self._reload.clear()
                self._do_reload()
            self.poll()
            notify(ALIVE)
            # A poll that took too long is not made up for: two readings at once would tell nothing new.
            next_s = max(next_s + interval_s, time.monotonic())
        self.stop()

    def start(self) -> None:
        if self.status_server:
            self.status_server.start()
        self.begin()
        self.shipper.start()
        log.info(
            "agent %s started: node=%s cluster=%s gpus=%d workloads=%d collector=%s",
            VERSION,
            self.settings.node_name,
            self.settings.cluster,
            len(self._snapshot.gpus),
            len(self.settings.workloads),
            self.settings.collector_url,
        )

    def begin(self) -> None:
        """Go on where the last run stopped. Raises `SetUpError` when the spool takes no record."""
        self._begin_timeline()
        try:
            self._save([])  # so that a log that appears from now on is known to be new, whenever we are killed
        except OSError as error:
            raise SetUpError(f"state_dir: the spool cannot be written ({error}); make room on its disk") from error

    def stop(self) -> None:
        """Take a last reading, close every window, and try to ship."""
        notify(STOPPING)
        self.poll()
        self._take(flush=True)
        self.shipper.stop(DRAIN_S)
        if self.status_server:
            self.status_server.stop()
        self._reader.close()
        self._host.close()
        self.roster.close()
        log.info("agent stopped, %d batches wait in the spool", self.spool.depth()[0])

    def _begin_timeline(self) -> None:
        """Take the first reading, and account for the time since the last run."""
        self._snapshot = self._reader.read()
        now_ms = self._timeline.now_ms(self._clock.mono_ns())
        last_ms = self._book.end_ms
        if last_ms is None or not 0 <= now_ms - last_ms <= self.settings.restart_bridge_s * 1000:
            if last_ms is not None:
                log.warning("the agent was away for %.0f s; that time is not reported", (now_ms - last_ms) / 1000)
            self._counters_mj, self._models = {}, {}
            self._book.jump(now_ms)
        else:
            self._book.extend(now_ms, self._spans_of_absence())
        self._remember(self._snapshot)

    def _spans_of_absence(self) -> list[GpuSpan]:
        """What each known GPU did while no agent was looking: unknown, but its energy counter went on."""
        spans = []
        present = {gpu.uuid: gpu for gpu in self._snapshot.gpus}
        if not self._is_same_boot:  # taken out meanwhile, or of the host that this one was copied from
            self._models = {uuid_: model for uuid_, model in self._models.items() if uuid_ in present}
        for uuid_, model in self._models.items():
            counter_mj, energy_mj = self._counters_mj.get(uuid_), getattr(present.get(uuid_), "energy_mj", None)
            span = unread(uuid_, model, "agent_down")
            if counter_mj is not None and energy_mj is not None and energy_mj >= counter_mj:
                span = replace(span, energy=Energy(energy_mj - counter_mj, "counter"))
            spans.append(span)
        return spans

    def _do_reload(self) -> None:
        if self._reload_settings is None:
            return
        try:
            settings = self._reload_settings()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the new file, the old settings are good
            log.error("the configuration was not reloaded, the old one stays: %s", error)
            return
        self.roster.reload(settings)
        log.info(
            "workloads reloaded: %d, gateways: %d; other settings take effect at the next start",
            len(settings.workloads),
            len(settings.gateways),
        )

    # --- one poll ------------------------------------------------------------------------------------------------

    def poll(self) -> None:
        self._snapshot = self._reader.read()
        # After the reading, which may have hung: what its counters tell was until then.
        mono_ns, wall_ns = self._clock.mono_ns(), self._clock.wall_ns()
        mono_s = mono_ns / 1e9
        now_ms = self._timeline.now_ms(mono_ns)
        spans, duration_ms = self._spans(self._snapshot, now_ms, mono_s), now_ms - (self._book.end_ms or now_ms)
        self._book.extend(now_ms, spans)
        self._totals.add(spans, duration_ms)
        if (host := self._host.read(mono_s)) is not None:
            self._book.add_host_energy(host.mj, host.source)
            self._totals.host_mj[host.source] += host.mj
        self._remember(self._snapshot)
        if step_ms := self._timeline.step_ms(mono_ns, wall_ns):
            log.warning("the wall clock was stepped by %d ms; durations are not affected", step_ms)
            now_ms = self._timeline.now_ms(mono_ns)
            self._book.jump(now_ms)
            self.roster.clock_stepped(step_ms)
        for event in self.roster.poll(now_ms, mono_s):
            self._book.add(event)
        if self.roster.unsaved:
            self._save_beginning()
        self._take()
        self._polls += 1
        self._last_poll_mono_s = mono_s

    def _spans(self, snapshot: Snapshot, now_ms: int, mono_s: float) -> list[GpuSpan]:
        duration_ms = now_ms - (self._book.end_ms or now_ms)
        gap_ms_max = max(GAP_MS_MAX, 2 * self.settings.poll_interval_ms)
        holdings = self.roster.holdings(snapshot.gpus, mono_s)
        spans = [
            span_between(
                self._last_readings.get(gpu.uuid),
                gpu,
                counter_mj=self._counters_mj.get(gpu.uuid),
                duration_ms=duration_ms,
                gap_ms_max=gap_ms_max,
                holding=holdings[gpu.uuid],
            )
            for gpu in snapshot.gpus
        ]
        settings = self.settings
        spans = mark_parked(
            spans,
            self.roster.quiet_since_ms(now_ms),
            now_ms=now_ms,
            after_ms=settings.parked_after_s * 1000,
            activity_bp_max=settings.parked_sm_percent * 100,
        )
        return spans + [
            unread(uuid_, self._models.get(uuid_), reason, snapshot.lost_events.get(uuid_))
            for uuid_, reason in snapshot.lost.items()
        ]

    def _remember(self, snapshot: Snapshot) -> None:
        self._last_readings = {gpu.uuid: gpu for gpu in snapshot.gpus}
        for gpu in snapshot.gpus:
            self._models[gpu.uuid] = gpu.model
            self._indices[gpu.uuid] = str(gpu.index)
            if gpu.energy_mj is not None:
                self._counters_mj[gpu.uuid] = gpu.energy_mj

    # --- windows to the spool ------------------------------------------------------------------------------------

    def _take(self, *, flush: bool = False) -> None:
        ready = self._book.ready(flush=flush)
        if not ready and not flush:
            return
        names = self.roster.names()
        while True:  # after an absence, or a disk that took nothing, there are hundreds
            some = min(ready, self.settings.ship_batches_max)
            try:
                self._save(self._book.batches(some, names, self.spool.next_seq), taken=some)
            except OSError as error:
                log.error("the spool cannot be written (%s); windows are kept in memory and tried again", error)
                return
            self._book.discard(some)
            ready -= some
            if not ready:
                break
        self.spool.drop_older_than((self._book.end_ms or 0) - self.settings.spool_age_max_s * 1000)

    def _save_beginning(self) -> None:
        try:
            self._save([])
            self.roster.unsaved = False
        except OSError as error:
            log.debug("the beginning of a workload is not saved yet: %s", error)  # _take says it aloud

    def _save(self, batches: list[Batch], taken: int = 0) -> None:
        resume = Resume(
            boot_id=self._boot_id,
            models=self._models,
            book=self._book.state(without=taken),
            counters_mj=self._counters_mj,
            tokens=self.roster.marks(),
            journal_cursor=self.roster.journal.cursor,
        )
        self.spool.append(batches, resume)

    # --- what it shows of itself ---------------------------------------------------------------------------------

    def status(self) -> Status:
        depth, size = self.spool.depth()
        return Status(
            version=VERSION,
            gpus=self._snapshot.gpus,
            gpus_lost=self._snapshot.lost,
            indices=dict(self._indices),
            totals=self._totals.copy(),
            gpu_read_s=self._reader.read_seconds,
            gpu_faults=dict(self._reader.faults),
            polls=self._polls,
            last_poll_age_s=self._clock.mono_ns() / 1e9 - self._last_poll_mono_s,
            poll_interval_s=self.settings.poll_interval_ms / 1000,
            clock_steps=self._timeline.steps,
            windows_dropped=self._book.dropped,
            names_folded=dict(self._book.folded),
            spool_batches=depth,
            spool_bytes=size,
            spool=dict(self.spool.counts),
            ship=dict(self.shipper.counts),
            ship_problem=self.shipper.problem,
            sources=self.roster.source_counts(),
            scrapes=dict(self.roster.scraper.counts),
        )


def _reader(settings: Settings, known_uuids: tuple[str, ...]) -> GpuReader:
    return open_bounded_reader(
        settings.gpu_reader,
        ReaderOptions(known_uuids=known_uuids, trace_file=settings.gpu_trace_file),
        read_s_max=READ_PART_MAX * settings.poll_interval_ms / 1000,
    )


def _agent_id(path: Path) -> str:
    """This node's identity, made at the first start and kept."""
    try:
        found = path.read_text(encoding="ascii").strip()
        if found:
            return found
    except FileNotFoundError:
        pass
    fresh = uuid.uuid4().hex
    path.write_text(fresh + "\n", encoding="ascii")
    return fresh
