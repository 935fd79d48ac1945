"""Requests by a server's access log: uvicorn's, as text or inside JSON, and hypercorn's. Pure.

    INFO:     10.0.0.9:4001 - "POST /v1/chat/completions HTTP/1.1" 200 OK
    {..., "message": "10.0.0.9:4000 - \\"POST /v1/messages?beta=true HTTP/1.1\\" 200"}
    [2026-10-02 12:00:00 +0000] [42] [INFO] 10.0.0.9:4001 - - [...] "POST /v1/completions 1.1" 200 - "-" "-"

A request is a POST to an endpoint that makes tokens; OPTIONS and GET make none. Status 2xx is one answered, 499 one
that its client gave up, other 4xx and 5xx one that failed. A stream's line is written as it begins, so that one given
up later is among the answered.

Theory of the fast path: searching a block for a literal of 20 bytes or more runs at memory speed, a regular expression
at a fifth of it. So POSTs of any form are counted, then the plain forms of the answered ones; where the two are equal,
nothing else is in the block. Where they differ, every line is read; also where the block is small, as those of a live
log are, or is the first with a request. It stays so where a line was in another form than uvicorn's text: a server's
formatter does not change.
"""

import re
from collections import Counter

from tokenyield_agent.tokens.parsing.outcome import CLIENT_CLOSED

ENDPOINTS = (b"/chat/completions", b"/completions", b"/messages", b"/responses", b"/audio/transcriptions")
"""How the paths end that most servers answer with tokens."""
SMALL_BYTES = 32 * 1024
_POST = b' - "POST /v1/'
_REQUEST = re.compile(
    rb'"POST (?P<path>/[^ "?\\]{0,500})(?:\?[^ "\\]{0,4000})? (?:HTTP/)?[123](?:\.[01])?\\?" (?P<status>[2-5]\d\d)\b'
)


class AccessLog:
    """Counts of requests, by kind. They wait until a statistics line has shown which server's log this is, because many
    programs log this way."""

    def __init__(self, *more_endpoints: bytes) -> None:
        self._endpoints = (*ENDPOINTS, *more_endpoints)
        self._posts = [_POST, *(b' - "POST ' + endpoint for endpoint in more_endpoints)]
        self._plain = [_POST[:-1] + endpoint + b' HTTP/1.1" 200 OK\n' for endpoint in ENDPOINTS]
        self._form_is_known = False
        """The first block with a request was read line by line."""
        self._other_forms = False
        """Lines in another form than uvicorn's text were seen: every line is read from now on."""
        self._counts: dict[str, int] = {}

    def read(self, block: bytes | bytearray) -> None:
        if len(block) > SMALL_BYTES and not self._other_forms:
            posts = sum(map(block.count, self._posts))
            if not posts and _REQUEST.search(block, 0, SMALL_BYTES) is None:
                return
            answered = 0
            for plain in self._plain if posts and self._form_is_known else ():
                answered += block.count(plain)
                if answered == posts:
                    self._add("requests", answered)
                    return
        requests = Counter(_REQUEST.findall(block))  # few paths and statuses, however many lines
        counted = 0
        for (path, status_text), count in requests.items():
            if path.endswith(self._endpoints):
                counted += count
                status = int(status_text)
                if status < 300:
                    self._add("requests", count)
                elif status >= 400:
                    self._add("requests_aborted" if status == CLIENT_CLOSED else "requests_failed", count)
        if counted:
            self._form_is_known = True
            self._other_forms |= counted > sum(map(block.count, self._posts))

    def _add(self, kind: str, count: int) -> None:
        self._counts.setdefault("requests", 0)
        self._counts.setdefault("requests_failed", 0)
        self._counts[kind] = self._counts.get(kind, 0) + count

    def take(self) -> dict[str, int]:
        """What was counted since the last time, with zeros; empty where there was no line, for then nothing is
        known."""
        taken = self._counts
        self.clear()
        return taken

    def clear(self) -> None:
        self._counts = {}

    def state(self) -> dict[str, int]:
        return dict(self._counts)

    def restore(self, state: dict[str, int]) -> None:
        # An older agent kept both counts from the start: two zeros are no line.
        self._counts = dict(state) if any(state.values()) else {}
