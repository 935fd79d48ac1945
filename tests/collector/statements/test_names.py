"""A name is never written as a marker is, and no two names alike."""

from hypothesis import given
from hypothesis import strategies as st

from hostile import NAMES
from tokenyield_collector.statements.lines import Carrier, LineKey, LineKind
from tokenyield_collector.statements.names import (
    OTHER,
    UNATTRIBUTED,
    UNPRICED,
    column_values,
    names_of,
    own_name,
    pool_name,
)

MARKERS = {
    UNATTRIBUTED,
    UNPRICED,
    OTHER,
    "(untied)",
    "(idle)",
    "(unallocated)",
    "(dark)",
    "unknown model",
    "sum",
    "-",
    "",
}
COLUMNS = ("team", "product", "pool", "node", "cluster", "workload", "model")
KINDS: tuple[LineKind, ...] = ("work", "untied", "idle", "unallocated", "dark", "owner_unallocated", "owner_dark")
some = st.one_of(
    st.text(min_size=1),
    st.sampled_from(NAMES),
    st.builds(lambda quotes, name: quotes + name + quotes, st.text('" ', max_size=3), st.sampled_from(sorted(MARKERS))),
).filter(bool)


@given(some, some)
def test_a_name_is_no_marker_and_keeps_its_identity(one: str, other: str) -> None:
    assert own_name(one) not in MARKERS
    assert (own_name(one) == own_name(other)) == (one == other)


def test_what_only_looks_like_a_marker_is_in_quotes_and_what_does_not_is_as_it_is() -> None:
    for name in ("(dark)", "(DARK)", " (dark)", "(dark)\u200b", "\uff08dark\uff09", "Unattributed", '"(dark)"', "(x"):
        assert own_name(name) == f'"{name}"'
    for name in ("search", "dark", "ns/pod-0", "a (dark) b", "it's", '"x"', "\u6771\u4eac"):
        assert own_name(name) == name
    assert own_name("") == "", "nobody chose it"


@given(st.lists(some, min_size=6, max_size=6), st.sampled_from(KINDS))
def test_in_no_column_a_line_of_names_is_taken_for_one_without(names: list[str], kind: LineKind) -> None:
    team, product, model, workload, cluster, pool = names
    line = LineKey(0, "fleet", pool, (cluster, team), Carrier("work", (team, product), model, workload, cluster))
    lost = LineKey(0, "fleet", None, ("", ""), Carrier(kind, (None, None)))
    for one, other in zip(*(column_values(key, COLUMNS, ("team", "product")) for key in (line, lost)), strict=True):
        assert one != other
    assert pool_name(pool) != pool_name(None)
    matched = names_of(line.carrier, ("team", "product"))
    assert not set(matched.values()) & MARKERS
