"""`GET /v1/diagnosis`: why workloads yield what they yield."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor

from aiohttp import web

from tokenyield_collector.config import Settings
from tokenyield_collector.diagnosis.make import LOSS_PERCENT, WINDOW_S_MAX, diagnoses
from tokenyield_collector.errors import ParameterError
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.live.refresher import live_stretch
from tokenyield_collector.live.summary import encode
from tokenyield_collector.policy import Policy
from tokenyield_wire.units import NS_PER_MS

WINDOW_S = 3600


class DiagnosisApi:
    """One diagnosis is made at a time, in the thread of those who ask."""

    def __init__(self, settings: Settings, ledger: Ledger, asker: Executor, policy: Callable[[], Policy]) -> None:
        self._settings = settings
        self._ledger = ledger
        self._asker = asker
        self._policy = policy

    async def handle(self, request: web.Request) -> web.Response:
        """`?window_s=3600`: of the newest so many seconds; `?loss_percent=2`: what a power cap may cost of the
        tokens."""
        window, loss = request.query.get("window_s", str(WINDOW_S)), request.query.get("loss_percent")
        if not window.isdecimal() or not 1 <= int(window) <= WINDOW_S_MAX:
            expected = f"a whole number from 1 to {WINDOW_S_MAX}"
            raise ParameterError("window_s", expected=expected, found=f"'{window[:40]}'")
        try:
            loss_percent = LOSS_PERCENT if loss is None else float(loss)
        except ValueError:
            loss_percent = -1.0
        if not 0 <= loss_percent <= 100:
            raise ParameterError("loss_percent", expected="a number from 0 to 100", found=f"'{str(loss)[:40]}'")
        loop = asyncio.get_running_loop()
        body = await loop.run_in_executor(self._asker, self._make, int(window), loss_percent)
        return web.Response(body=body, content_type="application/json")

    def _make(self, window_s: int, loss_percent: float) -> bytes:
        start_ms, end_ms = live_stretch(time.time_ns() // NS_PER_MS, window_s, self._settings)
        return encode(diagnoses(self._ledger, self._policy(), start_ms, end_ms, loss_percent=loss_percent))
