"""The processes of the demo: started on ports that are free, known to be its own, and gone when it is.

In: modules and their settings. Out: running programs. That one *says* it is ready counts, over a socket that only the
demo's own programs know: whoever answers on a port may be somebody else's collector, and the demo's tokens are made up.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from tokenyield_settings.notify import READY

HOST = "127.0.0.1"
PORT_USUAL = 9464
PORT_TRIES = 20
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
ADDRESS_BYTES_MAX = 103
"""Of a local socket: what macOS has room for; Linux has 107."""
SAID_CHARS_MAX = 2000
_NOT_INHERITED = ("TOKENYIELD_AGENT_", "TOKENYIELD_COLLECTOR_", "NOTIFY_SOCKET", "WATCHDOG_")


class DemoFailed(Exception):
    """The demo cannot begin or go on; the message says why and what to do."""


class Stopped(BaseException):
    """A signal asked the demo to stop. No `Exception`, so that nothing on the way takes it for an error."""


class StopSignals:
    """SIGINT, SIGTERM and SIGHUP raise `Stopped` in the main thread: the first of them only, until `ignore`.

    Python drops what a handler raises while a destructor runs; therefore loops call `check` as well.
    """

    def __init__(self) -> None:
        self._is_ignored = False
        self._has_arrived = False

    def __enter__(self) -> "StopSignals":
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # else nohup asked to outlive the terminal
            numbers.append(signal.SIGHUP)
        self._before = {number: signal.signal(number, self._handle) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        is_first, self._has_arrived = not self._has_arrived, True
        if is_first:
            self.check()

    def check(self) -> None:
        """Raises `Stopped` if a signal arrived."""
        if self._has_arrived and not self._is_ignored:
            raise Stopped

    def ignore(self) -> None:
        """From now on, before cleaning up, which no signal may interrupt."""
        self._is_ignored = True


def check_ports(port: int) -> None:
    """Raises `DemoFailed` unless the collector's port and the agent's, the next one, can be listened on."""
    for name, number in (("collector", port), ("agent", port + 1)):
        try:
            with socket.create_server((HOST, number)):
                pass
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise DemoFailed(
                f"port {number} of {HOST}, for the demo's {name}, cannot be used ({why}). The demo needs free ports "
                f"two in a row, here {port} and {port + 1}; stop what listens there, or choose others with --port"
            ) from error


def free_port() -> int:
    """The usual port where it and the next one can be listened on, else two that the kernel gives. Raises
    `DemoFailed`."""
    port = PORT_USUAL
    for _ in range(PORT_TRIES):
        try:
            check_ports(port)
            return port
        except (DemoFailed, OverflowError):
            with socket.create_server((HOST, 0)) as given:
                port = int(given.getsockname()[1])
    raise DemoFailed(f"no two free ports in a row on {HOST} in {PORT_TRIES} tries; choose some with --port")


class Programs:
    """What runs in `folder`, which is the demo's own and private."""

    def __init__(self, folder: Path, signals: StopSignals) -> None:
        self._folder = folder
        self._signals = signals
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, module: str, command: str, *settings: str) -> None:
        """Returns when the program itself says that it is ready. Raises `DemoFailed`."""
        arguments = [sys.executable, "-m", "tokenyield_collector.demo.child", str(os.getpid()), module, command]
        for setting in settings:
            arguments += ["--set", setting]
        address = str(self._folder / f"{name}.notify")
        if (length := len(os.fsencode(address))) > ADDRESS_BYTES_MAX:
            raise DemoFailed(
                f"TMPDIR: expected a folder in which a socket's path has at most {ADDRESS_BYTES_MAX} bytes, found "
                f"{length} ({address}); set TMPDIR to a shorter path, such as /tmp"
            )
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ears, (self._folder / f"{name}.out").open("wb") as out:
            ears.bind(address)
            ears.settimeout(0.1)
            # A group of its own: Ctrl-C reaches the demo alone, which stops them in their order.
            self._running[name] = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=clean_environment() | {"NOTIFY_SOCKET": address},
                start_new_session=True,
            )
            deadline_s = time.monotonic() + START_TIMEOUT_S
            while time.monotonic() < deadline_s:
                self.check()
                try:
                    if ears.recv(1024) == READY.encode():
                        return
                except TimeoutError:
                    continue
        raise DemoFailed(f"the {name} was not ready within {START_TIMEOUT_S:.0f} s; it said:\n{self._said(name)}")

    def check(self) -> None:
        """Raises `Stopped`, and `DemoFailed` where one has ended: its port may be anybody's now."""
        self._signals.check()
        for name, process in self._running.items():
            if (code := process.poll()) is not None:
                raise DemoFailed(f"the {name} ended with exit code {code}; it said:\n{self._said(name)}")

    def stop(self) -> None:
        """The last one first: the agent ships what it has, then the collector closes its ledger."""
        for process in reversed(self._running.values()):
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _said(self, name: str) -> str:
        return (self._folder / f"{name}.out").read_text(errors="replace")[-SAID_CHARS_MAX:]


def clean_environment() -> dict[str, str]:
    """Without the user's own TOKENYIELD_ settings, which are for the real programs, and without their supervisor."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
