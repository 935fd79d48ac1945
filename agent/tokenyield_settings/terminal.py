"""Lines that commands write to a terminal. In: text, of which others may have chosen parts."""

import io
import sys
from collections.abc import Iterable, Sequence

from tokenyield_settings.visible import visible

PADDED_CHARS_MAX = 60
"""Wider cells do not widen their column: one long name must not take every row out of sight."""


def show(line: object = "", *, is_error: bool = False) -> None:
    """One line, on standard output or standard error; of what is in it, nothing acts on the terminal."""
    print(visible(str(line)), file=sys.stderr if is_error else sys.stdout)


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as their widest cell."""
    lines = [[visible(cell) for cell in line] for line in (head, *rows)]
    widths = [min(PADDED_CHARS_MAX, max(len(line[i]) for line in lines)) for i in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def write_whatever_comes() -> None:
    """No character that the terminal's encoding lacks ends a command: it is written as an escape."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
