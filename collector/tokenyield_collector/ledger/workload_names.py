"""Whose workload a name is: nodes share one only where their tokens permit it (decision 0016). Pure but for `read`.

In: shipments, and the scope of the token that each came with (`Grant.scope`). Out: the same shipments, in which a name
that nodes of another scope used first is another workload, `chat (node gpu-7)` or `chat (scope team-b-*)`; and what the
ledger has to remember of it. Facts keep that name, so that all that is made of them agrees.

A name belongs to a group of scopes and nodes in its cluster. A scope or node that is unknown founds a group of its own;
one that either knows joins that group. So nodes whose tokens are replaced by others go on with their workloads. The
group that began first has the name, until none of it used it for `KEPT_MS`.

Where several collectors write into one ledger, two scopes may begin at the same moment. So a scope claims a name that
nobody has, then reads who else does, and has the name where nobody else does: of two that each write before they read,
one at least sees the other. Who sees another has the name once its claim is `CLAIM_SETTLED_MS` old, nobody has the name
by then, and no other claim is older; until then its workload has its foreign name.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import structs

from tokenyield_collector.ledger.foreign_names import foreign, marked, sent
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR
from tokenyield_wire.window import Batch, Shipment

KEPT_MS = 7 * MS_PER_DAY
"""A group that did not use its name for so long, by the collector's clock, has lost it."""
NOTED_MS = 6 * MS_PER_HOUR
"""How often it is written that a member uses its name still."""
CLAIM_SETTLED_MS = 30_000
"""A collector writes that a scope has a name, or that it does not, long before its claim is so old."""
CLAIM_KEPT_MS = 10 * 60_000
"""A claim of another scope that is older counts no more: its collector ended."""
CLAIM_OWN_MS = CLAIM_KEPT_MS // 2
"""A scope relies on its own claim for so long, and then makes a new one. Others see it for longer, whatever the clocks
of collectors differ by: a claim that has ended for one of them and not for another would be two owners."""
MEMBERS_KEPT_MAX = 100_000
"""In memory, over all names. Others are read from the ledger when they are used."""
SCOPE, NODE, CLAIM = "scope", "node", "claim"

NameKey = tuple[str, str]
"""Cluster and name, as it was sent."""
Member = tuple[str, str]
"""`SCOPE` or `NODE`, and which. `CLAIM` and a scope is no member of a group yet."""
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


class _NameUses:
    """What is known of one name: who uses it, and when each group did last."""

    def __init__(self) -> None:
        self.members: dict[Member, NameUse] = {}
        self.groups: dict[Group, int] = {}
        self.claims: dict[str, NameUse] = {}
        """By their scopes."""

    def put(self, use: NameUse) -> None:
        if use.member_kind == CLAIM:
            self.claims[use.member] = use
            return
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

    def claims_at(self, now_ms: int) -> dict[str, NameUse]:
        return {scope: use for scope, use in self.claims.items() if use.seen_ms > now_ms - CLAIM_KEPT_MS}

    def is_won(self, scope: str, now_ms: int) -> bool:
        """Whether this scope, whose claim was written before this was read, has the name now."""
        claims = self.claims_at(now_ms)
        if self.first_group(now_ms) is not None or scope not in claims:
            return False
        first = min(claims.values(), key=lambda use: (use.since_ms, use.member))
        is_settled = first.since_ms <= now_ms - CLAIM_SETTLED_MS
        return len(claims) == 1 or (first.member == scope and is_settled)


class WorkloadNames:
    """Of one ledger; of its writing thread. `read` gives what the ledger has of names. Where others write into it, what
    was read is read again after `again_after_ms`."""

    def __init__(
        self, read: Callable[[Sequence[NameKey]], Iterable[NameUse]], again_after_ms: int | None = None
    ) -> None:
        self._read = read
        self._again_after_ms = again_after_ms
        self._read_ms = 0
        self._claimed: dict[NameKey, set[str]] = defaultdict(set)
        """Names that nobody has, and scopes of this commit that claim them."""
        self._won: set[tuple[NameKey, str]] = set()
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

    def decided(
        self, shipments: Sequence[Shipment], scopes: Sequence[str], now_ms: int, write: Callable[[list[NameUse]], None]
    ) -> Sequence[Shipment]:
        """The shipments with the names that they have in a ledger into which others write too. What `named` has to keep
        is written, and read by the others, before this returns. Raises what `write` and `read` raise."""
        self._claimed.clear()
        try:
            named, uses = self.named(shipments, scopes, now_ms)
            write(uses)
            if not self._claimed:
                return named
            for key in self._claimed:
                self._members -= len(self._known.pop(key).members)
            self._know(self._claimed, now_ms)
            self._won = {
                (key, scope)
                for key, scopes_of_key in self._claimed.items()
                for scope in scopes_of_key
                if self._known[key].is_won(scope, now_ms)
            }
            named, uses = self.named(shipments, scopes, now_ms)
            write(uses)
            return named
        except BaseException:
            self.forget()
            raise
        finally:
            self._won = set()

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
                as_kept = marked(as_kept)
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
        if group is None and first is None and self._again_after_ms is not None and (key, scope) not in self._won:
            self._claim(key, scope, fresh, now_ms)
            return False
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

    def _claim(self, key: NameKey, scope: str, fresh: dict[tuple[NameKey, Member], NameUse], now_ms: int) -> None:
        """Of scopes that come in one commit the first claims."""
        claim = self._known[key].claims.get(scope)
        if claim is None or abs(now_ms - claim.seen_ms) >= CLAIM_OWN_MS:
            if self._claimed[key]:
                return
            use = fresh[key, (CLAIM, scope)] = NameUse(*key, CLAIM, scope, scope, now_ms, now_ms)
            self._put(use)
        self._claimed[key].add(scope)


def _is_kept(seen_ms: int, now_ms: int) -> bool:
    return seen_ms > now_ms - KEPT_MS


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
