"""The text of a Prometheus page into samples. Pure.

Only the lines of the names asked for are parsed: a server shows hundreds, most of histograms. What is parsed is bounded
in bytes too: a page of the hardest lines costs a fifth of a second, and prometheus_client's parser took 23 s for it. A
last line without its newline is left out: a page that was cut there shows a number that is too small.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from tokenyield_wire.window import COUNT_MAX

SERIES_MAX = 4096
"""Of one scrape: a thousand engines. More are not read, so that memory stays bounded whatever the page holds."""
LABELS_MAX = 64
"""Of one line. A line with more is left out: a server's have ten, Ray's a few more."""
NAMES_MAX = 100_000
LINE_BYTES_MAX = 4096
SAMPLE_BYTES_MAX = 4 * 1024 * 1024
"""Of all lines that are parsed of one page."""
PAGE_LINES = 5
"""So many lines that are not blank show whether a text is such a page."""

_NAME = re.compile(rb"^(?:# TYPE )?([a-zA-Z_:][a-zA-Z0-9_:]*)[ {]", re.MULTILINE)
_COMMENT = re.compile(rb"#(?: (?:HELP|TYPE|UNIT) [a-zA-Z_:]| EOF$|$)")
_SAMPLE = re.compile(
    rb"[a-zA-Z_:][a-zA-Z0-9_:]*(?:\{[^\n]*\})?[ \t]+(?:[+-]?[\d.][\d.eE+-]*|NaN|[+-]?Inf)(?:[ \t]+-?\d+)?$"
)
_EXEMPLAR = re.compile(rb" # \{[^{}]*\} [+-]?[\d.][\d.eE+-]*(?: [\d.]+)?$")
"""What OpenMetrics may add to a sample."""
_LINE = re.compile(
    rb"([a-zA-Z_:][a-zA-Z0-9_:]*)"
    rb'(?:\{((?:[ \t]*[a-zA-Z_][a-zA-Z0-9_]*[ \t]*=[ \t]*"[^"\\]*(?:\\.[^"\\]*)*"[ \t]*(?:,|(?=\})))*)[ \t]*\})?'
    rb"[ \t]*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:[ \t]+-?\d+)?[ \t]*\r?$"
)
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"([^"\\]*(?:\\.[^"\\]*)*)"')
_ESCAPE = re.compile(r'\\([\\"n])')
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
    alternatives = b"|".join(re.escape(name.encode()) for name in sorted(set(names)))
    declared: set[str] = set()
    read: dict[tuple[str, str], PageSample] = {}
    parsed_bytes = 0
    lines = re.compile(rb"^(# TYPE )?(" + alternatives + rb")[ {][^\n]*$", re.MULTILINE)
    for match in lines.finditer(body, 0, body.rfind(b"\n") + 1):
        declared.add(match[2].decode("ascii"))
        if match[1] or len(match[0]) > LINE_BYTES_MAX:
            continue
        parsed_bytes += len(match[0])
        if len(read) >= SERIES_MAX or parsed_bytes > SAMPLE_BYTES_MAX:
            break
        sample = sample_in(_EXEMPLAR.sub(b"", match[0].rstrip()))
        if sample is not None and 0 <= sample.value <= COUNT_MAX:
            key = (sample.name, sample.labelled)
            if key not in read or read[key].value < sample.value:
                read[key] = sample
    return declared, list(read.values())


def sample_in(line: bytes) -> PageSample | None:
    """One line of a page; None where it is broken, or its value is no number."""
    match = _LINE.match(line)
    if match is None:
        return None
    name, inside, number = match.groups(b"")
    try:
        text = inside.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if text.count('="') > LABELS_MAX:
        return None
    labels = dict(_LABEL.findall(text))
    if "\\" in text:
        labels = {label: _unescaped(value) for label, value in labels.items()}
    return PageSample(name.decode("ascii"), labels, float(number))


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda escape: "\n" if escape[1] == "n" else escape[1], text)
