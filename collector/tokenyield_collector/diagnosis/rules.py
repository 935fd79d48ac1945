"""The findings about one workload: a function each, with its thresholds above it. Pure.

Every finding is a rule over measured facts; where a fact is not measured, the rule is not applied. docs/diagnosis.md
has them in words.
"""

from tokenyield_collector.diagnosis.findings import HourlyCost, WorkloadFinding, gpu_count, part_of
from tokenyield_collector.diagnosis.history import WorkloadHistory
from tokenyield_collector.prices.money import decimal
from tokenyield_collector.prices.period import iso

PARKED = 0.5
"""Parked, where this part of the time held was parked, or more."""


def parked(history: WorkloadHistory, cost: HourlyCost | None, last_token_ms: int | None) -> WorkloadFinding | None:
    part = history.sum("parked_ms") / history.held_ms if history.held_ms else 0.0
    if part < PARKED:
        return None
    since = f"no token since {_clock(last_token_ms)}" if last_token_ms is not None else "no token while it was watched"
    sm = history.activity("sm")
    polls = f", though its SMs were {sm:.1%} busy" if sm else ""
    return WorkloadFinding(
        kind="parked",
        text=f"holds {gpu_count(history.gpus)}, {since}{polls}",
        evidence={"parked_share": part, "gpus": history.gpus},
        at_stake=part_of(cost.allocated if cost else None, part),
    )


def _clock(at_ms: int) -> str:
    """UTC, to the minute, with the day: it may be read on another."""
    return f"{iso(at_ms)[:16].replace('T', ' ')} UTC"


STARVED_BUSY = 0.5
"""Starved, where kernels ran for less than this part of the time held..."""
STARVED_WAITING = 0.1
"""...and fewer requests than this waited on average."""


def starved(history: WorkloadHistory, cost: HourlyCost | None) -> WorkloadFinding | None:
    waiting = history.load("waiting_request_ms")
    if history.busy >= STARVED_BUSY or (waiting is not None and waiting >= STARVED_WAITING):
        return None
    queue = "" if waiting is None else f"; {waiting:.2g} requests waited on average"
    idle = None if cost is None else cost.allocated - cost.direct
    return WorkloadFinding(
        kind="starved",
        text=f"kernels ran {history.busy:.0%} of the time that it held {gpu_count(history.gpus)}{queue}: "
        "send it more, share the GPUs, or scale it down while there are no requests",
        evidence={"busy": history.busy} | ({} if waiting is None else {"waiting": waiting}),
        at_stake=None if idle is None else decimal(idle),
    )


SATURATED_WAITING = 1.0
"""Saturated, where as many requests waited on average, or more."""
CACHE_FULL = 0.9


def saturated(history: WorkloadHistory) -> WorkloadFinding | None:
    waiting, cache = history.load("waiting_request_ms"), history.load("cache_used_ms")
    if waiting is None or waiting < SATURATED_WAITING:
        return None
    is_full = cache is not None and cache >= CACHE_FULL
    why = (
        f" and its KV cache was {cache:.0%} full: a shorter context, a smaller cache type or one more instance helps"
        if is_full
        else ": raise how many requests it runs at once, or add an instance"
    )
    return WorkloadFinding(
        kind="saturated",
        text=f"{waiting:.1f} requests waited on average{why}",
        evidence={"waiting": waiting} | ({} if cache is None else {"cache_used": cache}),
    )


MEMORY_BOUND_DRAM = 0.5
"""Memory-bound, where this part of the memory's bandwidth was used or more, and the tensor cores half as much or
less."""


def memory_bound(history: WorkloadHistory, cost: HourlyCost | None) -> WorkloadFinding | None:
    dram, tensor = history.activity("dram"), history.activity("tensor")
    if dram is None or tensor is None or dram < MEMORY_BOUND_DRAM or tensor > dram / 2:
        return None
    running, pace = history.load("running_request_ms"), history.pace_to_best()
    batch = "" if running is None else f" with {running:.1f} requests at once"
    return WorkloadFinding(
        kind="memory_bound",
        text=f"while it worked{batch} it used {dram:.0%} of the memory's bandwidth and {tensor:.0%} of its tensor "
        "cores: decoding waits for memory. More requests at once, smaller weights (FP8, INT4) or speculative decoding "
        "make more of each read",
        evidence={"dram": dram, "tensor": tensor} | ({} if running is None else {"running": running}),
        at_stake=None if cost is None or pace is None else part_of(cost.direct, 1 - pace),
    )


PREFILL_HEAVY = 10.0
"""Prompt tokens computed for each completion token; a token of a prompt costs about a tenth of a decoded one."""


def prefill_heavy(history: WorkloadHistory) -> WorkloadFinding | None:
    computed, completion = history.made_sum("prompt_computed"), history.made_sum("completion")
    if not computed or not completion or computed < PREFILL_HEAVY * completion:
        return None
    cached = history.made_sum("prompt_cached")
    hits = "" if cached is None else f"; {cached / (cached + computed):.0%} of all prompt tokens came from the cache"
    return WorkloadFinding(
        kind="prefill_heavy",
        text=f"{computed / completion:.0f} prompt tokens were computed for each completion token{hits}: put common "
        "beginnings first, use a larger prefix cache, or GPUs of their own for prefill",
        evidence={"prompt_per_completion": computed / completion}
        | ({} if cached is None else {"cached_share": cached / (cached + computed)}),
    )


THROTTLED = 0.02
"""Throttled, where this part of the active time was lost by it, or more."""


def throttled(history: WorkloadHistory, cost: HourlyCost | None) -> WorkloadFinding | None:
    active_ms = history.sum("active_ms")
    lost = history.sum("throttled_lost_ms") / active_ms if active_ms else 0.0
    if lost < THROTTLED:
        return None
    part = min(1.0, history.sum("throttled_ms") / active_ms)
    return WorkloadFinding(
        kind="throttled",
        text=f"clocks were held down for {part:.0%} of the active time, which took at most {lost:.1%} of what the GPUs "
        "can do; tokenyield_gpu_throttled_seconds_total shows the reasons",
        evidence={"throttled_share": part, "lost_share": lost},
        at_stake=part_of(cost.direct if cost else None, lost),
    )
