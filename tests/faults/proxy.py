"""The network between an agent and its collector, as a TCP proxy that does what it is told, one request a connection.

In: `way`, and the requests. Out: the same requests at the collector, once, twice, late or never; answers true, false or none.
"""

import socket
import threading
import time
from collections.abc import Callable

BYTES_MAX = 16 << 20
DELAY_S = 0.7
HOLD_S = 3.0
"""Longer than the agent waits for an answer."""


class Proxy:
    """Listens on a port of its own; `way` takes effect with the next connection."""

    def __init__(self, target_port: int) -> None:
        self.way = "open"
        self._target_port = target_port
        self._kept: list[bytes] = []
        """Requests that will be delivered again, much later."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._run, daemon=True).start()

    WAYS: tuple[str, ...] = (
        "open",
        "closed",
        "half open",
        "half a request",
        "receipt lost",
        "500 after the commit",
        "receipt late",
        "timeout after the commit",
        "twice",
        "copied for later",
    )

    def deliver_late(self) -> int:
        """Copies of old requests arrive, the newest first."""
        kept, self._kept = self._kept, []
        for request in reversed(kept):
            self._asked(request)
        return len(kept)

    def close(self) -> None:
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection, self.way), daemon=True).start()

    def _serve(self, connection: socket.socket, way: str) -> None:
        with connection:
            try:
                connection.settimeout(10)
                if way == "closed":
                    return
                request = _whole(connection.recv)
                if way == "half open":
                    time.sleep(HOLD_S)
                    return
                if way == "half a request":
                    with socket.create_connection(("127.0.0.1", self._target_port), timeout=10) as onward:
                        onward.sendall(request[: len(request) // 2])
                    return
                answer = self._asked(request)
                if way == "twice":
                    answer = self._asked(request)
                elif way == "copied for later":
                    self._kept.append(request)
                elif way == "receipt lost":
                    return
                elif way == "receipt late":
                    time.sleep(DELAY_S)
                elif way == "timeout after the commit":
                    time.sleep(HOLD_S)
                elif way == "500 after the commit":
                    answer = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                connection.sendall(answer)
            except OSError:
                return

    def _asked(self, request: bytes) -> bytes:
        """What the collector says; nothing where it is down."""
        try:
            with socket.create_connection(("127.0.0.1", self._target_port), timeout=10) as onward:
                onward.sendall(request)
                return _whole(onward.recv)
        except OSError:
            return b""


def _whole(receive: Callable[[int], bytes]) -> bytes:
    """One request or answer with its body, or as much as came."""
    data = b""
    while len(data) < BYTES_MAX:
        head, found, body = data.partition(b"\r\n\r\n")
        if found:
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if not lengths or len(body) >= int(lengths[0].partition(b":")[2]):
                return data
        more = receive(65536)
        if not more:
            return data
        data += more
    return data
