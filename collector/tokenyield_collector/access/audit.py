"""The audit log: refused requests, reports and backups that were read, and changes. One line an event, logger `audit`.

No secret, no body and no header is written; a path only as far as it names a route. A client that is refused again and
again is written a few times and then counted, so that it cannot fill the disk.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

from aiohttp.http_exceptions import HttpProcessingError

from tokenyield_settings.buckets import Buckets

log = logging.getLogger("audit")

LINES_BURST = 5
LINES_PER_S = 1 / 60
PEERS_MAX = 10_000


class Audit:
    """Writes the events."""

    def __init__(self) -> None:
        self._lines = Buckets(LINES_PER_S, LINES_BURST, PEERS_MAX)
        self._suppressed: OrderedDict[tuple[str, str, int], int] = OrderedDict()

    def refused(self, *, peer: str, caller: str, method: str, route: str, status: int, why: str, now_s: float) -> None:
        """A request that was answered with `status` (4xx or 5xx)."""
        key = (peer, route, status)
        if self._lines.wait_s(key, now_s):
            self._suppressed[key] = self._suppressed.pop(key, 0) + 1
            if len(self._suppressed) > PEERS_MAX:
                self._suppressed.popitem(last=False)
            return
        _write(logging.WARNING, event="refused", peer=peer, caller=caller, method=method, route=route, status=status,
               why=why, suppressed_before=self._suppressed.pop(key, 0))  # fmt: skip

    def read(self, *, peer: str, caller: str, route: str, what: str) -> None:
        """A report or a backup that a caller received."""
        _write(logging.INFO, event="read", peer=peer, caller=caller, route=route, what=what)

    def wrote(self, *, peer: str, caller: str, route: str, what: str) -> None:
        """Something that a caller put into the ledger by itself; batches of agents are counted, not written here."""
        _write(logging.INFO, event="wrote", peer=peer, caller=caller, route=route, what=what)

    def enrolled(self, *, peer: str, cluster: str, node: str, how: str) -> None:
        """A node that has a token of its own from now on: a new one, or another installation than before."""
        _write(logging.INFO, event="enrolled", peer=peer, cluster=cluster, node=node, how=how)

    def changed(self, what: str, **facts: object) -> None:
        """Credentials, prices or rules are others from now on."""
        _write(logging.INFO, event="changed", what=what, **facts)


class UnreadableRequests(logging.Filter):
    """For aiohttp's logger: bytes that are not HTTP are written as refused, without the traceback and the bytes that
    aiohttp would show, which may be a secret in a header that is too long."""

    def __init__(self, audit: Audit, now_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._audit = audit
        self._now_s = now_s

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return True
        peer = str(record.args[0]) if isinstance(record.args, tuple) and record.args else "-"
        self._audit.refused(peer=peer, caller="", method="", route="", status=error.code, why=type(error).__name__,
                            now_s=self._now_s())  # fmt: skip
        return False


def _write(level: int, **facts: object) -> None:
    words = {name: _clean(value) for name, value in facts.items() if value not in ("", 0, None)}
    log.log(level, " ".join(f"{name}={word}" for name, word in words.items()), extra={"facts": words})


def _clean(value: object) -> str:
    """One word of bounded length without control characters, so that no caller writes lines into the log."""
    text = "".join(c if c.isprintable() and c != '"' else "?" for c in str(value)[:200])
    return f'"{text}"' if " " in text or "=" in text else text
