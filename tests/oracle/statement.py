"""A period's cost, line by line, computed a second time from the hours. Plain Python; nothing of the product.

From docs/money.md: waterfall, components, hosts, token prices, names.
"""

from collections import defaultdict
from datetime import UTC, date, datetime
from decimal import Decimal

from oracle.carrying import load, share
from oracle.facts import DAY_MS, HOUR_MS, KINDS, WHOLE_MACHINE, Facts, GpuPlace, HourFacts
from oracle.lines import ONE, Key, Line, add_time, add_usage, energy_cost, summed, time_cost
from oracle.people import People, matches, written
from oracle.terms import ZERO, HourRate, Terms, amount
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
        self._measured = self._measured_hosts()
        for hour_ms in range(self.start_ms, self.end_ms, HOUR_MS):
            self._add_hour(hour_ms, facts.hours.get(hour_ms) or HourFacts())
        self.before_sharing = summed(self.lines.values())
        for day_ms in range(self.start_ms - self.start_ms % DAY_MS, self.end_ms, DAY_MS):
            of_day = {key: line for key, line in self.lines.items() if day_ms <= key.start_ms < day_ms + DAY_MS}
            load(of_day)
            share(terms, people, day_ms, of_day)
            self.lines.update(of_day)

    # --- cost -------------------------------------------------------------------------------------------------------

    def _pool_of(self, place: GpuPlace) -> str | None:
        return self.terms.pool_of(*place, self._facts.node_labels.get((place.cluster, place.node), {}))

    def _rate(self, pool: str | None, hour_ms: int) -> HourRate | None:
        rate = self.terms.rate(pool, hour_ms) if pool is not None else None
        measured = self._measured.get((pool, hour_ms - hour_ms % DAY_MS)) if rate is not None else None
        if rate is None or measured is None:
            return rate
        own_uj, covered_ms, reported_ms = measured
        rest_ms = max(0, reported_ms - covered_ms)
        book_mw = round(rate.host_watts * 1000)
        return rate.with_host(round((Decimal(own_uj) + rest_ms * book_mw) / (covered_ms + rest_ms)))

    def _measured_hosts(self) -> dict[tuple[str | None, int], list[int]]:
        """(pool, day) -> uJ of hosts, GPU time of the nodes that measure, GPU time that reported."""
        pools: dict[tuple[str, str], set[str | None]] = defaultdict(set)
        for hour in self._facts.hours.values():
            for place in hour.time_ms:
                pools[place.cluster, place.node].add(self._pool_of(place))
        days: dict[tuple[int, str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
        reported: dict[tuple[str | None, int], int] = defaultdict(int)
        for hour_ms, hour in self._facts.hours.items():
            if self.start_ms <= hour_ms < self.end_ms:
                for at, amounts in hour.hosts.items():
                    day = days[hour_ms - hour_ms % DAY_MS, *at]
                    day[:] = [a + b for a, b in zip(day, amounts, strict=True)]
                for place, times in hour.time_ms.items():
                    reported[self._pool_of(place), hour_ms - hour_ms % DAY_MS] += sum(times.values())
        found: dict[tuple[str | None, int], list[int]] = {}
        for (day_ms, cluster, node, sensor), (host_mj, gpu_ms, gpu_mj) in days.items():
            own = pools[cluster, node]
            if len(own) == 1 and None not in own and gpu_ms:
                pool = found.setdefault((next(iter(own)), day_ms), [0, 0, 0])
                pool[0] += max(0, host_mj - gpu_mj if sensor in WHOLE_MACHINE else host_mj) * 1000
                pool[1] += gpu_ms
        for where, sums in found.items():
            sums[2] = reported[where]
        return {where: sums for where, sums in found.items() if sums[1] and sums[2]}

    def _add_hour(self, hour_ms: int, hour: HourFacts) -> None:
        nobody = self.people.nobody
        held: dict[GpuPlace, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for server in hour.held.values():
            for place, own in server.items():
                for name in ("active_ms", "idle_ms", "active_mj", "idle_mj"):
                    held[place][name] += getattr(own, name)
        for piece in self._work.of(hour):
            self._add_piece(hour_ms, hour, piece)
        reported_ms: dict[str | None, int] = defaultdict(int)
        for place, times in hour.time_ms.items():
            pool, energy = self._pool_of(place), hour.energy_mj[place]
            rate = self._rate(pool, hour_ms)
            reported_ms[pool] += sum(times.values())
            left = {
                ("untied", "productive"): [
                    times["active"] - held[place]["active_ms"],
                    energy["active"] - held[place]["active_mj"],
                ],
                ("untied", "idle"): [times["idle"] - held[place]["idle_ms"], energy["idle"] - held[place]["idle_mj"]],
                ("unallocated", "unallocated"): [times["unallocated"], energy["unallocated"]],
                ("dark", "dark"): [times["unknown"], energy["unknown"]],
            }
            for (kind, bucket), (ms, mj) in left.items():
                if ms or mj:
                    line = self.lines[Key(hour_ms, pool, place.cluster, place.node, kind, nobody)]
                    add_usage(line, rate, bucket, Decimal(ms), Decimal(mj))
                    line.ms["unrated"] += ms if bucket == "productive" else 0
        for pool_entry in self.terms.pools:
            name = str(pool_entry["name"])
            rate = self.terms.rate(name, hour_ms)
            if rate is not None and rate.count is not None:
                missing_ms = rate.count * HOUR_MS - reported_ms[name]
                if missing_ms > 0:
                    add_time(self.lines[Key(hour_ms, name, "", "", "dark", nobody)], rate, "dark", Decimal(missing_ms))

    def _add_piece(self, hour_ms: int, hour: HourFacts, piece: Piece) -> None:
        server, place = piece.server, piece.place
        values = self.people.values(server.cluster, server.workload, piece.model, hour.labels_of(server), piece.caller)
        pool = self._pool_of(place) if place is not None else None
        node = place.node if place is not None else ""
        key = Key(hour_ms, pool, server.cluster, node, "work", values, piece.model, server.workload)
        line, rate = self.lines[key], self._rate(pool, hour_ms)
        for bucket in ("productive", "under_yield", "idle"):
            add_usage(line, rate, bucket, piece.times[f"{bucket}_ms"], piece.times[f"{bucket}_mj"])
        line.ms["unrated"] += piece.unrated_ms
        line.ms["parked"] += piece.times["parked_ms"]
        if rate is not None:
            line.money["parked"] += time_cost(rate, piece.times["parked_ms"]) + energy_cost(
                rate, piece.times["parked_mj"]
            )
        for kind in KINDS:
            line.counts[kind] += piece.counts[kind]
        line.known |= piece.known
        prices = self.token_prices(key)
        for kind, (price, slip) in prices.items():
            line.money["revenue"] += price * piece.counts[kind]
            line.slack.revenue += slip * piece.counts[kind]
        slack = line.slack
        if piece.is_split:
            slack.ms += 4
            slack.joules += Decimal("0.004")
            slack.site_joules += (Decimal("0.004") + Decimal("0.004") * (rate.host_watts if rate else 0)) * (
                rate.pue if rate else 1
            )
            slack.cost += 4 * (time_cost(rate, ONE) + energy_cost(rate, ONE)) if rate else ZERO
        if piece.pace_slip and rate is not None:
            slack.pace_ms += piece.pace_slip
            slack.pace_cost += piece.pace_slip * time_cost(rate, ONE) + 2 * energy_cost(rate, piece.pace_slip)
        if piece.is_token_split:
            slack.tokens += 4
            slack.requests += 1
            slack.revenue += sum((price for price, _ in prices.values()), ZERO)

    def token_prices(self, key: Key) -> dict[str, tuple[Decimal, Decimal]]:
        """Kind -> what a token is sold for, and by how much that may be rounded; of the first that fits and holds."""
        day = day_of(key.start_ms)
        known = dict(zip(self.people.dimensions, self.dimension_values(key), strict=True))
        known |= {"model": self.model_name(key), "cluster": written(key.cluster)}
        for entry in self.terms.document.get("token_prices") or ():
            begins, ends = entry.get("from"), entry.get("until")
            if not matches(entry.get("match") or {}, known) or (begins and day < begins) or (ends and day >= ends):
                continue
            exchange = self.terms.exchange(entry.get("currency"), day)
            if exchange is None:
                return {}
            per_million = entry["per_million"]
            if not isinstance(per_million, dict):
                per_million = {"prompt": per_million, "completion": per_million}
            prompt = amount(per_million.get("prompt", 0))
            cached = prompt if per_million.get("cached") is None else amount(per_million["cached"])
            by_kind = {
                "prompt_computed": prompt,
                "prompt_cached": cached,
                "prompt_unsplit": prompt,
                "completion": amount(per_million.get("completion", 0)),
            }
            exact = {kind: price * exchange / 10**6 for kind, price in by_kind.items()}
            return {kind: (price, abs(price - round(price, 12))) for kind, price in exact.items()}
        return {}

    # --- who carries it ----------------------------------------------------------------------------------------------

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
            case "workload":
                if key.kind == "work":
                    return written(key.workload)
                return f"({key.kind})" if key.kind in ("untied", "unallocated", "dark") else ""
            case _:
                return self.dimension_values(key)[self.people.dimensions.index(name)]


def day_of(at_ms: int) -> date:
    return datetime.fromtimestamp(at_ms / 1000, UTC).date()


def instant(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
