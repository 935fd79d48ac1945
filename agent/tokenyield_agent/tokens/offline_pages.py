"""Reading saved metrics pages and summing what they show: `tokenyield-agent tokens PAGE`, `tokens --since PAGE PAGE`.

In: paths, plain or gzip. Out: `PageTotals`: since the server's start of one page, the difference of several, which are
taken in their order as the agent would take them. Raises `UnrecognizedPage` where there is nothing to count.
"""

import gzip
from collections.abc import Sequence
from pathlib import Path

from tokenyield_agent.tokens.dialects.registry import COUNTERS, UnknownDialect, counters_of_page
from tokenyield_agent.tokens.endpoint import CounterNames, CounterReading, LoadGauges, read, since_start
from tokenyield_agent.tokens.event import KINDS, sum_kinds
from tokenyield_agent.tokens.exposition import PAGE_LINES, is_page
from tokenyield_agent.tokens.handover import Handover
from tokenyield_agent.tokens.offline import LogTotals, iso_timestamp

PAGE_BYTES_MAX = 64 * 1024 * 1024
HEAD_BYTES = 64 * 1024


class UnrecognizedPage(Exception):
    """No page shows counters of a known server."""


class PageTotals(LogTotals, kw_only=True):
    """What pages show: the same as of a log, and the load of the last one."""

    running: float | None
    waiting: float | None
    cache_used: float | None
    left_out: list[str]
    """Pages without the counters, which are no answer."""


def looks_like_page(path: Path) -> bool:
    """Whether this file is a page, by its first lines; never a pipe, which can be read only once. Raises OSError."""
    if not path.is_file():
        return False
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        return is_page(file.read(HEAD_BYTES))


def read_page(path: Path, dialect: str) -> PageTotals:
    """All that the server counted since its start. Raises OSError, `UnrecognizedPage`, `UnknownDialect`."""
    body = _body(path)
    names = _names(dialect, [body])
    reading = read(body, names) if names is not None else None
    if names is None or reading is None or not (reading.series or reading.is_unused):
        raise UnrecognizedPage(_nothing_in([path], dialect))
    kinds = since_start(reading).kinds
    started = iso_timestamp(reading.started_s) if reading.started_s else None
    return _totals(names, reading, kinds, pages=1, started=started)


def read_series(paths: Sequence[Path], dialect: str) -> PageTotals:
    """What was counted between the first page and the last. Raises OSError, `UnrecognizedPage`, `UnknownDialect`."""
    bodies = [_body(path) for path in paths]
    names = _names(dialect, bodies)
    if names is None:
        raise UnrecognizedPage(_nothing_in(paths, dialect))
    handover = Handover("pages")
    kinds: dict[str, int] = {}
    left_out, answers, last = [], 0, CounterReading(values={})
    for path, body in zip(paths, bodies, strict=True):
        reading = read(body, names)
        is_page_of_it = counters_of_page(body) is not None or reading.series
        if not is_page_of_it or not handover.is_answer(reading):
            left_out.append(str(path))
        else:
            answers, last = answers + 1, reading
        if is_page_of_it:
            for event in handover.from_counters(reading, 0):
                kinds = sum_kinds(kinds, event.counts.kinds())
    for event in handover.endpoint_removed():
        kinds = sum_kinds(kinds, event.counts.kinds())
    if answers < 2:
        raise UnrecognizedPage(
            f"{', '.join(left_out)}: expected two pages with the counters of {names.server}, found {answers}; "
            "save them again"
        )
    return _totals(names, last, kinds, pages=answers, left_out=left_out)


def _body(path: Path) -> bytes:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        return file.read(PAGE_BYTES_MAX)


def _names(dialect: str, bodies: Sequence[bytes]) -> CounterNames | None:
    """The server's names: those of `dialect`, or what the first page shows that is known."""
    if dialect == "auto":
        return next((names for body in bodies if (names := counters_of_page(body)) is not None), None)
    if dialect not in COUNTERS:
        known = ", ".join(["auto", *COUNTERS])
        raise UnknownDialect(
            f"expected a server with counters, for the file is a metrics page ({known}); found '{dialect}'"
        )
    return COUNTERS[dialect]


def _nothing_in(paths: Sequence[Path], dialect: str) -> str:
    expected = f"one of {', '.join(COUNTERS)}" if dialect == "auto" else dialect
    where = ", ".join(map(str, paths))
    return (
        f"{where}: expected a metrics page with counters of {expected}, found none; check that it is the server's own "
        f"page, whole, and that its metrics are on (a page is known by its first {PAGE_LINES} lines)"
    )


def _totals(
    names: CounterNames,
    reading: CounterReading,
    kinds: dict[str, int],
    *,
    pages: int,
    started: str | None = None,
    left_out: Sequence[str] = (),
) -> PageTotals:
    gauges = reading.gauges or LoadGauges(running=0.0)
    has_gauges = reading.gauges is not None
    return PageTotals(
        dialect=names.server,
        model=reading.model,
        **{kind: kinds.get(kind) for kind in KINDS},
        method="counter" if kinds else None,
        first_timestamp=started,
        last_timestamp=None,
        events=pages,
        callers=[],
        exactness=dict.fromkeys(kinds, "exact"),
        running=_plain(gauges.running) if has_gauges else None,
        waiting=_plain(gauges.waiting),
        cache_used=_plain(gauges.cache_used),
        left_out=list(left_out),
    )


def _plain(value: float | None) -> float | None:
    """A whole number without its point."""
    return int(value) if value is not None and value == int(value) else value
