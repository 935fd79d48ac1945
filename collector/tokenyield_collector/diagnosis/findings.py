"""What a diagnosis consists of: findings, with their evidence and the money at stake. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from tokenyield_collector.prices.money import decimal

KINDS = {
    "parked": "held, and no token for long",
    "starved": "GPUs wait for requests",
    "saturated": "requests wait for GPUs",
    "memory_bound": "decoding waits for memory",
    "prefill_heavy": "most work is reading prompts",
    "throttled": "clocks are held down",
    "over_provisioned": "fewer GPUs would do",
    "power_cap": "a lower power limit would cost few tokens",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HourlyCost:
    """What a workload costs in an hour at this pace, in quanta: its active time, and everything it holds; and the price
    of a mJ."""

    direct: int
    allocated: int
    per_mj: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadFinding:
    """`kind` is one of `KINDS`; `at_stake` is per hour, None where there is no price or no cost is meant."""

    kind: str
    text: str
    evidence: Mapping[str, float] = field(default_factory=dict)
    at_stake: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Everything that was found about one workload; the most expensive finding first."""

    cluster: str
    workload: str
    server: str
    model: str
    gpu_model: str
    gpus: int
    cost_per_hour: Decimal | None
    findings: Sequence[WorkloadFinding] = ()
    unknown: Sequence[str] = ()
    """What could not be examined, and why."""


def part_of(cost: int | None, part: float) -> Decimal | None:
    """That part of a cost in quanta; None without a price."""
    return None if cost is None else decimal(round(cost * part))


def gpu_count(count: int) -> str:
    return f"{count} GPU" if count == 1 else f"{count} GPUs"
