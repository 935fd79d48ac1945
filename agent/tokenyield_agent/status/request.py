"""One HTTP request to the agent's status, read from a socket, and the bytes of its answer.

`http.server` would do this too, and brings `http.client`, `email` and `ssl` with it: 6 MiB beside every GPU. One
request a connection, GET and HEAD, no body (RFC 9112).
"""

import time
from collections.abc import Mapping, Sequence
from io import BufferedIOBase
from typing import NamedTuple

LINE_BYTES_MAX = 8192
HEADERS_MAX = 100

_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
PLAIN = "text/plain; charset=utf-8"


class StatusRequest(NamedTuple):
    """`headers` by their name in lower case; of one that is there twice, the first."""

    method: str
    path: str
    headers: Mapping[str, str]


class StatusAnswer(NamedTuple):
    """A body of `content_type`, with headers of its own."""

    status: int
    body: bytes
    content_type: str = PLAIN
    headers: Sequence[tuple[str, str]] = ()

    def head(self) -> bytes:
        """Status line and headers, up to the body."""
        lines = [
            f"HTTP/1.1 {self.status} {_REASONS[self.status]}",
            "Server: tokenyield",
            f"Date: {time.strftime('%a, %d %b %Y %H:%M:%S GMT', time.gmtime())}",
            "Connection: close",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1", "replace")


UNREADABLE = StatusAnswer(400, b"expected an HTTP request; try GET /metrics\n")
TOO_LARGE = StatusAnswer(431, b"the request's head is too large\n")
NOT_ALLOWED = StatusAnswer(405, b"only GET and HEAD\n", headers=(("Allow", "GET, HEAD"),))


def read_request(stream: BufferedIOBase) -> StatusRequest | StatusAnswer | None:
    """The request, or what to answer to one that cannot be served; None where the client went away. Raises OSError."""
    line = stream.readline(LINE_BYTES_MAX + 1)
    if not line:
        return None
    if len(line) > LINE_BYTES_MAX:
        return TOO_LARGE
    words = line.decode("latin-1").split()
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return UNREADABLE
    headers: dict[str, str] = {}
    for _ in range(HEADERS_MAX + 1):
        line = stream.readline(LINE_BYTES_MAX + 1)
        if line in (b"\r\n", b"\n"):
            method, target, _version = words
            if method not in ("GET", "HEAD"):
                return NOT_ALLOWED
            return StatusRequest(method, target.partition("?")[0], headers)
        if len(line) > LINE_BYTES_MAX:
            return TOO_LARGE
        name, colon, value = line.decode("latin-1").partition(":")
        if not line.endswith(b"\n") or not colon or name != name.strip():
            return UNREADABLE if line else None
        headers.setdefault(name.lower(), value.strip())
    return TOO_LARGE
