"""Outcomes as they come in: what is understood, and what is refused with its place."""

import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenyield_collector.ingest.outcome_files import FILE_BYTES_MAX, read_outcome_file
from tokenyield_collector.ingest.outcomes import (
    AllowedDays,
    UnusableOutcome,
    body_of,
    outcome_row,
    requests_of,
    size_faults,
)
from tokenyield_collector.ledger.outcomes import DAY_ROWS_MAX, SLICE_ROWS_MAX, SliceKey, slices_of
from tokenyield_wire.units import MS_PER_DAY

DAYS = AllowedDays(date(2026, 1, 1), date(2026, 12, 31))
DAY = {"day": "2026-10-05", "name": "tickets", "count": 3}
OCTOBER_5_MS = (date(2026, 10, 5).toordinal() - date(1970, 1, 1).toordinal()) * MS_PER_DAY


@pytest.mark.parametrize(
    "fields",
    [
        {**DAY, "labels": {"team": "search"}},
        {**DAY, "team": "search"},
        {**DAY, "count": "3", "team": "search", "product": "", "source": ""},
    ],
)
def test_labels_stand_in_an_object_or_beside(fields: dict[str, Any]) -> None:
    key = SliceKey("jira", OCTOBER_5_MS, "tickets")
    assert outcome_row(fields, DAYS, "jira") == (key, '{"team":"search"}', 3)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"day": None}, "day: expected 2026-10-05 or the like, found nothing"),
        ({"day": "05.10.2026"}, "day: expected a day such as 2026-10-05, found '05.10.2026'"),
        ({"day": "2026-W41-1"}, "day: expected a day such as"),
        ({"day": 5}, "day: expected a day such as"),
        ({"day": "2025-10-05"}, "day: expected a day from 2026-01-01 to 2026-12-31: the ledger keeps no other"),
        ({"name": "Tickets closed"}, "name: expected a name in small letters"),
        ({"name": "=cmd|calc"}, "name: expected a name in small letters"),
        ({"count": -1}, "count: expected a whole number from 0 to"),
        ({"count": 1.5}, "count: expected a whole number"),
        ({"count": True}, "count: expected a whole number"),
        ({"count": "1,000"}, "count: expected a whole number"),
        ({"count": 2**63}, "count: expected a whole number"),
        ({"count": "٣"}, "count: expected a whole number"),
        ({"source": "a b"}, "source: expected letters, digits"),
        ({"labels": [1]}, "labels: expected an object of names and texts"),
        ({"labels": {"team": 5}}, "labels.team: expected a text, found '5'"),
        ({"labels": {"te am": "x"}}, "labels: expected names of letters"),
        ({"labels": {f"l{i}": "x" for i in range(17)}}, "labels: expected at most 16 labels, found 17"),
    ],
)
def test_what_is_refused(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(UnusableOutcome) as refused:
        outcome_row({**DAY, **change}, DAYS)
    assert fault in str(refused.value)


def test_names_that_act_come_in_without_what_acts() -> None:
    _, labels, _ = outcome_row({**DAY, "team": "a\x1b[31m" + "x" * 500}, DAYS)
    team = json.loads(labels)["team"]
    assert len(team) == 200
    assert "\x1b" not in team


CSV = b"\xef\xbb\xbfday,name,count,team\r\n2026-10-05,tickets,3,search\r\n\r\n2026-10-05,tickets,x,ads\r\n2026-10-06,tickets,4\r\n"


def test_csv_with_its_line_numbers() -> None:
    read = read_outcome_file(CSV, DAYS)
    assert [row[1:] for row in read.rows] == [('{"team":"search"}', 3)]
    assert read.refused == 2
    assert read.refusals[0] == (4, "count: expected a whole number from 0 to 281474976710656, found 'x'")
    assert read.refusals[1] == (5, "expected 4 cells as in the header, found 3")


@pytest.mark.parametrize(
    ("body", "line", "why"),
    [
        (b"day,count\n", 1, "expected a header with day, name and count"),
        (b"day,name,count,team,team\n", 1, "each column once"),
        (b"day,name,count\n2026-10-05,\xff,3\n", 2, "expected UTF-8"),
        (b'day,name,count\n2026-10-05,"tickets,3', 2, "broken"),
        (b'{"day": 1}\n[1]\n', 2, "expected a JSON object, found list"),
        (b'{"day"\n', 1, "found no JSON"),
        (b'{"a": "' + b"x" * 70_000 + b'"}', 1, "at most 65536 characters"),
        (b"\x00" * 100, 1, ""),
    ],
)
def test_files_that_cannot_be_read(body: bytes, line: int, why: str) -> None:
    read = read_outcome_file(body, DAYS)
    assert read.rows == []
    assert any(at == line and why in text for at, text in read.refusals), read.refusals


def test_json_lines_are_the_same_facts_as_csv() -> None:
    lines = b'{"day":"2026-10-05","name":"tickets","count":3,"labels":{"team":"search"}}\n\n'
    assert read_outcome_file(lines, DAYS).rows == read_outcome_file(CSV, DAYS).rows


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_file_ends_the_import(body: bytes) -> None:
    assert len(body) < FILE_BYTES_MAX
    for start in (b"", b"day,name,count\n", b"{"):
        read_outcome_file(start + body, DAYS)


def test_requests_hold_whole_slices() -> None:
    rows = [
        (SliceKey("s", day * MS_PER_DAY, "tickets"), json.dumps({"team": str(i)}), i)
        for day in range(30)
        for i in range(900)
    ]
    slices = slices_of(rows)
    parts = list(requests_of(slices, 4 * 2**20))
    assert [one for part in parts for one in part] == slices
    assert len(parts) > 2
    for part in parts:
        assert len(body_of(part)) < 4 * 2**20
        assert sum(len(one.counts) for one in part) <= SLICE_ROWS_MAX


def test_a_slice_and_a_day_have_a_bound() -> None:
    def rows(name: str, count: int) -> list[tuple[SliceKey, str, int]]:
        return [(SliceKey("s", OCTOBER_5_MS, name), json.dumps({"team": str(i)}), 1) for i in range(count)]

    full = slices_of([*rows("a", SLICE_ROWS_MAX), *rows("b", DAY_ROWS_MAX - SLICE_ROWS_MAX)])
    assert list(size_faults([], full)) == []
    assert list(size_faults(full, slices_of(rows("a", 5)))) == [], "what is replaced makes room"
    (fault,) = size_faults(full, slices_of(rows("c", 1)))
    assert (fault.field, fault.found) == ("2026-10-05", "20001")
    assert [fault.field for fault in size_faults([], slices_of(rows("a", SLICE_ROWS_MAX + 1)))] == [
        "a of 2026-10-05 from s"
    ]
