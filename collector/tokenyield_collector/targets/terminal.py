"""What is drawn with rich: no markup, emoji code or control character is ever read from data."""

from typing import IO

from rich.console import Console
from rich.text import Text

from tokenyield_settings.visible import visible


def terminal(*, file: IO[str] | None = None, width: int | None = None, stderr: bool = False) -> Console:
    """The one kind of console. What is written into a `file` has no colours."""
    return Console(
        file=file,
        width=width,
        stderr=stderr,
        force_terminal=False if file is not None else None,
        markup=False,
        emoji=False,
        highlight=False,
    )


def cell(text: object, style: str = "") -> Text:
    """Text of which others may have chosen parts, in one line until it is folded."""
    return Text(visible(str(text)), style=style)
