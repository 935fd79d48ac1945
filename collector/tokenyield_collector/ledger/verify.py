"""Whether a ledger's sums agree: what `tokenyield-collector verify` checks, whichever engine keeps them.

In: a ledger. Out: findings, each with where and by how much; none when
* no window of a node is there twice;
* the batches that it lists as received are those that are there;
* no window is beyond what can have been measured (quarantine.py);
* each hour is the sum of its windows, as far as these are kept;
* what workloads held of the GPUs of a node is at most what those GPUs did;
* what reports read of each hour is all the time and energy of its GPUs, each once;
* no count of outcomes is there twice, or out of bounds;
* no line of spend is there twice, or out of bounds.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tokenyield_collector.errors import UnstorableShipment
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger.facts import FACT_KINDS, FactKind, Facts
from tokenyield_collector.ledger.outcomes import outcome_findings
from tokenyield_collector.ledger.quarantine import Impossible
from tokenyield_collector.ledger.receipts import ReceiptDifference
from tokenyield_collector.ledger.tables import INTEGER_MAX
from tokenyield_collector.ledger.usage import CAPACITY_SUMS, UsageQuery
from tokenyield_collector.prices.period import iso
from tokenyield_collector.spend.slices import spend_findings
from tokenyield_wire.units import MS_PER_HOUR, hour_of_ms
from tokenyield_wire.window import TOKEN_KINDS

Sums = dict[str, int | None]
HELD_SUMS = ("active_ms", "idle_ms", "active_mj", "idle_mj")


def verify(ledger: Ledger, progress: Callable[[int, int], None] = lambda done, of: None) -> Iterator[str]:
    """Findings, in words. Brings hours up to date first, as a report does. `progress`: hours done, of how many."""
    if (failure := _roll(ledger)) is not None:
        yield failure
    for cluster, node, start_ms, count in ledger.doubled():
        yield f"{cluster}/{node}: the window that starts at {iso(start_ms)} is there {count} times"
    for differing in ledger.receipt_differences():
        yield _received_in_words(differing)
    yield from outcome_findings(ledger.outcomes(0, INTEGER_MAX))
    yield from spend_findings(ledger.spend(0, INTEGER_MAX))
    hours = ledger.hours()
    windows_from_ms = ledger.windows_from_ms()
    for i, hour_ms in enumerate(hours):
        yield from map(in_words, ledger.impossible(hour_ms))
        facts = ledger.facts_of_hours([hour_ms])
        if windows_from_ms is not None and hour_ms >= hour_of_ms(windows_from_ms):
            yield from _differences(hour_ms, facts, ledger.facts_between(hour_ms, hour_ms + MS_PER_HOUR))
        yield from _overheld(hour_ms, facts)
        if failure is None:
            yield from _unreported(hour_ms, facts, ledger)
        progress(i + 1, len(hours))


def _roll(ledger: Ledger) -> str | None:
    """Why hours cannot be rolled up, where that is for their values; the disk is another matter."""
    try:
        ledger.roll()
    except UnstorableShipment as error:
        return f"reports cannot be made: {error}; `verify --quarantine` moves such windows aside"
    return None


def quarantine(
    ledger: Ledger, moved_ms: int, progress: Callable[[int, int], None] = lambda done, of: None
) -> Iterator[Impossible]:
    """Move aside what cannot have been measured, hour by hour; gives what was moved. Ends what an earlier run began."""
    _roll(ledger)
    ledger.quarantine([], moved_ms)
    hours = ledger.hours()
    for i, hour_ms in enumerate(hours):
        while found := ledger.impossible(hour_ms):
            ledger.quarantine(found, moved_ms)
            yield from found
        progress(i + 1, len(hours))
    _roll(ledger)


def in_words(one: Impossible) -> str:
    what = "the window that starts at" if one.span == "windows" else "the hour"
    return f"{one.cluster}/{one.node}: {what} {iso(one.start_ms)} cannot be: {one.reason}"


def _received_in_words(one: ReceiptDifference) -> str:
    how = "are there, but not listed as received" if one.are_there else "are listed as received, but not there"
    return f"{one.cluster}/{one.node}: batches {one.first_seq} to {one.last_seq} of the hour {iso(one.hour_ms)} {how}"


def _differences(hour_ms: int, hour: Facts, windows: Facts) -> Iterator[str]:
    for kind in FACT_KINDS:
        kept, summed = _by_key(kind, hour), _by_key(kind, windows)
        for key in sorted(kept.keys() | summed.keys()):
            if kept.get(key) != summed.get(key):
                of_hour, of_windows = _in_words(kept.get(key)), _in_words(summed.get(key))
                yield f"{iso(hour_ms)} {kind.field} {'/'.join(key)}: the hour has {of_hour}; its windows {of_windows}"


def _by_key(kind: FactKind, facts: Facts) -> dict[tuple[str, ...], Sums]:
    """Keys -> sums, without the hour."""
    sums = [name for name in kind.names if name not in ("hour_ms", *kind.keys)]
    rows: Sequence[Any] = getattr(facts, kind.field)
    return {tuple(getattr(row, key) for key in kind.keys): {name: getattr(row, name) for name in sums} for row in rows}


def _in_words(sums: Sums | None) -> str:
    return "nothing" if sums is None else ", ".join(f"{name} {value}" for name, value in sums.items() if value)


def _overheld(hour_ms: int, facts: Facts) -> Iterator[str]:
    held: Counter[tuple[str, str, str, str]] = Counter()
    for share in facts.shares:
        for name in HELD_SUMS:
            held[share.cluster, share.node, share.gpu_model, name] += getattr(share, name)
    for gpu in facts.gpus:
        for name in HELD_SUMS:
            of_workloads, whole = held[gpu.cluster, gpu.node, gpu.gpu_model, name], getattr(gpu, name)
            if of_workloads > whole:
                yield f"{iso(hour_ms)} {gpu.cluster}/{gpu.node}: workloads hold {of_workloads} {name} of {whole}"


def _unreported(hour_ms: int, facts: Facts, ledger: Ledger) -> Iterator[str]:
    reader = ledger.usage()
    contested = [gpu.left_out for gpu in reader.contested_gpus(hour_ms, hour_ms + MS_PER_HOUR)]
    usage = reader.usage(
        UsageQuery(
            start_ms=hour_ms,
            end_ms=hour_ms + MS_PER_HOUR,
            by_node=False,
            weights=dict.fromkeys(TOKEN_KINDS, 1),
            chain_of=lambda group: "all",
            segments={"all": [1]},
            references={},
            gateway_models={},
            group_of=lambda identity: 0,
        )
    )
    rows = [row.sums for row in usage.capacity]
    read = {name: sum(sums[i] for sums in rows) for i, name in enumerate(CAPACITY_SUMS)}
    kept = {name: sum(getattr(gpu, name) for gpu in facts.gpus) for name in CAPACITY_SUMS}
    left_out = {name: sum(sums[i] for sums in contested) for i, name in enumerate(CAPACITY_SUMS)}
    if any(read[name] + left_out[name] != kept[name] for name in CAPACITY_SUMS):
        others = f", of which {left_out} is left out as other nodes' GPUs" if any(left_out.values()) else ""
        yield f"{iso(hour_ms)}: reports read {read}, the hour has {kept}{others}"
