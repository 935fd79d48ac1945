"""The text of a Prometheus page into samples. Pure.

Only the lines of the names asked for are parsed (by prometheus_client): a server shows hundreds, most of histograms. A
last line without its newline is left out: a page that was cut there shows a number that is too small.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from tokenyield_wire.window import COUNT_MAX

SERIES_MAX = 4096
"""Of one scrape: a thousand engines. More are not read, so that memory stays bounded whatever the page holds."""
NAMES_MAX = 100_000
LINE_BYTES_MAX = 4096
PAGE_LINES = 5
"""So many lines that are not blank show whether a text is such a page."""

_NAME = re.compile(rb"^(?:# TYPE )?([a-zA-Z_:][a-zA-Z0-9_:]*)[ {]", re.MULTILINE)
_COMMENT = re.compile(rb"#(?: (?:HELP|TYPE|UNIT) [a-zA-Z_:]| EOF$|$)")
_SAMPLE = re.compile(
    rb"[a-zA-Z_:][a-zA-Z0-9_:]*(?:\{[^\n]*\})?[ \t]+(?:[+-]?[\d.][\d.eE+-]*|NaN|[+-]?Inf)(?:[ \t]+-?\d+)?$"
)
_EXEMPLAR = re.compile(rb" # \{[^{}]*\} [+-]?[\d.][\d.eE+-]*(?: [\d.]+)?$")
"""What OpenMetrics may add to a sample."""
_OF_ANY_PROGRAM = re.compile(rb"^(?!python_|process_|http_|go_|promhttp_|ray_|dynamo_)[a-zA-Z_:]", re.MULTILINE)


class PageSample(NamedTuple):
    """One line of a page."""

    name: str
    labels: dict[str, str]
    value: float

    @property
    def labelled(self) -> str:
        return ",".join(f"{label}={text}" for label, text in sorted(self.labels.items()))


def is_page(body: bytes) -> bool:
    """Whether a text is such a page, by its first lines."""
    lines = [stripped for line in body[: PAGE_LINES * LINE_BYTES_MAX].split(b"\n") if (stripped := line.strip())]
    return bool(lines) and all(
        _COMMENT.match(line) or _SAMPLE.match(_EXEMPLAR.sub(b"", line)) for line in lines[:PAGE_LINES]
    )


def is_of_another_program(body: bytes) -> bool:
    """Whether this is clearly no page of a server that warms up: it is no such page, or holds more than what clients
    of Prometheus show of every process."""
    return bool(body.strip()) and (not is_page(body) or _OF_ANY_PROGRAM.search(body) is not None)


def names_on(body: bytes) -> frozenset[str]:
    """The metrics that have a TYPE line or a sample."""
    names: set[str] = set()
    for match in _NAME.finditer(body):
        names.add(match[1].decode("ascii"))
        if len(names) >= NAMES_MAX:
            break
    return frozenset(names)


def samples(body: bytes, names: Iterable[str]) -> tuple[set[str], list[PageSample]]:
    """Which of `names` the page declares, and their samples. A sample that is no count is left out; of one that is
    there twice the larger is taken, so that the order in which a page is put together does not matter."""
    from prometheus_client.parser import (
        text_string_to_metric_families,  # loads an HTTP server too: only where it is used
    )

    alternatives = b"|".join(re.escape(name.encode()) for name in sorted(set(names)))
    whole = body[: body.rfind(b"\n") + 1]
    declared: set[str] = set()
    read: dict[tuple[str, str], PageSample] = {}
    for match in re.finditer(rb"^(# TYPE )?(" + alternatives + rb")[ {][^\n]*$", whole, re.MULTILINE):
        declared.add(match[2].decode("ascii"))
        if match[1] or len(match[0]) > LINE_BYTES_MAX:
            continue
        if len(read) >= SERIES_MAX:
            break
        try:
            line = _EXEMPLAR.sub(b"", match[0].rstrip()).decode("utf-8")
            for family in text_string_to_metric_families(line + "\n"):
                for name, labels, value, *_ in family.samples:
                    if 0 <= value <= COUNT_MAX:
                        sample = PageSample(name, dict(labels), float(value))
                        key = (name, sample.labelled)
                        if key not in read or read[key].value < value:
                            read[key] = sample
        except (ValueError, ArithmeticError, LookupError):
            continue  # one broken line costs that line; a timestamp may have any number of digits, and is divided
    return declared, list(read.values())
