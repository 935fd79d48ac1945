"""Finding the few lines that matter in a block of many. Pure.

Measured (bench/scan.py): searching the whole block for a literal and only then looking at the line runs at memory
speed; looking at each line is ten times slower.
"""

import re
from collections.abc import Iterator

_ANSI = re.compile(rb"\x1b\[[0-9;]*m")
LINE_BYTES_MAX = 8_192
"""A statistics line is a few hundred bytes; a longer line with the same words is a logged prompt."""


def lines_with(block: bytes | bytearray, *literals: bytes, bytes_max: int = LINE_BYTES_MAX) -> Iterator[bytes]:
    """The lines of `block` that hold any of `literals`, each once, in order, without colours and newline."""
    starts: list[int] = []
    for literal in literals:
        at = block.find(literal)
        while at >= 0:
            starts.append(block.rfind(b"\n", 0, at) + 1)
            end = block.find(b"\n", at)
            at = block.find(literal, end) if end >= 0 else -1
    for start in starts if len(literals) == 1 else sorted(set(starts)):
        end = block.find(b"\n", start)
        line = bytes(block[start : end if end >= 0 else len(block)])
        if len(line) <= bytes_max:
            yield _ANSI.sub(b"", line) if b"\x1b" in line else line


class AccessLog:
    """Requests by uvicorn's access log. They wait until a statistics line has shown which server's log this is, because
    many programs log this way. `endpoints` end the paths of the requests that make tokens."""

    def __init__(self, *endpoints: bytes) -> None:
        self._endpoints = [endpoint + b' HTTP/1.1" ' for endpoint in endpoints]
        self._counts = {"requests": 0, "requests_failed": 0}

    def read(self, block: bytes | bytearray) -> None:
        for endpoint in self._endpoints:
            answered = block.count(endpoint)
            if answered:
                succeeded = block.count(endpoint + b"200")
                self._counts["requests"] += succeeded
                self._counts["requests_failed"] += answered - succeeded

    def take(self) -> dict[str, int]:
        """What was counted since the last time: `requests` answered with 200, and `requests_failed` if any."""
        taken = {kind: count for kind, count in self._counts.items() if count}
        self.clear()
        return taken

    def clear(self) -> None:
        self._counts = dict.fromkeys(self._counts, 0)

    def state(self) -> dict[str, int]:
        return dict(self._counts)

    def restore(self, state: dict[str, int]) -> None:
        self._counts = dict(state)
