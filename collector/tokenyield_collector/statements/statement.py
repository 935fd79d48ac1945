"""A period's full cost, line by line: who used what, what was lost, who carries it. Pure but for the reader.

In: usage (ledger/usage.py), the price book, the attribution rules. Out: lines, day by day, of integers that add up:
money in quanta (money.py), time in ms, energy in mJ and finer, tokens. Whatever way lines are summed, the sum of their
`total` is the whole cost of the fleet, which is rate x time paid for plus tariff x energy, pool by pool.

Waterfall, to the exact total: dark -> unallocated -> idle -> under_yield -> productive, each with its energy.
* dark: paid for and not reported, or reported as unknown
* idle and active time that no workload was found for belongs to the workload `(untied)`
* what is shared by the policy leaves its line and stands as `shared` with those who carry it
* `loaded` is what a line would cost if its pool's unallocated, dark and untied cost of the day were shared by usage
"""

import operator
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from tokenyield_collector.attribution.rules import UNATTRIBUTED, Attribution, fits, known_of
from tokenyield_collector.ledger.usage import CapacityRow, Identity, UsageQuery, UsageReader, WorkRow
from tokenyield_collector.prices.book import PriceBook, TokenPrice
from tokenyield_collector.prices.calendar import in_force
from tokenyield_collector.prices.host_power import Measured, measured_by_day
from tokenyield_collector.prices.money import QUANTA_PER_UNIT
from tokenyield_collector.prices.period import day_of
from tokenyield_collector.prices.rates import PICO, Rates
from tokenyield_collector.statements.lines import (
    REVENUE_AT,
    TIMES,
    TOKENS_AT,
    UNPRICED,
    UNRATED_AT,
    UNTIED,
    Group,
    LineKey,
    Sums,
)
from tokenyield_collector.statements.pricing import Factors, Pricing, put
from tokenyield_collector.statements.references import AppliedReference, references_of
from tokenyield_collector.statements.sharing import load, share
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR
from tokenyield_wire.window import TOKEN_KINDS

_QUANTA_PER_PICO = QUANTA_PER_UNIT // PICO
_TOKENS_PER_PRICE = 10**6

Held = dict[tuple[int, str | None, tuple[str, str]], list[int]]
"""(segment, pool, node) -> what workloads held: active and idle ms, active and idle mJ."""


@dataclass(kw_only=True)
class Grain:
    """How finely lines are told apart, beside the dimensions."""

    hour: bool = False
    node: bool = False
    workload: bool = False
    cluster: bool = False


@dataclass(kw_only=True)
class Statement:
    """What `lines` is reckoned with; `references` says which pace was applied."""

    reader: UsageReader
    prices: PriceBook
    attribution: Attribution
    start_ms: int
    end_ms: int
    """What of the period has been and is kept, in whole hours."""
    grain: Grain = field(default_factory=Grain)
    references: list[AppliedReference] = field(default_factory=list)
    before_sharing: dict[tuple[str, str], Sums] = field(default_factory=lambda: defaultdict(Sums))
    """(cluster where the grain tells it, pool) -> the sum of all lines so far, before anything was shared."""

    @property
    def whole(self) -> Sums:
        """All of `before_sharing`."""
        found = Sums()
        for sums in self.before_sharing.values():
            found.take(sums)
        return found

    def lines(self) -> Iterator[tuple[LineKey, Sums]]:
        """All lines, day after day."""
        if self.end_ms <= self.start_ms:
            return
        pricing = Pricing(self.prices, self.start_ms, self.end_ms, by_hour=self.grain.hour)
        weights = self.prices.token_weights.per_thousand()
        paces, self.references = references_of(self.reader, self.prices, self.start_ms, self.end_ms, weights)
        groups = _Groups(self.attribution, self.grain)
        usage = self.reader.usage(
            UsageQuery(
                start_ms=self.start_ms,
                end_ms=self.end_ms,
                by_node=self.grain.node or self.grain.cluster,
                weights=weights,
                pool_of=pricing.pool_of,
                segments=pricing.segments,
                references=paces,
                gateway_models=self.attribution.gateway_models,
                group_of=groups.of,
            )
        )
        host_days = self.reader.host_energy(self.start_ms, self.end_ms)
        measured = measured_by_day(host_days, self.reader.gpu_groups() if host_days else (), pricing.pool_of)
        day = _Day(self, pricing, groups, usage.reported_ms, measured)
        work_of, capacity_of = _by_day(usage.work), _by_day(usage.capacity)
        for day_ms in range(self.start_ms - self.start_ms % MS_PER_DAY, self.end_ms, MS_PER_DAY):
            yield from day.lines(day_ms, work_of(day_ms), capacity_of(day_ms))


# --- whom it belongs to ----------------------------------------------------------------------------------------------


class _Groups:
    """Groups by number, as identities turn up."""

    def __init__(self, attribution: Attribution, grain: Grain) -> None:
        self._attribution = attribution
        self._grain = grain
        self._numbers: dict[Group, int] = {}
        self.listed: list[Group] = []
        self._labels: dict[str, dict[str, str]] = {}

    def of(self, identity: Identity) -> int:
        known = known_of(
            cluster=identity.cluster,
            workload=identity.workload,
            model=identity.model,
            labels=self._decoded(identity.labels),
            asker=self._decoded(identity.asker),
        )
        group = Group(
            self._attribution.attribute(known),
            identity.model,
            identity.workload if self._grain.workload else "",
            identity.cluster if self._grain.cluster else "",
        )
        found = self._numbers.setdefault(group, len(self.listed))
        if found == len(self.listed):
            self.listed.append(group)
        return found

    def _decoded(self, text: str) -> dict[str, str]:
        if text not in self._labels:
            self._labels[text] = {name: str(value) for name, value in msgspec.json.decode(text).items()}
        return self._labels[text]


# --- one day ---------------------------------------------------------------------------------------------------------


class _Day:
    """Usage of one day into its lines."""

    def __init__(
        self,
        statement: Statement,
        pricing: Pricing,
        groups: _Groups,
        reported_ms: Mapping[tuple[str, int], int],
        measured: Mapping[tuple[str, int], Measured],
    ) -> None:
        self._statement = statement
        self._pricing = pricing
        self._groups = groups
        self._reported_ms = reported_ms
        self._measured = measured
        self._host: dict[str, tuple[Measured, int]] = {}
        """Of this day: pool -> what its hosts were measured to draw, and how long its GPUs reported."""
        self._rate_of: dict[tuple[str, int], Factors | None] = {}
        self._rates = Rates(statement.prices)
        self._fitting: dict[Group, list[int]] = {}
        self._sold_at: dict[tuple[int, int], Sequence[tuple[int, int]] | None] = {}

    def lines(
        self, day_ms: int, work: Sequence[WorkRow], capacity: Sequence[CapacityRow]
    ) -> Iterator[tuple[LineKey, Sums]]:
        found: dict[LineKey, Sums] = defaultdict(Sums)
        self._begin(day_ms, capacity)
        held = self._add_work(day_ms, work, found)
        self._add_capacity(day_ms, capacity, held, found)
        self._add_unreported(day_ms, found)
        for key, sums in found.items():
            self._statement.before_sharing[key.group.cluster, key.pool].take(sums)
        load(found)
        share(found, self._statement.attribution, self._pricing, day_ms)
        yield from found.items()

    def _begin(self, day_ms: int, capacity: Sequence[CapacityRow]) -> None:
        self._rate_of = {}
        reported: dict[str, int] = defaultdict(int)
        for row in capacity if self._measured else ():
            reported[row.pool or ""] += sum(row.sums[:4])
        self._host = {
            pool: (self._measured[pool, day_ms], total_ms)
            for pool, total_ms in reported.items()
            if (pool, day_ms) in self._measured
        }

    def _add_work(self, day_ms: int, work: Sequence[WorkRow], found: dict[LineKey, Sums]) -> Held:
        held: Held = defaultdict(lambda: [0] * 4)
        lines: dict[tuple[str | None, tuple[str, str], int, int], tuple[Sums, Sequence[tuple[int, int]]]] = {}
        by_hour = self._statement.grain.hour
        for row in work:
            at = (row.pool, row.node, row.group, row.segment if by_hour else 0)
            if at not in lines:
                group = self._groups.listed[row.group]
                key = self._key(day_ms, row.segment, row.pool, row.node, group)
                lines[at] = found[key], self._sold(group, day_ms)
            sums, sold = lines[at]
            times, tokens = row.sums[:TIMES], row.sums[TIMES:]
            productive_ms, under_ms, idle_ms, unrated_ms, productive_mj, under_mj, idle_mj = times
            of = held[row.segment, row.pool, row.node]
            of[0] += productive_ms + under_ms
            of[1] += idle_ms
            of[2] += productive_mj + under_mj
            of[3] += idle_mj
            put(
                sums,
                self._rate(row.pool, row.segment),
                productive=(productive_ms, productive_mj),
                under_yield=(under_ms, under_mj),
                idle=(idle_ms, idle_mj),
            )
            sums[UNRATED_AT] += unrated_ms
            sums[TOKENS_AT:] = map(operator.add, sums[TOKENS_AT:], tokens)
            for i, quanta in sold:
                sums[REVENUE_AT] += tokens[i] * quanta
        return held

    def _add_capacity(
        self,
        day_ms: int,
        capacity: Sequence[CapacityRow],
        held: Held,
        found: dict[LineKey, Sums],
    ) -> None:
        """What nobody held, and what was held by nobody known."""
        nobody = (UNATTRIBUTED,) * len(self._statement.attribution.dimensions)
        for row in capacity:
            active_ms, idle_ms, unallocated_ms, unknown_ms, active_mj, idle_mj, unallocated_mj, unknown_mj = row.sums
            known = held.get((row.segment, row.pool, row.node), [0] * 4)
            rate = self._rate(row.pool, row.segment)
            untied = [all_ - some for all_, some in zip((active_ms, idle_ms, active_mj, idle_mj), known, strict=True)]
            if any(untied):
                group = Group(nobody, UNTIED, UNTIED if self._statement.grain.workload else "", self._cluster(row.node))
                sums = found[self._key(day_ms, row.segment, row.pool, row.node, group)]
                put(sums, rate, productive=(untied[0], untied[2]), idle=(untied[1], untied[3]))
                sums.add("unrated_ms", untied[0])
            for bucket, duration_ms, energy_mj in (
                ("unallocated", unallocated_ms, unallocated_mj),
                ("dark", unknown_ms, unknown_mj),
            ):
                if duration_ms or energy_mj:
                    sums = found[self._key(day_ms, row.segment, row.pool, row.node, self._lost(bucket, row.node))]
                    put(sums, rate, **{bucket: (duration_ms, energy_mj)})

    def _add_unreported(self, day_ms: int, found: dict[LineKey, Sums]) -> None:
        """What is paid for and not reported, hour by hour: more than is paid for in one hour is no less in another."""
        pricing = self._pricing
        for hour_ms in range(
            max(day_ms, self._statement.start_ms), min(day_ms + MS_PER_DAY, self._statement.end_ms), MS_PER_HOUR
        ):
            for pool, listed in pricing.segments.items():
                segment = listed[(hour_ms - pricing.start_ms) // MS_PER_HOUR]
                rate = pricing.rates[pool][segment]
                if rate is None or rate.gpus is None:
                    continue
                missing_ms = rate.gpus * MS_PER_HOUR - self._reported_ms.get((pool, hour_ms), 0)
                if missing_ms > 0:
                    sums = found[self._key(day_ms, segment, pool, ("", ""), self._lost("dark", ("", "")))]
                    sums.add("dark", rate.per_ms * missing_ms)
                    sums.add("dark_ms", missing_ms)

    def _lost(self, bucket: str, node: tuple[str, str]) -> Group:
        label = f"({bucket})"
        grain = self._statement.grain
        values = (label,) * len(self._statement.attribution.dimensions)
        return Group(values, label, label if grain.workload else "", self._cluster(node))

    def _cluster(self, node: tuple[str, str]) -> str:
        return node[0] if self._statement.grain.cluster else ""

    def _key(self, day_ms: int, segment: int, pool: str | None, node: tuple[str, str], group: Group) -> LineKey:
        start_ms = day_ms
        if self._statement.grain.hour and pool is not None:
            start_ms = self._pricing.hour_of.get((pool, segment), day_ms)
        return LineKey(start_ms, pool or UNPRICED, node if self._statement.grain.node else ("", ""), group)

    def _rate(self, pool: str | None, segment: int) -> Factors | None:
        if pool is None:
            return None
        if (pool, segment) not in self._rate_of:
            rate = self._pricing.rates[pool][segment]
            if rate is not None and pool in self._host:
                measured, reported_ms = self._host[pool]
                rate = rate.with_host(measured.mw(reported_ms, rate.host_mw))
            self._rate_of[pool, segment] = rate
        return self._rate_of[pool, segment]

    def _sold(self, group: Group, day_ms: int) -> Sequence[tuple[int, int]]:
        """(number of the kind, quanta a token) of what this group's tokens are sold for on that day."""
        if group not in self._fitting:
            known = dict(zip(self._statement.attribution.dimensions, group.values, strict=True)) | {
                "model": group.model
            }
            prices = self._statement.prices.token_prices
            self._fitting[group] = [i for i, price in enumerate(prices) if fits(price.match, known)]
        for i in self._fitting[group]:
            if (i, day_ms) not in self._sold_at:
                self._sold_at[i, day_ms] = self._price_of(self._statement.prices.token_prices[i], day_of(day_ms))
            if (found := self._sold_at[i, day_ms]) is not None:
                return found
        return ()

    def _price_of(self, price: TokenPrice, day: date) -> Sequence[tuple[int, int]] | None:
        """None where it does not hold on that day."""
        if in_force((price,), day) is None or (price.until is not None and day >= price.until):
            return None
        exchange = self._rates.exchange(price.currency, day)
        return _per_token(price, exchange) if exchange is not None else ()


def _per_token(price: TokenPrice, exchange: Decimal) -> list[tuple[int, int]]:
    told = price.prices()
    cached = told.prompt if told.cached is None else told.cached
    by_kind = {
        "prompt_computed": told.prompt,
        "prompt_cached": cached,
        "prompt_unsplit": told.prompt,
        "completion": told.completion,
    }
    return [
        (TOKEN_KINDS.index(kind), round(amount * exchange * PICO / _TOKENS_PER_PRICE) * _QUANTA_PER_PICO)
        for kind, amount in by_kind.items()
        if amount
    ]


def _by_day(rows: Iterator[Any]) -> Callable[[int], list[Any]]:
    """A function that gives the rows of one day after the other; days must be asked for in order."""
    waiting: list[Any] = []

    def of(day_ms: int) -> list[Any]:
        taken = [row for row in waiting if row.day_ms == day_ms]
        if waiting and not taken:
            return []
        waiting.clear()
        for row in rows:
            if row.day_ms != day_ms:
                waiting.append(row)
                break
            taken.append(row)
        return taken

    return of
