"""Diagnoses: why each workload yields what it yields, in words, with evidence and the money at stake. Pure.

In: the histories of the workloads, what each costs an hour, the price of energy. Out: a `Diagnosis` for each workload.

Money at stake is what the part that a finding is about costs in an hour at this pace: an upper bound of what could be
saved, not a promise. Of work that waits for memory it is what its tokens cost more than at the best pace that the same
workload has shown.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from tokenyield_collector.diagnosis import rules
from tokenyield_collector.diagnosis.findings import Diagnosis, HourlyCost, WorkloadFinding
from tokenyield_collector.diagnosis.history import WorkloadHistory
from tokenyield_collector.diagnosis.over_provisioned import over_provisioned
from tokenyield_collector.diagnosis.power_cap import power_cap
from tokenyield_collector.prices.money import decimal


def diagnose(
    histories: Sequence[WorkloadHistory],
    costs: Mapping[tuple[str, str], HourlyCost],
    last_token_ms: Mapping[tuple[str, str], int],
    *,
    step_ms: int,
    loss: float,
) -> list[Diagnosis]:
    """`costs` by cluster and workload, without those that have no price. `loss`: the part of tokens that a power cap
    may cost."""
    spare = over_provisioned(histories, costs, step_ms)
    diagnoses = []
    for history in histories:
        key = (history.cluster, history.workload)
        cost = costs.get(key)
        findings = [
            rules.parked(history, cost, last_token_ms.get(key)),
            rules.starved(history, cost),
            rules.saturated(history),
            rules.memory_bound(history, cost),
            rules.prefill_heavy(history),
            rules.throttled(history, cost),
            spare.get(key),
            power_cap(history, cost, step_ms, loss),
        ]
        diagnoses.append(_diagnosis(history, cost, [finding for finding in findings if finding is not None]))
    return sorted(diagnoses, key=lambda diagnosis: (-_most(diagnosis.findings), diagnosis.cluster, diagnosis.workload))


def _diagnosis(history: WorkloadHistory, cost: HourlyCost | None, findings: list[WorkloadFinding]) -> Diagnosis:
    if findings and findings[0].kind == "parked":
        findings = findings[:1]  # nothing more to find about a workload that does nothing
    return Diagnosis(
        cluster=history.cluster,
        workload=history.workload,
        server=history.server,
        model=history.model,
        gpu_model=history.gpu_model,
        gpus=history.gpus,
        cost_per_hour=None if cost is None else decimal(cost.allocated),
        findings=sorted(findings, key=lambda finding: -(finding.at_stake or 0)),
        unknown=list(_unknown(history)),
    )


def _most(findings: Sequence[WorkloadFinding]) -> Decimal:
    return max((finding.at_stake or Decimal(0) for finding in findings), default=Decimal(0))


def _unknown(history: WorkloadHistory) -> Iterable[str]:
    if not history.has_tokens:
        yield "its tokens are not read: name its log or its metrics endpoint"
    if history.activity("sm") is None:
        yield "no GPM counters (GPUs before Hopper, or a profiler holds them): what its kernels wait for is not known"
    if history.load("waiting_request_ms") is None:
        yield "its queue is not reported: let the agent read the server's metrics endpoint"
