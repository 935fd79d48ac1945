"""Whose workload a name is: nodes share one only where their tokens permit it (decision 0016). Pure but for `read`.

In: shipments, and the scope of the token that each came with (`Grant.scope`). Out: the same shipments, in which a name
that nodes of another scope used first is another workload, `chat (node gpu-7)` or `chat (scope team-b-*)`; and what the
ledger has to remember of it. Facts keep that name, so that all that is made of them agrees.

A name belongs to a group of scopes and nodes in its cluster. A scope or node that is unknown founds a group of its own;
one that either knows joins that group. So nodes whose tokens are replaced by others go on with their workloads. The
group that began first has the name, until none of it used it for `KEPT_MS`.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import structs

from tokenyield_collector.prices.period import iso
from tokenyield_wire.bounded import bounded
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR
from tokenyield_wire.window import NAME_CHARS_MAX, Batch, Shipment

KEPT_MS = 7 * MS_PER_DAY
"""A group that did not use its name for so long, by the collector's clock, has lost it."""
NOTED_MS = 6 * MS_PER_HOUR
"""How often it is written that a member uses its name still."""
SCOPE_CHARS_MAX = 64
MEMBERS_KEPT_MAX = 100_000
"""In memory, over all names. Others are read from the ledger when they are used."""
CONFLICTS_MAX = 1_000
SCOPE, NODE = "scope", "node"
FOREIGN = re.compile(r" \((node|scope) (.*)\)$", re.DOTALL)
"""How the name of a workload ends that is not of the first scope. Of names that are sent it is no part."""

NameKey = tuple[str, str]
"""Cluster and name, as it was sent."""
Member = tuple[str, str]
"""`SCOPE` or `NODE`, and which."""
Group = tuple[int, str]
"""When it began (ms), and the scope that founded it."""


class NameUse(NamedTuple):
    """One member of the group that uses a name. The fields are the ledger's columns."""

    cluster: str
    workload: str
    member_kind: str
    member: str
    founder: str
    since_ms: int
    seen_ms: int

    @property
    def key(self) -> NameKey:
        return self.cluster, self.workload

    @property
    def group(self) -> Group:
        return self.since_ms, self.founder


USE_KEY = ", ".join(NameUse._fields[:4])
"""Columns that identify a `NameUse`."""


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


class _NameUses:
    """What is known of one name: who uses it, and when each group did last."""

    def __init__(self) -> None:
        self.members: dict[Member, NameUse] = {}
        self.groups: dict[Group, int] = {}

    def put(self, use: NameUse) -> None:
        before = self.members.get((use.member_kind, use.member))
        self.members[use.member_kind, use.member] = use
        if before is None or before.group == use.group:
            self.groups[use.group] = max(use.seen_ms, self.groups.get(use.group, 0))
            return
        self.groups = {}
        for one in self.members.values():
            self.groups[one.group] = max(one.seen_ms, self.groups.get(one.group, 0))

    def group_of(self, members: Sequence[Member], now_ms: int) -> Group | None:
        """The first that one of them is of."""
        uses = (self.members.get(member) for member in members)
        return min((use.group for use in uses if use is not None and _is_kept(use.seen_ms, now_ms)), default=None)

    def first_group(self, now_ms: int) -> Group | None:
        return min((group for group, seen_ms in self.groups.items() if _is_kept(seen_ms, now_ms)), default=None)


class WorkloadNames:
    """Of one ledger; of its writing thread. `read` gives what the ledger has of names. Where others write into it, what
    was read is read again after `again_after_ms`."""

    def __init__(
        self, read: Callable[[Sequence[NameKey]], Iterable[NameUse]], again_after_ms: int | None = None
    ) -> None:
        self._read = read
        self._again_after_ms = again_after_ms
        self._read_ms = 0
        self._known: dict[NameKey, _NameUses] = {}
        self._members = 0

    def named(
        self, shipments: Sequence[Shipment], scopes: Sequence[str], now_ms: int
    ) -> tuple[Sequence[Shipment], list[NameUse]]:
        """The shipments with the names that they have in the ledger, and what it has to keep; where it does not, call
        `forget`. Those whose scope is "" stay as they are: no node's token came with them."""
        if not any(scopes):
            return shipments, []
        names = [_names_of(shipment) if scope else [] for shipment, scope in zip(shipments, scopes, strict=True)]
        keys = {(shipment.cluster, sent(one)) for shipment, of in zip(shipments, names, strict=True) for one in of}
        self._know(keys, now_ms)
        fresh: dict[tuple[NameKey, Member], NameUse] = {}
        named = [
            _renamed(shipment, self._kept_names(shipment, of_shipment, scope, fresh, now_ms)) if scope else shipment
            for shipment, of_shipment, scope in zip(shipments, names, scopes, strict=True)
        ]
        return named, list(fresh.values())

    def forget(self) -> None:
        """What is in memory; the ledger has what is true."""
        self._known, self._members = {}, 0

    def _know(self, keys: Iterable[NameKey], now_ms: int) -> None:
        is_old = self._again_after_ms is not None and not 0 <= now_ms - self._read_ms < self._again_after_ms
        if is_old or self._members > MEMBERS_KEPT_MAX:
            self.forget()
            self._read_ms = now_ms
        if missing := sorted(key for key in keys if key not in self._known):
            self._known |= {key: _NameUses() for key in missing}
            for use in self._read(missing):
                self._put(use)

    def _put(self, use: NameUse) -> None:
        name = self._known[use.key]
        count = len(name.members)
        name.put(use)
        self._members += len(name.members) - count

    def _kept_names(
        self,
        shipment: Shipment,
        names: Sequence[str],
        scope: str,
        fresh: dict[tuple[NameKey, Member], NameUse],
        now_ms: int,
    ) -> dict[str, str]:
        """Name as it was sent -> as it is kept; no two become one."""
        kept: dict[str, str] = {}
        taken = set(names)
        for name in names:
            key = (shipment.cluster, sent(name))
            is_first = self._is_of_first(key, scope, shipment.node, fresh, now_ms)
            as_kept = key[1] if is_first else foreign(key[1], scope, shipment.node)
            while as_kept != name and as_kept in taken:
                as_kept = _marked(as_kept)
            taken.add(as_kept)
            kept[name] = as_kept
        return kept

    def _is_of_first(
        self, key: NameKey, scope: str, node: str, fresh: dict[tuple[NameKey, Member], NameUse], now_ms: int
    ) -> bool:
        """Whether the name is of the group that this scope and node are of. Adds to `fresh` what is new of that."""
        name, own = self._known[key], ((SCOPE, scope), (NODE, node))
        first = name.first_group(now_ms)
        group = name.group_of(own, now_ms)
        if group is None:  # it begins after the first, also in the same commit, and where the clock was set back
            group = (now_ms if first is None else max(now_ms, first[0] + 1), scope)
        since_ms, founder = group
        for kind, which in own:
            use = name.members.get((kind, which))
            if use is None or use.group != group or not 0 <= now_ms - use.seen_ms < NOTED_MS:
                use = fresh[key, (kind, which)] = NameUse(*key, kind, which, founder, since_ms, now_ms)
                self._put(use)
        # By founder: two collectors may have noted one founder's beginning.
        return first is None or founder == first[1]


def _is_kept(seen_ms: int, now_ms: int) -> bool:
    return seen_ms > now_ms - KEPT_MS


def sent(name: str) -> str:
    """A name as a node may use it: one that ends as if the collector had made it ends in brackets instead."""
    if not name.endswith(")") or (match := FOREIGN.search(name)) is None:
        return name
    return f"{name[: match.start()]} [{match[1]} {match[2]}]"


def foreign(name: str, scope: str, node: str) -> str:
    """What the workload of that name is called that is not of the first scope; its end is always whole."""
    which = f"node {node}" if scope == node else f"scope {scope}"
    end = f" ({bounded(which, SCOPE_CHARS_MAX + len('scope '))})"
    return bounded(name, NAME_CHARS_MAX - len(end)) + end


def conflicts_of(uses: Iterable[NameUse]) -> list[NameConflict]:
    """Of uses of any names: those that several groups use."""
    by_name: dict[NameKey, dict[str, list[NameUse]]] = defaultdict(lambda: defaultdict(list))
    for use in uses:
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


def _names_of(shipment: Shipment) -> list[str]:
    return list({workload.key: None for batch in shipment.batches for workload in batch.workloads})


def _renamed(shipment: Shipment, names: Mapping[str, str]) -> Shipment:
    if all(name == kept for name, kept in names.items()):
        return shipment
    return structs.replace(shipment, batches=tuple(_renamed_batch(batch, names) for batch in shipment.batches))


def _renamed_batch(batch: Batch, names: Mapping[str, str]) -> Batch:
    return structs.replace(
        batch,
        workloads=tuple(structs.replace(workload, key=names[workload.key]) for workload in batch.workloads),
        shares=tuple(structs.replace(share, workload=names[share.workload]) for share in batch.shares),
    )


def _marked(name: str) -> str:
    """Another name, which ends as this one does: its sender uses this one as well."""
    match = FOREIGN.search(name)
    head, end = (name[: match.start()], name[match.start() :]) if match else (name, "")
    return bounded(f"{head}'", NAME_CHARS_MAX - len(end)) + end
