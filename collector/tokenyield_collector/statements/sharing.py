"""Who carries what made no tokens: by the policy (`shared`), and on the loaded basis (`loaded`). Pure.

In: the lines of one day. Both work pool by pool and source by source, in quanta, by largest remainder: nothing is made
or lost. Cost moves component by component, so that a line's components still sum to it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.money import split
from tokenyield_collector.statements.buckets import IDLE_CAPACITY
from tokenyield_collector.statements.lines import COMPONENT_COUNT, FIELD_AT, Carrier, LineKey, LineKind, Sums
from tokenyield_collector.statements.source import NO_NODE

Lines = dict[LineKey, Sums]
_LOADED_AT = FIELD_AT["loaded"]
SourcePool = tuple[str, str | None]
"""(source, pool): cost is never shared from one cost source, or one pool, to the users of another."""
_STAYS = {bucket: "ownership" if bucket == "idle" else "apart" for bucket in IDLE_CAPACITY}
"""Bucket -> the way by which its cost stays where it was caused."""
_OWNER_KIND: dict[str, LineKind] = {"unallocated": "owner_unallocated", "dark": "owner_dark"}


def load(lines: Lines) -> None:
    """`loaded`: allocated, and a share by usage of what the pool lost; without users in it, those of its source do."""
    users: dict[SourcePool, list[tuple[Sums, int]]] = defaultdict(list)
    lost: dict[SourcePool, int] = defaultdict(int)
    for key, sums in lines.items():
        carrier = key.carrier
        allocated = 0 if carrier.is_lost or carrier.kind == "untied" else sums.allocated
        if allocated:
            users[key.source, key.pool].append((sums, allocated))
            sums[_LOADED_AT] += allocated
        else:
            lost[key.source, key.pool] += sums.total
    left: dict[str, int] = defaultdict(int)
    for place in sorted(lost, key=_by_name):
        if place in users:
            _spread_loaded(users[place], lost[place])
        else:
            left[place[0]] += lost[place]
    for source, quanta in left.items():
        everybody = [user for place, own in users.items() if place[0] == source for user in own]
        if quanta and everybody:
            _spread_loaded(everybody, quanta)


def _spread_loaded(users: Sequence[tuple[Sums, int]], quanta: int) -> None:
    for (sums, _), part in zip(users, split(quanta, [allocated for _, allocated in users]), strict=True):
        sums[_LOADED_AT] += part


def _by_name(place: SourcePool) -> tuple[str, str]:
    return place[0], place[1] or ""


def moves_cost(policy: Policy) -> bool:
    """Whether `share` moves anything; that depends on the day."""
    return any(getattr(policy.rules.sharing, bucket) != stays for bucket, stays in _STAYS.items())


def share(lines: Lines, policy: Policy, day_ms: int) -> None:
    """Move lost cost to who carries it by the policy, pool by pool; what nobody can carry stays where it is."""
    sharing = policy.rules.sharing
    owners = {pool.name: pool.owner for pool in policy.prices.pools}
    for bucket in reversed(IDLE_CAPACITY):
        way = getattr(sharing, bucket)
        if way == _STAYS[bucket]:
            continue
        by_pool: dict[SourcePool, list[LineKey]] = defaultdict(list)
        for key, sums in lines.items():
            if sums.cost(bucket) or (bucket == "idle" and way == "apart" and sums.get("idle_ms")):
                by_pool[key.source, key.pool].append(key)
        for place in sorted(by_pool, key=_by_name):
            _Move(lines, policy, day_ms, bucket, place, by_pool[place]).carry_out(way, owners.get(place[1] or "", {}))


class _Move:
    """What one bucket of one pool cost, taken from the lines that have it and given to others."""

    def __init__(
        self, lines: Lines, policy: Policy, day_ms: int, bucket: str, place: SourcePool, keys: Sequence[LineKey]
    ) -> None:
        self._lines = lines
        self._dimensions = policy.rules.dimensions
        self._day_ms = day_ms
        self._bucket = bucket
        self._place = place
        self._keys = keys

    def carry_out(self, way: str, owner: Mapping[str, str]) -> None:
        if self._bucket == "idle" and way == "apart":
            self._set_apart()
        elif way == "ownership":
            if owner:
                values = tuple(owner.get(name) for name in self._dimensions)
                carrier = Carrier(_OWNER_KIND[self._bucket], values)
                self._give([self._key(carrier)], [1])
        else:
            users = [
                key
                for key, sums in self._lines.items()
                if (key.source, key.pool) == self._place and sums.direct and not key.carrier.is_lost
            ]
            if users:
                self._give_even(users) if way == "even" else self._give(users, self._direct(users))

    def _set_apart(self) -> None:
        """Idle cost and time into a line of its own, in which they stay idle."""
        key = self._key(Carrier("idle", (None,) * len(self._dimensions)))
        self._lines[key].add_components(self._bucket, self._taken())
        for duration in (f"{self._bucket}_ms", f"unpriced_{self._bucket}_ms"):
            duration_ms = sum(self._lines[lost].get(duration) for lost in self._keys)
            for lost in self._keys:
                self._lines[lost].add(duration, -self._lines[lost].get(duration))
            self._lines[key].add(duration, duration_ms)

    def _give_even(self, users: Sequence[LineKey]) -> None:
        """To each value of the first dimension alike, and to its lines by their direct cost."""
        payers = sorted({key.carrier.values[0] for key in users}, key=lambda value: (value is None, value or ""))
        taken = self._taken()
        alike = [split(quanta, [1] * len(payers)) for quanta in taken]
        for number, payer in enumerate(payers):
            own = [key for key in users if key.carrier.values[0] == payer]
            self._add(own, self._direct(own), [parts[number] for parts in alike])

    def _give(self, users: Sequence[LineKey], weights: Sequence[int]) -> None:
        self._add(users, weights, self._taken())

    def _add(self, users: Sequence[LineKey], weights: Sequence[int], components: Sequence[int]) -> None:
        for i, quanta in enumerate(components):
            if not quanta:
                continue
            for key, part in zip(users, split(quanta, weights), strict=True):
                cell = [0] * COMPONENT_COUNT
                cell[i] = part
                self._lines[key].add_components("shared", cell)

    def _taken(self) -> list[int]:
        """The bucket's components, which the lines lose by it."""
        whole = [0] * COMPONENT_COUNT
        for key in self._keys:
            quanta = self._lines[key].components(self._bucket)
            whole = [total + part for total, part in zip(whole, quanta, strict=True)]
            self._lines[key].add_components(self._bucket, [-part for part in quanta])
        return whole

    def _direct(self, users: Sequence[LineKey]) -> list[int]:
        return [self._lines[key].direct for key in users]

    def _key(self, carrier: Carrier) -> LineKey:
        source, pool = self._place
        return LineKey(self._day_ms, source, pool, NO_NODE, carrier)
