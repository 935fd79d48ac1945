"""Who uses which workload's name, where one ledger's knowledge goes into another that has some (migrate). Pure.

In: the uses of both ledgers. Out: the uses that the other has to write. Groups that have a member in common are one
group, and it began when the first of them did: so a workload of nodes that already report to the other ledger, with
new tokens perhaps, stays one, and a scope that only the other ledger knows does not get before the owner.
"""

from collections import defaultdict
from collections.abc import Iterable

from tokenyield_collector.ledger.workload_names import CLAIM, Group, Member, NameKey, NameUse


def joined(own: Iterable[NameUse], others: Iterable[NameUse]) -> list[NameUse]:
    """What is to be written beside `own` so that `others` are known too; nothing the second time. Of one member the
    newest use counts, so one that only changes its group is a millisecond newer."""
    known: dict[NameKey, dict[Member, NameUse]] = defaultdict(dict)
    added: dict[NameKey, dict[Member, NameUse]] = defaultdict(dict)
    for uses, by_key in ((own, known), (others, added)):
        for use in uses:
            if use.member_kind != CLAIM:
                by_key[use.key][use.member_kind, use.member] = use
    return [use for key, fresh in added.items() for use in _joined_uses(known[key], fresh)]


def _joined_uses(known: dict[Member, NameUse], added: dict[Member, NameUse]) -> Iterable[NameUse]:
    group_of = _joined_groups(known, added)
    for member in known.keys() | added.keys():
        before, newer = known.get(member), added.get(member)
        newest = max(filter(None, (before, newer)), key=lambda use: use.seen_ms)
        since_ms, founder = group_of[newest.group]
        use = newest._replace(since_ms=since_ms, founder=founder)
        if before is not None and use.group != before.group and use.seen_ms == before.seen_ms:
            use = use._replace(seen_ms=use.seen_ms + 1)
        if use != before:
            yield use


def _joined_groups(known: dict[Member, NameUse], added: dict[Member, NameUse]) -> dict[Group, Group]:
    """Each group -> the first of those that it has become one with."""
    first = {use.group: use.group for uses in (known, added) for use in uses.values()}
    for member in known.keys() & added.keys():
        one, other = first[known[member].group], first[added[member].group]
        earlier = min(one, other)
        first |= {group: earlier for group, before in first.items() if before in (one, other)}
    return first
