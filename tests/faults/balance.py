"""Whether nothing was lost and nothing counted twice, once a world is healed and drained."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec

from faults.host import START_MS, WORKLOAD, Closed, SimulatedAgent
from faults.liar import NODE as LIAR
from figures import Rows, difference_of_figures, facts_of_nodes, figures_of_nodes
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.verify import verify
from tokenyield_wire.window import Shipment

if TYPE_CHECKING:
    from faults.world import World


SHIPMENTS_OF_A_COMMIT = 50
WHOLE_EVERY = 4
"""Beside a liar, reports and `verify` take half of a schedule: they are asked in every fourth."""


def check(world: "World") -> None:
    """The books balance."""
    ledger = world.collector.ledger
    assert ledger is not None
    said = f"seed {world.seed}"
    ledger.fold()
    connection = ledger._file.connection
    batches: list[Any] = connection.execute(
        "SELECT node, epoch, seq, end_ms - start_ms FROM batches WHERE node NOT IN ('nobody', 'liar')"
    ).fetchall()
    present = {(node, epoch, seq): length_ms for node, epoch, seq, length_ms in batches}
    assert len(present) == len(batches), f"{said}: counted twice: {len(batches) - len(present)}"
    assert not (differences := ledger.receipt_differences()), f"{said}: {differences}"
    for agent in world.agents:
        agent.stop_dead()
        closed = {(agent.name, *key): window for key, window in agent.closed.items()}
        mine = {key: length_ms for key, length_ms in present.items() if key[0] == agent.name}
        assert mine.items() <= {key: window.length_ms for key, window in closed.items()}.items(), (
            f"{said}: {agent.name} never closed {sorted(mine.keys() - closed.keys())}"
        )
        lost = closed.keys() - mine.keys()
        counted = sum(agent.gone.values())
        assert len(lost) <= counted, f"{said}: {agent.name} lost {sorted(lost)}, counted {dict(agent.gone)}"
        _check_host(world, agent)
        _check_sums(world, agent, [closed[key] for key in mine])


def _check_host(world: "World", agent: SimulatedAgent) -> None:
    """What happened on the host is in its closed windows."""
    said, closed = f"seed {world.seed}: {agent.name}", agent.closed.values()
    tokens = sum(window.tokens for window in closed) + agent.skipped
    assert tokens <= agent.log.tokens, f"{said} closed {tokens} of {agent.log.tokens} tokens"
    energy_mj, made_mj = sum(window.energy_mj for window in closed), agent.gpu.made_mj - agent.first_mj
    assert energy_mj <= made_mj, f"{said} closed {energy_mj} of {made_mj} mJ"
    if agent.windows_dropped:
        return
    assert tokens == agent.log.tokens, f"{said} closed {tokens} of {agent.log.tokens} tokens"
    if agent.is_unbroken:
        passed_ms, length_ms = world.now_ms - agent.first_ms, sum(window.length_ms for window in closed)
        assert length_ms == passed_ms, f"{said} closed {length_ms} ms of {passed_ms}"
        assert energy_mj == made_mj or agent.clock.boots, f"{said} closed {energy_mj} of {made_mj} mJ"


def _check_sums(world: "World", agent: SimulatedAgent, kept: list[Closed]) -> None:
    """Hours and windows both hold the sums of the batches that are there."""
    ledger = world.collector.ledger
    assert ledger is not None
    expected = [
        sum(window.tokens for window in kept),
        sum(window.gpu_ms for window in kept),
        sum(window.energy_mj for window in kept),
    ]
    for facts, name in (
        (ledger.facts_of_hours(), "hours"),
        (ledger.facts_between(0, START_MS * 2), "windows"),
    ):
        gpus = [gpu for gpu in facts.gpus if gpu.node == agent.name]
        sums = [
            sum(row.completion or 0 for row in facts.tokens if row.node == agent.name and row.workload == WORKLOAD),
            sum(gpu.active_ms + gpu.idle_ms + gpu.unallocated_ms + gpu.unknown_ms for gpu in gpus),
            sum(gpu.active_mj + gpu.idle_mj + gpu.unallocated_mj + gpu.unknown_mj for gpu in gpus),
        ]
        assert sums == expected, f"seed {world.seed}: {agent.name}: {name} hold {sums} of {expected}"


def check_beside_liar(world: "World") -> None:
    """Every figure of the honest nodes is that of a ledger with their batches alone; `verify` names only the liar."""
    ledger, said = world.collector.ledger, f"seed {world.seed}"
    assert ledger is not None
    nodes = {agent.name for agent in world.agents}
    there = set(ledger._file.connection.execute("SELECT node, agent_id, epoch, seq FROM batches").fetchall())
    with closing(DuckDbLedger(":memory:", memory_limit="200MB")) as alone:
        kept = list(_kept(world.collector.received, there))
        for first in range(0, len(kept), SHIPMENTS_OF_A_COMMIT):
            alone.append(kept[first : first + SHIPMENTS_OF_A_COMMIT], world.now_ms)
        alone.fold()
        facts, facts_alone = (facts_of_nodes(one, nodes) for one in (ledger, alone))
        for name, rows in facts.items():
            assert rows == facts_alone[name], f"{said}: {name} differ beside the liar"
        if world.seed % WHOLE_EVERY:
            return
        days = range(START_MS, world.now_ms + 1, 86_400_000)
        figures = [
            _but_dark(figures_of_nodes(one, nodes, [*days, world.now_ms], world.now_ms)) for one in (ledger, alone)
        ]
        assert not (difference := difference_of_figures(*figures)), f"{said}: {difference} (with the liar, and alone)"
    # A clock set back lives an hour twice.
    findings = [finding for finding in verify(ledger) if " times" not in finding]
    of_others = [finding for finding in findings if not finding.startswith(f"sim/{LIAR}: ")]
    assert not of_others, f"{said}: {of_others}"


def _kept(shipments: Iterable[Shipment], there: set[tuple[str, str, str, int]]) -> Iterator[Shipment]:
    """Of each shipment, the batches that are `there`, by node, agent, epoch and number."""
    for shipment in shipments:
        kept = [
            batch
            for batch in shipment.batches
            if (shipment.node, shipment.agent_id, shipment.epoch, batch.seq) in there
        ]
        if kept:
            yield msgspec.structs.replace(shipment, batches=tuple(kept))


def _but_dark(figures: Rows) -> Rows:
    """A GPU that another node reports while its own is silent has moved there, as far as anybody knows, and is not dark."""
    return {key: row for key, row in figures.items() if "(dark)" not in key}
