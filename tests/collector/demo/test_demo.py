"""`tokenyield-collector demo`, the real command: it feeds its own collector only, and leaves nothing behind."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from harness import get, wait_until
from tokenyield_collector.demo.programs import Stopped, StopSignals

DEFAULT_HUP = (
    "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)
"""Under nohup these tests inherit that SIGHUP is ignored, which a demo respects."""
RUN = [sys.executable, "-m", "tokenyield_collector.cli", "demo"]


def two_free_ports() -> int:
    """The first of two in a row."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            with contextlib.suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port


class Demo:
    """A demo that runs, in a temp folder that holds nothing else."""

    def __init__(self, folder: Path) -> None:
        self.port, self.temp = two_free_ports(), folder
        self._out = folder.with_name("demo.out")
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", DEFAULT_HUP, *RUN, "--port", str(self.port)],
                stdout=out,
                stderr=out,
                env=os.environ | {"TMPDIR": str(folder), "TOKENYIELD_COLLECTOR_TOKEN_FILE": "/not/for/the/demo"},
                start_new_session=True,
            )

    def said(self) -> str:
        return self._out.read_text(errors="replace")

    def wait_until_both_run(self) -> None:
        wait_until(lambda: len(self.children()) == 2 and "agent      http" in self.said(), 120, "both run")
        assert get(f"http://127.0.0.1:{self.port}/readyz") == b"ok\n"
        assert get(f"http://127.0.0.1:{self.port}/v1/summary"), "without a token"

    def children(self) -> list[int]:
        """Processes whose command line names this demo's own folder."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if f"{self.temp}/tokenyield-demo-".encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def kill_all(self) -> None:
        for pid in (self.process.pid, *self.children()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A new folder of a short path, for the demo's sockets have theirs in it; that of `tmp_path` grows with the run."""
    with tempfile.TemporaryDirectory(prefix="ty-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def demo(short_path: Path) -> Iterator[Demo]:
    (folder := short_path / "t").mkdir()
    started = Demo(folder)
    try:
        yield started
    finally:
        started.kill_all()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
class TestStopping:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
    def test_a_signal_stops_its_programs_and_removes_its_folder(self, demo: Demo, number: signal.Signals) -> None:
        demo.wait_until_both_run()
        demo.process.send_signal(number)
        demo.process.send_signal(number)  # who is impatient does not leave anything behind
        assert demo.process.wait(60) == 0, demo.said()
        assert demo.children() == []
        assert list(demo.temp.iterdir()) == []
        assert "Traceback" not in demo.said()

    def test_a_signal_while_it_starts_does_so_too(self, demo: Demo) -> None:
        wait_until(lambda: bool(demo.children()), 120, "the first program")
        demo.process.terminate()
        assert demo.process.wait(60) == 0, demo.said()
        assert demo.children() == []
        assert list(demo.temp.iterdir()) == []

    def test_its_programs_end_though_it_is_killed(self, demo: Demo) -> None:
        demo.wait_until_both_run()
        demo.process.kill()
        wait_until(lambda: demo.children() == [], 60, "they ended with it")

    def test_it_ends_when_its_collector_does(self, demo: Demo) -> None:
        """Whoever takes the port then must not be sent made-up tokens."""
        demo.wait_until_both_run()
        (collector,) = (pid for pid in demo.children() if b"collector.cli" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(collector, signal.SIGKILL)
        assert demo.process.wait(60) == 1
        assert "demo: the collector ended with exit code -9" in demo.said()
        assert demo.children() == []


class SomebodyElses(HTTPServer):
    """Answers everything with 200 and keeps what was sent to it."""

    allow_reuse_address = True

    def __init__(self, port: int) -> None:
        asked: list[str] = []
        self.asked = asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(f"{self.command} {self.path}")
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"{}")

            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None: ...

        super().__init__(("127.0.0.1", port), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.mark.parametrize(("taken", "name"), [(0, "collector"), (1, "agent")])
def test_a_port_in_use_is_refused_and_who_listens_there_gets_nothing(tmp_path: Path, taken: int, name: str) -> None:
    port = two_free_ports()
    other = SomebodyElses(port + taken)
    try:
        found = subprocess.run(
            [*RUN, "--port", str(port), "--duration", "5"], capture_output=True, text=True, timeout=120, check=False,
            env=os.environ | {"TMPDIR": str(tmp_path)},
        )  # fmt: skip
    finally:
        other.shutdown()
        other.server_close()
    assert found.returncode == 1
    assert (
        f"demo: port {port + taken} of 127.0.0.1, for the demo's {name}, cannot be used (Address already in use)"
        in (found.stderr)
    )
    assert f"here {port} and {port + 1}" in found.stderr
    assert "--port" in found.stderr
    assert (found.stdout, other.asked) == ("", [])
    assert list(tmp_path.iterdir()) == []


def test_a_port_taken_after_the_look_gets_nothing_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the start somebody else listened: the demo's own program says nothing, so it is not ours."""
    from tokenyield_collector.demo import run

    port = two_free_ports()
    other = SomebodyElses(port)
    monkeypatch.setattr(run, "check_ports", lambda port: None)
    monkeypatch.setattr(run, "_real_gpus", list)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    try:
        assert run.run_demo(duration_s=5, port=port, log_file=None) == 1
    finally:
        other.shutdown()
        other.server_close()
    assert other.asked == []


@pytest.mark.parametrize("taken", [0, 1])
def test_without_a_port_it_takes_free_ones(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenyield_collector.demo import programs

    port = two_free_ports()
    monkeypatch.setattr(programs, "PORT_USUAL", port)
    assert programs.free_port() == port
    with socket.create_server(("127.0.0.1", port + taken)):
        found = programs.free_port()
    assert found != port
    programs.check_ports(found)


def test_a_folder_whose_path_has_no_room_for_a_socket_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (folder := tmp_path / ("long" * 25)).mkdir()
    found = subprocess.run(
        [*RUN, "--duration", "5"], capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"TMPDIR": str(folder)},
    )  # fmt: skip
    assert found.returncode == 1
    assert "demo: TMPDIR: expected a folder in which a socket's path has at most 103 bytes, found " in found.stderr
    assert "set TMPDIR to a shorter path" in found.stderr
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("port", ["0", "65535", "-1"])
def test_a_port_that_has_no_next_one_is_refused(port: str) -> None:
    found = subprocess.run([*RUN, "--port", port], capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 2
    assert found.stderr == f"demo: --port: expected 1 to 65534, found {port}; the agent takes the next one\n"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_interrupts_a_destructor_is_not_lost() -> None:
    """Python drops what the handler raises there."""

    class Interrupted:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)  # the handler has run at the latest when this returns

    with StopSignals() as signals:
        signals.check()
        Interrupted()
        with pytest.raises(Stopped):
            signals.check()
        signals.ignore()
        signals.check()
        os.kill(os.getpid(), signal.SIGTERM)  # cleaning up is not interrupted
        time.sleep(0)
