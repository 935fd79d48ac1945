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
