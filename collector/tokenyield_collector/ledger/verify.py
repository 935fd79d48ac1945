"""Whether the books balance: what `tokenyield-collector verify` asks of a ledger, whichever engine keeps it.

In: a ledger. Out: findings, each with where and by how much; none when
* no window of a node is there twice;
* each hour is the sum of its windows, as far as these are kept;
* what workloads hold of the GPUs of a node is at most what those GPUs did;
* what reports read of each hour is all the time and energy of its GPUs.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any

from tokenyield_collector.ledger.base import Facts, Ledger
from tokenyield_collector.ledger.usage import CAPACITY_SUMS, UsageQuery
from tokenyield_collector.prices.period import iso
from tokenyield_wire.units import MS_PER_HOUR, hour_of_ms

KINDS = ("gpus", "shares", "tokens", "demand", "labels")
_WEIGHTS = {"prompt_computed": 1, "prompt_cached": 1, "prompt_unsplit": 1, "completion": 1}


def verify(ledger: Ledger, progress: Callable[[int, int], None] = lambda done, of: None) -> Iterator[str]:
    """Findings, in words. Brings hours up to date first, as a report does. `progress`: hours done, of how many."""
    ledger.roll()
    for cluster, node, start_ms, count in ledger.doubled():
        yield f"{cluster}/{node}: the window that starts at {iso(start_ms)} is there {count} times"
    hours = ledger.hours()
    windows_from_ms = ledger.windows_from_ms()
    for i, hour_ms in enumerate(hours):
        facts = ledger.facts_of_hours([hour_ms])
        if windows_from_ms is not None and hour_ms >= hour_of_ms(windows_from_ms):
            yield from _differences(hour_ms, facts, ledger.facts_between(hour_ms, hour_ms + MS_PER_HOUR))
        yield from _overheld(hour_ms, facts)
        yield from _unreported(hour_ms, facts, ledger)
        progress(i + 1, len(hours))


def _differences(hour_ms: int, hour: Facts, windows: Facts) -> Iterator[str]:
    for kind in KINDS:
        kept, summed = _by_key(getattr(hour, kind)), _by_key(getattr(windows, kind))
        for key in sorted(kept.keys() | summed.keys(), key=repr):
            if kept.get(key) != summed.get(key):
                said, of_windows = _told(kept.get(key)), _told(summed.get(key))
                yield f"{iso(hour_ms)} {kind} {'/'.join(key)}: the hour says {said}; its windows {of_windows}"


def _by_key(rows: Sequence[Any]) -> dict[tuple[str, ...], dict[str, int | None]]:
    """Names -> sums, without the hour."""
    found = {}
    for row in rows:
        values = {field.name: getattr(row, field.name) for field in fields(row) if field.name != "hour_ms"}
        names = tuple(value for value in values.values() if isinstance(value, str))
        found[names] = {name: value for name, value in values.items() if not isinstance(value, str)}
    return found


def _told(sums: dict[str, int | None] | None) -> str:
    return "nothing" if sums is None else ", ".join(f"{name} {value}" for name, value in sums.items() if value)


def _overheld(hour_ms: int, facts: Facts) -> Iterator[str]:
    held: Counter[tuple[str, str, str, str]] = Counter()
    for share in facts.shares:
        for name in ("active_ms", "idle_ms", "active_mj", "idle_mj"):
            held[share.cluster, share.node, share.gpu_model, name] += getattr(share, name)
    for gpu in facts.gpus:
        for name in ("active_ms", "idle_ms", "active_mj", "idle_mj"):
            here = held[gpu.cluster, gpu.node, gpu.gpu_model, name]
            if here > getattr(gpu, name):
                yield f"{iso(hour_ms)} {gpu.cluster}/{gpu.node}: workloads hold {here} {name} of {getattr(gpu, name)}"


def _unreported(hour_ms: int, facts: Facts, ledger: Ledger) -> Iterator[str]:
    usage = ledger.usage().usage(
        UsageQuery(
            start_ms=hour_ms,
            end_ms=hour_ms + MS_PER_HOUR,
            by_node=False,
            weights=_WEIGHTS,
            pool_of=lambda group: "all",
            segments={"all": [1]},
            references={},
            gateway_models={},
            group_of=lambda identity: 0,
        )
    )
    told = [sum(column) for column in zip(*(row.sums for row in usage.capacity), strict=True)] or [0] * len(
        CAPACITY_SUMS
    )
    kept = [sum(getattr(gpu, name) for gpu in facts.gpus) for name in CAPACITY_SUMS]
    if told != kept:
        yield f"{iso(hour_ms)}: reports read {dict(zip(CAPACITY_SUMS, told, strict=True))}, the hour has {kept}"
