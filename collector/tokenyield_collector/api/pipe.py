"""Text from a thread to an asyncio handler, in chunks, with so few on the way that memory stays bounded."""

import asyncio
import io
from collections.abc import Callable
from contextlib import suppress

from tokenyield_collector.reports.formats import TextWriter

CHUNK_CHARS = 256 * 1024
CHUNKS_MAX = 4


class PipeClosed(Exception):
    """The reader has gone, and the writer stops."""


class Pipe:
    """`fill` in the thread; `next` and `aclose` in the event loop `loop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(CHUNKS_MAX)
        self._waiting = io.StringIO()
        self._is_closed = False

    def fill(self, make: Callable[[TextWriter], object]) -> None:
        """Let `make` write. Its end or its error comes out of the pipe after what it wrote, and is not raised."""
        last: Exception | None = None
        with suppress(PipeClosed):
            try:
                make(self)
                self._pass_on()
            except PipeClosed:
                raise
            except Exception as error:  # noqa: BLE001 - it goes to the reader
                last = error
            self._put(last)

    def write(self, text: str) -> int:
        self._waiting.write(text)
        if self._waiting.tell() >= CHUNK_CHARS:
            self._pass_on()
        return len(text)

    def _pass_on(self) -> None:
        chunk, self._waiting = self._waiting.getvalue().encode(), io.StringIO()
        if chunk:
            self._put(chunk)

    def _put(self, item: bytes | Exception | None) -> None:
        if self._is_closed:
            raise PipeClosed
        asyncio.run_coroutine_threadsafe(self._queue.put(item), self._loop).result()

    async def next(self) -> bytes | Exception | None:
        """The next chunk; None at the end; the error instead, when `make` failed."""
        return await self._queue.get()

    async def aclose(self) -> None:
        """Nobody reads any more."""
        self._is_closed = True
        while not self._queue.empty():  # lets a writer that waits in `_put` go on, and see that it is closed
            self._queue.get_nowait()
            await asyncio.sleep(0)
