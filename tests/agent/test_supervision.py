"""No thread ends while the program lives."""

import threading
from collections.abc import Iterator

import pytest

from harness import wait_until
from tokenyield_agent import supervision
from tokenyield_agent.supervision import FAILURES_MAX, Supervisor


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    monkeypatch.setattr(supervision, "PAUSE_S_MIN", 0.001)
    made = Supervisor()
    yield made
    made.stop()


@pytest.mark.parametrize(
    "raised", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), MemoryError(), GeneratorExit()]
)
def test_whatever_is_raised_it_begins_again_and_is_counted(supervisor: Supervisor, raised: BaseException) -> None:
    lives, go = [], threading.Event()

    def run() -> None:
        lives.append(1)
        if len(lives) < 4:
            raise raised
        go.wait()

    supervisor.start("ship", run)
    wait_until(lambda: len(lives) == 4)
    assert supervisor.restarts() == {"ship": 3}
    (failing,) = supervisor.failing()
    assert type(raised).__name__ in failing
    assert supervisor.unsound() == []
    go.set()


def test_what_fails_again_and_again_is_unsound(supervisor: Supervisor) -> None:
    def run() -> None:
        raise ValueError("again")

    supervisor.start("ship", run)
    wait_until(lambda: supervisor.restarts()["ship"] >= FAILURES_MAX)
    wait_until(lambda: any("again" in words for words in supervisor.unsound()))


def test_what_does_not_move_is_unsound(supervisor: Supervisor) -> None:
    go = threading.Event()

    def run() -> None:
        go.wait()

    supervised = supervisor.start("ship", run, silent_s_max=0.05)
    wait_until(lambda: any("has not moved" in words for words in supervisor.unsound()))
    supervised.silent_s_max = 1000
    assert supervisor.unsound() == []
    go.set()


def test_a_thread_that_cannot_be_started_is_started_later(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    went = threading.Event()
    with monkeypatch.context() as patch:

        def no_more(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", no_more)
        supervisor.start("ship", went.set)
        assert supervisor.failing()
    supervisor.tend()
    assert went.wait(10)
    wait_until(lambda: supervisor.unsound() == [])
