"""A period's cost, line by line, computed a second time from the hours. Plain Python; nothing of the product.

From docs/money.md: waterfall, components, hosts, token prices, names.
"""

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal

from oracle.carrying import load, share
from oracle.facts import DAY_MS, HOUR_MS, KINDS, TOKENS, Facts, GpuPlace, HourFacts
from oracle.lines import ONE, Key, Line, add_time, add_usage, energy_cost, summed, time_cost
from oracle.people import People, known_of, written
from oracle.placement import Chain, MeasuredHosts, Placement, Portion
from oracle.sites import unused_sites
from oracle.terms import ZERO, HourRate, Terms
from oracle.tiers import Tier, tier_of
from oracle.work import Piece, Work


class Statement:
    """Of [start_ms, end_ms); `lines` by hour, pool, node, workload."""

    def __init__(self, facts: Facts, terms: Terms, people: People, start_ms: int, end_ms: int) -> None:
        self.terms, self.people = terms, people
        first_ms = min(facts.hours, default=end_ms)
        self.start_ms, self.end_ms = max(start_ms, first_ms), end_ms
        self._facts = facts
        self._work = Work(facts, terms, people, self.start_ms, end_ms)
        self.lines: dict[Key, Line] = defaultdict(Line)
        self._placement = Placement(facts, terms)
        self._hosts = MeasuredHosts(facts, self._placement, self.start_ms, end_ms)
        for hour_ms in range(self.start_ms, self.end_ms, HOUR_MS):
            self._add_hour(hour_ms, facts.hours.get(hour_ms) or HourFacts())
        self.before_sharing = summed(self.lines.values())
        for day_ms in range(self.start_ms - self.start_ms % DAY_MS, self.end_ms, DAY_MS):
            of_day = {key: line for key, line in self.lines.items() if day_ms <= key.start_ms < day_ms + DAY_MS}
            load(of_day)
            share(terms, people, day_ms, of_day)
            self.lines.update(of_day)

    # --- cost -------------------------------------------------------------------------------------------------------

    def _rate(self, pool: str | None, chain: Chain, hour_ms: int) -> HourRate | None:
        rate = self.terms.rate(pool, hour_ms) if pool is not None else None
        return self._hosts.applied(rate, chain, hour_ms) if rate is not None else None

    def _add_hour(self, hour_ms: int, hour: HourFacts) -> None:
        nobody = self.people.nobody
        portions, unreported = self._placement.of_hour(hour_ms, hour)
        held: dict[GpuPlace, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for server in hour.held.values():
            for place, own in server.items():
                for name in ("active_ms", "idle_ms", "active_mj", "idle_mj"):
                    held[place][name] += getattr(own, name)
        for piece in self._work.of(hour_ms, hour):
            chain = self._placement.chain_of(piece.place) if piece.place is not None else ()
            for pool, part in portions[chain] if piece.place is not None else [Portion(None, ONE)]:
                self._add_piece(hour_ms, hour, piece.part(part), pool, chain)
        for place in hour.time_ms:
            chain = self._placement.chain_of(place)
            for pool, part in portions[chain]:
                self._add_lost(hour_ms, hour, place, held[place], pool, part)
        for name, missing_ms in unreported.items():
            line = self.lines[Key(hour_ms, name, "", "", "dark", nobody)]
            rate = self.terms.rate(name, hour_ms)
            add_time(line, rate, "dark", missing_ms)
            divided = sum(1 for parts in portions.values() for pool, part in parts if pool == name and part != 1)
            if divided:  # what reported in the pool is whole milliseconds
                line.slack.add_units(rate, ZERO, ZERO, count=divided)
        reported_ms: dict[Chain, int] = defaultdict(int)
        for place, times in hour.time_ms.items():
            reported_ms[self._placement.chain_of(place)] += sum(times.values())
        for site, cost, slip in unused_sites(self.terms, hour_ms, reported_ms, portions, unreported):
            line = self.lines[Key(hour_ms, site, "", "", "unused site", nobody)]
            line.cost["dark", "facility"] += cost
            line.slack.cost += slip

    def _add_lost(
        self, hour_ms: int, hour: HourFacts, place: GpuPlace, held: Mapping[str, int], pool: str | None, part: Decimal
    ) -> None:
        """What nobody held, and what was held by no workload that is known."""
        times, energy = hour.time_ms[place], hour.energy_mj[place]
        rate = self._rate(pool, self._placement.chain_of(place), hour_ms)
        left = {
            ("untied", "productive"): (times["active"] - held["active_ms"], energy["active"] - held["active_mj"]),
            ("untied", "idle"): (times["idle"] - held["idle_ms"], energy["idle"] - held["idle_mj"]),
            ("unallocated", "unallocated"): (times["unallocated"], energy["unallocated"]),
            ("dark", "dark"): (times["unknown"], energy["unknown"]),
        }
        for (kind, bucket), (ms, mj) in left.items():
            if ms or mj:
                line = self.lines[Key(hour_ms, pool, place.cluster, place.node, kind, self.people.nobody)]
                add_usage(line, rate, bucket, ms * part, mj * part)
                line.ms["unrated"] += ms * part if bucket == "productive" else 0
                if part != 1:
                    line.slack.add_units(rate, Decimal(ms), Decimal(mj))

    def _add_piece(self, hour_ms: int, hour: HourFacts, piece: Piece, pool: str | None, chain: Chain) -> None:
        server, place = piece.server, piece.place
        values = self.people.values(server.cluster, server.workload, piece.model, hour.labels_of(server), piece.caller)
        node = place.node if place is not None else ""
        key = Key(hour_ms, pool, server.cluster, node, "work", values, piece.model, server.workload)
        tier = self._tier(key, hour, piece)
        key = key._replace(tier=tier.name)
        line, rate = self.lines[key], self._rate(pool, chain, hour_ms)
        for bucket in ("productive", "under_yield", "idle"):
            add_usage(line, rate, bucket, piece.times[f"{bucket}_ms"], piece.times[f"{bucket}_mj"])
        line.ms["unrated"] += piece.unrated_ms
        line.ms["parked"] += piece.times["parked_ms"]
        if rate is not None:
            parked_mj = energy_cost(rate, piece.times["parked_mj"])
            line.money["parked"] += time_cost(rate, piece.times["parked_ms"]) + parked_mj
        for kind in KINDS:
            line.counts[kind] += piece.counts[kind]
        line.known |= piece.known
        if place is None:
            line.missing["unplaced"] += sum((piece.counts[kind] for kind in TOKENS), ZERO)
        if not tier.prices:
            line.missing["unsold"] += sum((piece.counts[kind] for kind in TOKENS), ZERO)
        for kind in KINDS if rate is None else ():
            line.missing[kind] += piece.counts[kind]
        for kind, price in tier.prices.items():
            line.money["revenue"] += price * piece.counts[kind]
            line.money["revenue_without_cost"] += price * piece.counts[kind] if rate is None else ZERO
            line.slack.revenue += tier.slips[kind] * piece.counts[kind]
        slack = line.slack
        if piece.is_split:
            buckets = ("productive", "under_yield", "idle")
            ms, mj = (sum((piece.times[f"{bucket}_{unit}"] for bucket in buckets), ZERO) for unit in ("ms", "mj"))
            slack.add_units(rate, ms, mj)
        slack.pace_ms += piece.pace_slip  # with or without a price
        if rate is not None:
            slack.pace_cost += piece.pace_slip * time_cost(rate, ONE) + 2 * energy_cost(rate, piece.pace_slip)
        if piece.is_token_split:
            slack.tokens += 8  # counts are divided by places, and by callers
            slack.requests += 2
            slack.revenue += 2 * sum(tier.prices.values(), ZERO)

    def _tier(self, key: Key, hour: HourFacts, piece: Piece) -> Tier:
        server = piece.server
        names = known_of(server.cluster, server.workload, piece.model, hour.labels_of(server), piece.caller)
        names |= {name: names[f"gateway.{name}"] for name in ("service_tier", "context") if f"gateway.{name}" in names}
        names |= dict(zip(self.people.dimensions, self.dimension_values(key), strict=True))
        return tier_of(self.terms, names | {"model": self.model_name(key)}, day_of(key.start_ms))

    # --- names ------------------------------------------------------------------------------------------------------

    def dimension_values(self, key: Key) -> tuple[str, ...]:
        if not key.is_carried:
            return (f"({key.kind})",) * len(self.people.dimensions)
        return tuple("unattributed" if value is None else written(value) for value in key.values)

    def model_name(self, key: Key) -> str:
        return f"({key.kind.removeprefix('owner_')})" if key.kind != "work" else written(key.model)

    def column(self, key: Key, name: str) -> str:
        """The value of a line in a column that a report is by."""
        match name:
            case "hour":
                return f"{instant(key.start_ms)}Z"
            case "day":
                return instant(key.start_ms)[:10]
            case "source":
                return "fleet"
            case "pool":
                return "(price missing)" if key.pool is None else written(key.pool)
            case "cluster":
                return written(key.cluster)
            case "node":
                return written(key.node)
            case "model":
                return self.model_name(key)
            case "tier":
                return (written(key.tier) or "(no tier)") if key.kind == "work" else self.model_name(key)
            case "workload":
                if key.kind == "work":
                    return written(key.workload)
                return f"({key.kind})" if key.kind in ("untied", "unallocated", "dark", "unused site") else ""
            case _:
                return self.dimension_values(key)[self.people.dimensions.index(name)]


def day_of(at_ms: int) -> date:
    return datetime.fromtimestamp(at_ms / 1000, UTC).date()


def instant(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
