"""Servers of tenants who want to stop the agent: what each does with a connection, byte by byte."""

import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
PAGE = b'# TYPE vllm:generation_tokens_total counter\nvllm:generation_tokens_total{engine="0",model_name="m"} %d\n'


class HostileServer:
    """Does `behaviour` with every connection, until the other side or the test ends it."""

    def __init__(self, behaviour: Callable[["HostileServer", socket.socket], None], port: int = 0) -> None:
        self._behaviour = behaviour
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.connections = 0
        self.is_over = False
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        self.is_over = True
        self._listener.shutdown(socket.SHUT_RDWR)  # else the accept under way holds the port
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(1 << 16)  # else what is sent is cut off by a reset
                self._behaviour(self, connection)
            except OSError:
                return

    def pause(self, seconds: float = 0.05) -> None:
        time.sleep(seconds)
        if self.is_over:
            raise OSError("the test is over")


def says_nothing(server: HostileServer, connection: socket.socket) -> None:
    while True:
        server.pause()


def trickles_headers(server: HostileServer, connection: socket.socket) -> None:
    connection.sendall(ANSWER)
    while True:
        connection.sendall(b"X")
        server.pause()


def sends_headers_without_end(server: HostileServer, connection: socket.socket) -> None:
    connection.sendall(ANSWER)
    while not server.is_over:
        connection.sendall(b"X-A: b\r\n" * 1000)


def continues_for_ever(server: HostileServer, connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        server.pause()


def continues_at_full_speed(server: HostileServer, connection: socket.socket) -> None:
    while not server.is_over:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


def sends_slow_chunks(server: HostileServer, connection: socket.socket) -> None:
    connection.sendall(ANSWER + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"1\r\n#\r\n")
        server.pause()


def sends_tiny_chunks_at_full_speed(server: HostileServer, connection: socket.socket) -> None:
    connection.sendall(ANSWER + b"Transfer-Encoding: chunked\r\n\r\n")
    while not server.is_over:
        connection.sendall(b"1\r\n#\r\n" * 10_000)


def sends_a_body_without_end(server: HostileServer, connection: socket.socket) -> None:
    connection.sendall(ANSWER + b"\r\n")
    while not server.is_over:
        connection.sendall(b"# HELP a b\n" * 10_000)


def sends_a_bomb(server: HostileServer, connection: socket.socket) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = packer.compress(bytes(64 << 20)) + packer.flush()
    connection.sendall(ANSWER + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed)


def redirects(server: HostileServer, connection: socket.socket) -> None:
    where = b"http://127.0.0.1:%d/elsewhere" % server.port
    connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % where)


def says_a_length_and_waits(server: HostileServer, connection: socket.socket) -> None:
    connection.sendall(ANSWER + b"Content-Length: 10000\r\n\r\n#")
    while True:
        server.pause()


def resets(server: HostileServer, connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def speaks_something_else(server: HostileServer, connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n")


def sends_a_page_that_is_hard_to_read(server: HostileServer, connection: socket.socket) -> None:
    """As many series as are read, each as long as is read, up to what a body may hold."""
    labels = ",".join(f'l{i}="\\\\\\"{"x" * 8}"' for i in range(180))
    lines = b"".join(b'vllm:generation_tokens_total{%s,n="%d"} 1\n' % (labels.encode(), n) for n in range(4500))
    body = (PAGE % 1 + lines)[: 8 << 20]
    connection.sendall(ANSWER + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def sends_a_login_page(server: HostileServer, connection: socket.socket) -> None:
    body = b"<html><body><form action=/login>Please log in</form></body></html>\n"
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def sends_half_a_page(server: HostileServer, connection: socket.socket) -> None:
    """Of counters that grow: what is cut off is not read."""
    body = PAGE % (10**9 * server.connections)
    connection.sendall(ANSWER + b"Content-Length: %d\r\n\r\n" % (2 * len(body)) + body)


BEHAVIOURS = (
    says_nothing,
    trickles_headers,
    sends_headers_without_end,
    continues_for_ever,
    continues_at_full_speed,
    sends_slow_chunks,
    sends_tiny_chunks_at_full_speed,
    sends_a_body_without_end,
    sends_a_bomb,
    redirects,
    says_a_length_and_waits,
    resets,
    speaks_something_else,
    sends_a_login_page,
    sends_half_a_page,
    sends_a_page_that_is_hard_to_read,
)


@contextmanager
def hostile(behaviour: Callable[[HostileServer, socket.socket], None]) -> Iterator[HostileServer]:
    server = HostileServer(behaviour)
    try:
        yield server
    finally:
        server.close()
