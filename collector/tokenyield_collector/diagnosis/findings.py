"""Diagnoses: what keeps each workload from yielding more, in words, with evidence and the money at stake. Pure.

In: the courses of the workloads, what each costs an hour, the price of energy. Out: a `Diagnosis` for each workload.

Every finding is a rule over measured facts, whose thresholds stand below and in docs/diagnosis.md; where a fact is not
measured the rule is not applied, and `untold` says what is missing. Money at stake is what an hour at this pace costs
of the part that the finding speaks of: an upper bound of what could be saved, not a promise. Of work that waits for
memory it is what its tokens would have cost less at the best pace that the same workload has shown.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from math import ceil

from tokenyield_collector.diagnosis.power_cap import advise
from tokenyield_collector.diagnosis.sums import Course
from tokenyield_collector.prices.money import decimal
from tokenyield_collector.prices.period import iso
from tokenyield_wire.units import MS_PER_HOUR, MS_PER_SECOND

PARKED = 0.5
"""Parked, where that is this part of the time held or more."""
STARVED_BUSY = 0.5
"""Starved, where kernels ran for less than this part of the time held..."""
STARVED_WAITING = 0.1
"""...and fewer requests than this waited in the mean."""
SATURATED_WAITING = 1.0
CACHE_FULL = 0.9
MEMORY_BOUND_DRAM = 0.5
"""Memory-bound, where this part of the memory's bandwidth was used or more, and the tensor cores half as much or
less."""
PREFILL_HEAVY = 10.0
"""Prompt tokens computed for each completion token; a token of a prompt costs about a tenth of a decoded one."""
THROTTLED = 0.02
"""Throttled, where this part of the active time or more was lost by it."""
ROOM = 0.85
"""How far the GPUs that would do may be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HourlyCost:
    """What a workload costs in an hour at this pace, in quanta: its active time, and all that it holds; and the price
    of a mJ."""

    direct: int
    allocated: int
    per_mj: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`kind` is one of `KINDS`; `at_stake` is per hour, None where no price is known or none is meant."""

    kind: str
    text: str
    evidence: Mapping[str, float] = field(default_factory=dict)
    at_stake: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All that is found of one workload; the costliest finding first."""

    cluster: str
    workload: str
    server: str
    model: str
    gpu_model: str
    gpus: int
    cost_per_hour: Decimal | None
    findings: Sequence[Finding] = ()
    untold: Sequence[str] = ()
    """What could not be looked at, and why."""


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


def diagnose(
    courses: Sequence[Course],
    costs: Mapping[tuple[str, str], HourlyCost],
    last_token_ms: Mapping[tuple[str, str], int],
    *,
    step_ms: int,
    loss: float,
) -> list[Diagnosis]:
    """`costs` by cluster and workload, without those that have no price. `loss`: the part of tokens that a power cap
    may cost."""
    spare = _over_provisioned(courses, costs, step_ms)
    found = []
    for course in courses:
        key = (course.cluster, course.workload)
        cost = costs.get(key)
        looked = [
            _parked(course, cost, last_token_ms.get(key)),
            _starved(course, cost),
            _saturated(course),
            _memory_bound(course, cost),
            _prefill_heavy(course),
            _throttled(course, cost),
            spare.get(key),
            _power_cap(course, cost, step_ms, loss),
        ]
        findings = [finding for finding in looked if finding is not None]
        if findings and findings[0].kind == "parked":
            findings = findings[:1]  # it says all of a workload that does nothing
        findings.sort(key=lambda finding: -(finding.at_stake or 0))
        found.append(
            Diagnosis(
                cluster=course.cluster,
                workload=course.workload,
                server=course.server,
                model=course.model,
                gpu_model=course.gpu_model,
                gpus=course.gpus,
                cost_per_hour=None if cost is None else decimal(cost.allocated),
                findings=findings,
                untold=list(_untold(course)),
            )
        )
    return sorted(found, key=lambda one: (-max((f.at_stake or Decimal(0) for f in one.findings), default=Decimal(0)),
                                          one.cluster, one.workload))  # fmt: skip


def _untold(course: Course) -> Iterable[str]:
    if not course.has_tokens:
        yield "its tokens are not read: name its log or its metrics endpoint"
    if course.activity("sm") is None:
        yield "no GPM counters (GPUs before Hopper, or a profiler holds them): what its kernels wait for is not known"
    if course.load("waiting_request_ms") is None:
        yield "its queue is not told: let the agent read the server's metrics endpoint"


def _part(cost: int | None, part: float) -> Decimal | None:
    return None if cost is None else decimal(round(cost * part))


def _parked(course: Course, cost: HourlyCost | None, last_token_ms: int | None) -> Finding | None:
    part = course.sum("parked_ms") / course.held_ms if course.held_ms else 0.0
    if part < PARKED:
        return None
    since = f"no token since {_clock(last_token_ms)}" if last_token_ms is not None else "no token while it was watched"
    sm = course.activity("sm")
    polls = f", though its SMs were {sm:.1%} busy" if sm else ""
    return Finding(
        kind="parked",
        text=f"holds {_gpus(course.gpus)}, {since}{polls}",
        evidence={"parked_share": part, "gpus": course.gpus},
        at_stake=_part(cost.allocated if cost else None, part),
    )


def _clock(at_ms: int) -> str:
    """UTC, to the minute, with the day: who reads this may do so on another."""
    return f"{iso(at_ms)[:16].replace('T', ' ')} UTC"


def _starved(course: Course, cost: HourlyCost | None) -> Finding | None:
    waiting = course.load("waiting_request_ms")
    if course.busy >= STARVED_BUSY or (waiting is not None and waiting >= STARVED_WAITING):
        return None
    queue = "" if waiting is None else f"; {waiting:.2g} requests waited in the mean"
    idle = None if cost is None else cost.allocated - cost.direct
    return Finding(
        kind="starved",
        text=f"kernels ran {course.busy:.0%} of the time that it held {_gpus(course.gpus)}{queue}: "
        "send it more, share the GPUs, or scale it down while nobody asks",
        evidence={"busy": course.busy} | ({} if waiting is None else {"waiting": waiting}),
        at_stake=None if idle is None else decimal(idle),
    )


def _saturated(course: Course) -> Finding | None:
    waiting, cache = course.load("waiting_request_ms"), course.load("cache_used_ms")
    if waiting is None or waiting < SATURATED_WAITING:
        return None
    is_full = cache is not None and cache >= CACHE_FULL
    why = (
        f" and its KV cache was {cache:.0%} full: a shorter context, a smaller cache type or one more instance helps"
        if is_full
        else ": raise how many requests it runs at once, or add an instance"
    )
    return Finding(
        kind="saturated",
        text=f"{waiting:.1f} requests waited in the mean{why}",
        evidence={"waiting": waiting} | ({} if cache is None else {"cache_used": cache}),
    )


def _memory_bound(course: Course, cost: HourlyCost | None) -> Finding | None:
    dram, tensor = course.activity("dram"), course.activity("tensor")
    if dram is None or tensor is None or dram < MEMORY_BOUND_DRAM or tensor > dram / 2:
        return None
    running, pace = course.load("running_request_ms"), course.pace_to_best()
    batch = "" if running is None else f" with {running:.1f} requests at once"
    return Finding(
        kind="memory_bound",
        text=f"while it worked{batch} it used {dram:.0%} of the memory's bandwidth and {tensor:.0%} of its tensor "
        "cores: decoding waits for memory. More requests at once, smaller weights (FP8, INT4) or speculative decoding "
        "make more of each read",
        evidence={"dram": dram, "tensor": tensor} | ({} if running is None else {"running": running}),
        at_stake=None if cost is None or pace is None else _part(cost.direct, 1 - pace),
    )


def _prefill_heavy(course: Course) -> Finding | None:
    computed, completion = course.made_sum("prompt_computed"), course.made_sum("completion")
    if not computed or not completion or computed < PREFILL_HEAVY * completion:
        return None
    cached = course.made_sum("prompt_cached")
    hits = "" if cached is None else f"; {cached / (cached + computed):.0%} of all prompt tokens came from the cache"
    return Finding(
        kind="prefill_heavy",
        text=f"{computed / completion:.0f} prompt tokens were computed for each that was made{hits}: common beginnings "
        "first, a larger prefix cache, or prefill on GPUs of its own",
        evidence={"prompt_per_completion": computed / completion}
        | ({} if cached is None else {"cached_share": cached / (cached + computed)}),
    )


def _throttled(course: Course, cost: HourlyCost | None) -> Finding | None:
    active_ms = course.sum("active_ms")
    lost = course.sum("throttled_lost_ms") / active_ms if active_ms else 0.0
    if lost < THROTTLED:
        return None
    part = min(1.0, course.sum("throttled_ms") / active_ms)
    return Finding(
        kind="throttled",
        text=f"clocks were held down for {part:.0%} of the active time, which took at most {lost:.1%} of what the GPUs "
        "can do; tokenyield_gpu_throttled_seconds_total tells the reasons",
        evidence={"throttled_share": part, "lost_share": lost},
        at_stake=_part(cost.direct if cost else None, lost),
    )


def _over_provisioned(
    courses: Sequence[Course], costs: Mapping[tuple[str, str], HourlyCost], step_ms: int
) -> dict[tuple[str, str], Finding]:
    """Instances of one model on GPUs of one kind do each other's work: so many would have done at the busiest time,
    each at the pace that the best of them has shown."""
    groups: dict[tuple[str, str, str], list[Course]] = defaultdict(list)
    for course in courses:
        if course.model and course.has_tokens:
            groups[course.cluster, course.model, course.gpu_model].append(course)
    found: dict[tuple[str, str], Finding] = {}
    for (_, model, _), instances in groups.items():
        made: dict[int, int] = defaultdict(int)
        best = 0
        for course in instances:
            for slot_ms, slot in course.slots.items():
                made[slot_ms] += slot.completion
                best = max(best, slot.completion)
        if len(instances) < 2 or not best:
            continue
        peak = max(made.values())
        wanted = ceil(peak / (ROOM * best))
        spare = len(instances) - wanted
        if spare < 1:
            continue
        gpus = max(course.gpus for course in instances)
        least = sorted(instances, key=lambda course: (course.made_sum("completion") or 0, course.workload))[:spare]
        for course in least:
            cost = costs.get((course.cluster, course.workload))
            found[course.cluster, course.workload] = Finding(
                kind="over_provisioned",
                text=f"{wanted} of {len(instances)} instances of {model} would do ({_gpus(wanted * gpus)}): at the "
                f"busiest time all made {peak * MS_PER_SECOND / step_ms:,.0f} tokens/s, and one alone has made "
                f"{best * MS_PER_SECOND / step_ms:,.0f}",
                evidence={"instances": len(instances), "wanted": wanted, "peak_tokens_per_s": peak * 1000 / step_ms},
                at_stake=_part(cost.allocated if cost else None, 1.0),
            )
    return found


def _power_cap(course: Course, cost: HourlyCost | None, step_ms: int, loss: float) -> Finding | None:
    advice = advise(course.slots.values(), step_ms=step_ms, loss=loss)
    if advice is None:
        return None
    saved_mj = round(advice.saved_watts * course.gpus * MS_PER_HOUR)
    return Finding(
        kind="power_cap",
        text=f"a power limit of {advice.cap_watts} W a GPU would have cost {advice.lost:.1%} of its tokens at most "
        f"and saved {advice.saved_watts:.0f} of {advice.mean_watts:.0f} W, by {advice.slots} minutes at work; it is "
        "offered, never set: nvidia-smi --power-limit",
        evidence={
            "cap_watts": advice.cap_watts,
            "lost_share": advice.lost,
            "saved_watts": advice.saved_watts,
            "mean_watts": advice.mean_watts,
        },
        at_stake=None if cost is None or not cost.per_mj else decimal(cost.per_mj * saved_mj),
    )


def _gpus(count: int) -> str:
    return f"{count} GPU" if count == 1 else f"{count} GPUs"
