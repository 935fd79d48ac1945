"""The agent at work: one loop that polls, and around it signals, reload and shutdown.

Each poll: read the GPUs, lay what they did on the timeline, read the logs, lay their tokens, and put windows that have
settled into the spool together with the state that continues from there. Shipping and the status page run in threads
of their own; nothing that they do holds up a poll. What is here is wiring and that loop; the rest is in the folders.

There is no event loop and no HTTP framework here, on purpose: importing aiohttp alone costs 20 MB of the 45 MB that an
agent may take beside the GPUs (docs/decisions/0001).
"""

import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tokenyield_agent.config import Settings
from tokenyield_agent.errors import SetUpError
from tokenyield_agent.gpu.poller import Poller
from tokenyield_agent.gpu.readers import open_bounded_reader
from tokenyield_agent.gpu.reading import GpuReader, ReaderOptions, Snapshot
from tokenyield_agent.gpu.release import RELEASE_S, ReleaseRequest
from tokenyield_agent.host.clock import HostClock
from tokenyield_agent.host.energy import HostMeter
from tokenyield_agent.shipping.disk import Disk
from tokenyield_agent.shipping.resume import ResumeState, agent_id_in, resume_of, without_unsavable
from tokenyield_agent.shipping.shipper import Shipper
from tokenyield_agent.shipping.spool import Spool
from tokenyield_agent.status.server import StatusServer
from tokenyield_agent.status.snapshot import Status
from tokenyield_agent.supervision import Supervisor
from tokenyield_agent.version import VERSION
from tokenyield_agent.windows.builder import WindowBuilder
from tokenyield_agent.windows.gpu_tracker import GpuTracker
from tokenyield_agent.windows.parked import mark_parked
from tokenyield_agent.windows.span import GpuSpan
from tokenyield_agent.windows.timeline import Timeline
from tokenyield_agent.windows.totals import GpuTotals
from tokenyield_agent.workloads.roster import Roster
from tokenyield_settings.notify import ALIVE, READY, STOPPING, notify
from tokenyield_wire.units import ns_to_ms
from tokenyield_wire.window import Batch

log = logging.getLogger(__name__)

GAP_MS_MAX = 3_000
"""Longest span between two readings over which power may be integrated and a state claimed (InferenceX's rule)."""
READ_PART_MAX = 0.8
"""Of the time between two polls: how long a reading of the GPUs may hold up everything else."""
FAILING_S_MAX = 60.0
"""So long every poll may fail before systemd's watchdog hears nothing any more."""
DRAIN_S = 5.0
"""How long a stopping agent tries to ship what it has; the rest is in the spool for its next start."""


class Agent:
    """One node's agent. `run` returns when it is stopped."""

    def __init__(
        self,
        settings: Settings,
        reload_settings: Callable[[], Settings] | None = None,
        *,
        clock: HostClock | None = None,
        disk: Disk | None = None,
        reader: GpuReader | None = None,
    ) -> None:
        """`clock`, `disk` and `reader` are the host's, but for tests that play faults. Raises `SetUpError`."""
        self.settings = settings
        self._clock = clock or HostClock()
        self._reload_settings = reload_settings
        state_dir = Path(settings.state_dir)
        try:
            state_dir.mkdir(parents=True, exist_ok=True)
            self.agent_id = agent_id_in(state_dir / "agent_id")
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
        resume = resume_of(self.spool)
        # A GPU that is lost just when an agent starts still has its time; one taken out while the host was off has not.
        self._is_same_boot = resume is not None and resume.boot_id == self._boot_id
        self.supervisor = Supervisor()
        known_uuids = tuple(resume.models) if resume and self._is_same_boot else ()
        self._reader = reader or _reader(settings, known_uuids, self.supervisor)
        self._release = ReleaseRequest(state_dir)
        self._builder = WindowBuilder(
            length_ms=settings.window_length_s * 1000,
            settle_ms=settings.window_settle_s * 1000,
            state=resume.builder if resume else None,
        )
        self._gpus = GpuTracker(
            resume.models if resume else {},
            resume.counters_mj if resume and self._is_same_boot else {},
            resume.counters_read_ms if resume and self._is_same_boot else {},
        )
        self._timeline = Timeline(self._clock.mono_ns(), self._clock.wall_ns())
        last_ms = resume.builder.end_ms if resume else None
        self.roster = Roster(
            settings,
            marks=resume.tokens if resume else {},
            journal_cursor=resume.journal_cursor if resume else None,
            watched_since_s=(self._timeline.now_ms(self._clock.mono_ns()) if last_ms is None else last_ms) / 1000,
            supervisor=self.supervisor,
        )
        self._totals = GpuTotals()
        self._host = HostMeter(settings.host_energy, supervisor=self.supervisor)
        self._snapshot = Snapshot()
        self._polls = self._poll_failures = 0
        self._poll_cpu_s = 0.0
        self._poll_problem: str | None = None
        self._failed_since_s: float | None = None
        """When the first of the polls was that fail now."""
        self._last_poll_mono_s = 0.0
        self._stop = threading.Event()
        self._reload = threading.Event()
        self._let_go = threading.Event()
        self.shipper = Shipper(settings, self.spool, self.agent_id, self.supervisor)
        self.status_server = StatusServer(settings, self.status, self.supervisor) if settings.status_address else None

    # --- life ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Poll until SIGTERM or SIGINT; SIGHUP reads the configuration again, SIGUSR1 lets go of the GPUs for
        `RELEASE_S`. Raises `SetUpError`."""
        signal.signal(signal.SIGTERM, lambda *_: self._stop.set())
        signal.signal(signal.SIGINT, lambda *_: self._stop.set())
        signal.signal(signal.SIGHUP, lambda *_: self._reload.set())
        signal.signal(signal.SIGUSR1, lambda *_: self._let_go.set())
        self.start()
        notify(READY)
        interval_s = self.settings.poll_interval_ms / 1000
        next_s = time.monotonic()
        while not self._stop.wait(max(0.0, next_s - time.monotonic())):
            self.try_poll()
            self.supervisor.tend()
            if not (self.unsound() or self.supervisor.unsound()):
                notify(ALIVE)
            # A poll that took too long is not made up for: two readings at once would show nothing new.
            next_s = max(next_s + interval_s, time.monotonic())
        self.stop()

    def try_poll(self) -> None:
        """`poll`, of which no fault ends the loop: it is counted, and the next poll may succeed."""
        cpu_before_s = time.thread_time()
        try:
            if self._reload.is_set():
                self._reload.clear()
                self._do_reload()
            self.poll()
            self._poll_problem, self._failed_since_s = None, None
        except Exception as error:
            self._poll_failures += 1
            problem = f"{type(error).__name__}: {error}"[:300]
            if problem != self._poll_problem:  # once per change of state
                log.error("a poll failed; report it", exc_info=error)
            self._poll_problem = problem
            self._failed_since_s = self._failed_since_s or time.monotonic()
        self._poll_cpu_s += time.thread_time() - cpu_before_s

    def unsound(self) -> list[str]:
        """Why polls fail, once they have for a while: then a new process is the next thing to try."""
        if self._failed_since_s is None or time.monotonic() - self._failed_since_s < FAILING_S_MAX:
            return []
        return [f"every poll fails with {self._poll_problem}; report it"]

    def start(self) -> None:
        """Status page, first reading and shipping. Raises `SetUpError`."""
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
        self.supervisor.stop()
        self.try_poll()
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
        mono_ns = self._clock.mono_ns()
        now_ms, mono_ms = self._timeline.now_ms(mono_ns), ns_to_ms(mono_ns)
        last_ms = self._builder.end_ms
        if last_ms is None or not 0 <= now_ms - last_ms <= self.settings.restart_bridge_s * 1000:
            if last_ms is not None:
                log.warning("the agent was away for %.0f s; that time is not reported", (now_ms - last_ms) / 1000)
            self._gpus.forget()
            self._builder.jump(now_ms)
        else:
            absence = self._gpus.spans_of_absence(self._snapshot, is_same_boot=self._is_same_boot, now_ms=mono_ms)
            self._builder.extend(now_ms, absence)
        self._gpus.remember(self._snapshot, mono_ms)

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
        """One reading of GPUs and logs into windows. Raises nothing for a GPU, log or disk that fails."""
        self._snapshot = self._read_or_release()
        # After the reading, which may have hung: its counters cover the time until then.
        mono_ns, wall_ns = self._clock.mono_ns(), self._clock.wall_ns()
        mono_s = mono_ns / 1e9
        now_ms = self._timeline.now_ms(mono_ns)
        spans, duration_ms = self._spans(self._snapshot, now_ms, mono_s), now_ms - (self._builder.end_ms or now_ms)
        self._builder.extend(now_ms, spans)
        self._gpus.remember(self._snapshot, ns_to_ms(mono_ns))
        self._totals.add(spans, duration_ms)
        if (host := self._host.read(mono_s)) is not None:
            self._builder.add_host_energy(host.mj, host.source)
            self._totals.host_mj[host.source] += host.mj
        if step_ms := self._timeline.step_ms(mono_ns, wall_ns):
            log.warning("the wall clock was stepped by %d ms; durations are not affected", step_ms)
            now_ms = self._timeline.now_ms(mono_ns)
            self._builder.jump(now_ms)
            self.roster.clock_stepped(step_ms)
        for event in self.roster.poll(now_ms, mono_s):
            self._builder.add(event)
        if self.roster.unsaved:
            self._save_beginning()
        self._take()
        self._polls += 1
        self._last_poll_mono_s = mono_s

    def _read_or_release(self) -> Snapshot:
        seconds = self._release.pending(self._clock.wall_ns() / 1e9)
        if self._let_go.is_set():
            self._let_go.clear()
            seconds = RELEASE_S
        poller = self._reader if isinstance(self._reader, Poller) else None
        if seconds is not None and poller is not None:
            poller.release(seconds)
        snapshot = self._reader.read()
        if seconds is not None and (poller is None or poller.is_released == (seconds > 0)):
            self._release.remove()
        return snapshot

    def _spans(self, snapshot: Snapshot, now_ms: int, mono_s: float) -> list[GpuSpan]:
        duration_ms = now_ms - (self._builder.end_ms or now_ms)
        settings = self.settings
        read, lost = self._gpus.spans(
            snapshot,
            self.roster.holdings(snapshot.gpus, mono_s),
            duration_ms=duration_ms,
            gap_ms_max=max(GAP_MS_MAX, 2 * settings.poll_interval_ms),
            now_ms=int(mono_s * 1000),
        )
        for uuid in self._gpus.jumped:
            log.warning("gpu=%s its energy counter grew by more than the board can use, and is not believed", uuid)
        read = mark_parked(
            read,
            self.roster.quiet_since_ms(now_ms),
            now_ms=now_ms,
            after_ms=settings.parked_after_s * 1000,
            activity_bp_max=settings.parked_activity_percent * 100,
        )
        return read + lost

    # --- windows to the spool ------------------------------------------------------------------------------------

    def _take(self, *, flush: bool = False) -> None:
        ready = self._builder.ready(flush=flush)
        if not ready and not flush:
            return
        names = self.roster.names()
        while True:  # after an absence, or a disk that took nothing, there are hundreds
            count = min(ready, self.settings.ship_batches_max)
            try:
                self._save(self._builder.batches(count, names, self.spool.next_seq), taken=count)
            except OSError as error:
                log.error("the spool cannot be written (%s); windows are kept in memory and tried again", error)
                return
            self._builder.discard(count)
            ready -= count
            if not ready:
                break
        self.spool.drop_older_than((self._builder.end_ms or 0) - self.settings.spool_age_max_s * 1000)

    def _save_beginning(self) -> None:
        try:
            self._save([])
            self.roster.unsaved = False
        except OSError as error:
            log.debug("the beginning of a workload is not saved yet: %s", error)  # _take reports it

    def _save(self, batches: list[Batch], taken: int = 0) -> None:
        resume = ResumeState(
            boot_id=self._boot_id,
            models=self._gpus.models,
            builder=self._builder.state(without=taken),
            counters_mj=self._gpus.counters_mj,
            counters_read_ms=self._gpus.counters_read_ms,
            tokens=self.roster.marks(),
            journal_cursor=self.roster.journal.cursor,
        )
        try:
            self.spool.append(batches, resume)
        except (ValueError, TypeError, OverflowError) as error:  # no JSON: what one workload is remembered by
            resume.tokens, names = without_unsavable(resume.tokens)
            if not names:
                raise
            log.error("what is remembered of %s cannot be saved: %s; report it", ", ".join(names), error)
            self.spool.append(batches, resume)

    # --- what it shows of itself ---------------------------------------------------------------------------------

    def status(self) -> Status:
        """As of now; called by the status page's threads."""
        depth, size = self.spool.depth()
        return Status(
            version=VERSION,
            gpus=self._snapshot.gpus,
            gpus_lost=self._snapshot.lost,
            indices=dict(self._gpus.indices),
            totals=self._totals.copy(),
            gpu_read_s=self._reader.read_seconds,
            gpu_faults=dict(Counter(self._reader.faults) + self._gpus.faults),
            polls=self._polls,
            poll_cpu_s=self._poll_cpu_s,
            last_poll_age_s=self._clock.mono_ns() / 1e9 - self._last_poll_mono_s,
            poll_interval_s=self.settings.poll_interval_ms / 1000,
            clock_steps=self._timeline.steps,
            windows_dropped=self._builder.dropped,
            names_folded=dict(self._builder.folded),
            set_aside=self.spool.counts["unsendable"] + self.shipper.counts["rejected"],
            set_aside_reason=self.spool.aside.reason,
            spool_batches=depth,
            spool_bytes=size,
            spool=dict(self.spool.counts),
            ship=dict(self.shipper.counts),
            ship_problem=self.shipper.problem,
            sources=self.roster.source_counts(),
            scrapes=dict(self.roster.scraper.counts),
            endpoint_problems=self.roster.scraper.reasons(),
            slurm_jobs=self.roster.slurm.counts(),
            poll_failures=self._poll_failures,
            poll_problem=self._poll_problem,
            source_faults=dict(self.roster.faults),
            thread_restarts=self.supervisor.restarts(),
            threads_failing=self.supervisor.failing(),
            unsound=self.unsound() + self.supervisor.unsound(),
        )


def _reader(settings: Settings, known_uuids: tuple[str, ...], supervisor: Supervisor) -> GpuReader:
    return open_bounded_reader(
        settings.gpu_reader,
        ReaderOptions(known_uuids=known_uuids, trace_file=settings.gpu_trace_file),
        read_s_max=READ_PART_MAX * settings.poll_interval_ms / 1000,
        supervisor=supervisor,
    )
