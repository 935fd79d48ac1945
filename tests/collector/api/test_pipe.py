"""A file too big for memory, from a thread to a reader that is slow, stops early or never comes."""

import asyncio
from collections.abc import Callable

from tokenyield_collector.api.pipe import CHUNK_CHARS, CHUNKS_MAX, Pipe
from tokenyield_collector.reports.formats import TextWriter

LINE = "x" * 1023 + "\n"


async def piped(make: Callable[[TextWriter], object], chunks_read: int | None = None) -> tuple[bytes, object]:
    """What comes out, and the last item."""
    pipe = Pipe(asyncio.get_running_loop())
    filling = asyncio.get_running_loop().run_in_executor(None, pipe.fill, make)
    text, last = b"", None
    while chunks_read is None or chunks_read > 0:
        item = await pipe.next()
        if not isinstance(item, bytes):
            last = item
            break
        text += item
        chunks_read = None if chunks_read is None else chunks_read - 1
    await pipe.aclose()
    await asyncio.wait_for(filling, 10)
    return text, last


def test_everything_arrives_in_order() -> None:
    def make(out: TextWriter) -> None:
        for i in range(3000):
            out.write(f"{i}\n{LINE}")

    text, last = asyncio.run(piped(make))
    assert text == "".join(f"{i}\n{LINE}" for i in range(3000)).encode()
    assert last is None
    assert asyncio.run(piped(lambda out: None)) == (b"", None)


def test_the_writer_waits_for_the_reader() -> None:
    written = 0

    def make(out: TextWriter) -> None:
        nonlocal written
        for _ in range(20 * CHUNK_CHARS // len(LINE)):
            out.write(LINE)
            written += len(LINE)

    async def slowly() -> None:
        pipe = Pipe(asyncio.get_running_loop())
        filling = asyncio.get_running_loop().run_in_executor(None, pipe.fill, make)
        await asyncio.sleep(0.3)
        assert written <= (CHUNKS_MAX + 2) * CHUNK_CHARS
        while await pipe.next() is not None:
            pass
        await filling
        assert written == 20 * CHUNK_CHARS

    asyncio.run(slowly())


def test_an_error_comes_after_what_was_written() -> None:
    def make(out: TextWriter) -> None:
        out.write("a" * CHUNK_CHARS)
        raise ValueError("no more")

    text, last = asyncio.run(piped(make))
    assert text == b"a" * CHUNK_CHARS
    assert isinstance(last, ValueError)


def test_when_nobody_reads_any_more_the_writer_stops() -> None:
    def make(out: TextWriter) -> None:
        while True:
            out.write(LINE)

    text, _ = asyncio.run(piped(make, chunks_read=2))
    assert len(text) == 2 * CHUNK_CHARS
