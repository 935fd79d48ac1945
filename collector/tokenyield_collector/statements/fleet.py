"""The fleet as a cost source: what the ledger's usage costs, line by line. Pure but for the reader.

In: usage (ledger/usage.py) of a period, the policy. Out: lines, day by day, of integers that add up: whatever way they
are summed, the sum of their `total` is the whole cost of the fleet, which is rate x time paid for plus tariff x
energy, pool by pool. Which pool the time of an hour falls to is in placement.py; where it is divided among several,
lines have the finest grain, so that what is rounded does not depend on the grain that was asked for.

Waterfall, to the exact total: dark -> unallocated -> idle -> under_yield -> productive, each with its energy.
* dark: paid for and not reported, or reported as unknown
* idle and active time that no workload was found for belongs to a line of kind `untied`
"""

import operator
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from tokenyield_collector.ledger.usage import (
    NO_GPU_CHAIN,
    USAGE_KINDS,
    WORK_SUMS,
    CapacityRow,
    CapacityTimes,
    UsageQuery,
    UsageReader,
    WorkIdentity,
    WorkRow,
)
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.components import COMPONENT_AT
from tokenyield_collector.prices.rates import Rate
from tokenyield_collector.statements.division import Division
from tokenyield_collector.statements.fact_gaps import fact_gaps
from tokenyield_collector.statements.fleet_gaps import FleetGaps
from tokenyield_collector.statements.gaps import DayGap
from tokenyield_collector.statements.host_power import MeasuredHosts, measured_by_day
from tokenyield_collector.statements.lines import (
    COST_AT,
    FIELD_AT,
    FIELDS,
    TOKENS_AT,
    UNPRICED_TOKENS_AT,
    Carrier,
    LineKey,
    LineKind,
    Sums,
)
from tokenyield_collector.statements.parts import Parts
from tokenyield_collector.statements.placement import Placements, Portion
from tokenyield_collector.statements.pricing import TIMES, add_capacity, add_held, add_usage, add_work
from tokenyield_collector.statements.references import AppliedReference, references_of
from tokenyield_collector.statements.revenue import DayTier, Fitting, KindPrices, Revenue
from tokenyield_collector.statements.sites import unused_sites
from tokenyield_collector.statements.source import NO_NODE, Grain, Span, day_by_day
from tokenyield_wire.units import MS_PER_DAY
from tokenyield_wire.window import TOKEN_KINDS

FLEET = "fleet"
_SITE_AT = COST_AT["dark"] + COMPONENT_AT["facility"]
_day_of = operator.attrgetter("day_ms")

assert WORK_SUMS[TIMES:] == FIELDS[TOKENS_AT:], "tokens of usage and of lines are added field by field"
_UNRATED_AT, _REVENUE_AT = FIELD_AT["unrated_ms"], FIELD_AT["revenue"]
_WITHOUT_COST_AT, _UNSOLD_AT = FIELD_AT["revenue_without_cost"], FIELD_AT["unsold_tokens"]
_UNPLACED_AT = FIELD_AT["unplaced_tokens"]
_TOKENS_END, _COUNTED = TIMES + len(TOKEN_KINDS), len(USAGE_KINDS)
_UNPRICED_END = UNPRICED_TOKENS_AT + _COUNTED


HeldTimes = dict[tuple[int, int, str, tuple[str, str]], list[int]]
"""What workloads held by day of the segment, segment, chain and node: active ms, idle ms, active mJ, idle mJ."""
DividedRows = dict[tuple[int, str], tuple[list[WorkRow], list[CapacityRow]]]
"""(segment, chain) -> rows of time that is divided among pools."""
_NOTHING_HELD = (0, 0, 0, 0)


class FleetSource:
    """A `CostSource` over a ledger's usage, from `from_ms` on; its keys have the grain that is asked for."""

    def __init__(self, reader: UsageReader, policy: Policy, grain: Grain, *, from_ms: int = 0) -> None:
        self._from_ms = from_ms
        self._reader = reader
        self._policy = policy
        self._grain = grain
        self.references: Sequence[AppliedReference] = ()
        self._gaps: FleetGaps | None = None
        self._fact_gaps: list[DayGap] = []

    @property
    def gaps(self) -> list[DayGap]:
        return [*(self._gaps.by_day() if self._gaps is not None else ()), *self._fact_gaps]

    def lines(self, span: Span) -> Iterator[tuple[LineKey, Sums]]:
        span = Span(max(span.start_ms, self._from_ms), span.end_ms)
        if span.end_ms <= span.start_ms:
            return
        prices, rules, reader = self._policy.prices, self._policy.rules, self._reader
        facts = fact_gaps(reader, span.start_ms, span.end_ms, rules.gateway_models)
        self._fact_gaps = facts.gaps
        placements = Placements(prices, reader, span.start_ms, span.end_ms, by_hour=self._grain.hour)
        grain = self._grain
        if placements.are_divided:
            grain = Grain(hour=grain.hour, node=True, workload=True, cluster=True)
        weights = prices.token_weights.per_thousand()
        paces, node_paces, self.references = references_of(reader, prices, span.start_ms, span.end_ms, weights)
        revenue = Revenue(self._policy)
        carriers = _Carriers(self._policy, grain, revenue)
        host_days = reader.host_energy(span.start_ms, span.end_ms)
        measured = measured_by_day(host_days, reader.gpu_groups() if host_days else (), placements.chain_of)
        is_whole = not (grain.day or grain.hour or placements.are_divided or measured)
        undated = placements.priced_segments() if is_whole else {}
        usage = reader.usage(
            UsageQuery(
                start_ms=span.start_ms,
                end_ms=span.end_ms,
                by_node=grain.node or grain.cluster,
                weights=weights,
                chain_of=placements.chain_of,
                segments=placements.segments,
                references=paces,
                node_references=node_paces,
                gateway_models=rules.gateway_models,
                group_of=carriers.number_of,
                uncounted=facts.uncounted,
                undated=undated,
                is_dated=lambda group: carriers.tier_depends_on_day(group, span),
            )
        )
        self._gaps = FleetGaps(self._policy, placements, reader.gpu_groups)
        day = _FleetDay(self._policy, self._grain, placements, carriers, revenue, measured, undated, self._gaps)
        if is_whole:
            yield from day.lines(span.days(), usage.work, usage.capacity)
            return
        work_of, capacity_of = day_by_day(usage.work, _day_of), day_by_day(usage.capacity, _day_of)
        for day_ms in span.days():
            yield from day.lines([day_ms], work_of(day_ms), capacity_of(day_ms))


class _Carriers:
    """Carriers by number, with the tiers that fit them, as identities turn up."""

    def __init__(self, policy: Policy, grain: Grain, revenue: Revenue) -> None:
        self._policy = policy
        self._grain = grain
        self._revenue = revenue
        self._numbers: dict[tuple[Carrier, Fitting], int] = {}
        self.listed: list[tuple[Carrier, Fitting]] = []
        self._texts: dict[int, str] = {}
        self._depend_on_day: dict[Fitting, bool] = {}

    def text_of(self, number: int) -> str:
        """To sort by: the same in every ledger, whose numbers are not."""
        if number not in self._texts:
            self._texts[number] = repr(self.listed[number])
        return self._texts[number]

    def number_of(self, identity: WorkIdentity) -> int:
        carrier = Carrier(
            "work",
            self._policy.dimension_values(*identity),
            identity.model,
            identity.workload if self._grain.workload else "",
            identity.cluster if self._grain.cluster else "",
        )
        fitted = (carrier, self._revenue.fitting(identity, carrier))
        number = self._numbers.setdefault(fitted, len(self.listed))
        if number == len(self.listed):
            self.listed.append(fitted)
        return number

    def tier_depends_on_day(self, number: int, span: Span) -> bool:
        """Whether tokens of this carrier are sold otherwise on some days, or have no price, which is shown by day."""
        fitting = self.listed[number][1]
        if fitting not in self._depend_on_day:
            first, *others = (self._revenue.on(fitting, day_ms) for day_ms in span.days())
            self._depend_on_day[fitting] = first.gap is not None or any(tier != first for tier in others)
        return self._depend_on_day[fitting]


class _FleetDay:
    """Usage of one day into its lines, or of days on which nothing depends."""

    def __init__(
        self,
        policy: Policy,
        grain: Grain,
        placements: Placements,
        carriers: _Carriers,
        revenue: Revenue,
        measured: Mapping[tuple[str, int], MeasuredHosts],
        undated: Mapping[str, Collection[int]],
        gaps: FleetGaps,
    ) -> None:
        self._grain = grain
        self._placements = placements
        self._carriers = carriers
        self._measured = measured
        self._undated = undated
        self._revenue = revenue
        self._gaps = gaps
        self._nobody: tuple[None, ...] = (None,) * len(policy.rules.dimensions)
        self._unreported = day_by_day(placements.unreported, lambda one: one.start_ms - one.start_ms % MS_PER_DAY)
        self._unused_sites = day_by_day(
            unused_sites(policy.prices, placements), lambda one: one.start_ms - one.start_ms % MS_PER_DAY
        )
        self._host: dict[str, tuple[MeasuredHosts, int]] = {}
        """Of this day: chain -> what its hosts were measured to draw, and how long its GPUs reported (ms)."""
        self._portions_of: dict[tuple[str, int], Sequence[Portion]] = {}
        self._measured_rates: dict[tuple[str, int], Rate] = {}
        """Of this day: (chain, id of a rate) -> that rate with what hosts were measured to draw."""
        self._targets: dict[tuple[str | None, tuple[str, str], int, int, int], tuple[Sums, DayTier]] = {}
        """Of this day: (pool, node, group, day of the row, segment where lines are by hour) -> the line of work, and
        its prices."""

    def lines(
        self, days_ms: Sequence[int], work: Iterable[WorkRow], capacity: Iterable[CapacityRow]
    ) -> Iterator[tuple[LineKey, Sums]]:
        """Lines of the first of these days, of all that is on any of them. More than one: see `Grain.day`."""
        lines: dict[LineKey, Sums] = defaultdict(Sums)
        day_ms, capacity = days_ms[0], list(capacity)
        self._begin(day_ms, capacity)
        held, divided = self._add_work(day_ms, work, lines)
        for row in self._add_capacity(day_ms, capacity, held, lines):
            divided[row.segment, row.chain][1].append(row)
        if divided:
            self._add_divided(day_ms, divided, held, lines)
        for on_ms in days_ms:
            self._add_unreported(on_ms, day_ms, lines)
            self._add_unused_sites(on_ms, day_ms, lines)
        yield from lines.items()

    def _begin(self, day_ms: int, capacity: Sequence[CapacityRow]) -> None:
        self._portions_of, self._measured_rates, self._targets = {}, {}, {}
        reported: dict[str, int] = defaultdict(int)
        for row in capacity if self._measured else ():
            times = CapacityTimes(*row.sums)
            reported[row.chain] += times.active_ms + times.idle_ms + times.unallocated_ms + times.unknown_ms
        self._host = {
            chain: (self._measured[chain, day_ms], total_ms)
            for chain, total_ms in reported.items()
            if (chain, day_ms) in self._measured
        }

    def _add_work(
        self, day_ms: int, work: Iterable[WorkRow], lines: dict[LineKey, Sums]
    ) -> tuple[HeldTimes, DividedRows]:
        """What was held, and the rows whose time is divided, which are not added yet."""
        held: HeldTimes = defaultdict(lambda: [0] * 4)
        divided: DividedRows = defaultdict(lambda: ([], []))
        for row in work:
            portions = self._portions(row.chain, row.segment)
            if len(portions) > 1:
                divided[row.segment, row.chain][0].append(row)
                continue
            add_held(held[self._held_at(day_ms, row)], row.sums)
            self._add_worked(day_ms, row, portions[0], row.sums, lines)
        return held, divided

    def _held_at(self, day_ms: int, row: WorkRow | CapacityRow) -> tuple[int, int, str, tuple[str, str]]:
        on_ms = day_ms if row.segment in self._undated.get(row.chain, ()) else row.day_ms
        return on_ms, row.segment, row.chain, row.node

    def _add_worked(
        self, day_ms: int, row: WorkRow, portion: Portion, work: Sequence[int], lines: dict[LineKey, Sums]
    ) -> None:
        """What a portion takes of a row, as `WorkRow.sums`."""
        sums, tier = self._target(day_ms, row, portion.pool, lines)
        if tier.gap is not None:
            self._add_unsold(row, work, tier, sums)
        _add_work_row(sums, portion.rate, work, tier.quanta)
        if row.chain == NO_GPU_CHAIN:
            sums[_UNPLACED_AT] += sum(work[TIMES:_TOKENS_END])
        if portion.rate is None:
            self._gaps.add_work(row, work, portion, self._carriers.listed[row.group][0].model)

    def _target(self, day_ms: int, row: WorkRow, pool: str | None, lines: dict[LineKey, Sums]) -> tuple[Sums, DayTier]:
        at = (pool, row.node, row.group, row.day_ms, row.segment if self._grain.hour else 0)
        if at not in self._targets:
            self._targets[at] = self._find_target(day_ms, row, pool, lines)
        return self._targets[at]

    def _find_target(
        self, day_ms: int, row: WorkRow, pool: str | None, lines: dict[LineKey, Sums]
    ) -> tuple[Sums, DayTier]:
        carrier, fitting = self._carriers.listed[row.group]
        tier = self._revenue.on(fitting, row.day_ms)
        if tier.name:
            carrier = carrier._replace(tier=tier.name)
        key = self._key(day_ms, row.segment, row.chain, pool, row.node, carrier)
        return lines[key], tier

    def _add_unsold(self, row: WorkRow, work: Sequence[int], tier: DayTier, sums: Sums) -> None:
        """Tokens whose revenue is unknown."""
        if tokens := sum(work[TIMES:_TOKENS_END]):
            sums[_UNSOLD_AT] += tokens
            self._gaps.add_unsold(tier, self._carriers.listed[row.group][0], row.day_ms, tokens)

    def _add_capacity(
        self, day_ms: int, capacity: Sequence[CapacityRow], held: HeldTimes, lines: dict[LineKey, Sums]
    ) -> Iterator[CapacityRow]:
        """What nobody held, and what was held by no workload that is known; gives rows whose time is divided."""
        for row in capacity:
            portions = self._portions(row.chain, row.segment)
            if len(portions) > 1:
                yield row
            else:
                known = held.get(self._held_at(day_ms, row), _NOTHING_HELD)
                self._add_lost(day_ms, row, portions[0], _without(row.sums, known), lines)

    def _add_divided(self, day_ms: int, divided: DividedRows, held: HeldTimes, lines: dict[LineKey, Sums]) -> None:
        """The rows of one chain in one hour, each divided among the pools that take its time, and priced together."""
        worked: Parts[WorkRow] = Parts(by_hour=self._grain.hour)
        lost: Parts[CapacityRow] = Parts(by_hour=self._grain.hour)
        for (segment, chain), (work, capacity) in sorted(divided.items()):
            portions = self._portions(chain, segment)
            division = Division(portions)
            work.sort(key=lambda row: (row.node, self._carriers.text_of(row.group)))
            for row, parts in zip(work, division.work([row.sums for row in work]), strict=True):
                add_held(held[self._held_at(day_ms, row)], row.sums)
                for portion, sums in zip(portions, parts, strict=True):
                    worked.add(row, row.group, portion, sums)
            capacity.sort(key=lambda row: row.node)
            free = [_without(row.sums, held.get(self._held_at(day_ms, row), _NOTHING_HELD)) for row in capacity]
            for free_row, parts in zip(capacity, division.capacity(free), strict=True):
                for portion, sums in zip(portions, parts, strict=True):
                    lost.add(free_row, 0, portion, sums)
        for row, portion, work_sums in worked.listed():
            self._add_worked(day_ms, row, portion, work_sums, lines)
        for lost_row, portion, lost_sums in lost.listed():
            self._add_lost(day_ms, lost_row, portion, lost_sums, lines)

    def _add_lost(
        self,
        day_ms: int,
        row: CapacityRow,
        portion: Portion,
        free: Sequence[int],
        lines: dict[LineKey, Sums],
    ) -> None:
        """What of a row was held by no known workload, as `CapacityTimes`."""
        times, (pool, rate, _) = CapacityTimes(*free), portion
        if rate is None:
            self._gaps.add_lost(row, times, pool)

        def line(kind: LineKind) -> Sums:
            carrier = Carrier(kind, self._nobody, cluster=row.node[0] if self._grain.cluster else "")
            return lines[self._key(day_ms, row.segment, row.chain, pool, row.node, carrier)]

        active, idle = (times.active_ms, times.active_mj), (times.idle_ms, times.idle_mj)
        if any(active) or any(idle):
            sums = line("untied")
            add_usage(sums, rate, (("productive", *active), ("idle", *idle)))
            sums[_UNRATED_AT] += times.active_ms
        if times.unallocated_ms or times.unallocated_mj:
            add_usage(line("unallocated"), rate, (("unallocated", times.unallocated_ms, times.unallocated_mj),))
        if times.unknown_ms or times.unknown_mj:
            add_usage(line("dark"), rate, (("dark", times.unknown_ms, times.unknown_mj),))

    def _add_unreported(self, on_ms: int, day_ms: int, lines: dict[LineKey, Sums]) -> None:
        """What is paid for and not reported on a day, hour by hour: more than is paid for in one hour is no less in
        another. In lines of `day_ms`."""
        for start_ms, pool, rate, missing_ms in self._unreported(on_ms):
            at_ms = start_ms if self._grain.hour else day_ms
            key = LineKey(at_ms, FLEET, pool, NO_NODE, Carrier("dark", self._nobody))
            add_capacity(lines[key], rate, "dark", missing_ms)
            if rate is None:
                self._gaps.add_unreported(pool, on_ms, missing_ms)

    def _add_unused_sites(self, on_ms: int, day_ms: int, lines: dict[LineKey, Sums]) -> None:
        """What sites cost beside what their GPUs pay for space; hour by hour too."""
        for start_ms, site, unused, currency in self._unused_sites(on_ms):
            if unused is None:
                self._gaps.add_site(site, currency, on_ms)
                continue
            at_ms = start_ms if self._grain.hour else day_ms
            key = LineKey(at_ms, FLEET, site, NO_NODE, Carrier("site", self._nobody))
            lines[key][_SITE_AT] += unused

    def _key(
        self, day_ms: int, segment: int, chain: str, pool: str | None, node: tuple[str, str], carrier: Carrier
    ) -> LineKey:
        start_ms = day_ms
        if self._grain.hour:
            start_ms = self._placements.hour_of.get((chain, segment), day_ms)
        return self._grain.coarsened(LineKey(start_ms, FLEET, pool, node, carrier))

    def _portions(self, chain: str, segment: int) -> Sequence[Portion]:
        """Where a segment falls, priced with what hosts were measured to draw on this day."""
        if (chain, segment) not in self._portions_of:
            portions: Sequence[Portion] = self._placements.portions[chain][segment]
            if chain in self._host:
                portions = [self._measured_portion(portion, chain) for portion in portions]
            self._portions_of[chain, segment] = portions
        return self._portions_of[chain, segment]

    def _measured_portion(self, portion: Portion, chain: str) -> Portion:
        rate = portion.rate
        if rate is None:
            return portion
        at = (chain, id(rate))
        if at not in self._measured_rates:
            measured, reported_ms = self._host[chain]
            self._measured_rates[at] = rate.with_host(measured.mw(reported_ms, rate.host_mw))
        return portion._replace(rate=self._measured_rates[at])


def _add_work_row(sums: Sums, rate: Rate | None, work: Sequence[int], token_prices: KindPrices) -> None:
    tokens = work[TIMES:]
    add_work(sums, rate, work)
    sums[TOKENS_AT:] = map(operator.add, sums[TOKENS_AT:], tokens)
    revenue = 0
    for i, quanta in token_prices:
        revenue += tokens[i] * quanta
    sums[_REVENUE_AT] += revenue
    if rate is None:
        sums[UNPRICED_TOKENS_AT:_UNPRICED_END] = map(
            operator.add, sums[UNPRICED_TOKENS_AT:_UNPRICED_END], tokens[:_COUNTED]
        )
        sums[_WITHOUT_COST_AT] += revenue


def _without(sums: Sequence[int], held: Sequence[int]) -> Sequence[int]:
    """`CapacityTimes` less what known workloads held."""
    active_ms, idle_ms, unallocated_ms, unknown_ms, active_mj, idle_mj, unallocated_mj, unknown_mj = sums
    return (
        active_ms - held[0], idle_ms - held[1], unallocated_ms, unknown_ms,
        active_mj - held[2], idle_mj - held[3], unallocated_mj, unknown_mj,
    )  # fmt: skip
