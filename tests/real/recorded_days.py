"""Two made-up days, as a Prometheus would have scraped them: the real ledger, refresh and expositions, step by step.

In: an empty folder, prices, rules. Out: a ledger file and an OpenMetrics file for `promtool tsdb create-blocks-from`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tokenyield_agent.gpu.reading import Activity, GpuReading
from tokenyield_agent.status.exposition import metrics_page
from tokenyield_agent.status.metrics import AgentExposition
from tokenyield_agent.status.snapshot import Status
from tokenyield_agent.windows.energy import Energy
from tokenyield_agent.windows.span import GpuSpan
from tokenyield_agent.windows.totals import GpuTotals
from tokenyield_agent.workloads.binding import UNHELD, Holding
from tokenyield_collector.attribution.rules import AttributionRules
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.demo.month import made_up
from tokenyield_collector.ingest.stats import IngestStats
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.live.refresher import Refresher
from tokenyield_collector.metrics.exposition import Exposition, OwnExposition
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.period import Period
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR
from tokenyield_wire.window import Batch, Shipment

STEP_MS = 240_000
WINDOW_MS = 60_000
HOURS_MIN = 30
SETTINGS = CollectorSettings(live_lag_s=0, live_window_s=900, live_grid_s=60)


@dataclass(frozen=True)
class Recorded:
    """Where it was written, and up to when."""

    ledger: Path
    openmetrics: Path
    start_ms: int
    end_ms: int


def record(folder: Path, prices: PriceBook, rules: AttributionRules, now_ms: int) -> Recorded:
    """From the beginning (UTC) of the day that was `HOURS_MIN` ago up to now."""
    end_ms = now_ms - now_ms % STEP_MS
    start_ms = end_ms - HOURS_MIN * MS_PER_HOUR
    start_ms -= start_ms % MS_PER_DAY
    ledger = DuckDbLedger(folder / "days.duckdb")
    refresher = Refresher(SETTINGS, ledger, Policy(prices=prices, rules=rules))
    ingest = IngestStats()
    own = OwnExposition(ingest)
    nodes = [_Node(sent) for sent in made_up(Period(name="days", start_ms=start_ms, end_ms=end_ms), WINDOW_MS)]
    written = _Written()
    for at_ms in range(start_ms + STEP_MS, end_ms + 1, STEP_MS):
        seen = {(node.sent.cluster, node.sent.node): at_ms for node in nodes}
        sent = [msgspec.structs.replace(node.sent, batches=node.take(at_ms)) for node in nodes]
        ledger.append(sent, at_ms)
        ingest.batches += sum(len(one.batches) for one in sent)
        for node in nodes:
            written.add(node.collect(), at_ms, {"job": "tokenyield-agent", "instance": f"{node.sent.node}:9465"})
        ingest.commits += 1
        ingest.commit_seconds += 0.01
        changed = ledger.fold()
        ledger.roll(at_ms - MS_PER_HOUR + 1)  # hours that have ended
        if refresher.is_due(at_ms):
            refresher.bring_to_date(at_ms)
        view = refresher.refresh(changed, at_ms, seen)
        shown = Exposition(view, SETTINGS.metrics_series_max)
        for part in (shown, own):
            written.add(part.collect(), at_ms, {"job": "tokenyield-collector", "instance": "collector:9464"})
    ledger.roll()
    ledger.close()
    (folder / "days.om").write_text(written.text())
    return Recorded(folder / "days.duckdb", folder / "days.om", start_ms, end_ms)


class _Node:
    """One agent's side of what was sent."""

    def __init__(self, sent: Shipment) -> None:
        self.sent = sent
        self._left = list(sent.batches)
        self._totals = GpuTotals()
        self._energy_mj: dict[str, int] = defaultdict(int)
        self._last: Batch | None = None
        self._polls = 0
        self._exposition = AgentExposition(self._status)

    def collect(self) -> Iterable[Metric]:
        return text_string_to_metric_families(metrics_page(self._exposition.collect())[0])

    def take(self, until_ms: int) -> tuple[Batch, ...]:
        taken = tuple(batch for batch in self._left if batch.end_ms <= until_ms)
        self._left = self._left[len(taken) :]
        for batch in taken:
            self._last = batch
            self._polls += 60
            holders = {share.gpu_uuid: share.workload for share in batch.shares}
            for gpu in batch.gpus:
                self._energy_mj[gpu.uuid] += gpu.energy_mj.total()
                held = holders.get(gpu.uuid)
                holding = Holding(held=True, weights={held: 1}) if held else UNHELD
                for state in ("active", "idle", "unallocated"):
                    reading = GpuReading(
                        uuid=gpu.uuid,
                        index=gpu.index or 0,
                        throttle_reasons=("sw_power_cap",) if gpu.index == 0 else (),
                        activity=Activity(
                            span_ms=getattr(gpu, f"{state}_ms"),
                            compute_bp=9_000,
                            matrix_bp=2_000,
                            memory_bandwidth_bp=6_000,
                        ),
                    )
                    energy = Energy(getattr(gpu.energy_mj, state), "counter")
                    span = GpuSpan(uuid=gpu.uuid, state=state, reading=reading, holding=holding, energy=energy)
                    self._totals.add([span], getattr(gpu, f"{state}_ms"))
        return taken

    def _status(self) -> Status:
        gpus = self._last.gpus if self._last else ()
        readings = tuple(
            GpuReading(
                uuid=gpu.uuid, index=gpu.index or 0, model=gpu.model, energy_mj=self._energy_mj[gpu.uuid],
                power_mw=gpu.energy_mj.total() * 1000 // WINDOW_MS, utilization_percent=100 * gpu.active_ms // WINDOW_MS,
                memory_used_mib=70_000, memory_total_mib=81_920, temperature_c=55, core_clock_mhz=1980,
            )
            for gpu in gpus
        )  # fmt: skip
        return Status(
            version="0.1.0",
            gpus=readings,
            indices={gpu.uuid: str(gpu.index) for gpu in readings},
            totals=self._totals,
            polls=self._polls,
        )


class _Written:
    """Samples in the order that OpenMetrics wants: family by family."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[str, list[str]]] = {}

    def add(self, metrics: Iterable[Metric], at_ms: int, target: Mapping[str, str]) -> None:
        for metric in metrics:
            _, lines = self._families.setdefault(metric.name, (metric.type, []))
            for sample in metric.samples:
                labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in {**target, **sample.labels}.items())
                lines.append(f"{sample.name}{{{labels}}} {sample.value!r} {at_ms / 1000:.3f}")

    def text(self) -> str:
        parts = []
        for name, (kind, lines) in self._families.items():
            parts += [f"# TYPE {name} {kind}", *lines]
        return "\n".join([*parts, "# EOF", ""])


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
