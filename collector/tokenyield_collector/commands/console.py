"""Where commands print tables: a terminal, or a file or pipe that is wide enough for them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WIDTH_CHARS = 160
"""Of a file or a pipe."""


def console_for(output: Path | None) -> "Console":
    """Of standard output, unless `output` names a file."""
    from tokenyield_collector.targets.terminal import terminal

    if output is not None:
        return terminal(file=output.open("w", encoding="utf-8"), width=WIDTH_CHARS)
    console = terminal()
    return console if console.is_terminal else terminal(width=max(console.width, WIDTH_CHARS))


def print_document(document: dict[str, Any], form: str, table: "Callable[[dict[str, Any]], RenderableType]") -> None:
    """On standard output: as JSON with all decimals, or as the table that `table` makes of it."""
    if form == "json":
        print_json(document)
    else:
        console_for(None).print(table(document))


def print_json(document: Mapping[str, Any]) -> None:
    """On standard output. Money keeps all its decimals."""
    import msgspec

    from tokenyield_collector.targets.terminal_json import printable_json

    encoded = msgspec.json.Encoder(decimal_format="number").encode(document)
    print(printable_json(msgspec.json.format(encoded, indent=2)).decode())
