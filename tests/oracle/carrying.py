"""Who carries what made no tokens: the loaded basis, and the sharing of the rules. Plain Python, from docs/money.md.

In: the lines of one day, which are changed; new ones are added.
"""

from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal

from oracle.lines import ONE, Key, Line
from oracle.people import People
from oracle.terms import COMPONENTS, ZERO, Terms


class TooLittleUse(Exception):
    """Somebody used less than a millisecond, which the product may have rounded to nothing: who pays alike is open."""


def load(lines: Mapping[Key, Line]) -> None:
    """Allocated, and by usage a share of what its pool lost that day; without users, those of all pools."""
    users = {key: line.allocated for key, line in lines.items() if key.kind == "work" and line.allocated}
    lost: dict[str | None, Decimal] = defaultdict(Decimal)
    allocated_in: dict[str | None, Decimal] = defaultdict(Decimal)
    off: dict[str | None, Decimal] = defaultdict(Decimal)
    for key, line in lines.items():
        if key in users:
            allocated_in[key.pool] += users[key]
            off[key.pool] += line.slack.cost
        else:
            lost[key.pool] += line.total
    everywhere = sum((part for pool, part in lost.items() if pool not in allocated_in), ZERO)
    whole, all_off = sum(users.values(), ZERO), sum(off.values(), ZERO)
    for key, allocated in users.items():
        line, own = lines[key], lost[key.pool] / allocated_in[key.pool]
        line.money["loaded"] += allocated * (1 + own + everywhere / whole)
        line.slack.loaded += line.slack.cost * (1 + own + everywhere / whole)
        line.slack.loaded += allocated * (
            own * off[key.pool] / allocated_in[key.pool] + everywhere / whole * all_off / whole
        )


def share(terms: Terms, people: People, day_ms: int, lines: dict[Key, Line]) -> None:
    """What the policy shares, pool by pool."""
    for bucket in ("idle", "unallocated", "dark"):
        way = people.sharing[bucket]
        if way == ("ownership" if bucket == "idle" else "apart"):
            continue
        for pool in {
            key.pool for key, line in lines.items() if line.bucket(bucket) or (way == "apart" and line.ms[bucket])
        }:
            if way == "apart":
                _set_apart(lines, bucket, Key(day_ms, pool, "", "", "idle", people.nobody))
            elif parts := _parts(terms, people, day_ms, lines, bucket, pool, way):
                _move(lines, bucket, pool, parts)


def _parts(
    terms: Terms, people: People, day_ms: int, lines: Mapping[Key, Line], bucket: str, pool: str | None, way: str
) -> dict[Key, tuple[Decimal, Decimal]]:
    """Who gets which part, and which part of that may be off; nobody where nobody can carry it."""
    if way == "ownership":
        owner = terms.owner_of(pool or "")
        values = tuple(owner.get(name) for name in people.dimensions)
        return {Key(day_ms, pool, "", "", f"owner_{bucket}", values): (ONE, ZERO)} if owner else {}
    users = {key: line.direct for key, line in lines.items() if key.pool == pool and key.is_carried and line.direct}
    off = {key: lines[key].slack.cost + lines[key].slack.pace_cost for key in users}
    if way == "even" and any(direct <= off[key] for key, direct in users.items()):
        raise TooLittleUse
    payer_of = {key: key.values[0] if way == "even" else None for key in users}
    direct_of: dict[str | None, Decimal] = defaultdict(Decimal)
    off_of: dict[str | None, Decimal] = defaultdict(Decimal)
    for key, payer in payer_of.items():
        direct_of[payer] += users[key]
        off_of[payer] += off[key]
    return {
        key: (
            users[key] / direct_of[payer] / len(direct_of),
            off[key] / users[key] + off_of[payer] / direct_of[payer],
        )
        for key, payer in payer_of.items()
    }


def _move(lines: dict[Key, Line], bucket: str, pool: str | None, parts: Mapping[Key, tuple[Decimal, Decimal]]) -> None:
    taken, slip = _taken(lines, bucket, pool)
    moved = sum(taken.values(), ZERO)
    for key, (part, off) in parts.items():
        line = lines.setdefault(key, Line())
        for component, value in taken.items():
            line.cost["shared", component] += value * part
        line.slack.shared += (slip + moved * off) * part


def _set_apart(lines: dict[Key, Line], bucket: str, key: Key) -> None:
    """Cost and time in a line of their own, in which they stay idle."""
    ms, unpriced_ms, slip_ms = ZERO, ZERO, ZERO
    for other, line in lines.items():
        if other.pool == key.pool and (line.bucket(bucket) or line.ms[bucket]):
            ms += line.ms.pop(bucket, ZERO)
            unpriced_ms += line.ms["missing_idle"]
            line.ms["missing"] -= line.ms.pop("missing_idle", ZERO)
            slip_ms += line.slack.ms
    taken, slip = _taken(lines, bucket, key.pool)
    apart = lines.setdefault(key, Line())
    apart.ms[bucket] += ms
    apart.ms["missing"] += unpriced_ms
    apart.slack.ms += slip_ms
    apart.slack.shared += slip
    for component, value in taken.items():
        apart.cost[bucket, component] += value


def _taken(lines: Mapping[Key, Line], bucket: str, pool: str | None) -> tuple[dict[str, Decimal], Decimal]:
    """By component, what lines lose, and by how much that may be off."""
    taken: dict[str, Decimal] = defaultdict(Decimal)
    off = ZERO
    for key, line in lines.items():
        if key.pool == pool and line.bucket(bucket):
            off += line.slack.cost
            for component in COMPONENTS:
                taken[component] += line.cost.pop((bucket, component), ZERO)
    return taken, off
