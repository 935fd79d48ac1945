"""A month of a made-up fleet in a new ledger, to try reports with: `demo --month 2026-10 --ledger FILE`.

In: a month, a path. Out: a ledger whose GPUs fit the pools of the example price book. The same every time.

Three nodes: eight owned H100, of which four serve two teams behind a gateway, two a third team, and two none; two
nodes of a cloud contract with A100, one of which does not report for three days.
"""

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tokenyield_collector.errors import LedgerError
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.prices.period import Period, parse_period
from tokenyield_wire.latency import LATENCY_BUCKETS, LatencyCount, LatencyKind, upper_bucket
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR, apportion
from tokenyield_wire.window import (
    Batch,
    Demand,
    GpuWindow,
    Shipment,
    StateMillijoules,
    TokenCount,
    Workload,
    WorkloadShare,
)


class _Instance:
    """One made-up inference server: where it runs, which team it serves, how fast it is and how busy."""

    def __init__(
        self,
        key: str,
        model: str,
        gpus: range,
        team: str,
        product: str,
        tokens_per_second: int,
        busy: float,
        watts: int,
    ) -> None:
        self.key, self.model, self.gpus = key, model, gpus
        self.labels = {"namespace": key.partition("/")[0], "team": team, "product": product}
        self.tokens_per_second, self.busy, self.watts = tokens_per_second, busy, watts

    def busy_at(self, at_ms: int, generator: random.Random) -> float:
        """Share of the time: working days and afternoons are busy."""
        hour, weekday = at_ms // MS_PER_HOUR % 24, (at_ms // MS_PER_DAY + 3) % 7
        daily = 0.35 + 0.65 * math.exp(-(((hour - 14) / 5) ** 2))
        return min(0.98, self.busy * daily * (0.45 if weekday >= 5 else 1.0) * generator.uniform(0.85, 1.15))


class _Key(NamedTuple):
    """A key of the gateway: whose, how its requests are served, how long their prompts are, its part of the team's."""

    team: str
    name: str
    service_tier: str
    context: str
    weight: int


_NODES: tuple[tuple[str, str, str, int, tuple[_Instance, ...]], ...] = (
    ("onprem", "gpu-1", "NVIDIA H100 80GB HBM3", 8, (
        _Instance("search/llama-70b", "llama-3.3-70b", range(4), "search", "assistant", 2300, 0.85, 560),
        _Instance("ads/qwen-32b", "qwen3-32b", range(4, 6), "ads", "ranking", 1900, 0.7, 540),
    )),
    ("eks-prod", "ip-10-0-1-7", "NVIDIA A100-SXM4-80GB", 8, (
        _Instance("docs/mistral-24b", "mistral-small-24b", range(4), "docs", "summaries", 1500, 0.6, 310),
        _Instance("lab/llama-70b-draft", "llama-3.3-70b-draft", range(4, 8), "research", "experiments", 900, 0.08, 300),
    )),
    ("eks-prod", "ip-10-0-1-9", "NVIDIA A100-SXM4-80GB", 8, (
        _Instance("docs/mistral-24b", "mistral-small-24b", range(6), "docs", "summaries", 1500, 0.5, 310),
    )),
)  # fmt: skip
_KEYS = (
    _Key("search", "search-prod", "default", "le_32k", 40),
    _Key("search", "search-long", "default", "le_128k", 12),
    _Key("search", "search-fast", "priority", "le_32k", 6),
    _Key("search", "search-fast", "priority", "gt_200k", 2),
    _Key("support", "support-prod", "default", "le_32k", 20),
    _Key("support", "support-free", "free", "le_32k", 10),
)
_QUIET = 0.1
"""A server that is busier is never parked."""
_LOST = ("ip-10-0-1-9", 18, 21)
"""The node that does not report, from one day of the month to another."""


def make_month(month: str, path: Path) -> Period:
    """Raises `LedgerError` when the file is there already, `ParameterError` when the month is not one."""
    period = parse_period(month)
    if path.exists():
        raise LedgerError(f"{path}: expected a new file, found one; name another")
    ledger = DuckDbLedger(path)
    try:
        for shipment in made_up(period):
            ledger.append([shipment], period.end_ms)
        ledger.roll()
    finally:
        ledger.close()
    return period


def made_up(period: Period, window_ms: int = MS_PER_HOUR) -> Iterator[Shipment]:
    """What the made-up nodes send of a period, one shipment each. `window_ms` divides an hour."""
    generator = random.Random(period.start_ms)  # noqa: S311 - made up, and the same every time
    for cluster, node, model, gpus, servers in _NODES:
        batches = tuple(_batches(period, window_ms, node, model, gpus, servers, generator))
        yield Shipment(
            schema=1, agent_id=f"demo-{node}", epoch=period.name, cluster=cluster, node=node, batches=batches
        )


def _batches(
    period: Period,
    window_ms: int,
    node: str,
    model: str,
    gpus: int,
    servers: tuple[_Instance, ...],
    generator: random.Random,
) -> Iterator[Batch]:
    for seq, start_ms in enumerate(range(period.start_ms, period.end_ms, window_ms), start=1):
        day = (start_ms - period.start_ms) // MS_PER_DAY
        if node == _LOST[0] and _LOST[1] <= day < _LOST[2]:
            continue
        windows: list[GpuWindow] = []
        shares: list[WorkloadShare] = []
        workloads: list[Workload] = []
        demand: list[Demand] = []
        held = {number: server for server in servers for number in server.gpus}
        busy = {server.key: server.busy_at(start_ms, generator) for server in servers}
        for number in range(gpus):
            server = held.get(number)
            uuid = f"GPU-{node}-{number}"
            if server is None:
                windows.append(_idle_gpu(uuid, number, model, window_ms))
                continue
            active_ms = round(busy[server.key] * window_ms)
            idle_ms = window_ms - active_ms
            energy = StateMillijoules(active=active_ms * server.watts, idle=idle_ms * 90)
            parked_ms = idle_ms // 2 if server.busy < _QUIET else 0
            windows.append(
                GpuWindow(
                    uuid=uuid,
                    model=model,
                    index=number,
                    active_ms=active_ms,
                    idle_ms=idle_ms,
                    energy_mj=energy,
                    parked_ms=parked_ms,
                    parked_mj=parked_ms * 90,
                    **_activity(model, active_ms, window_ms),
                )
            )
            shares.append(
                WorkloadShare(
                    gpu_uuid=uuid,
                    workload=server.key,
                    split="exclusive",
                    active_ms=active_ms,
                    idle_ms=idle_ms,
                    active_mj=energy.active,
                    idle_mj=energy.idle,
                    parked_ms=parked_ms,
                    parked_mj=parked_ms * 90,
                )
            )
        for server in servers:
            completion = round(
                server.tokens_per_second * window_ms / 1000 * busy[server.key] * generator.uniform(0.6, 1.0)
            )
            count = TokenCount(
                method="counter",
                prompt_computed=completion * 3,
                prompt_cached=completion,
                completion=completion,
                requests=completion // 350,
                load_known_ms=window_ms,
                running_request_ms=round(12 * busy[server.key] * window_ms),
                waiting_request_ms=0,
                cache_used_ms=round(0.7 * busy[server.key] * window_ms),
            )
            workloads.append(
                Workload(
                    key=server.key,
                    server="vllm",
                    place=node,
                    model=server.model,
                    tokens=(count,),
                    labels=server.labels,
                    latency=_latency(completion, completion // 350, busy[server.key]),
                )
            )
            if server.model == "llama-3.3-70b":
                demand += _demand(completion)
        yield Batch(
            seq=seq,
            start_ms=start_ms,
            end_ms=start_ms + window_ms,
            gpus=tuple(windows),
            shares=tuple(shares),
            workloads=tuple(workloads),
            demand=tuple(demand),
        )


def _latency(completion: int, requests: int, busy: float) -> tuple[LatencyCount, ...]:
    """The busier a server, the longer its callers wait."""
    first_ms, token_ms = 60 + 400 * busy, 12 + 20 * busy
    waits: tuple[tuple[LatencyKind, int, float], ...] = (
        ("first_token", requests, first_ms),
        ("inter_token", max(0, completion - requests), token_ms),
        ("end_to_end", requests, first_ms + 350 * token_ms),
    )
    return tuple(_waits(kind, observations, usual_ms) for kind, observations, usual_ms in waits if observations)


def _waits(kind: LatencyKind, observations: int, usual_ms: float) -> LatencyCount:
    """Half of them as usual, one in twenty eight times as long, the others twice."""
    counts, sum_ms = [0] * LATENCY_BUCKETS, 0
    for part, factor in zip(apportion(observations, (10, 9, 1)), (1, 2, 8), strict=True):
        counts[upper_bucket(kind, factor * usual_ms)] += part
        sum_ms += round(part * factor * usual_ms)
    return LatencyCount(kind=kind, sum_ms=sum_ms, counts=tuple(counts))


def _activity(model: str, active_ms: int, window_ms: int) -> dict[str, Any]:
    """As GPM reports decoding, on GPUs that have it."""
    if "H100" not in model:
        return {}
    return {
        "activity_known_ms": window_ms,
        "sm_ms": active_ms * 9 // 10,
        "tensor_ms": active_ms // 5,
        "dram_ms": active_ms * 6 // 10,
        "throttled_ms": {"sw_power_cap": active_ms // 10},
        "throttled_lost_ms": {"sw_power_cap": active_ms // 100},
    }


def _idle_gpu(uuid: str, number: int, model: str, window_ms: int) -> GpuWindow:
    energy = StateMillijoules(unallocated=window_ms * 70)
    return GpuWindow(uuid=uuid, model=model, index=number, unallocated_ms=window_ms, energy_mj=energy)


_AGENTS = {
    "search": {"agent": "researcher", "agent_task": "answer-question"},
    "support": {"agent": "helper", "agent_task": "close-ticket"},
}
"""What the agents of a team write into their requests."""


def _demand(completion: int) -> list[Demand]:
    """Two teams come through the gateway, each with keys of several tiers; a tenth of the tokens does not."""
    demand = []
    for team, part in (("search", 0.6), ("support", 0.3)):
        keys = [key for key in _KEYS if key.team == team]
        sums = [round(amount * part) for amount in (completion * 3, completion, completion, completion / 350)]
        parts = [apportion(total, [key.weight for key in keys]) for total in sums]
        for number, key in enumerate(keys):
            prompt, cached, made, requests = (of_keys[number] for of_keys in parts)
            labels = {"team": team, "key": key.name, "service_tier": key.service_tier, "context": key.context}
            labels |= _AGENTS[team]
            demand.append(
                Demand(
                    gateway="litellm",
                    model="llama-3.3-70b",
                    caller=labels,
                    prompt_computed=prompt,
                    prompt_cached=cached,
                    completion=made,
                    requests=requests,
                )
            )
    return demand
