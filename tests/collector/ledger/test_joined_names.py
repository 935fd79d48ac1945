"""Whose a workload's name is after one ledger's knowledge went into another that had some of its own."""

from hypothesis import given
from hypothesis import strategies as st

from collector.ledger.test_names_of_scopes import Kept, keys, ships
from collector.samples import NOON_MS
from tokenyield_collector.ledger.joined_names import joined
from tokenyield_collector.ledger.workload_names import NODE, SCOPE, NameUse, WorkloadNames


def use(member: str, founder: str, since: int, seen: int, kind: str = NODE) -> NameUse:
    return NameUse("c", "chat", kind, member, founder, NOON_MS + since, NOON_MS + seen)


def merged(own: list[NameUse], others: list[NameUse]) -> Kept:
    """As the ledger that takes the others reads it afterwards."""
    kept = Kept()
    kept.write(sorted([*own, *joined(own, others)], key=lambda one: one.seen_ms))
    return kept


def test_nodes_that_report_to_the_new_ledger_already_go_on_with_their_workload() -> None:
    """They had a shared token, and have tokens of their own since; n3 has not come yet, n9 is new. And the liar came
    before n1 to the new ledger, and after it to the old one."""
    old = [
        use("*", "*", 0, 5, SCOPE),
        *(use(node, "*", 0, 5) for node in ("n1", "n2", "n3")),
        use("liar", "liar", 4, 5),
    ]
    new = [
        use("liar", "liar", 7, 9, SCOPE),
        use("liar", "liar", 7, 9),
        *(
            use(member, "gpu-*", 8, 9, kind)
            for kind, member in ((SCOPE, "gpu-*"), (NODE, "n1"), (NODE, "n2"), (NODE, "n9"))
        ),
    ]
    kept = merged(new, old)
    names = WorkloadNames(kept.read, again_after_ms=60_000)
    senders = [("liar", "liar"), ("n1", "gpu-*"), ("n2", "gpu-*"), ("n3", "gpu-*"), ("n9", "gpu-*"), ("n7", "other")]
    named, _ = names.named(
        [ships(node, ["chat"]) for node, _ in senders], [scope for _, scope in senders], NOON_MS + 10
    )
    assert [keys(one) for one in named] == [["chat (node liar)"], *[["chat"]] * 4, ["chat (scope other)"]]


MEMBERS = st.tuples(st.sampled_from([SCOPE, NODE]), st.sampled_from("abc"))
USES = st.dictionaries(
    MEMBERS, st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.integers(5, 9)), max_size=6
).map(lambda uses: [use(member, founder, since, seen, kind) for (kind, member), (founder, since, seen) in uses.items()])


@given(USES, USES)
def test_no_one_that_shared_a_workload_is_parted_and_nothing_is_written_twice(
    own: list[NameUse], others: list[NameUse]
) -> None:
    after = list(merged(own, others).uses.values())
    group = {(one.member_kind, one.member): one.group for one in after}
    for uses in (own, others):
        for one in uses:
            for other in uses:
                if one.group == other.group:
                    assert group[one.member_kind, one.member] == group[other.member_kind, other.member]
    if after:
        assert min(group.values()) == min(one.group for one in [*own, *others])
    seen = {(one.member_kind, one.member): one.seen_ms for one in [*own, *others]}
    assert group.keys() == seen.keys()
    assert joined(after, others) == []
