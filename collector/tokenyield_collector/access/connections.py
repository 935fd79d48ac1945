"""Bounds on connections: how many there are, and how long one may leave an answer unread; and the listening socket.

In: aiohttp's protocol factory. Out: one that counts. aiohttp itself ends a connection on which no whole request head
came within `keepalive_timeout`; a body that does not come is bounded where it is read (api/batches.py).
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import cast

HANDSHAKE_S = 15.0
BACKLOG = 1024


class Connections:
    """A protocol factory for `loop.create_server`."""

    def __init__(self, inner: Callable[[], asyncio.Protocol], connections_max: int, unread_s: float) -> None:
        self._inner = inner
        self._connections_max = connections_max
        self._unread_s = unread_s
        self.open = 0
        self.refused = 0
        self.aborted = 0
        """Of clients that did not read their answer."""

    def __call__(self) -> asyncio.Protocol:
        return _Connection(self, self._inner())

    def opened(self) -> bool:
        if self.open >= self._connections_max:
            self.refused += 1
            return False
        self.open += 1
        return True

    def unread(self, transport: asyncio.Transport) -> asyncio.TimerHandle:
        def abort() -> None:
            self.aborted += 1
            transport.abort()

        return asyncio.get_running_loop().call_later(self._unread_s, abort)


class _Connection(asyncio.Protocol):
    """Hands everything on to aiohttp's protocol, unless there are too many already."""

    def __init__(self, connections: Connections, inner: asyncio.Protocol) -> None:
        self._connections = connections
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.data_received = inner.data_received  # type: ignore[method-assign]  # no call in between: it is the hot path
        self.eof_received = inner.eof_received  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._connections.opened():
            cast(asyncio.Transport, transport).abort()
            return
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses of asyncio's
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None:
            return
        self._still()
        self._connections.open -= 1
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read."""
        if self._transport is not None and self._timer is None:
            self._timer = self._connections.unread(self._transport)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._still()
        self._inner.resume_writing()

    def _still(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Listener:
    """Listens, and goes on listening without a gap when certificates are replaced."""

    def __init__(self, connections: Connections, address: tuple[str, int]) -> None:
        self._connections = connections
        self._socket = socket.create_server(
            address, family=socket.AF_INET6 if ":" in address[0] else socket.AF_INET, backlog=BACKLOG
        )
        self._server: asyncio.Server | None = None
        self._change: asyncio.Task[None] | None = None

    async def start(self, context: ssl.SSLContext | None) -> None:
        before = self._server
        handshake_s = HANDSHAKE_S if context else None
        self._server = await asyncio.get_running_loop().create_server(
            self._connections, sock=self._socket.dup(), ssl=context, backlog=BACKLOG, ssl_handshake_timeout=handshake_s
        )
        if before is not None:
            before.close()  # what it accepted goes on

    def use(self, context: ssl.SSLContext | None) -> None:
        self._change = asyncio.get_running_loop().create_task(self.start(context))

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._socket.close()
