"""Who carries what made no tokens: the loaded basis, and the sharing of the rules. Plain Python, from docs/money.md.

In: the lines of one day, which are changed; new ones are added.
"""

from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal

from oracle.lines import ONE, Key, Line
from oracle.people import People
from oracle.terms import COMPONENTS, ZERO, Terms


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
        for pool in {key.pool for key, line in lines.items() if line.bucket(bucket)}:
            if way == "apart":
                _set_apart(lines, bucket, Key(day_ms, pool, "", "", "idle", people.nobody))
            elif parts := _parts(terms, people, day_ms, lines, bucket, pool, way):
                _move(lines, bucket, pool, parts)


def _parts(
    terms: Terms, people: People, day_ms: int, lines: Mapping[Key, Line], bucket: str, pool: str | None, way: str
) -> dict[Key, Decimal]:
    """Who gets which part; nobody where nobody can carry it."""
    if way == "ownership":
        owner = terms.owner_of(pool or "")
        values = tuple(owner.get(name) for name in people.dimensions)
        return {Key(day_ms, pool, "", "", f"owner_{bucket}", values): ONE} if owner else {}
    users = _users(lines, pool)
    payers: dict[str | None, Decimal] = defaultdict(Decimal)
    for key, direct in users.items():
        payers[key.values[0] if way == "even" else None] += direct
    return {
        key: direct / payers[key.values[0] if way == "even" else None] / len(payers) for key, direct in users.items()
    }


def _users(lines: Mapping[Key, Line], pool: str | None) -> dict[Key, Decimal]:
    """Those who used the pool, by their active cost."""
    return {key: line.direct for key, line in lines.items() if key.pool == pool and key.is_carried and line.direct}


def _move(lines: dict[Key, Line], bucket: str, pool: str | None, parts: Mapping[Key, Decimal]) -> None:
    users = _users(lines, pool)
    whole, off = (
        sum(users.values(), ZERO),
        sum((lines[key].slack.cost + lines[key].slack.pace_cost for key in users), ZERO),
    )
    taken, slip = _taken(lines, bucket, pool)
    moved = sum(taken.values(), ZERO)
    for key, part in parts.items():
        line = lines.setdefault(key, Line())
        for component, value in taken.items():
            line.cost["shared", component] += value * part
        line.slack.shared += slip * part
        if key in users:
            line.slack.shared += moved * (line.slack.cost + line.slack.pace_cost + off * part) / whole


def _set_apart(lines: dict[Key, Line], bucket: str, key: Key) -> None:
    """Cost and time in a line of their own, in which they stay idle."""
    ms, slip_ms = ZERO, ZERO
    for other, line in lines.items():
        if other.pool == key.pool and line.bucket(bucket):
            ms += line.ms.pop(bucket, ZERO)
            slip_ms += line.slack.ms
    taken, slip = _taken(lines, bucket, key.pool)
    apart = lines.setdefault(key, Line())
    apart.ms[bucket] += ms
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
