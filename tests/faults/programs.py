"""Seeded schedules of faults over the real programs: an agent and a collector as processes, with NVML's stand-in, a log that
is rotated, a network that lies, a disk that fills up, and a clock that is stepped.

    make faults-programs SCHEDULES=200

After each schedule all is healed and drained, and the books have to balance: every batch number of the agent is in the
ledger once or was counted as lost by a line of the agent's log; every token of the log is there; GPU seconds sum to the
length of the windows; `verify` finds nothing.

Needs root for the disk (a small tmpfs of its own) and Debian's `faketime` for the clock; without them those faults are
left out, and `play` says so. A schedule is decided by its seed, but for the instants at which processes are met.
"""

import platform
import random
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb

from faults.host import flip_in
from faults.program_host import ServerLog, StateDisk
from faults.program_runs import run_many
from faults.proxy import Proxy
from harness import Stack, get, wait_until
from nvml.stand_in import Scenario, gpu_lines
from tokenyield_collector.errors import LedgerError
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.verify import verify

FAKETIME = Path(f"/usr/lib/{platform.machine()}-linux-gnu/faketime/libfaketime.so.1")
EVENTS = (6, 14)
TORN_BYTES_MAX = 200
"""Of a write: less than any record has, for a write that is whole is not torn."""
ANSWER_WITHIN_S = 1.5
CLOCK_STEPS_S = (-3600, -61, -1, 1, 61, 240)
_LOST = re.compile(r"gave up (\d+) batches|(\d+) batches from \d+ on are lost|(batch) \d+ refused for good")


class Schedule:
    """One schedule in a folder of its own."""

    def __init__(self, seed: int, folder: Path, library: Path) -> None:
        self.chosen = random.Random(seed)
        self.folder = folder
        self.happened: Counter[str] = Counter()
        self.disk = StateDisk(folder / "disk")
        self.log = ServerLog(folder / "chat.log", random.Random(seed + 1))
        scenario = Scenario(folder / "scenario.txt")
        hang_s = self.chosen.uniform(1, 6)
        lines = [*gpu_lines(0), *gpu_lines(1, percent=0), f"hang 1 {hang_s} {hang_s + self.chosen.choice([0, 4])}"]
        scenario.restart(lines)
        self.clock = folder / "clock"
        env = scenario.environment(library)
        if FAKETIME.exists():
            self._set_clock(0)
            env |= {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(self.clock), "FAKETIME_NO_CACHE": "1",
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}  # fmt: skip
        agent = {
            "state_dir": str(self.disk.folder / "state"),
            "window_length_s": 1,
            "window_settle_s": 0,
            "poll_interval_ms": 100,
            "collector_timeout_s": ANSWER_WITHIN_S,
            "discover": "false",
            "workloads": [{"name": "chat", "log": str(self.log.path), "gpus": [0]}],
        }
        collector = {"commit_interval_ms": 20, "refresh_interval_s": 0.5, "agent_batches_per_s": 1000}
        self.stack = Stack(folder, agent=agent, collector=collector, agent_env=env)
        self.proxy = Proxy(self.stack.port)
        call = self.stack.agent._call
        call[call.index(f"collector_url={self.stack.url}")] = f"collector_url=http://127.0.0.1:{self.proxy.port}"
        self.backup: Path | None = None
        self.is_damaged = False

    def _set_clock(self, offset_s: int) -> None:
        fresh = self.clock.with_suffix(".new")
        fresh.write_text(f"{offset_s:+d}s\n")
        fresh.replace(self.clock)

    # --- what happens ------------------------------------------------------------------------------------------------

    def play(self) -> None:
        self.stack.start_collector()
        self._start_agent_with_the_log()
        for _ in range(self.chosen.randrange(*EVENTS)):
            event = self.chosen.choice(EVENT_NAMES)
            if getattr(self, event)() is not False:
                self.happened[event.replace("_", " ")] += 1
            time.sleep(self.chosen.uniform(0.05, 0.8))
        self.heal()
        self.check()

    def _start_agent(self) -> None:
        """Until it is at work: it answers before it has read its GPUs, which may hang, and has said what it knows."""
        self.stack.start_agent()
        wait_until(lambda: self._metric("polls_total") > 0, what="the agent polls")
        self.disk.was_hurt = False

    def _start_agent_with_the_log(self) -> None:
        """A log that is taken away before the agent has written down that there is one is lost, and not promised."""
        self._start_agent()
        self.log.pause(False)
        wait_until(lambda: self._metric("spool_appended_total") >= 2, what="the log is known")

    def kill_agent(self) -> None:
        self.stack.agent.kill()
        self.disk.heal()  # an agent does not start without a disk
        if self.chosen.random() < 0.4 and not self.disk.was_hurt:
            self._damage_spool()
        if self.chosen.random() < 0.3:
            self.log.rotate()
        time.sleep(self.chosen.uniform(0, 1))
        self._start_agent()

    def _damage_spool(self) -> None:
        segments = sorted((self.disk.folder / "state" / "spool").glob("*.seg"))
        if not segments:
            return
        if self.chosen.random() < 0.5:
            torn = segments[-1].read_bytes()[: self.chosen.randrange(1, TORN_BYTES_MAX)]
            with segments[-1].open("ab") as file:
                file.write(torn)
            self.happened["torn tail"] += 1
        else:
            flip_in(self.chosen.choice(segments), self.chosen)
            self.happened["bit flipped in the spool"] += 1

    def kill_collector(self) -> None:
        self.stack.collector.kill()
        way = self.chosen.random()
        if way < 0.25 and self.backup is not None:
            self._restore()
            self.happened["restored"] += 1
        elif way < 0.5:
            self._damage_ledger()
        time.sleep(self.chosen.uniform(0, 1))
        self._start_collector()

    def _ledger_files(self) -> list[Path]:
        return sorted(self.folder.glob("ledger.duckdb*"))

    def _restore(self) -> None:
        assert self.backup is not None
        for file in self._ledger_files():
            file.unlink()
        shutil.copyfile(self.backup, self.stack.ledger_path)

    def _damage_ledger(self) -> None:
        whole = self.folder / "whole"
        whole.mkdir(exist_ok=True)
        for file in self._ledger_files():
            shutil.copyfile(file, whole / file.name)
        flip_in(self.chosen.choice(self._ledger_files()), self.chosen)
        self.is_damaged = True
        self.happened["bit flipped in the ledger"] += 1

    def _undo_damage(self) -> None:
        """As the runbook has it: the newest backup; where there is none, the files as they were."""
        if self.backup is not None:
            self._restore()
        else:
            for file in self._ledger_files():
                file.unlink()
            for file in (self.folder / "whole").iterdir():
                shutil.copyfile(file, self.folder / file.name)
        self.is_damaged = False
        self.happened["ledger restored after damage"] += 1

    def _start_collector(self) -> None:
        try:
            self.stack.start_collector()
        except AssertionError:
            if not self.is_damaged:
                raise
            self.stack.collector.stop_if_running()
            assert "Traceback" not in self.stack.collector.said(), self.stack.collector.said()[-3000:]
            self._undo_damage()
            self.stack.start_collector()

    def take_backup(self) -> bool:
        if b"tokenyield_collector_batches_total 0.0" in get(f"{self.stack.url}/metrics"):
            return False
        target = self.folder / "backup.duckdb"
        try:
            target.write_bytes(get(f"{self.stack.url}/v1/backup"))
        except OSError:
            return False
        self.backup = target
        return True

    def change_the_network(self) -> None:
        self.proxy.way = self.chosen.choice(Proxy.WAYS)
        self.happened[f"network: {self.proxy.way}"] += 1

    def deliver_copies(self) -> bool:
        return self.proxy.deliver_late() > 0

    def fill_the_disk(self) -> bool:
        if self.disk.is_own:
            self.disk.fill()
        return self.disk.is_own

    def make_the_disk_read_only(self) -> bool:
        return self.disk.is_own and self.disk.make_read_only()

    def heal_the_disk(self) -> bool:
        self.disk.heal()
        return self.disk.is_own

    def step_the_clock(self) -> bool:
        if FAKETIME.exists():
            self._set_clock(self.chosen.choice(CLOCK_STEPS_S))
        return FAKETIME.exists()

    def rotate_the_log(self) -> bool:
        return self.log.rotate()

    def delete_the_state(self) -> bool:
        """When all was shipped, so that it is known what may be missing: nothing."""
        if self.is_damaged:  # what is found later could not be restored from an agent that forgot
            return False
        self.disk.heal()
        self.proxy.way = "open"
        self.log.pause(True)
        self._drain()
        self.stack.agent.kill()
        shutil.rmtree(self.disk.folder / "state")
        self.backup = None  # what came after it could not be shipped again
        self._start_agent_with_the_log()
        return True

    # --- the end -----------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """All that stands in the log is in windows, and these are shipped."""
        seen = self._metric("polls_total")
        wait_until(lambda: self._metric("polls_total") > seen + 15, 60, "the agent polls")
        said = f"the spool is shipped: {self.stack.agent.said()[-800:]}"
        wait_until(lambda: self.stack.spool_batches() <= 1 or self._is_damage_found(), 120, said)
        if self._is_damage_found():
            self.stack.collector.kill()
            self._undo_damage()
            self.stack.start_collector()
            self._drain()
            return
        appended = self._metric("spool_appended_total")
        wait_until(
            lambda: self._metric("spool_appended_total") >= appended + 2, 90, "the window of the last tokens is closed"
        )
        wait_until(lambda: self.stack.spool_batches() <= 1, 90, "the spool is shipped")

    def _is_damage_found(self) -> bool:
        """By a collector that runs: it answers 503 for as long as commits meet the block, and says so."""
        return self.is_damaged and "Corrupt database file" in self.stack.collector.said()

    def _metric(self, name: str) -> float:
        shown = get(f"{self.stack.agent_url}/metrics")
        match = re.search(rb"^tokenyield_agent_%s (\S+)" % name.encode(), shown, re.MULTILINE)
        assert match is not None
        return float(match[1])

    def heal(self) -> None:
        self.disk.heal()
        self.proxy.way = "open"
        if FAKETIME.exists():
            self._set_clock(0)
        self.proxy.deliver_late()
        self.log.write()
        self.log.stop()
        self._drain()
        assert self.stack.agent.terminate() == 0, self.stack.agent.said()[-2000:]
        self._end_collector()

    def _end_collector(self) -> None:
        """Damage that nothing read until now is found here, and the runbook followed."""
        code = self.stack.collector.terminate()
        assert code == 0 or self.is_damaged, self.stack.collector.said()[-2000:]
        if not self.is_damaged:
            return
        try:
            with closing(DuckDbLedger(self.stack.ledger_path)) as ledger:
                findings = [finding for finding in verify(ledger) if "times" not in finding]
        except (LedgerError, duckdb.Error) as error:
            findings = [str(error)]
        if findings:
            self._undo_damage()
            self.stack.start_collector()
            self._start_agent()
            self._drain()
            assert self.stack.agent.terminate() == 0
            assert self.stack.collector.terminate() == 0

    def check(self) -> None:
        counted = sum(int(a or b or 1) for a, b, _ in _LOST.findall(self.stack.agent.said()))
        query = self.stack.query
        ((batches, distinct),) = query("SELECT count(*), count(DISTINCT (agent_id, epoch, seq)) FROM batches")
        assert batches == distinct, f"{batches - distinct} batches are there twice"
        ((lost,),) = query("SELECT sum(most - there)::BIGINT FROM (SELECT max(seq) AS most, count(*) AS there "
                           "FROM batches GROUP BY agent_id, epoch)")  # fmt: skip
        assert lost <= counted, f"{lost} batches are not there, {counted} were counted as lost"
        ((completion,),) = query("SELECT sum(completion)::BIGINT FROM token_hours")
        if counted:
            assert completion <= self.log.completion
            self.happened["something was counted as lost"] += 1
        else:
            assert completion == self.log.completion, f"{completion} of {self.log.completion} tokens"
        for uuid, total_ms, covered_ms in query(
            "SELECT gpu_uuid, sum(active_ms + idle_ms + unallocated_ms + unknown_ms)::BIGINT, "
            "(SELECT sum(end_ms - start_ms)::BIGINT FROM batches) FROM gpu_hours GROUP BY 1"
        ):
            assert total_ms == covered_ms, f"{uuid}: {total_ms} of {covered_ms} ms"
        with closing(DuckDbLedger(self.stack.ledger_path)) as ledger:
            findings = [
                finding for finding in verify(ledger) if "times" not in finding
            ]  # a clock set back lives an hour twice
        assert not findings, findings

    def close(self) -> None:
        self.stack.kill_all()
        self.log.stop()
        self.proxy.close()
        self.disk.unmount()


EVENT_NAMES = (
    *("kill_agent",) * 3,
    *("kill_collector",) * 3,
    *("change_the_network",) * 5,
    *("rotate_the_log",) * 2,
    *("step_the_clock",) * 2,
    "take_backup",
    "take_backup",
    "deliver_copies",
    "fill_the_disk",
    "make_the_disk_read_only",
    "heal_the_disk",
    "heal_the_disk",
    "delete_the_state",
)


@contextmanager
def opened(seed: int, folder: Path, library: Path) -> Iterator[Schedule]:
    """Its programs end with the block."""
    schedule = Schedule(seed, folder, library)
    with closing(schedule):
        yield schedule


if __name__ == "__main__":
    sys.exit(run_many(__doc__, opened, schedules=200, at_once=4))
