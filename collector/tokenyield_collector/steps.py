"""What keeps the collector's loops going: a step that fails is logged once per change of state and tried again.

In: steps of a loop, and whole loops. Out: what does not work at present. No error of a step leaves this file, so that
no fault of one input, file or disk ends the process: it would start into the same fault again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from tokenyield_collector.errors import LedgerError

log = logging.getLogger(__name__)

RESTART_AFTER_S = 1.0


class Steps:
    """The steps of one loop by name. Those in `first` are a problem until they have succeeded once."""

    def __init__(self, first: Iterable[str] = ()) -> None:
        self._problems = {name: f"the first {name} has not finished" for name in first}
        self._states: dict[str, str] = {}

    @property
    def problem(self) -> str | None:
        """All that does not work, in words; None where all does."""
        return "; ".join(self._problems.values()) or None

    async def attempt(self, name: str, step: Callable[[], Awaitable[None]]) -> bool:
        """Whether `step` succeeded. Raises nothing but cancellation."""
        try:
            await step()
        except Exception as error:  # noqa: BLE001 - the one place: shown, logged, and tried again
            self._failed(name, error)
            return False
        self._problems.pop(name, None)
        if self._states.pop(name, None) is not None:
            log.info("%s: works again", name)
        return True

    def _failed(self, name: str, error: Exception) -> None:
        foreseen = isinstance(error, LedgerError)
        kind, where = type(error).__name__, "".join(f" {note}" for note in getattr(error, "__notes__", ()))
        if foreseen:
            state = problem = f"{error}{where}"
        else:
            state = f"{kind}{where}"  # what it says may differ each time
            problem = f"{name} failed ({kind}: {str(error)[:200]}){where}; the log says where"
        self._problems[name] = problem
        if self._states.get(name) == state:
            return
        self._states[name] = state
        if foreseen:
            log.error("%s", problem)
        else:
            log.error("%s failed in a way that was not foreseen, and is tried again; please report it", name,
                      exc_info=error)  # fmt: skip


async def lasting(loop: Callable[[], Awaitable[None]]) -> None:
    """Run `loop` until it returns or is cancelled; start it again when it raises."""
    while True:
        try:
            return await loop()
        except Exception:
            log.exception("%s ended in a way that was not foreseen; it starts again", loop.__qualname__)
            await asyncio.sleep(RESTART_AFTER_S)
