"""Why a closed period's version differs from the one before: every cause by name. Pure.

In: the record of a version and its content, what the same period would be now, and lines of days that differ. Out:
changes, a line each. Where lines differ and nothing is named, there is no new version: that is a finding.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from tokenyield_collector.ledger.usage import USAGE_KINDS, ModelInstance
from tokenyield_collector.prices.period import iso
from tokenyield_collector.reports.closed_day import KeyedLines
from tokenyield_collector.reports.document_changes import differences
from tokenyield_collector.reports.version_content import ClosedDayEntry
from tokenyield_collector.statements.buckets import BUCKETS
from tokenyield_collector.statements.lines import FIELD_AT, LineKey
from tokenyield_collector.statements.references import AppliedReference
from tokenyield_collector.statements.source import NO_NODE

NAMES_SHOWN = 4
LINES_KEPT_NOW = "computing: lines are kept since this version"
"""Versions of older collectors are known by their inputs alone."""
CHANGES_KEPT = 500
"""Lines of one version; what is beyond is counted."""
CHANGES_SHOWN = 6
"""In a report's note; all are in the list of versions."""
BESIDE_LINES = ("prices: currency", "prices: token_weights", "prices: api_prices", "attribution: focus")
"""Changes that a report shows though no line differs."""
_TIMES_AT = tuple(FIELD_AT[name] for name in (f"{bucket}_ms" for bucket in BUCKETS))
_COUNTED_AT = tuple(FIELD_AT[name] for name in USAGE_KINDS)
_GPU_MJ_AT = FIELD_AT["gpu_mj"]


def policy_changes(before: tuple[str, str], after: tuple[str, str]) -> list[str]:
    """Of (price book, rules) as JSON. Budgets are no part of a statement."""
    changes = [f"prices: {change}" for change in differences(before[0], after[0])]
    return changes + [
        f"attribution: {change}" for change in differences(before[1], after[1]) if not change.startswith("budgets")
    ]


def shows_beside_lines(changes: Iterable[str]) -> bool:
    return any(change.startswith(BESIDE_LINES) for change in changes)


def pace_changes(before: Sequence[AppliedReference], after: Sequence[AppliedReference]) -> list[str]:
    """Learned paces; those that are configured are in the price book."""
    old, new = ({one.place: one for one in paces if one.source == "learned"} for paces in (before, after))
    return [
        f"pace: {_place(place)}: {_pace(old.get(place))} -> {_pace(new.get(place))}"
        for place in sorted(old.keys() | new.keys())
        if old.get(place) != new.get(place)
    ]


def _place(place: tuple[ModelInstance, tuple[str, str]]) -> str:
    instance, (cluster, node) = place
    on = f" of {cluster}/{node}" if node else ""
    return f"{instance.model} on {instance.gpus} {instance.gpu_model}{on}"


def _pace(reference: AppliedReference | None) -> str:
    if reference is None:
        return "(nothing)"
    hour = f" of {iso(reference.evidence.hour_ms)}" if reference.evidence is not None else ""
    origin = f" ({reference.origin})" if reference.origin else ""
    return f"{reference.tokens_per_second:,.1f} tokens/s{hour}{origin}"


def fact_days(before: Mapping[str, ClosedDayEntry], after: Mapping[str, ClosedDayEntry]) -> list[str]:
    """The days of which the ledger has other facts."""
    return sorted(
        day
        for day in before.keys() | after.keys()
        if (before[day].facts if day in before else None) != (after[day].facts if day in after else None)
    )


def fact_change(days: Sequence[str], before: KeyedLines, after: KeyedLines) -> str:
    """'facts: late windows of 2026-10-03: nodes c/n1; workloads c/chat'. The lines are those of `days`."""
    named = "; ".join(
        f"{kind} {_some(names)}"
        for kind, names in (
            ("nodes", _differing(before, after, _node)),
            ("workloads", _differing(before, after, _workload)),
        )
        if names
    )
    what = "late windows" if named else "late data"
    return f"facts: {what} of {_some(days)}" + (f": {named}" if named else "")


def _node(key: LineKey) -> tuple[str, str]:
    return key.node


def _workload(key: LineKey) -> tuple[str, str]:
    return (key.carrier.cluster, key.carrier.workload) if key.carrier.workload else NO_NODE


def _differing(before: KeyedLines, after: KeyedLines, place_of: Callable[[LineKey], tuple[str, str]]) -> list[str]:
    old, new = _facts_by(before, place_of), _facts_by(after, place_of)
    return sorted("/".join(place) for place in old.keys() | new.keys() if old.get(place) != new.get(place))


def _facts_by(lines: KeyedLines, place_of: Callable[[LineKey], tuple[str, str]]) -> dict[tuple[str, str], list[int]]:
    """What was measured, by place: GPU time, energy and tokens. A price or a rule changes none of it."""
    totals: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * (2 + len(_COUNTED_AT)))
    for key, sums in lines:
        if (place := place_of(key)) != NO_NODE:
            total = totals[place]
            total[0] += sum(sums[at] for at in _TIMES_AT)
            total[1] += sums[_GPU_MJ_AT]
            for i, at in enumerate(_COUNTED_AT):
                total[2 + i] += sums[at]
    return totals


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def in_words(changes: Sequence[str]) -> str:
    """For a note: the first of them."""
    more = len(changes) - CHANGES_SHOWN
    return "; ".join(changes[:CHANGES_SHOWN]) + (f"; and {more} more" if more > 0 else "")
