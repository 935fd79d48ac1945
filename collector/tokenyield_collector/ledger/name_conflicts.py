"""Names of workloads that several scopes use (workload_names.py), in words. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tokenyield_collector.ledger.workload_names import CLAIM, NODE, SCOPE, NameKey, NameUse
from tokenyield_collector.prices.period import iso

CONFLICTS_MAX = 1_000


class NameConflict(NamedTuple):
    """A name that several groups use. Scopes are named as in tokens, nodes by their names."""

    cluster: str
    workload: str
    first: tuple[str, ...]
    others: tuple[str, ...]
    since_ms: int
    """When the first of the others began."""

    @property
    def text(self) -> str:
        return (
            f"workload of two scopes: {self.cluster}: {self.workload} is used by {_listed(self.first)} first, and "
            f"since {iso(self.since_ms)} by {_listed(self.others)}, whose tokens do not share workloads with it: these "
            "count as other workloads; where it is one workload, give their tokens the same workloads= "
            "(docs/access.md), else rename it, or revoke the token"
        )


def conflicts_of(uses: Iterable[NameUse]) -> list[NameConflict]:
    """Of uses of any names: those that several groups use."""
    by_name: dict[NameKey, dict[str, list[NameUse]]] = defaultdict(lambda: defaultdict(list))
    for use in uses:
        if use.member_kind != CLAIM:
            by_name[use.key][use.founder].append(use)
    found = []
    for (cluster, workload), groups in sorted(by_name.items()):
        if len(groups) > 1:
            first, *others = sorted(groups.values(), key=lambda members: min(use.group for use in members))
            of_others = tuple(who for members in others for who in _members(members))
            since_ms = min(use.since_ms for use in others[0])
            found.append(NameConflict(cluster, workload, _members(first), of_others, since_ms))
    return found


def _members(uses: Sequence[NameUse]) -> tuple[str, ...]:
    """Scopes, then nodes."""
    return tuple(f"{kind} {use.member}" for kind in (SCOPE, NODE) for use in sorted(uses) if use.member_kind == kind)


def _listed(members: Sequence[str], shown: int = 5) -> str:
    more = f" and {len(members) - shown} more" if len(members) > shown else ""
    return ", ".join(members[:shown]) + more
