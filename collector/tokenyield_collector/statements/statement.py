"""A period's full cost, line by line: who used what, what was lost, who carries it. Pure but for what sources read.

In: cost sources (source.py), the policy. Out: lines, day by day, of integers that add up: money in quanta
(prices/money.py), time in ms, energy in mJ and finer, tokens. Whatever way lines are summed, the sum of their `total`
is the whole cost of all sources.

* what is shared by the policy leaves its line and stands as `shared` with those who carry it
* `loaded` is what a line would cost if its pool's unallocated, dark and untied cost of the day were shared by usage
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tokenyield_collector.ledger.usage import UsageReader
from tokenyield_collector.policy import Policy
from tokenyield_collector.statements.fleet import FleetSource
from tokenyield_collector.statements.gaps import DayGap
from tokenyield_collector.statements.lines import LineKey, Sums, sum_of_sums
from tokenyield_collector.statements.references import AppliedReference
from tokenyield_collector.statements.sharing import load, moves_cost, share
from tokenyield_collector.statements.source import CostSource, Grain, OtherCosts, Span, day_by_day
from tokenyield_wire.units import MS_PER_DAY

KeyedLine = tuple[LineKey, Sums]


@dataclass(kw_only=True)
class Statement:
    """What `lines` is made of. `span` is what of the period has been and is kept."""

    policy: Policy
    sources: Sequence[CostSource]
    span: Span
    grain: Grain
    before_sharing: dict[tuple[str, str, str | None], Sums] = field(default_factory=lambda: defaultdict(Sums))
    """(cluster where the grain has it, source, pool) -> the sum of all lines so far, before anything was shared."""

    @property
    def references(self) -> list[AppliedReference]:
        """The paces that were applied, once lines were made."""
        return [reference for source in self.sources for reference in source.references]

    @property
    def gaps(self) -> list[DayGap]:
        """What is not known, once lines were made."""
        return [gap for source in self.sources for gap in source.gaps]

    @property
    def whole(self) -> Sums:
        """All of `before_sharing`."""
        return sum_of_sums(self.before_sharing.values())

    def lines(self) -> Iterator[KeyedLine]:
        """All lines, day after day, with what the policy shares where it is carried."""
        for _, lines in self.days():
            yield from lines.items()

    def days(self) -> Iterator[tuple[int, dict[LineKey, Sums]]]:
        """The same, one day (its start in ms) at a time; `before_sharing` has all days up to this one."""
        for day_ms, lines in self._days():
            share(lines, self.policy, day_ms)
            yield day_ms, lines

    def unshared_lines(self) -> Iterator[KeyedLine]:
        """All lines, day after day, where they were caused."""
        for _, lines in self._days():
            yield from lines.items()

    def _days(self) -> Iterator[tuple[int, dict[LineKey, Sums]]]:
        streams = [day_by_day(source.lines(self.span), _day_of) for source in self.sources]
        for day_ms in self.span.days():
            lines: dict[LineKey, Sums] = defaultdict(Sums)
            for stream in streams:
                for key, sums in stream(day_ms):
                    coarse = self.grain.coarsened(key)
                    if coarse in lines:
                        lines[coarse].take(sums)
                    else:
                        lines[coarse] = sums
            for key, sums in lines.items():
                self.before_sharing[key.carrier.cluster, key.source, key.pool].take(sums)
            load(lines)
            yield day_ms, lines


def fleet_statement(
    reader: UsageReader,
    policy: Policy,
    span: Span,
    grain: Grain,
    others: Sequence[OtherCosts] = (),
    *,
    fleet_from_ms: int = 0,
) -> Statement:
    """The statement of the fleet that `reader` reads, and of what is beside it. `fleet_from_ms`: where the fleet begins
    in `span`; nobody paid for its capacity before."""
    if moves_cost(policy):
        grain = grain._replace(day=True)
    fleet = FleetSource(reader, policy, grain, from_ms=fleet_from_ms)
    sources = (fleet, *(other.source(policy, grain) for other in others))
    return Statement(policy=policy, sources=sources, span=span, grain=grain)


def _day_of(line: KeyedLine) -> int:
    return line[0].start_ms - line[0].start_ms % MS_PER_DAY
