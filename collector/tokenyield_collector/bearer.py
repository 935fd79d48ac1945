"""Bearer tokens: who may send batches and ask for reports."""

import hmac
import logging
import time
from pathlib import Path

from aiohttp import hdrs, web

from tokenyield_collector.problems import problem

log = logging.getLogger(__name__)

HOW_TO_ENTER = "send Authorization: Bearer TOKEN with a token from the collector's token_file"
TOKENS_REREAD_S = 10.0
"""How soon a changed token file is noticed."""


class Tokens:
    """The accepted bearer tokens, read again when the file changes. Without a file everybody may."""

    def __init__(self, file: str | None) -> None:
        self._file = Path(file) if file else None
        self._tokens: tuple[bytes, ...] = ()
        self._read_at_s = float("-inf")

    def accept(self, header: str | None, now_mono_s: float) -> bool:
        if self._file is None:
            return True
        if now_mono_s - self._read_at_s >= TOKENS_REREAD_S:
            self._read_at_s = now_mono_s
            try:
                self._tokens = tuple(line.strip() for line in self._file.read_bytes().splitlines() if line.strip())
            except OSError as error:
                log.error("token_file %s cannot be read (%s); nobody is let in", self._file, error)
                self._tokens = ()
        scheme, _, given = (header or "").partition(" ")
        offered = given.strip().encode()
        # Every token is compared, so that the time taken tells nothing.
        matches = [hmac.compare_digest(offered, token) for token in self._tokens]
        return scheme.lower() == "bearer" and any(matches)

    def refusal(self, request: web.Request) -> web.Response | None:
        """The answer to who may not; None for who may."""
        if self.accept(request.headers.get(hdrs.AUTHORIZATION), time.monotonic()):
            return None
        return problem(401, HOW_TO_ENTER, headers={"WWW-Authenticate": "Bearer"})
