"""Whose workload a name is: what every engine keeps of it, from one start to the next."""

from pathlib import Path

import duckdb
from msgspec import structs

from collector.ledger.engines import Open
from collector.ledger.whole_hours import whole_hour
from collector.samples import HOUR_MS, NOON_MS
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger.contradictions import ForeignDay
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.facts import Facts
from tokenyield_collector.ledger.name_conflicts import NameConflict
from tokenyield_collector.ledger.workload_names import KEPT_MS
from tokenyield_wire.units import MS_PER_DAY
from tokenyield_wire.window import Shipment


def chat(node: str, hour: int = 0, name: str = "chat") -> Shipment:
    sent = whole_hour(NOON_MS + hour * HOUR_MS, node, gpu=f"GPU-{node}", completion=100)
    (one,) = sent.batches
    workloads = tuple(structs.replace(workload, key=name) for workload in one.workloads)
    shares = tuple(structs.replace(share, workload=name) for share in one.shares)
    return structs.replace(sent, batches=(structs.replace(one, workloads=workloads, shares=shares),))


def names(ledger: Ledger, hour: int | None = None) -> dict[str, str]:
    """Node -> the workload that it made tokens for, in the newest hour that has it, or in that hour."""
    ledger.fold()
    facts: Facts = ledger.facts_of_hours(None if hour is None else [NOON_MS + hour * HOUR_MS])
    held = {share.node: share.workload for share in facts.shares}
    assert held == {count.node: count.workload for count in facts.tokens}
    return held


def test_nodes_of_one_scope_share_a_workload_and_another_s_is_another(open_ledger: Open) -> None:
    ledger = open_ledger()
    assert ledger.append([chat("n1"), chat("liar")], NOON_MS, ["fleet", "liar"]) == [(1, 0)] * 2
    ledger.append([chat("n2")], NOON_MS + 1, ["fleet"])
    ledger.append([chat("t1"), chat("t2")], NOON_MS + 2, ["team-*", "team-*"])
    expected = {
        "n1": "chat", "n2": "chat", "liar": "chat (node liar)", "t1": "chat (scope team-*)", "t2": "chat (scope team-*)",
    }  # fmt: skip
    assert names(ledger) == expected
    ledger.roll()
    day = (NOON_MS - NOON_MS % MS_PER_DAY, NOON_MS + HOUR_MS)
    assert ledger.usage().foreign_days(*day) == [
        ForeignDay(day[0], "c", "chat (node liar)", HOUR_MS, 2_000_000, 100, 0),
        ForeignDay(day[0], "c", "chat (scope team-*)", 2 * HOUR_MS, 4_000_000, 200, 0),
    ]
    first = ("scope fleet", "node n1", "node n2")
    others = ("scope liar", "node liar", "scope team-*", "node t1", "node t2")
    conflict = NameConflict("c", "chat", first, others, NOON_MS + 1)
    assert ledger.name_conflicts() == [conflict]
    ledger.close()
    ledger = open_ledger()
    ledger.append([chat("liar", 1), chat("n3", 1)], NOON_MS + HOUR_MS, ["liar", "fleet"])
    assert names(ledger) == expected | {"n3": "chat"}
    ledger.close()


def test_the_same_batch_again_keeps_its_name(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.append([chat("n1")], NOON_MS, ["fleet"])
    assert ledger.append([chat("n1"), chat("n1", name="other")], NOON_MS, ["liar", "liar"]) == [(0, 1)] * 2
    assert names(ledger) == {"n1": "chat"}
    ledger.append([chat("n2")], NOON_MS, ["fleet"])
    assert names(ledger) == {"n1": "chat", "n2": "chat"}
    ledger.close()


def test_a_name_moves_once_its_first_scope_has_stopped(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.append([chat("n1"), chat("n2")], NOON_MS, ["old", "new"])
    ledger.append([chat("n2", 1)], NOON_MS + KEPT_MS - 1, ["new"])
    ledger.append([chat("n2", 2)], NOON_MS + KEPT_MS, ["new"])
    ledger.append([chat("n1", 2)], NOON_MS + KEPT_MS + 1, ["old"])
    ledger.fold()
    before = ledger.facts_of_hours([NOON_MS + HOUR_MS]).shares
    after = ledger.facts_of_hours([NOON_MS + 2 * HOUR_MS]).shares
    assert [share.workload for share in before] == ["chat (scope new)"]
    assert {share.node: share.workload for share in after} == {"n1": "chat (scope old)", "n2": "chat"}
    ledger.close()


def test_nodes_that_get_other_tokens_go_on_with_their_workloads(open_ledger: Open) -> None:
    """A shared token is replaced by tokens of nodes, one after the other; a new node of these then shares it too."""
    ledger = open_ledger()
    ledger.append([chat("n1"), chat("n2")], NOON_MS, ["*", "*"])
    ledger.append([chat("n1", 1), chat("n2", 1)], NOON_MS + 1, ["gpu-*", "*"])
    ledger.append([chat("n3", 1)], NOON_MS + 2, ["gpu-*"])
    assert set(names(ledger).values()) == {"chat"}
    assert ledger.name_conflicts() == []
    ledger.close()


def test_what_no_token_came_with_keeps_its_names(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.append([chat("n1"), chat("n2", name="chat (node n1)")], NOON_MS)
    ledger.append([chat("n3")], NOON_MS, [""])
    assert names(ledger) == {"n1": "chat", "n2": "chat (node n1)", "n3": "chat"}
    assert ledger.name_conflicts() == []
    ledger.close()


def test_names_go_with_the_hours(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.append([chat("n1"), chat("n2")], NOON_MS, ["a", "b"])
    ledger.fold()
    later_ms = NOON_MS + 400 * MS_PER_DAY
    ledger.retire(windows_before_ms=later_ms, hours_before_ms=later_ms, counter_bases={})
    assert ledger.name_conflicts() == []
    ledger.close()


def test_a_name_is_kept_however_short_hours_are_kept(open_ledger: Open) -> None:
    """Its scope was silent for two days, of which hours are kept for one."""
    ledger = open_ledger()
    ledger.append([chat("n1")], NOON_MS, ["fleet"])
    ledger.fold()
    later_ms = NOON_MS + 2 * MS_PER_DAY
    ledger.retire(windows_before_ms=later_ms - MS_PER_DAY, hours_before_ms=later_ms - MS_PER_DAY, counter_bases={})
    ledger.close()
    ledger = open_ledger()
    ledger.append([chat("liar", 48), chat("n1", 48)], later_ms, ["liar", "fleet"])
    assert names(ledger) == {"n1": "chat", "liar": "chat (node liar)"}
    ledger.close()


def test_a_restored_backup_knows_whose_a_name_is(tmp_path: Path) -> None:
    ledger = DuckDbLedger(tmp_path / "ledger.duckdb")
    ledger.append([chat("n1"), chat("liar")], NOON_MS, ["fleet", "liar"])
    ledger.copy_to(tmp_path / "copy.duckdb")
    ledger.append([chat("t1", name="later")], NOON_MS, ["team"])
    conflicts = ledger.name_conflicts()
    ledger.close()
    restored = DuckDbLedger(tmp_path / "copy.duckdb")
    assert restored.name_conflicts() == conflicts
    restored.append([chat("liar", 1), chat("n2", 1), chat("n1", 1)], NOON_MS + 1, ["liar", "fleet", "fleet"])
    assert names(restored) == {"liar": "chat (node liar)", "n1": "chat", "n2": "chat"}
    restored.close()


def test_nodes_of_a_ledger_of_before_share_what_they_used(tmp_path: Path) -> None:
    """Each has a token of its own. They go on; a node that did not run it before does not join."""
    path = tmp_path / "ledger.duckdb"
    ledger = DuckDbLedger(path)
    ledger.append([chat("n1"), chat("n2"), chat("gone", -24 * 8)], NOON_MS)
    ledger.close()
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "DROP TABLE workload_names; DROP TABLE spend; DROP TABLE observed; DROP TABLE received_hours; "
            "DROP TABLE settled_figures; ALTER TABLE changing_figures RENAME TO kept_figures; "
            "DELETE FROM schema_version WHERE version >= 13"
        )
    ledger = DuckDbLedger(path)
    ledger.append(
        [chat("n3", 1), chat("gone", 1), chat("n2", 1), chat("n1", 1)], NOON_MS + 1, ["n3", "gone", "n2", "n1"]
    )
    ledger.fold()
    held = {share.node: share.workload for share in ledger.facts_of_hours([NOON_MS + HOUR_MS]).shares}
    assert held == {"n1": "chat", "n2": "chat", "n3": "chat (node n3)", "gone": "chat (node gone)"}
    ledger.append([chat("n4", 1)], NOON_MS + 2, ["n1"])
    assert names(ledger)["n4"] == "chat", "the scope of n1 came with it"
    ledger.close()
