"""What reports read is the same to the unit whichever engine keeps the ledger, however often it was rolled up on the
way, and whatever arrived late: roll-ups depend on the facts that are there, and on nothing else. So do those of days.

In: seeded deliveries, in which nodes claim each other's GPUs, workloads serve several models over several nodes, callers
come through gateways, and hours come late, in pieces and twice. Beside each ledger a DuckDB that is rolled up once.
"""

import os
import random
from pathlib import Path
from typing import Any

import pytest

from collector.ledger.engines import NewPlace, roll_days
from collector.samples import HOUR_MS, NOON_MS, shipment
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.usage import (
    NO_CHAIN,
    NO_GPU_CHAIN,
    GpuGroup,
    ModelInstance,
    NodeInstance,
    UsageQuery,
    WorkIdentity,
)
from tokenyield_wire.window import (
    COUNT_MAX,
    Batch,
    Demand,
    GpuWindow,
    Shipment,
    StateMillijoules,
    TokenCount,
    Workload,
    WorkloadShare,
)

SEEDS = range(int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "2")))
HOURS = 30
BUSY_HOURS = (0, 1, 2, 28, 29)
"""With more than a day between them: a node that was silent for longer begins anew."""
SPAN = (NOON_MS, NOON_MS + HOURS * HOUR_MS)
NODES = ("n1", "n2", "n3", "n4")
GPU_MODELS = {"n1": "H100", "n2": "H100", "n3": "L40S", "n4": "H100"}
MODELS = ("llama", "qwen", "phi")
WEIGHTS = {"prompt_computed": 1000, "prompt_cached": 100, "prompt_unsplit": 1000, "completion": 4000}


class Fleet:
    """Batches of one seed, an hour of a node each."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._seq = 0
        greatest = self._random.random() < 0.3
        self._amount_max = COUNT_MAX // 4 if greatest else 10**9  # beyond what 64 bits multiply, or as people have it

    def delivery(self) -> list[Shipment]:
        return [self._shipment() for _ in range(self._random.randint(6, 10))]

    def _shipment(self) -> Shipment:
        pick, node = self._random, self._random.choice(NODES)
        start_ms = NOON_MS + pick.choice(BUSY_HOURS) * HOUR_MS + pick.randrange(4) * 900_000
        self._seq += 1
        keys = pick.sample(("chat", "rag", "batch"), pick.randint(1, 2))
        gpus, shares = [], []
        for uuid in pick.sample([f"GPU-{i}" for i in range(5)], pick.randint(1, 2)):
            whole = pick.choice((900_000, 900_000, 3_600_000))
            active_ms = pick.randrange(whole)
            idle_ms = pick.randrange(whole - active_ms)
            energy = StateMillijoules(active=pick.randrange(10**9), idle=pick.randrange(10**8), unallocated=7)
            gpus.append(
                GpuWindow(
                    uuid=uuid,
                    model=GPU_MODELS[node],
                    active_ms=active_ms,
                    idle_ms=idle_ms,
                    unallocated_ms=whole - active_ms - idle_ms,
                    energy_mj=energy,
                )
            )
            shares.append(
                WorkloadShare(
                    gpu_uuid=uuid, workload=pick.choice(keys), split="sm", active_ms=active_ms, idle_ms=idle_ms,
                    active_mj=energy.active, idle_mj=energy.idle,
                )
            )  # fmt: skip
        demand = [
            Demand(gateway="gw", model=pick.choice((*MODELS, "alias")), caller=caller, **self._amounts())
            for caller in pick.choice((({"team": "a"}, {"team": "b"}), ({},), (), (), ()))
        ]
        batch = Batch(
            seq=self._seq,
            start_ms=start_ms,
            end_ms=start_ms + 900_000,
            gpus=tuple(gpus),
            shares=tuple(shares),
            workloads=tuple(self._workload(key, node) for key in keys),
            demand=tuple(demand),
        )
        return shipment(batch, node=node, agent_id=node)

    def _workload(self, key: str, node: str) -> Workload:
        pick = self._random
        return Workload(
            key=key,
            server="vllm",
            place=node,
            model=pick.choice(MODELS) if pick.random() < 0.3 else MODELS[len(key) % 3],
            tokens=(TokenCount(method="count", **self._amounts()),) if pick.random() < 0.8 else (),
            labels={"team": pick.choice("xy")} if pick.random() < 0.5 else {},
        )

    def _amounts(self) -> dict[str, int]:
        kinds = ("prompt_computed", "prompt_cached", "completion", "requests")
        return {kind: self._random.randrange(self._amount_max) for kind in kinds if self._random.random() < 0.7}


def figures(ledger: Ledger) -> dict[str, Any]:
    """All that statements read of a ledger, without its numbers."""
    reader, identities = ledger.usage(), list[WorkIdentity]()

    def number(identity: WorkIdentity) -> int:
        if identity not in identities:
            identities.append(identity)
        return identities.index(identity)

    def chain_of(group: GpuGroup) -> str:
        return group.gpu_model if group.node != "n4" else NO_CHAIN

    chains = ("H100", "L40S", NO_CHAIN, NO_GPU_CHAIN)
    found: dict[str, Any] = {
        "groups": sorted(reader.gpu_groups()),
        "best": [
            (*one.instance, one.node, one.pace, one.hour_ms // (24 * HOUR_MS))
            for one in reader.best_hours(*SPAN, WEIGHTS)
        ],
        "reported": reader.reported_ms(*SPAN, chain_of),
        "doubled": reader.doubled_gpus(*SPAN),
        "contested": reader.contested_gpus(*SPAN),
        "demand": reader.demand(*SPAN, {"alias": "llama"}),
    }
    undated = {"H100": {1, 2}, "L40S": {3}, NO_CHAIN: {1}, NO_GPU_CHAIN: {2}}
    for by_node, of_period, segments in (
        (False, {}, 1),
        (False, {}, 2),
        (True, {}, 2),
        (False, undated, 3),
        (True, undated, 2),
    ):
        query = UsageQuery(
            start_ms=SPAN[0],
            end_ms=SPAN[1],
            by_node=by_node,
            weights=WEIGHTS,
            chain_of=chain_of,
            segments={
                chain: [1 + (hour + i) % min(segments, i + 1) for hour in range(HOURS)]
                for i, chain in enumerate(chains)
            },
            references={ModelInstance("llama", "H100", 1): 90_000, ModelInstance("qwen", "H100", 2): 1},
            node_references={NodeInstance("c", "n3", ModelInstance("phi", "L40S", 1)): 777},
            gateway_models={"alias": "llama"},
            group_of=number,
            undated=of_period,
            is_dated=lambda group: identities[group].workload == "chat",
        )
        rows, name = reader.usage(query), f"{by_node} {segments}{' whole' if of_period else ''}"
        found[f"work {name}"] = {(*row[:4], identities[row.group]): tuple(map(int, row.sums)) for row in rows.work}
        found[f"capacity {name}"] = {row[:4]: tuple(map(int, row.sums)) for row in rows.capacity}
    return found


def same(ledger: Ledger, other: Ledger) -> dict[str, Any]:
    ours, theirs = figures(ledger), figures(other)
    for name, value in theirs.items():
        assert ours[name] == value, name
    return theirs


@pytest.mark.parametrize("seed", SEEDS)
def test_figures_are_the_same_however_often_hours_were_rolled_up(
    new_place: NewPlace, tmp_path: Path, seed: int
) -> None:
    fleet, often, reopen = Fleet(seed), new_place(), random.Random(seed)
    ledger, sent = often(), list[Shipment]()
    for turn in range(3):
        delivery = fleet.delivery()
        sent += delivery
        ledger.append([*delivery, *sent[:1]], NOON_MS)  # and one again
        ledger.roll()
        if turn == 0:
            roll_days(ledger)  # which are of before, when more comes
        if turn == 1 and reopen.random() < 0.5:
            ledger.close()
            ledger = often()
    once = DuckDbLedger(tmp_path / "once.duckdb")
    once.append(sent, NOON_MS)
    once.roll()
    found = same(ledger, once)
    if roll_days(ledger):
        same(ledger, once)
    assert found["contested"], "nodes claim each other's GPUs"
    assert any(identity.caller != "{}" for *_, identity in found["work True 2"])
    anew = new_place()()
    anew.append(sent, NOON_MS)
    anew.roll(hours_max=2)
    while anew.roll(hours_max=2):
        pass
    roll_days(anew)
    same(anew, once)
    cut_ms = NOON_MS + 2 * HOUR_MS
    for kept in (ledger, once):
        kept.retire(windows_before_ms=0, hours_before_ms=cut_ms, counter_bases={})
    same(ledger, once)
    for opened in (ledger, anew, once):
        opened.close()
