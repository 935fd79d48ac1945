"""What a source of spend is: which documents it reads, and how their rows become lines of slices. Pure.

One file of sources/ is one source. Its reader takes the documents of one import, one after the other (a page of an API,
a line of a log, a row of a table), and gives rows, and faults of rows that cannot be used, which cost only themselves.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from tokenyield_collector.spend.slices import Layer, SpendAmounts, SpendFields
from tokenyield_collector.spend.values import UnusableSpend


class SpendRow(NamedTuple):
    """What one row of a vendor adds to a slice. `account` is empty where the row does not name one; money is in picos
    (values.py), None where the row has none."""

    grain: str
    day_ms: int
    fields: SpendFields
    amounts: SpendAmounts
    cost_pico: int | None = None
    account: str = ""


class SpendNotice(NamedTuple):
    """What whoever imports should know of a document: that there are more pages, or what was left out, and why."""

    text: str


ReadItem = SpendRow | UnusableSpend | SpendNotice


class SpendGrain(NamedTuple):
    """One report of a source. Several of a source's reports may show the same tokens: of those of one layer the one
    with the higher `rank` is shown. A slice's grain may go on behind a colon (`usage:embeddings`): such slices add up.
    """

    layer: Layer
    title: str
    rank: int = 1


class SpendReader(Protocol):
    """Of one import."""

    def read(self, document: Any) -> Iterator[ReadItem]:
        """Raises `UnusableSpend` for a document that is not of this source."""
        ...

    def finish(self) -> Iterator[ReadItem]:
        """What was kept until all documents were read."""
        ...


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What an import may say of its documents."""

    mapping: Mapping[str, Any] = field(default_factory=dict)
    """How the columns of a table become fields (sources/csv.py); hosts, gateways and subjects (egress/rules.py)."""
    day_ms: int | None = None
    """The day of what has no time of its own."""
    now_ms: int = 0
    """For times without a year."""


ROWS = "\0rows"
"""The column of a row that is several of a table, added up: how many."""


@dataclass(frozen=True, kw_only=True)
class SpendTable:
    """What a source reads of a table, so that rows which differ in amounts alone can be added up before it reads them
    (ingest/spend_tables.py). Its reader then finds columns without a value as None, and `ROWS`."""

    names: tuple[str, ...]
    """Columns that it reads, beside that of `only` and `sums`."""
    required: tuple[str, ...]
    only: tuple[str, str]
    """(column, how it begins): it leaves out other rows, and counts them."""
    day: str
    """The column of `names` of which only the UTC day is read."""
    money: str
    """The column of `sums` that may be below 0."""
    sums: Mapping[str, int]
    """Columns that add up -> to how many decimals."""


@dataclass(frozen=True, kw_only=True)
class SpendFormat:
    """A source. `is_lines`: its files are JSON lines, even where they have one line only. `is_log`: its other files are
    lines of text, each a document, and `FILE_START` is the first one of each file."""

    title: str
    documents: str
    """What can be imported, in words."""
    grains: Mapping[str, SpendGrain]
    reader: Callable[[ReadOptions], SpendReader]
    is_lines: bool = False
    table: SpendTable | None = None
    is_log: bool = False


FILE_START = object()
"""In the place of a document."""


def grain_family(grain: str) -> str:
    return grain.partition(":")[0]


def each(
    rows: Iterable[Any], where: str, read: Callable[[Mapping[str, Any]], Iterable[ReadItem]]
) -> Iterator[ReadItem]:
    """What `read` makes of each row; a row that cannot be used is a fault that says which it is."""
    for i, row in enumerate(rows):
        try:
            if not isinstance(row, dict):
                raise UnusableSpend("row", expected="an object", found=type(row).__name__)
            yield from read(row)
        except UnusableSpend as error:
            yield error.within(f"{where}[{i}]")


def rows_at(document: Any, name: str) -> list[Any] | None:
    """The list under `name`; None where there is none."""
    rows = document.get(name) if isinstance(document, Mapping) else None
    return rows if isinstance(rows, list) else None


def more_pages(document: Mapping[str, Any]) -> Iterator[SpendNotice]:
    """That the vendor has more of the same days than this page."""
    if document.get("has_more"):
        yield SpendNotice(
            "the vendor has more pages (has_more): import all pages of the same days in one command, or the days are "
            "incomplete"
        )


class Stateless:
    """A reader that keeps nothing between documents."""

    def __init__(self, read: Callable[[Any], Iterator[ReadItem]]) -> None:
        self._read = read

    def read(self, document: Any) -> Iterator[ReadItem]:
        return self._read(document)

    def finish(self) -> Iterator[ReadItem]:
        return iter(())


def unknown_document(source: str, expected: str, document: Any) -> UnusableSpend:
    found = (
        f"an object with {', '.join(map(str, list(document)[:6])) or 'nothing'}"
        if isinstance(document, Mapping)
        else f"a {type(document).__name__}"
    )
    return UnusableSpend("document", expected=expected, found=found, fix=f"save the answer of {source} as it came")
