"""What a ledger keeps of figures that were computed from it, so that a start need not compute them again.

A figure is one row: a name, what it was computed from (`inputs`), and its content. Whoever reads it compares the inputs
with those of now: a row that is not there, not of now or not readable costs a computation and never a wrong figure. So
nothing here needs a backup, and a kill between two rows leaves the next start right.
"""

import base64
import json
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

_COMPRESSION = 1
SETTLED_PREFIX = "counted/day/"
"""Of figures that are many and hardly change. An engine may store them apart from the others."""


class KeptFigure(NamedTuple):
    """`content` is what `packed` gives."""

    name: str
    inputs: str
    content: str


class FigureStore(Protocol):
    """Blocking. `keep` is called from the writing thread, the others from any."""

    def inputs(self, prefix: str) -> Mapping[str, str]:
        """Name -> inputs, of all figures whose name begins so."""
        ...

    def contents(self, names: Collection[str]) -> Mapping[str, str]:
        """Name -> content; without those that are not there."""
        ...

    def keep(self, figures: Sequence[KeptFigure], forget: Iterable[str] = ()) -> None:
        """Put figures in the place of those of the same names, and remove others. One commit in DuckDB; in ClickHouse
        row by row, in this order."""
        ...


def packed(document: Any) -> str:
    """JSON (integers of any size), compressed, as text."""
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return base64.b64encode(zlib.compress(data, _COMPRESSION)).decode()


def unpacked(content: str) -> Any:
    """The document; None where it cannot be read."""
    try:
        return json.loads(zlib.decompress(base64.b64decode(content, validate=True)))
    except (ValueError, zlib.error):
        return None
