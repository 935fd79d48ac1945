"""A reading has its time, whatever the driver does."""

import threading
import time

from harness import wait_until
from tokenyield_agent.gpu.backoff import SKIPS_MAX, SLOW_S, Backoff
from tokenyield_agent.gpu.poller import Poller
from tokenyield_agent.gpu.reading import GpuReading, Snapshot


class Hanging:
    """A reader that hangs until `go` is set."""

    read_seconds = 0.0

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.reads = 0
        self.threads: set[str] = set()
        self.breaks = False
        self.faults = {"gone": 1}
        self.is_closed = False

    def read(self) -> Snapshot:
        self.threads.add(threading.current_thread().name)
        self.go.wait()
        self.reads += 1
        if self.breaks:
            raise RuntimeError("a binding that breaks")
        return Snapshot(gpus=(GpuReading(uuid="G", index=0, energy_mj=self.reads),))

    def close(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.is_closed = True


def answer(poller: Poller) -> Snapshot:
    """The first that is not late: on a busy machine more are than those that hang."""
    snapshots: list[Snapshot] = []

    def is_answered() -> bool:
        snapshots.append(poller.read())
        return bool(snapshots[-1].gpus)

    wait_until(is_answered, what="the reader answers")
    return snapshots[-1]


def test_a_hang_costs_its_bound_and_ends_with_the_newest_counters() -> None:
    inner = Hanging()
    poller = Poller(lambda: inner, name="nvml", read_s_max=0.05)
    assert poller.read().gpus[0].energy_mj == 1
    inner.go.clear()
    for _ in range(3):
        started_s = time.monotonic()
        late = poller.read()
        assert time.monotonic() - started_s < 60, "it would hang for ever"
        assert (late.gpus, late.lost) == ((), {"G": "nvml_slow"})
        assert late.problem
    inner.go.set()
    assert answer(poller).gpus[0].energy_mj == 2, "no reading was begun while one hung"
    assert poller.faults == {"gone": 1, "nvml_slow": 1}
    assert answer(poller).gpus[0].energy_mj == 3
    poller.close()
    assert inner.is_closed
    assert inner.threads == {"gpus"}, "NVML sees one thread only"


def test_a_reader_that_hangs_for_ever_does_not_keep_the_agent_from_stopping() -> None:
    inner = Hanging()
    poller = Poller(lambda: inner, name="nvml", read_s_max=0.05)
    poller.read()
    inner.go.clear()
    poller.read()
    started_s = time.monotonic()
    poller.close()
    assert time.monotonic() - started_s < 60, "it would hang for ever"
    inner.go.set()


def test_a_reader_that_breaks_is_reported_and_read_again() -> None:
    inner = Hanging()
    poller = Poller(lambda: inner, name="nvml", read_s_max=5)
    poller.read()
    inner.breaks = True
    broken = poller.read()
    assert broken.lost == {"G": "unread"}
    assert "a binding that breaks" in (broken.problem or "")
    inner.breaks = False
    assert poller.read().gpus
    poller.close()


def test_a_pace_doubles_and_comes_back() -> None:
    backoff = Backoff()
    pauses, pause = [], 0
    for _ in range(400):
        if backoff.is_due():
            pauses.append(pause)
            pause = 0
            backoff.took(2 * SLOW_S)
        else:
            pause += 1
    assert pauses[:6] == [0, 1, 3, 7, 15, 31]
    assert max(pauses) == SKIPS_MAX
    backoff.took(0)
    assert backoff.is_due()
    assert not backoff.is_slow
