"""Which gateways are behind another one, so that what they counted is left out. Plain Python, from docs/money.md.

In: the facts of a ledger. Out: (day, cluster, model, gateway).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from oracle.facts import DAY_MS, Facts, HourFacts
from oracle.people import People

KINDS = {"prompt": ("prompt_computed", "prompt_cached", "prompt_unsplit"), "completion": ("completion",)}


@dataclass
class Counted:
    """By one gateway on one day: all tokens, those of hours in which servers reported the kind, and who called."""

    gateway: str
    tokens: int = 0
    asked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    callers: set[str] = field(default_factory=set)


def left_out(facts: Facts, people: People) -> set[tuple[int, str, str, str]]:
    counted: dict[tuple[int, str, str], dict[str, Counted]] = defaultdict(dict)
    made: dict[tuple[int, str, str], dict[str, int]] = defaultdict(dict)
    for hour_ms, hour in facts.hours.items():
        day_ms = hour_ms - hour_ms % DAY_MS
        models = {(cluster, people.aliases.get(name, name)) for cluster, name in hour.asked}
        for cluster, model in models:
            of_servers = made_in(hour, cluster, model)
            at = day_ms, cluster, model
            for kind, tokens in of_servers.items():
                made[at][kind] = made[at].get(kind, 0) + tokens
            for (other, name), requests in hour.asked.items():
                if (other, people.aliases.get(name, name)) != (cluster, model):
                    continue
                for (gateway, caller), wish in requests.items():
                    one = counted[at].setdefault(gateway, Counted(gateway))
                    one.callers |= {caller} - {"{}"}
                    for kind, names in KINDS.items():
                        tokens = sum(wish.counts[name] for name in names)
                        one.tokens += tokens
                        one.asked[kind] += tokens if kind in of_servers else 0
    return {(*at, gateway) for at, gateways in counted.items() for gateway in behind(list(gateways.values()), made[at])}


def made_in(hour: HourFacts, cluster: str, model: str) -> dict[str, int]:
    """Tokens that servers made, of the kinds that one of them reported."""
    of_model = [models[model] for server, models in hour.made.items() if server.cluster == cluster and model in models]
    return {
        kind: sum(made.counts[name] for made in of_model for name in names)
        for kind, names in KINDS.items()
        if any(made.known & set(names) for made in of_model)
    }


def behind(gateways: Sequence[Counted], made: dict[str, int]) -> list[str]:
    """The outermost has most callers; each further one is behind where at least half of it is beyond what was made."""
    if any(beyond([one], made) for one in gateways):
        return []
    counted: list[Counted] = []
    left: list[str] = []
    for one in sorted(gateways, key=lambda one: (-len(one.callers), one.tokens, one.gateway)):
        more = beyond([*counted, one], made) - beyond(counted, made)
        if more and 2 * more >= sum(one.asked[kind] for kind in made):
            left.append(one.gateway)
        else:
            counted.append(one)
    return left


def beyond(gateways: Sequence[Counted], made: dict[str, int]) -> int:
    """Tokens above what was made, where that is over 1 % of all."""
    asked = {kind: sum(one.asked[kind] for one in gateways) for kind in made}
    above = sum(max(0, asked[kind] - tokens) for kind, tokens in made.items())
    return above if above > Decimal("0.01") * sum(asked.values()) else 0
