"""Small fleets in a real ledger, an hour at a time, for tests of money."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from tokenyield_collector.attribution.rules import AttributionRules, load_rules
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.load import load_prices
from tokenyield_collector.reports.closing import MonthClosing
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.statements.source import OtherCosts
from tokenyield_wire.window import (
    Batch,
    Demand,
    GpuWindow,
    Shipment,
    Split,
    StateMillijoules,
    TokenCount,
    Workload,
    WorkloadShare,
)

HOUR_MS = 3_600_000
H100 = "NVIDIA H100 80GB HBM3"


def ms(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() * 1000)


@dataclass(frozen=True, kw_only=True)
class Held:
    """What one workload held of one GPU in an hour: minutes, and joules by state."""

    workload: str
    active_min: float = 0
    idle_min: float = 0
    active_j: int = 0
    idle_j: int = 0


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU in one hour; what is left of the hour is `rest` (unallocated or unknown)."""

    uuid: str = "GPU-0"
    model: str = H100
    held: Sequence[Held] = ()
    rest: str = "unallocated"
    rest_j: int = 0


@dataclass(frozen=True, kw_only=True)
class Server:
    """One workload in one hour."""

    key: str
    model: str = "llama"
    labels: dict[str, str] | None = None
    completion: int | None = None
    prompt_computed: int | None = None
    prompt_cached: int | None = None
    requests: int | None = None


class Fleet:
    """A ledger in the making."""

    def __init__(self, path: Path | str = ":memory:") -> None:
        self.ledger = DuckDbLedger(path)
        self._seq = 0

    def hour(
        self,
        start: int | str,
        gpus: Iterable[Gpu] = (),
        servers: Iterable[Server] = (),
        demand: Iterable[Demand] = (),
        *,
        node: str = "n1",
        cluster: str = "c",
        labels: dict[str, str] | None = None,
    ) -> None:
        start_ms = ms(start) if isinstance(start, str) else start
        self._seq += 1
        batch = Batch(
            seq=self._seq,
            start_ms=start_ms,
            end_ms=start_ms + HOUR_MS,
            gpus=tuple(window(gpu) for gpu in gpus),
            shares=tuple(share for gpu in gpus for share in _shares(gpu)),
            workloads=tuple(_workload(server) for server in servers),
            demand=tuple(demand),
        )
        shipment = Shipment(
            schema=1, agent_id=node, epoch="e", cluster=cluster, node=node, batches=(batch,), labels=labels or {}
        )
        (receipt,) = self.ledger.append([shipment], start_ms + HOUR_MS)
        assert receipt.accepted == 1

    def maker(
        self,
        prices: PriceBook,
        rules: AttributionRules | None = None,
        now: str = "2027-06-01",
        others: Sequence[OtherCosts] = (),
    ) -> ReportMaker:
        return ReportMaker(ledger=self.ledger, policy=policy(prices, rules), now_ms=ms(now), others=others)


def close_months(maker: ReportMaker, after_days: int = 0) -> ReportMaker:
    """As the running collector does under the policy of `maker`."""
    closing = MonthClosing(
        ledger=maker.ledger,
        policy=maker.policy,
        now_ms=maker.now_ms,
        close_after_ms=after_days * 24 * HOUR_MS,
        made_by="a collector",
        others=maker.others,
    )
    for _ in closing.steps():
        pass
    return maker


def policy(prices: PriceBook, rules: AttributionRules | None = None) -> Policy:
    return Policy(prices=prices, rules=rules or AttributionRules())


def prices(folder: Path, text: str) -> PriceBook:
    file = folder / "prices.yaml"
    file.write_text(text)
    return load_prices(file)


def rules(folder: Path, document: object) -> AttributionRules:
    file = folder / "attribution.yaml"
    file.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return load_rules(file)


def _ms(minutes: float) -> int:
    return round(minutes * 60_000)


def window(gpu: Gpu) -> GpuWindow:
    active_ms, idle_ms = sum(_ms(h.active_min) for h in gpu.held), sum(_ms(h.idle_min) for h in gpu.held)
    rest_ms = HOUR_MS - active_ms - idle_ms
    assert rest_ms >= 0
    unknown_ms = rest_ms if gpu.rest == "unknown" else 0
    energy = {
        "active": sum(h.active_j for h in gpu.held) * 1000,
        "idle": sum(h.idle_j for h in gpu.held) * 1000,
        gpu.rest: gpu.rest_j * 1000,
    }
    return GpuWindow(
        uuid=gpu.uuid,
        model=gpu.model,
        active_ms=active_ms,
        idle_ms=idle_ms,
        unallocated_ms=rest_ms - unknown_ms,
        unknown_ms=unknown_ms,
        unknown_reason_ms={"gpu_lost": unknown_ms} if unknown_ms else {},
        energy_mj=StateMillijoules(**energy),
    )


def _shares(gpu: Gpu) -> list[WorkloadShare]:
    split: Split = "exclusive" if len(gpu.held) < 2 else "sm"
    return [
        WorkloadShare(
            gpu_uuid=gpu.uuid,
            workload=held.workload,
            split=split,
            active_ms=_ms(held.active_min),
            idle_ms=_ms(held.idle_min),
            active_mj=held.active_j * 1000,
            idle_mj=held.idle_j * 1000,
        )
        for held in gpu.held
    ]


def _workload(server: Server) -> Workload:
    told = (server.completion, server.prompt_computed, server.prompt_cached, server.requests)
    tokens: tuple[TokenCount, ...] = ()
    if any(count is not None for count in told):
        tokens = (
            TokenCount(
                method="counter",
                completion=server.completion,
                prompt_computed=server.prompt_computed,
                prompt_cached=server.prompt_cached,
                requests=server.requests,
            ),
        )
    return Workload(
        key=server.key, server="vllm", place="n1", model=server.model, tokens=tokens, labels=server.labels or {}
    )
