"""Who carries what made no tokens: by the policy (`shared`), and on the loaded basis (`loaded`). Pure.

In: the lines of one day. Both work pool by pool, in quanta, by largest remainder: nothing is made or lost.
"""

from collections import defaultdict
from collections.abc import Mapping

from tokenyield_collector.attribution.rules import UNATTRIBUTED, Attribution
from tokenyield_collector.statements.lines import UNTIED, Group, LineKey, Sums, is_lost
from tokenyield_collector.statements.pricing import Pricing
from tokenyield_wire.units import apportion


def load(found: dict[LineKey, Sums]) -> None:
    """`loaded`: allocated, and a share by usage of what the pool lost; without users in it, the fleet's do."""
    left = 0
    users: dict[str, list[LineKey]] = defaultdict(list)
    lost: dict[str, int] = defaultdict(int)
    for key, sums in found.items():
        if sums.allocated and not is_lost(key.group) and key.group.model != UNTIED:
            users[key.pool].append(key)
            sums.add("loaded", sums.allocated)
        else:
            lost[key.pool] += sums.total
    for pool, quanta in sorted(lost.items()):
        keys = users.get(pool)
        if not keys:
            left += quanta
            continue
        for key, part in zip(keys, apportion(quanta, [found[key].allocated for key in keys]), strict=True):
            found[key].add("loaded", part)
    everybody = [key for keys in users.values() for key in keys]
    if left and everybody:
        for key, part in zip(everybody, apportion(left, [found[key].allocated for key in everybody]), strict=True):
            found[key].add("loaded", part)


def share(found: dict[LineKey, Sums], attribution: Attribution, pricing: Pricing, day_ms: int) -> None:
    """Move lost cost to who carries it by the policy, pool by pool; what nobody can carry stays where it is."""
    policy = attribution.sharing
    for bucket, way in (("idle", policy.idle), ("unallocated", policy.unallocated), ("dark", policy.dark)):
        if way == "apart" and bucket != "idle":
            continue
        by_pool: dict[str, list[LineKey]] = defaultdict(list)
        for key, sums in found.items():
            if sums.get(bucket):
                by_pool[key.pool].append(key)
        for pool, keys in sorted(by_pool.items()):
            _share_one(found, attribution, pricing, bucket, way, day_ms, pool, keys)


def _share_one(
    found: dict[LineKey, Sums],
    attribution: Attribution,
    pricing: Pricing,
    bucket: str,
    way: str,
    day_ms: int,
    pool: str,
    keys: list[LineKey],
) -> None:
    if bucket == "idle" and way == "ownership":
        return  # it stands with who held it already
    quanta = sum(found[key].get(bucket) for key in keys)
    if bucket == "idle" and way == "apart":
        group = Group(("(idle)",) * len(attribution.dimensions), "(idle)")
        _move(found, bucket, keys, {LineKey(day_ms, pool, ("", ""), group): quanta}, stays=True)
    elif way == "ownership":
        owner = pricing.pools[pool].owner if pool in pricing.pools else {}
        if owner:
            values = tuple(owner.get(name, UNATTRIBUTED) for name in attribution.dimensions)
            _move(found, bucket, keys, {LineKey(day_ms, pool, ("", ""), Group(values, f"({bucket})")): quanta})
    else:
        users = [key for key, sums in found.items() if key.pool == pool and sums.direct and not is_lost(key.group)]
        if users:
            _move(found, bucket, keys, dict(zip(users, _parts(found, users, quanta, way), strict=True)))


def _parts(found: Mapping[LineKey, Sums], users: list[LineKey], quanta: int, way: str) -> list[int]:
    weights = [found[key].direct for key in users]
    if way == "usage":
        return apportion(quanta, weights)
    payers = sorted({key.group.values[0] for key in users})
    alike = dict(zip(payers, apportion(quanta, [1] * len(payers)), strict=True))
    parts = [0] * len(users)
    for payer, part in alike.items():
        own = [i for i, key in enumerate(users) if key.group.values[0] == payer]
        for i, share in zip(own, apportion(part, [weights[i] for i in own]), strict=True):
            parts[i] = share
    return parts


def _move(
    found: dict[LineKey, Sums], bucket: str, keys: list[LineKey], into: Mapping[LineKey, int], *, stays: bool = False
) -> None:
    """Take a bucket's cost from `keys` and give it to others; `stays`: it keeps its bucket's name, and its time."""
    duration_ms = 0
    for key in keys:
        found[key].add(bucket, -found[key].get(bucket))
        if stays:
            duration_ms += found[key].get(f"{bucket}_ms")
            found[key].add(f"{bucket}_ms", -found[key].get(f"{bucket}_ms"))
    for key, quanta in into.items():
        found[key].add(bucket if stays else "shared", quanta)
        if stays:
            found[key].add(f"{bucket}_ms", duration_ms)  # there is one to whom it goes
