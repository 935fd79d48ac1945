"""Names as they are sent and as the collector makes them; whose they are, whatever is sent in which order."""

from collections.abc import Iterable, Sequence

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs

from collector.ledger.whole_hours import whole_hour
from collector.samples import NOON_MS
from tokenyield_collector.ledger.foreign_names import FOREIGN, foreign, sent
from tokenyield_collector.ledger.workload_names import KEPT_MS, NOTED_MS, NameKey, NameUse, WorkloadNames
from tokenyield_wire.window import NAME_CHARS_MAX, Shipment, Workload

TEXTS = st.text(min_size=1, max_size=NAME_CHARS_MAX)
NAMES = st.sampled_from(
    ["chat", "a" * NAME_CHARS_MAX, "chat (node liar)", "chat [node liar]", "chat (node liar) (node liar)"]
)
SENDERS = st.sampled_from([("n1", "fleet"), ("n2", "fleet"), ("liar", "liar"), ("other", "o" * 64), ("n3", "")])


class Kept:
    """A ledger's memory of names."""

    def __init__(self) -> None:
        self.uses: dict[tuple[NameKey, str, str], NameUse] = {}

    def read(self, keys: Sequence[NameKey]) -> Iterable[NameUse]:
        return [use for use in self.uses.values() if use.key in keys]

    def write(self, uses: Iterable[NameUse]) -> None:
        self.uses |= {(use.key, use.member_kind, use.member): use for use in uses}


def ships(node: str, names: Sequence[str]) -> Shipment:
    sent_hour = whole_hour(NOON_MS, node)
    (one,) = sent_hour.batches
    workloads = tuple(Workload(key=name, server="vllm", place=node) for name in names)
    shares = tuple(structs.replace(one.shares[0], workload=name) for name in names)
    return structs.replace(sent_hour, batches=(structs.replace(one, workloads=workloads, shares=shares),))


def keys(shipment: Shipment) -> list[str]:
    (one,) = shipment.batches
    assert [share.workload for share in one.shares] == [workload.key for workload in one.workloads]
    return [workload.key for workload in one.workloads]


@given(TEXTS, TEXTS, TEXTS)
@example("chat (node gpu-7)", "gpu-7", "gpu-7")
@example("a" * 252 + ")", "s", "n")
@example(" (node )", "s", "n")
def test_no_name_that_is_sent_is_one_that_the_collector_makes(name: str, scope: str, node: str) -> None:
    as_sent, made = sent(name), foreign(sent(name), scope, node)
    assert FOREIGN.search(as_sent) is None
    assert FOREIGN.search(made) is not None
    assert len(as_sent) == len(name)
    assert len(made) <= NAME_CHARS_MAX
    assert sent(as_sent) == as_sent


@given(st.lists(st.tuples(SENDERS, st.lists(NAMES, min_size=1, max_size=4, unique=True)), max_size=12), st.data())
def test_no_scope_gets_into_another_s_workload(
    sends: list[tuple[tuple[str, str], list[str]]], data: st.DataObject
) -> None:
    """Whatever is sent together, in whatever order, with a restart or a commit that fails in between."""
    kept = Kept()
    names = WorkloadNames(kept.read)
    scopes_of: dict[str, set[str]] = {}
    for i, ((node, scope), of_node) in enumerate(sends):
        shipment = ships(node, of_node)
        ((named,), uses) = names.named([shipment], [scope], NOON_MS + i)
        if data.draw(st.booleans()):
            names = WorkloadNames(kept.read)  # what was not written is as if it had not been
            continue
        kept.write(uses)
        assert len(set(keys(named))) == len(of_node), "no two become one"
        if scope:
            for name in keys(named):
                scopes_of.setdefault(name, set()).add(scope)
        else:
            assert named is shipment
    assert all(len(scopes) == 1 for scopes in scopes_of.values())


def test_what_is_known_is_neither_read_nor_written_again_until_it_is_time() -> None:
    kept = Kept()
    reads: list[Sequence[NameKey]] = []

    def read(keys: Sequence[NameKey]) -> Iterable[NameUse]:
        reads.append(keys)
        return kept.read(keys)

    names = WorkloadNames(read)
    _, uses = names.named([ships("n1", ["chat"])], ["fleet"], NOON_MS)
    assert [(use.member_kind, use.member) for use in uses] == [("scope", "fleet"), ("node", "n1")]
    kept.write(uses)
    assert names.named([ships("n1", ["chat"])], ["fleet"], NOON_MS + NOTED_MS - 1)[1] == []
    _, later = names.named([ships("n1", ["chat"])], ["fleet"], NOON_MS + NOTED_MS)
    assert [(use.since_ms, use.seen_ms) for use in later] == [(NOON_MS, NOON_MS + NOTED_MS)] * 2
    assert reads == [[("c", "chat")]]


def test_a_clock_that_is_set_back_gives_nobody_a_name() -> None:
    names = WorkloadNames(lambda _: ())
    names.named([ships("n1", ["chat"])], ["fleet"], NOON_MS)
    ((named,), _) = names.named([ships("liar", ["chat"])], ["liar"], NOON_MS - KEPT_MS)
    assert keys(named) == ["chat (node liar)"]
    ((named,), _) = names.named([ships("n2", ["chat"])], ["fleet"], NOON_MS - KEPT_MS)
    assert keys(named) == ["chat"]


def test_two_collectors_that_noted_one_scope_s_beginning_agree() -> None:
    """Each wrote it before it saw the other's."""
    kept = Kept()
    kept.write(NameUse("c", "chat", *member, "fleet", NOON_MS + i, NOON_MS + i) for i, member in
               enumerate([("node", "n1"), ("node", "n2"), ("scope", "fleet")]))  # fmt: skip
    names = WorkloadNames(kept.read, again_after_ms=60_000)
    named, _ = names.named([ships(node, ["chat"]) for node in ("n2", "n1", "n3")], ["fleet"] * 3, NOON_MS + 9)
    assert [keys(one) for one in named] == [["chat"]] * 3
