"""Asking a vendor for a span of days: the exchanges, and the pauses between their tries.

Exchanges run in a thread with an event loop of its own, documents are read in an executor: neither takes time of the
loop that serves HTTP. A key is read at each request from its file, so that a new one counts at once.
"""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Executor
from datetime import date
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tokenyield_collector.pull.account import PullAccount
from tokenyield_collector.pull.exchange import RETRY_AFTER_S_MAX, PullFault, RawAnswer, exchange
from tokenyield_collector.pull.fetch import People, Pulled, ReportFetch
from tokenyield_collector.pull.request import VendorReport
from tokenyield_collector.pull.spend_file import base_url_of
from tokenyield_collector.pull.vendors import load_vendor

TRIES_MAX = 6
PAUSE_S = 5.0
"""Before the second try, twice as long before each further one; at least as long as the vendor says."""
JITTER = 0.25
"""Up to so much longer, so that many collectors do not come at once."""
KEY_BYTES_MAX = 8192
Result = TypeVar("Result")


class PullClock(Protocol):
    """Time, which tests move."""

    def now_ms(self) -> int: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's."""

    def now_ms(self) -> int:
        return time.time_ns() // 10**6

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ExchangeThread:
    """An event loop in a thread, which starts with the first call; `close` ends what is under way."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, call: Coroutine[Any, Any, Result]) -> Result:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=_run, args=(self._loop,), name="exchanges", daemon=True).start()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self._loop))

    def close(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Until it is stopped; what is under way then is cancelled."""
    try:
        loop.run_forever()
        for task in asyncio.all_tasks(loop):
            task.cancel()
            loop.run_until_complete(asyncio.wait([task]))
    finally:
        loop.close()


class VendorAsker:
    """`executor` reads keys and answers."""

    def __init__(
        self,
        executor: Executor,
        clock: PullClock,
        thread: ExchangeThread,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._executor = executor
        self._clock = clock
        self._thread = thread
        self._jitter = jitter

    async def pulled(
        self, account: PullAccount, report: VendorReport, span: tuple[date, date], people: People
    ) -> Pulled:
        """All of a span of days. Raises `PullFault`."""
        loop = asyncio.get_running_loop()
        fetch = ReportFetch(account, load_vendor(account.source), report, span, people)
        while not fetch.is_done:
            answer = await self._answer(account, fetch)
            await loop.run_in_executor(self._executor, fetch.take, answer)
        return fetch.pulled

    async def _answer(self, account: PullAccount, fetch: ReportFetch) -> RawAnswer:
        tries = 0
        while True:
            try:
                return await self._ask(account, fetch)
            except PullFault as fault:
                tries += 1
                if not fault.may_retry or tries >= TRIES_MAX or fault.after_s > RETRY_AFTER_S_MAX:
                    raise
                pause_s = max(fault.after_s, PAUSE_S * 2 ** (tries - 1))
                await self._clock.sleep(pause_s * (1 + JITTER * self._jitter()))

    async def _ask(self, account: PullAccount, fetch: ReportFetch) -> RawAnswer:
        key = await asyncio.get_running_loop().run_in_executor(self._executor, read_key, Path(account.key_file))
        headers = load_vendor(account.source).headers(account, key)
        call = exchange(base_url_of(account), fetch.request, headers, self._clock.now_ms() / 1000)
        return await self._thread.run(call)


def read_key(file: Path) -> str:
    """Raises `PullFault`, which has nothing of what is in the file."""
    try:
        with file.open("rb") as opened:
            key = opened.read(KEY_BYTES_MAX + 1).strip()
    except OSError as error:
        raise PullFault("key", f"{file}: cannot be read ({error.strerror}); check key_file") from None
    if not 0 < len(key) <= KEY_BYTES_MAX or any(not 33 <= byte <= 126 for byte in key):
        raise PullFault("key", f"{file}: expected one line with the key, found other; correct the file")
    return key.decode("ascii")


def key_remarks(accounts: Iterable[PullAccount]) -> Iterator[str]:
    """Keys that cannot be read here, in words; the collector's user may read others."""
    for account in accounts:
        try:
            read_key(Path(account.key_file))
        except PullFault as fault:
            yield f"{account.name}: {fault}"
