"""Outcomes as they come in, over HTTP or from files: each count is checked, field by field. Pure.

In: an object of `day`, `name`, `count`, perhaps `source`, and labels (under `labels`, or beside these). Out: a row of a
slice (ledger/outcomes.py), or what is wrong with it.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Annotated, Any, NamedTuple

import msgspec

from tokenyield_collector.http.schemas import OutcomesReceiptDocument
from tokenyield_collector.ledger.outcomes import DAY_ROWS_MAX, SLICE_ROWS_MAX, OutcomeSlice, SliceKey
from tokenyield_collector.ledger.rows import encoded_labels
from tokenyield_collector.prices.period import day_of, day_start_ms
from tokenyield_collector.slices import SliceChanges
from tokenyield_wire.bounded import fitting_name
from tokenyield_wire.window import COUNT_MAX, LABELS_MAX, Fault, Labels

ROWS_MAX = 10_000
"""Counts in one request."""
LABEL_CHARS_MAX = 200
"""Of a label's value; a longer one ends in a digest, as a value of the rules does."""
CHANGES_SHOWN = 50
ROW_BYTES = 350
"""Of a count in a request beside its labels, at most."""
DEFAULT_SOURCE = "import"
OWN_FIELDS = ("day", "name", "count", "source", "labels")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,99}")
_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_./-]{0,62}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DIGITS = re.compile(r"[0-9]{1,18}")

Row = tuple[SliceKey, str, int]


class OutcomeEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A count of one day (UTC). `labels` tie it to rows of reports: dimensions, workload, model, cluster, or what rules
    match (`namespace`, `agent`)."""

    day: date
    name: Annotated[str, msgspec.Meta(pattern=f"^{_NAME.pattern}$")]
    count: Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]
    source: Annotated[str, msgspec.Meta(pattern=f"^{_SOURCE.pattern}$")] = DEFAULT_SOURCE
    labels: Labels = {}


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """What `POST /v1/outcomes` takes. All counts of a slice (source, day, name) come together: they replace those that
    are there."""

    outcomes: Annotated[tuple[OutcomeEntry, ...], msgspec.Meta(max_length=ROWS_MAX)]


class AllowedDays(NamedTuple):
    """First and last day that a count may be of: what the ledger keeps, up to tomorrow (somebody's day is ahead)."""

    first: date
    last: date


class UnusableOutcome(ValueError):
    """A count that cannot be used; all its faults."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{field}: expected {expected}, found {found}" for field, found, expected in faults))


def outcome_row(fields: Mapping[str, Any], days: AllowedDays, source: str = DEFAULT_SOURCE) -> Row:
    """`source`: of a count that names none. Raises `UnusableOutcome`."""
    given = {name: value for name, value in fields.items() if value not in (None, "")}
    labels = {**{name: value for name, value in given.items() if name not in OWN_FIELDS}}
    within = given.get("labels", {})
    faults = [*_missing(given)]
    if isinstance(within, dict):
        labels |= {name: value for name, value in within.items() if value not in (None, "")}
    else:
        faults.append(Fault("labels", _shown(within), "an object of names and texts"))
    named, day, count = given.get("source", source), given.get("day"), given.get("count")
    faults += [
        *_unfit("name", given.get("name"), _NAME, "a name in small letters, digits and _, such as tickets_closed"),
        *_unfit("source", named, _SOURCE, "letters, digits and . _ : / @ -, at most 100"),
        *_day_faults(day, days),
        *_count_faults(count),
        *_label_faults(labels),
    ]
    if faults:
        raise UnusableOutcome(faults)
    key = SliceKey(str(named), day_start_ms(date.fromisoformat(str(day))), str(given["name"]))
    texts = {name: fitting_name(str(value), LABEL_CHARS_MAX) for name, value in labels.items()}
    return key, encoded_labels(texts), int(str(count))


def allowed_days(hours_keep_days: int, now_ms: int) -> AllowedDays:
    """Those that the ledger keeps."""
    today = day_of(now_ms)
    return AllowedDays(today - timedelta(days=hours_keep_days), today + timedelta(days=1))


def size_faults(stored: Sequence[OutcomeSlice], given: Sequence[OutcomeSlice]) -> Iterator[Fault]:
    """What would make a slice, or a day of all sources and names, larger than it may be. `stored` has their days."""
    for one in given:
        if len(one.counts) > SLICE_ROWS_MAX:
            yield Fault(one.key.text, f"{len(one.counts)}", f"at most {SLICE_ROWS_MAX} sets of labels")
    of_day: Counter[int] = Counter()
    for one in ({one.key: one for one in stored} | {one.key: one for one in given}).values():
        of_day[one.key.day_ms] += len(one.counts)
    for day_ms in sorted({one.key.day_ms for one in given}):
        if of_day[day_ms] > DAY_ROWS_MAX:
            expected = f"at most {DAY_ROWS_MAX} counts of a day, over all sources and names; use fewer labels"
            yield Fault(day_of(day_ms).isoformat(), f"{of_day[day_ms]}", expected)


def receipt_of(rows: int, changes: SliceChanges[OutcomeSlice]) -> OutcomesReceiptDocument:
    """For JSON, and for the command's summary."""
    totals: dict[str, int] = {}
    for one in (*changes.to_write, *changes.unchanged):
        totals[one.key.name] = totals.get(one.key.name, 0) + one.total
    return {
        "understood": rows,
        "added": len(changes.added),
        "replaced": len(changes.replaced),
        "unchanged": len(changes.unchanged),
        "counts": totals,
        "changes": [
            {"slice": after.key.text, "before": before.total, "after": after.total}
            for before, after in changes.replaced[:CHANGES_SHOWN]
        ],
    }


def body_of(slices: Sequence[OutcomeSlice]) -> bytes:
    """The body of a request that brings these slices."""
    entries = [
        {
            "source": key.source,
            "day": day_of(key.day_ms).isoformat(),
            "name": key.name,
            "count": count,
            "labels": msgspec.json.decode(labels),
        }
        for key, counts in slices
        for labels, count in counts
    ]
    return msgspec.json.encode({"outcomes": entries})


def requests_of(slices: Sequence[OutcomeSlice], bytes_max: int) -> Iterator[list[OutcomeSlice]]:
    """Whole slices in parts that a collector takes at once."""
    part: list[OutcomeSlice] = []
    rows = size = 0
    for one in slices:
        own = sum(len(labels) + ROW_BYTES for labels, _ in one.counts)
        if part and (rows + len(one.counts) > ROWS_MAX or size + own > bytes_max):
            yield part
            part, rows, size = [], 0, 0
        part.append(one)
        rows, size = rows + len(one.counts), size + own
    if part:
        yield part


def _missing(given: Mapping[str, Any]) -> Iterator[Fault]:
    for name in ("day", "name", "count"):
        if name not in given:
            yield Fault(name, "nothing", {"day": "2026-10-05 or the like", "name": "a name", "count": "a number"}[name])


def _unfit(field: str, value: Any, pattern: re.Pattern[str], expected: str) -> Iterator[Fault]:
    if value is not None and not (isinstance(value, str) and pattern.fullmatch(value)):
        yield Fault(field, _shown(value), expected)


def _day_faults(value: Any, days: AllowedDays) -> Iterator[Fault]:
    if value is None:
        return
    try:
        day = date.fromisoformat(value if isinstance(value, str) and _DAY.fullmatch(value) else "")
    except ValueError:
        yield Fault("day", _shown(value), "a day such as 2026-10-05")
        return
    if not days.first <= day <= days.last:
        yield Fault("day", _shown(value), f"a day from {days.first} to {days.last}: the ledger keeps no other")


def _count_faults(value: Any) -> Iterator[Fault]:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    is_text = isinstance(value, str) and _DIGITS.fullmatch(value)
    if value is not None and not ((is_whole or is_text) and 0 <= int(value) <= COUNT_MAX):
        yield Fault("count", _shown(value), f"a whole number from 0 to {COUNT_MAX}")


def _label_faults(labels: Mapping[str, Any]) -> Iterator[Fault]:
    if len(labels) > LABELS_MAX:
        yield Fault("labels", f"{len(labels)}", f"at most {LABELS_MAX} labels")
    for name, value in labels.items():
        if not isinstance(name, str) or not _LABEL.fullmatch(name):
            yield Fault("labels", _shown(name), "names of letters, digits and _ . / -")
        elif not isinstance(value, str):
            yield Fault(f"labels.{name}", _shown(value), "a text")


def _shown(value: Any) -> str:
    return f"'{str(value)[:40]}'"
