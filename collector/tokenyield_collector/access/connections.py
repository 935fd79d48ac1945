"""Bounds on connections: how many there are, of one address and in all, and how long one may leave an answer unread;
and the listening socket.

In: aiohttp's protocol factory. Out: one that counts. aiohttp itself ends a connection on which no whole request head
came within `keepalive_timeout`; a body that does not come is bounded where it is read (api/batches.py).
"""

import asyncio
import ipaddress
import socket
import ssl
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import cast

SPARE = 16
"""Connections beyond `connections_max` for addresses that have none: probes are answered while it is reached."""
HANDSHAKE_S = 15.0
BACKLOG = 1024


class Connections:
    """A protocol factory for `loop.create_server`."""

    def __init__(
        self,
        inner: Callable[[], asyncio.Protocol],
        refused: MutableMapping[str, int],
        *,
        connections_max: int,
        address_max: int,
        unread_s: float,
    ) -> None:
        """`address_max`: of one address. `refused` counts by reason."""
        self._inner = inner
        self._connections_max = connections_max
        self._address_max = address_max
        self._unread_s = unread_s
        self._open_of: Counter[str] = Counter()
        self._count = 0
        self._refused = refused
        self.aborted = 0
        """Of clients that did not read their answer."""

    def __call__(self) -> asyncio.Protocol:
        return _Connection(self, self._inner())

    def opened(self, address: str) -> bool:
        """Whether there is room for one more of `address`."""
        own, most = self._open_of.get(address, 0), self._connections_max
        if own >= self._address_max or self._count >= (most if own else most + SPARE):
            self._refused["connections"] += 1
            return False
        self._open_of[address] += 1
        self._count += 1
        return True

    def closed(self, address: str) -> None:
        self._count -= 1
        self._open_of[address] -= 1
        if not self._open_of[address]:
            del self._open_of[address]

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
        self._address = ""
        self._timer: asyncio.TimerHandle | None = None
        self.data_received = inner.data_received  # type: ignore[method-assign]  # no call in between: it is the hot path
        self.eof_received = inner.eof_received  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._address = _address_of(transport)
        if not self._connections.opened(self._address):
            cast(asyncio.Transport, transport).abort()
            return
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses of asyncio's
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None:
            return
        self._still()
        self._connections.closed(self._address)
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


def _address_of(transport: asyncio.BaseTransport) -> str:
    """Of the client; of IPv6 its network of 64 bits, which one host may have all of."""
    peer = transport.get_extra_info("peername")
    if not peer:
        return ""
    host = str(peer[0])
    return ":".join(ipaddress.ip_address(host.partition("%")[0]).exploded.split(":")[:4]) if ":" in host else host


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
