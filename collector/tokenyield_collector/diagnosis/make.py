"""Diagnoses of a stretch of the ledger, as a document.

In: a ledger and the policy. Out: what `/v1/diagnosis` answers and `tokenyield-collector diagnose` shows.
"""

from collections.abc import Sequence
from decimal import Decimal

from tokenyield_collector.diagnosis.diagnose import diagnose
from tokenyield_collector.diagnosis.findings import Diagnosis, HourlyCost
from tokenyield_collector.diagnosis.history import histories
from tokenyield_collector.diagnosis.stakes import Stakes
from tokenyield_collector.http.schemas import DiagnosesDocument, DiagnosisDocument
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.live.live_view import LiveView, read_live_view
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.period import iso
from tokenyield_collector.statements.names import own_name
from tokenyield_wire.units import MS_PER_HOUR

STEP_MS = 60_000
WINDOW_S_MAX = 7 * 86_400
LOSS_PERCENT = 2.0
"""Percent of the tokens that a power cap may cost."""


def diagnoses(
    ledger: Ledger, policy: Policy, start_ms: int, end_ms: int, *, loss_percent: float = LOSS_PERCENT
) -> DiagnosesDocument:
    """Of [start, end), as far as windows are kept. Raises `LedgerError`."""
    kept_ms = ledger.windows_from_ms()
    start_ms = min(max(start_ms, end_ms if kept_ms is None else kept_ms), end_ms)
    made: list[Diagnosis] = []
    if start_ms < end_ms:
        live = read_live_view(ledger, policy, start_ms, end_ms)
        made = diagnose(
            histories(ledger.work_between(start_ms, end_ms, STEP_MS), ledger.made_between(start_ms, end_ms, STEP_MS)),
            _costs(live),
            ledger.last_tokens(),
            step_ms=STEP_MS,
            loss=loss_percent / 100,
        )
    stakes = Stakes(made)
    return {
        "start": iso(start_ms),
        "end": iso(end_ms),
        "currency": policy.prices.currency,
        "loss_percent": loss_percent,
        "at_stake_per_hour": stakes.total,
        "shown": stakes.shown_total,
        "shown_decimals": stakes.decimals,
        "workloads": [_document(diagnosis, stakes.of(at)) for at, diagnosis in enumerate(made)],
    }


def _costs(live: LiveView) -> dict[tuple[str, str], HourlyCost]:
    """Of the workloads that have a price, by cluster and workload."""
    costs = {}
    for row in live.workloads:
        direct, allocated, energy_mj = row.quanta("direct"), row.quanta("allocated"), row.sums.get("gpu_mj")
        if direct is not None and allocated is not None:
            costs[row.cluster, row.workload] = HourlyCost(
                direct=direct * MS_PER_HOUR // live.elapsed_ms,
                allocated=allocated * MS_PER_HOUR // live.elapsed_ms,
                per_mj=row.sums.component("energy") // energy_mj if energy_mj else 0,
            )
    return costs


def _document(diagnosis: Diagnosis, shown: Sequence[Decimal | None]) -> DiagnosisDocument:
    return {
        "cluster": own_name(diagnosis.cluster),
        "workload": own_name(diagnosis.workload),
        "server": diagnosis.server,
        "model": own_name(diagnosis.model) or None,
        "gpu_model": diagnosis.gpu_model,
        "gpus": diagnosis.gpus,
        "cost_per_hour": diagnosis.cost_per_hour,
        "findings": [
            {
                "kind": finding.kind,
                "text": finding.text,
                "evidence": {name: round(value, 4) for name, value in finding.evidence.items()},
                "at_stake_per_hour": finding.at_stake,
                "shown": at_stake,
            }
            for finding, at_stake in zip(diagnosis.findings, shown, strict=True)
        ],
        "unknown": list(diagnosis.unknown),
    }
