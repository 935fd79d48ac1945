"""What nobody can have measured is moved aside; what others reported stays exact, and a batch that comes again changes nothing."""

import itertools
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from msgspec.structs import replace

from collector.ledger.engines import Open
from collector.samples import HOUR_MS, NOON_MS, batch, shipment
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger.clickhouse import quarantine as clickhouse
from tokenyield_collector.ledger.clickhouse.ledger import ClickHouseLedger
from tokenyield_collector.ledger.duckdb import quarantine as duck
from tokenyield_collector.ledger.tables import TABLES
from tokenyield_collector.ledger.verify import quarantine, verify
from tokenyield_wire.latency import LATENCY_KINDS, LATENCY_SUM_MS_MAX, LatencyCount
from tokenyield_wire.window import (
    COUNT_MAX,
    Batch,
    Demand,
    StateMillijoules,
    TokenCount,
    Workload,
    WorkloadShare,
    faults_of_batch,
)

MOVED_MS = NOON_MS + 5 * HOUR_MS
SOUND = batch(1, NOON_MS)


def with_gpus(**changed: object) -> Batch:
    return replace(SOUND, gpus=tuple(replace(gpu, **changed) for gpu in SOUND.gpus))


def with_tokens(*counts: TokenCount) -> Batch:
    return replace(SOUND, workloads=(replace(SOUND.workloads[0], tokens=counts),))


def with_shares(**changed: object) -> Batch:
    return replace(SOUND, shares=tuple(replace(share, **changed) for share in SOUND.shares))


IMPOSSIBLE = {
    "energy above the bound": (with_gpus(energy_mj=StateMillijoules(active=COUNT_MAX)), "gpu.active_mj: a sum of"),
    "energy below 0": (with_gpus(energy_mj=StateMillijoules(active=-1, idle=480_000)), "gpu.active_mj: -1, which is below 0"),
    "times of another length": (with_gpus(unallocated_ms=2_000), "states do not sum to the window's length"),
    "a year in 15 s": (with_gpus(active_ms=2**62, idle_ms=2**62), "gpu.active_ms: a sum of"),
    "tokens above the bound": (with_tokens(TokenCount(method="count", completion=2 * COUNT_MAX)), "token.completion: a sum of"),
    "tokens below 0": (with_tokens(TokenCount(method="count", completion=-5)), "token.completion: -5"),
    "40,000 counts": (with_tokens(*[TokenCount(method="count", completion=1)] * 40_000), "token: 40000 entries"),
    "more held than there is": (with_shares(active_ms=14_000), "workloads hold more of a GPU than it did"),
    "a month in one window": (replace(SOUND, end_ms=NOON_MS + 30 * 24 * HOUR_MS), "does not lie within one hour"),
    "requests below 0": (
        replace(SOUND, demand=(Demand(gateway="g", model="m", caller={}, requests=-1),)), "demand.requests: -1",
    ),
}  # fmt: skip


def moved(ledger: Ledger) -> list[str]:
    return [one.reason for one in quarantine(ledger, MOVED_MS)]


def test_what_is_impossible_is_moved_aside(open_ledger: Open) -> None:
    """Each lie in a window of its own node, which has another one that is sound; beside an honest node."""
    ledger = open_ledger()
    reasons = {f"n{i}": reason for i, (_, reason) in enumerate(IMPOSSIBLE.values(), 2)}
    lies = [shipment(lie, node=f"n{i}", agent_id=f"a{i}") for i, (lie, _) in enumerate(IMPOSSIBLE.values(), 2)]
    sound = [shipment(batch(2, NOON_MS + 15_000), node=one.node, agent_id=one.agent_id) for one in lies]
    ledger.append([shipment(batch(1, NOON_MS)), *sound], NOON_MS)
    ledger.roll()
    alone = [ledger.facts_of_hours(), list(verify(ledger))]
    ledger.append(lies, NOON_MS)
    findings = list(verify(ledger))
    for node, reason in reasons.items():
        assert any(finding.startswith(f"c/{node}:") and reason in finding for finding in findings), findings
    found = list(quarantine(ledger, MOVED_MS))
    assert {one.node: reasons[one.node] in one.reason for one in found} == dict.fromkeys(reasons, True), found
    assert [ledger.facts_of_hours(), list(verify(ledger))] == alone, "as if it had never come"
    assert moved(ledger) == []
    assert ledger.append(lies, NOON_MS) == [(0, 1)] * len(lies), "they are known"
    ledger.roll()
    assert ledger.facts_of_hours() == alone[0]
    kept = ledger.quarantined()
    assert {(row.node, row.start_ms, row.moved_ms) for row in kept} == {(node, NOON_MS, MOVED_MS) for node in reasons}
    for one in lies:
        rows = {row.source: json.loads(row.content) for row in kept if row.node == one.node}
        (lie,) = one.batches
        assert sorted(row["active_ms"] for row in rows["gpu_windows"]) == sorted(gpu.active_ms for gpu in lie.gpus)
        assert len(rows["token_windows"]) == len(lie.workloads[0].tokens)
    ledger.close()


def test_windows_that_only_together_are_impossible(open_ledger: Open) -> None:
    """Each within the wire's bounds; of their sum the hour could keep a part only."""
    ledger = open_ledger()
    great = with_tokens(TokenCount(method="count", completion=COUNT_MAX))
    batches = [replace(great, seq=n, start_ms=NOON_MS + n * 15_000, end_ms=NOON_MS + (n + 1) * 15_000) for n in (1, 2)]
    assert not [fault for one in batches for fault in faults_of_batch(one, "")]
    later = batch(3, NOON_MS + HOUR_MS)
    ledger.append([shipment(*batches, later), shipment(batch(1, NOON_MS), node="n2", agent_id="a2")], NOON_MS)
    ledger.roll()
    assert any("token.completion" in finding for finding in verify(ledger))
    assert len(moved(ledger)) == 2
    assert list(verify(ledger)) == []
    facts = ledger.facts_of_hours()
    assert {(row.hour_ms, row.node) for row in facts.gpus} == {(NOON_MS, "n2"), (NOON_MS + HOUR_MS, "n1")}
    ledger.close()


def test_hours_whose_windows_are_gone(open_ledger: Open) -> None:
    ledger = open_ledger()
    lie = with_gpus(memory_used_mib_seconds=2**50)
    ledger.append([shipment(lie), shipment(batch(1, NOON_MS), node="n2", agent_id="a2")], NOON_MS)
    ledger.append([shipment(batch(2, NOON_MS + HOUR_MS))], NOON_MS)
    ledger.roll()
    before = ledger.revision(NOON_MS, NOON_MS + HOUR_MS)
    ledger.retire(windows_before_ms=NOON_MS + HOUR_MS, hours_before_ms=0, counter_bases={})
    (reason,) = moved(ledger)
    assert "an amount of the hour" in reason
    assert {(row.hour_ms, row.node) for row in ledger.facts_of_hours().gpus} == {
        (NOON_MS, "n2"),
        (NOON_MS + HOUR_MS, "n1"),
    }
    assert ledger.revision(NOON_MS, NOON_MS + HOUR_MS) != before, "what was computed from it is computed again"
    assert list(verify(ledger)) == []
    assert {row.source for row in ledger.quarantined()} >= {"gpu_hours", "token_hours"}
    ledger.retire(windows_before_ms=NOON_MS + HOUR_MS, hours_before_ms=NOON_MS + HOUR_MS, counter_bases={})
    assert list(ledger.quarantined()) == [], "as long as hours"
    ledger.close()


class Stopped(Exception):
    """As if the process had been killed."""


def stop_at(ledger: Ledger, nth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nth step that keeps or writes something raises, and all after it."""
    steps = itertools.count(1)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*values: Any, **named: Any) -> Any:
            if next(steps) >= nth:
                raise Stopped
            return call(*values, **named)

        return step

    engine = clickhouse if isinstance(ledger, ClickHouseLedger) else duck
    monkeypatch.setattr(engine, "quarantined_rows", counted(engine.quarantined_rows))
    if isinstance(ledger, ClickHouseLedger):
        for client in (ledger._tables.client, *ledger._tables.shards):
            for name in ("run", "insert"):
                monkeypatch.setattr(client, name, counted(getattr(client, name)))


def test_a_second_run_ends_what_a_killed_one_began(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.append([shipment(batch(1, NOON_MS), node="n2", agent_id="a2")], NOON_MS)
    ledger.roll()
    alone = ledger.facts_of_hours()
    stops = 0
    for seq in (1, 4, 9, 20):
        start_ms = NOON_MS + seq * 15_000
        lie = replace(IMPOSSIBLE["energy below 0"][0], seq=seq, start_ms=start_ms, end_ms=start_ms + 15_000)
        ledger.append([shipment(lie)], NOON_MS)
        with pytest.MonkeyPatch.context() as patch, suppress(Stopped):
            stop_at(ledger, seq, patch)
            list(quarantine(ledger, MOVED_MS))
            stops -= 1
        stops += 1
        ledger.close()
        ledger = open_ledger()
        list(quarantine(ledger, MOVED_MS))
        assert list(verify(ledger)) == [], seq
        assert ledger.facts_of_hours() == alone, seq
        assert {row.node for row in ledger.quarantined()} == {"n1"}
    assert stops > 1
    ledger.close()


def test_what_the_wire_takes_is_never_impossible(open_ledger: Open) -> None:
    """At its bounds, and twice: two agents of one node."""
    latency = tuple(LatencyCount(kind=kind, sum_ms=LATENCY_SUM_MS_MAX, counts=(1,)) for kind in LATENCY_KINDS)
    quarter = COUNT_MAX // 4
    gpu = replace(
        SOUND.gpus[0], energy_mj=StateMillijoules(active=quarter, idle=quarter, unallocated=quarter, unknown=quarter),
        energy_integrated_mj=COUNT_MAX, energy_method_mj={"power": COUNT_MAX}, events={"xid_1": COUNT_MAX},
        throttled_ms={"a": COUNT_MAX}, throttled_lost_ms={"a": COUNT_MAX}, parked_mj=quarter,
    )  # fmt: skip
    full = replace(
        SOUND,
        gpus=(gpu,),
        shares=(WorkloadShare(gpu_uuid=gpu.uuid, workload="chat", split="sm", active_ms=9_000, active_mj=quarter),),
        workloads=tuple(
            Workload(key=key, server="vllm", place="p", model="m", latency=latency, labels={"a": "b"},
                     tokens=(TokenCount(method="count", completion=COUNT_MAX // 2, requests=COUNT_MAX // 2),))
            for key in ("chat", "other")
        ),
        demand=(Demand(gateway="g", model="m", caller={}, completion=COUNT_MAX, requests=COUNT_MAX),),
        host_energy_mj={f"s{i}": COUNT_MAX // 64 for i in range(64)},
    )  # fmt: skip
    assert not list(faults_of_batch(full, ""))
    ledger = open_ledger()
    ledger.append([shipment(full), shipment(replace(full, seq=9), agent_id="a2")], NOON_MS)
    ledger.roll()
    assert ledger.impossible(NOON_MS) == [] or all("hour" in one.reason for one in ledger.impossible(NOON_MS))
    ledger.close()


def test_every_amount_of_every_table_has_a_bound(open_ledger: Open) -> None:
    from tokenyield_collector.ledger.quarantine import WINDOW_ROWS_MAX, WINDOW_SUM_MAX

    assert WINDOW_ROWS_MAX.keys() == WINDOW_SUM_MAX.keys() == TABLES.keys()
    ledger = open_ledger()
    ledger.append([shipment(batch(1, NOON_MS))], NOON_MS)
    assert list(verify(ledger)) == []
    ledger.close()
