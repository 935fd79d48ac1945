"""The finding over all instances of a model: fewer of them would do. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import ceil

from tokenyield_collector.diagnosis.findings import HourlyCost, WorkloadFinding, gpu_count, part_of
from tokenyield_collector.diagnosis.history import WorkloadHistory
from tokenyield_wire.units import MS_PER_SECOND

ROOM = 0.85
"""How far the GPUs that would do may be used."""


def over_provisioned(
    histories: Sequence[WorkloadHistory], costs: Mapping[tuple[str, str], HourlyCost], step_ms: int
) -> dict[tuple[str, str], WorkloadFinding]:
    """By cluster and workload. Instances of one model on GPUs of one kind can replace each other."""
    groups: dict[tuple[str, str, str], list[WorkloadHistory]] = defaultdict(list)
    for history in histories:
        if history.model and history.has_tokens:
            groups[history.cluster, history.model, history.gpu_model].append(history)
    findings: dict[tuple[str, str], WorkloadFinding] = {}
    for instances in groups.values():
        findings |= _spare(instances, costs, step_ms)
    return findings


def _spare(
    instances: Sequence[WorkloadHistory], costs: Mapping[tuple[str, str], HourlyCost], step_ms: int
) -> dict[tuple[str, str], WorkloadFinding]:
    """The least busy instances beyond those that are needed at the busiest time, each at the best pace that any of them
    has shown."""
    completion_at: dict[int, int] = defaultdict(int)
    best = 0
    for history in instances:
        for slot_ms, slot in history.slots.items():
            completion_at[slot_ms] += slot.completion
            best = max(best, slot.completion)
    if len(instances) < 2 or not best:
        return {}
    peak = max(completion_at.values())
    needed = ceil(peak / (ROOM * best))
    gpus = max(history.gpus for history in instances)
    text = (
        f"{needed} of {len(instances)} instances of {instances[0].model} would do ({gpu_count(needed * gpus)}): at the "
        f"busiest time all made {peak * MS_PER_SECOND / step_ms:,.0f} tokens/s, and one alone has made "
        f"{best * MS_PER_SECOND / step_ms:,.0f}"
    )
    evidence = {"instances": len(instances), "needed": needed, "peak_tokens_per_s": peak * MS_PER_SECOND / step_ms}
    least_busy = sorted(instances, key=lambda history: (history.made_sum("completion") or 0, history.workload))
    findings = {}
    for history in least_busy[: max(0, len(instances) - needed)]:
        key = (history.cluster, history.workload)
        cost = costs.get(key)
        at_stake = part_of(cost.allocated if cost else None, 1.0)
        findings[key] = WorkloadFinding(kind="over_provisioned", text=text, evidence=evidence, at_stake=at_stake)
    return findings
