"""Rows become slices: whatever their order, sums are exact, and people are kept only as the setting allows."""

import os
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenyield_collector.prices.money import rounded
from tokenyield_collector.slices import slice_changes
from tokenyield_collector.spend import builder
from tokenyield_collector.spend.builder import SliceBuilder
from tokenyield_collector.spend.format import SpendRow
from tokenyield_collector.spend.people import DirectoryEntry, People, people_filter
from tokenyield_collector.spend.slices import SpendAmounts, SpendFields, SpendSlice, spend_findings

DAY_MS = 20_000 * 86_400_000
COUNTS = st.none() | st.integers(0, 9)
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b:1"]),
        st.sampled_from([DAY_MS, DAY_MS + 86_400_000]),
        st.tuples(st.sampled_from("xy"), st.sampled_from(["", "ada"])),
        st.tuples(COUNTS, COUNTS),
        st.none() | st.integers(-(10**13), 10**13),
    ).map(
        lambda row: SpendRow(
            row[0],
            row[1],
            SpendFields(row[2][0], person=row[2][1]),
            SpendAmounts(fresh=row[3][0], output=row[3][1]),
            row[4],
        )
    ),
    max_size=30,
)


def built(rows: list[SpendRow]) -> list[SpendSlice]:
    made = SliceBuilder("s", lambda grain: "billed")
    for row in rows:
        made.add(row)
    return made.slices()


@settings(max_examples=int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "50")), deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_nothing_is_lost_whatever_the_order(rows: list[SpendRow], order: Random) -> None:
    slices, shuffled = built(rows), list(rows)
    order.shuffle(shuffled)
    assert built(shuffled) == slices
    assert list(spend_findings(slices)) == []
    for one in slices:
        own = [row for row in rows if (row.grain, row.day_ms) == (one.key.grain, one.key.day_ms)]
        picos = [row.cost_pico for row in own if row.cost_pico is not None]
        assert one.cost_micro().get("USD", 0) == rounded(sum(picos), 10**6)
        assert one.tokens == sum(row.amounts.tokens or 0 for row in own)
    assert slice_changes(slices, slices).to_write == []
    emptied = [one._replace(lines=()) for one in slices]
    assert slice_changes(slices, emptied).replaced == list(zip(slices, emptied, strict=True))
    assert slice_changes([], emptied).unchanged == emptied


def test_a_slice_that_is_too_large_loses_its_finest_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "SLICE_LINES_MAX", 10)
    made = SliceBuilder("s", lambda grain: "billed")
    for i in range(40):
        fields = SpendFields("x", person=f"p{i % 5}", session=f"s{i}")
        made.add(SpendRow("a", DAY_MS, fields, SpendAmounts(fresh=1), 10**6))
    (one,) = made.slices()
    assert made.folded == {one.key: ["session"]}
    assert {line.fields.person for line in one.lines} == {f"p{i}" for i in range(5)}
    assert (one.tokens, one.cost_micro()) == (40, {"USD": 40})


ADA = SpendFields("x", person="Ada@Example.com", session="s1")
DIRECTORY = {"ada@example.com": DirectoryEntry("Ada", "search")}


@pytest.mark.parametrize(
    ("people", "expected"),
    [
        ("off", SpendFields("x")),
        ("team", SpendFields("x", team="search", session="s1")),
        ("name", SpendFields("x", team="search", person="Ada", session="s1")),
    ],
)
def test_people_are_kept_as_the_setting_says(people: People, expected: SpendFields) -> None:
    assert people_filter(people, DIRECTORY)(ADA, DAY_MS) == expected


def test_a_pseudonym_is_keyed_and_changes_every_quarter() -> None:
    def named(key: bytes, fields: SpendFields = ADA, day_ms: int = DAY_MS) -> str:
        return people_filter("pseudonym", DIRECTORY, key)(fields, day_ms).person

    assert named(b"k") == named(b"k", ADA._replace(person="ada@example.com"))
    assert len({named(b"k"), named(b"l"), named(b"k", ADA._replace(person="bob")), named(b"k", day_ms=DAY_MS * 2)}) == 4
    assert "ada" not in named(b"k")


def test_without_people_no_session_is_kept_of_a_row_that_names_no_person() -> None:
    kept = people_filter("off", DIRECTORY)(SpendFields("x", model="m", session="s1"), DAY_MS)
    assert kept == SpendFields("x", model="m")
    assert people_filter("team", DIRECTORY)(SpendFields("x", session="s1"), DAY_MS).session == "s1"
