"""One connection to an HTTP server, driven from outside: it never blocks, and has no clock of its own.

In: a request as bytes. Out: the answer. An exchange is a generator: it yields what it waits for (`Need`), and goes on
when it is resumed. Whoever drives it decides how long all of it may take, and ends it with `close`. So one thread can
drive any number of exchanges, and the slowest costs itself only (tokens/scrape.py); `wait_for` drives a single one.

A connection that the server keeps open is used again. Where it turns out to be closed before a byte of an answer came,
the request is sent once more over a new one.
"""

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from tokenyield_agent.http.answer import Answer, AnswerReader, BadAnswer
from tokenyield_agent.http.resolve import RESOLVER, SocketAddress

if TYPE_CHECKING:  # it brings OpenSSL, which is 4 MiB; who gives a context has imported it
    import ssl

READ_BYTES = 1 << 16
LOOKUP_PAUSE_S = 0.02
"""Between two looks whether a name is resolved."""
ACCEPT_TRIES = 5
Result = TypeVar("Result")


class Need(NamedTuple):
    """What a generator waits for: a socket that can be read or written, or so many seconds."""

    sock: socket.socket | None = None
    is_write: bool = False
    seconds: float = 0.0


Steps = Generator[Need, None, Result]


class Connection:
    """To one server, opened when it is needed. `accepts` judges the socket once it is connected, before anything is
    sent."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        context: "ssl.SSLContext | None" = None,
        accepts: Callable[[socket.socket], bool] | None = None,
        holds: Callable[[int], None] | None = None,
    ) -> None:
        """`holds` is given how many bytes are held of an answer, and raises where that is too much."""
        self._host = host
        self._port = port
        self._context = context
        self._accepts = accepts
        self._holds = holds
        self._socket: socket.socket | None = None
        self._turn = 0
        """Which of the host's addresses is tried first."""
        self.opened = 0
        """How often a connection was made."""

    def exchange(self, request: bytes, body_bytes_max: int) -> Steps[Answer]:
        """The answer to `request`, a head with its body. Raises OSError, BadAnswer."""
        is_kept = self._socket is not None
        reader = AnswerReader(body_bytes_max)
        try:
            if not is_kept:
                yield from self._open()
            answer = yield from self._ask(request, reader)
        except (OSError, BadAnswer) as error:
            self.close()
            is_stale = not reader.has_begun and (isinstance(error, OSError) or error.reason == "cut")
            if not (is_kept and is_stale):
                raise
            return (yield from self.exchange(request, body_bytes_max))
        except BaseException:  # it is given up
            self.close()
            raise
        finally:
            reader.drop()
        if not answer.keeps_connection:
            self.close()
        return answer

    def close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    def _open(self) -> Steps[None]:
        while (addresses := RESOLVER.addresses(self._host, self._port)) is None:
            yield Need(seconds=LOOKUP_PAUSE_S)
        failure: OSError | None = None
        for _ in addresses:
            try:
                yield from self._connect(addresses[self._turn % len(addresses)])
                break
            except OSError as error:
                self.close()
                self._turn += 1
                failure = error
            except GeneratorExit:  # this address takes too long: the next time begins with another
                self._turn += 1
                raise
        else:
            raise failure or OSError(None, f"{self._host} has no address")
        assert self._socket is not None
        tries = ACCEPT_TRIES
        while self._accepts is not None and not self._accepts(self._socket):
            tries -= 1
            if not tries:
                raise BadAnswer("leads to another network than that of its process, and is not asked", "elsewhere")
            yield Need(seconds=LOOKUP_PAUSE_S)
        if self._context is not None:
            yield from self._secure(self._context)

    def _connect(self, address: SocketAddress) -> Steps[None]:
        sock = self._socket = socket.socket(address.family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.opened += 1
        code = sock.connect_ex(address.address)
        if code in (errno.EINPROGRESS, errno.EAGAIN):
            yield Need(sock, is_write=True)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))

    def _secure(self, context: "ssl.SSLContext") -> Steps[None]:
        assert self._socket is not None
        secured = context.wrap_socket(self._socket, server_hostname=self._host, do_handshake_on_connect=False)
        self._socket = secured
        while True:
            try:
                secured.do_handshake()
                return
            except OSError as error:
                yield self._need(error)

    def _ask(self, request: bytes, reader: AnswerReader) -> Steps[Answer]:
        sock = self._socket
        assert sock is not None
        left = memoryview(request)
        while left:
            try:
                left = left[sock.send(left) :]
            except OSError as error:
                yield self._need(error, is_write=True)
        while True:
            try:
                data = sock.recv(READ_BYTES)
            except OSError as error:
                yield self._need(error)
                continue
            answer = reader.feed(data) if data else reader.end()
            if answer is not None:
                return answer
            if self._holds is not None:
                self._holds(reader.held_bytes)
            yield Need()  # others have their turn, however fast this one sends

    def _need(self, error: OSError, *, is_write: bool = False) -> Need:
        """What a call waits for that would block; TLS may have to write in order to read. Raises `error` where it is
        another."""
        if isinstance(error, BlockingIOError):
            return Need(self._socket, is_write=is_write)
        if self._context is not None:
            import ssl

            if isinstance(error, ssl.SSLWantReadError | ssl.SSLWantWriteError):
                return Need(self._socket, is_write=isinstance(error, ssl.SSLWantWriteError))
        raise error


def wait_for(steps: Steps[Result], timeout_s: float) -> Result:
    """Drive one exchange. Raises TimeoutError when all of it took longer, and what it raises."""
    deadline_s = time.monotonic() + timeout_s
    try:
        need = next(steps)
        while True:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"no whole answer within {timeout_s:g} s")
            if need.sock is not None:
                poll = select.poll()
                poll.register(need.sock, select.POLLOUT if need.is_write else select.POLLIN)
                if not poll.poll(left_s * 1000):
                    continue
            elif need.seconds:
                time.sleep(min(need.seconds, left_s))
            need = steps.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    finally:
        steps.close()


def request_bytes(method: str, target: str, netloc: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """A request with its body. Raises ValueError for a header that cannot be sent."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {netloc}", *(f"{name}: {value}" for name, value in headers.items())]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join(lines)
    if not head.isascii() or any(ord(one) < 32 for line in lines for one in line):
        raise ValueError("a request with characters that no header may have")
    return head.encode("ascii") + b"\r\n\r\n" + body
