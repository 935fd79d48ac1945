"""The agent's whole exposition against a golden file, and what it sums up."""

import os
from dataclasses import replace
from pathlib import Path

from tokenyield_agent.gpu.reading import Activity, GpuPartition, GpuReading
from tokenyield_agent.status.exposition import metrics_page
from tokenyield_agent.status.metrics import AgentExposition, every_family
from tokenyield_agent.status.snapshot import Status
from tokenyield_agent.windows.energy import Energy
from tokenyield_agent.windows.span import GpuSpan
from tokenyield_agent.windows.totals import HOLDERS_MAX, OTHER, GpuTotals
from tokenyield_agent.workloads.binding import Holding

GOLDEN = Path(__file__).parents[2] / "golden" / "agent.prom"
READING = GpuReading(
    uuid="GPU-a", index=0, model="NVIDIA H100", energy_mj=5_000, power_mw=700_500, utilization_percent=87,
    memory_used_mib=1024, memory_total_mib=81920, temperature_c=61, core_clock_mhz=1980,
    throttle_reasons=("sw_power_cap", "hw_thermal"), core_clock_max_mhz=2475,
    activity=Activity(span_ms=1000, compute_bp=8_000, matrix_bp=2_500, memory_bandwidth_bp=6_000, link_mib_s=100, pcie_mib_s=10),
    partitions={3: GpuPartition(slices=2, memory_used_mib=512, compute_bp=4_000)},
)  # fmt: skip


def span(state: str, workload: str = "chat", *, uuid: str = "GPU-a") -> GpuSpan:
    return GpuSpan(uuid=uuid, state=state, reading=READING, holding=Holding(held=True, weights={workload: 3, "": 1}))


def exposition() -> str:
    totals = GpuTotals()
    totals.add([span("active")], 1000)
    totals.add([span("idle")], 1000)
    totals.add([span("unallocated", uuid="GPU-b"), span("unknown")], 500)
    parked = replace(span("idle"), parked=True, energy=Energy(90_000, "samples", 1_500), events={"xid_31": 2})
    totals.add([parked], 1000)
    totals.host_mj["rapl"] += 12_500
    status = Status(
        version="1.2.3", gpus=(READING, GpuReading(uuid="GPU-b", index=1)), gpus_lost={"GPU-c": "gpu_lost"},
        indices={"GPU-a": "0", "GPU-b": "1", "GPU-c": "2"}, gpu_faults={"gpu_lost": 1}, polls=7, last_poll_age_s=0.5,
        totals=totals, gpu_read_s=0.125, spool={"appended": 9},
        spool_batches=2, spool_bytes=1000, ship={"requests": 4}, sources={"chat": {"bytes": 11, "events": 2}},
    )  # fmt: skip
    return metrics_page(AgentExposition(lambda: status).collect())[0]


def test_the_exposition_is_the_golden_one() -> None:
    if os.environ.get("TOKENYIELD_WRITE_GOLDEN"):
        GOLDEN.write_text(exposition())
    assert exposition() == GOLDEN.read_text()


def test_every_family_is_in_the_table_and_shown() -> None:
    shown = {line.split()[2] for line in exposition().splitlines() if line.startswith("# TYPE ")}
    assert shown == {family.name for family in every_family()}


def test_states_sum_to_the_time_and_shares_to_the_time_that_was_held() -> None:
    totals = GpuTotals()
    for state in ("active", "idle", "active", "unknown"):
        totals.add([span(state)], 333)
    assert sum(totals.state_ms.values()) == 4 * 333
    assert sum(totals.held_ms.values()) == 3 * 333
    assert totals.throttled_ms["GPU-a", "hw_thermal"] == 3 * 333, "what was not watched tells nothing"


def test_holders_are_bounded() -> None:
    totals = GpuTotals()
    for i in range(2 * HOLDERS_MAX):
        totals.add([span("active", f"w{i}")], 4)
    assert len({key[0] for key in totals.held_ms}) <= HOLDERS_MAX + 1
    assert sum(ms for (name, _, _), ms in totals.held_ms.items() if name == OTHER) > 0
    assert sum(totals.held_ms.values()) == 2 * HOLDERS_MAX * 4
