"""What is bought, as a cost source: slices of spend become lines, one amount for each scope and day (spend/layers.py).

In: a ledger's slices, the policy. Out: lines of the source `vendors`, whose pool and vendor are who is paid, with all
money in the component `purchase`. Teams, products and other dimensions come from the rules, as those of a gateway's
callers do: team, product, project, key, user, agent_task and session are what the vendor or the gateway says.

Energy of bought tokens is nobody's to measure, and no ratio counts it. What no bill and no list has a price for is
unpriced, and named.
"""

from collections.abc import Iterator, Sequence
from decimal import ROUND_HALF_UP, Decimal
from itertools import groupby
from typing import Protocol

import msgspec

from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.components import COMPONENT_AT
from tokenyield_collector.prices.money import QUANTA_PER_UNIT
from tokenyield_collector.prices.period import day_of
from tokenyield_collector.prices.rates import Rates
from tokenyield_collector.spend.layers import ScopedLine, spend_of_day
from tokenyield_collector.spend.list_prices import bundled_list
from tokenyield_collector.spend.slices import SpendAmounts, SpendFields, SpendSlice
from tokenyield_collector.spend.sources import grain_of_slice
from tokenyield_collector.spend.token_costs import AgreedOrListed, UnbilledPrices
from tokenyield_collector.spend.vendors import OWN_FLEET
from tokenyield_collector.statements.gaps import (
    BEYOND_BILLED,
    BOUGHT_UNPRICED,
    LIST_PRICED,
    NO_EXCHANGE_RATE,
    DayGap,
    GapAmounts,
    GapSums,
)
from tokenyield_collector.statements.lines import COST_AT, FIELD_AT, Carrier, LineKey, Sums
from tokenyield_collector.statements.names import own_name
from tokenyield_collector.statements.references import AppliedReference
from tokenyield_collector.statements.source import NO_NODE, Grain, Span
from tokenyield_wire.units import MS_PER_DAY

SOURCE = "vendors"
DAYS_AT_ONCE = 7
"""Read from the ledger, and in memory."""
REMEMBERED_MAX = 100_000
"""Who carries a line, by its fields."""
_QUANTA_PER_MICRO = QUANTA_PER_UNIT // 10**6
_COST_AT = COST_AT["productive"] + COMPONENT_AT["purchase"]
_KINDS = ("prompt_computed", "prompt_cached", "completion")


class SpendLedger(Protocol):
    """The part of a `Ledger` that is needed."""

    def spend(self, start_ms: int, end_ms: int) -> list[SpendSlice]: ...

    def spend_days(self) -> tuple[int, int] | None: ...

    def spend_revision(self, start_ms: int, end_ms: int) -> str: ...


class BoughtCosts:
    """`OtherCosts` of a ledger's spend."""

    def __init__(self, ledger: SpendLedger) -> None:
        self._ledger = ledger

    def source(self, policy: Policy, grain: Grain) -> "BoughtSource":
        return BoughtSource(self._ledger, policy, grain, unbilled_prices(policy.prices))

    def first_ms(self) -> int | None:
        days = self._ledger.spend_days()
        return None if days is None else days[0]

    def revision(self, start_ms: int, end_ms: int) -> str:
        return self._ledger.spend_revision(start_ms, end_ms)


class BoughtSource:
    """A `CostSource` for one statement."""

    references: Sequence[AppliedReference] = ()

    def __init__(self, ledger: SpendLedger, policy: Policy, grain: Grain, prices: UnbilledPrices) -> None:
        self._ledger = ledger
        self._policy = policy
        self._grain = grain
        self._prices = prices
        self._rates = Rates(policy.prices)
        self._gaps = GapSums()
        self._carriers: dict[tuple[SpendFields, str, bool], Carrier] = {}
        """Of one month: lines of many days have the same fields."""
        self._exchange: dict[tuple[str, int], Decimal | None] = {}

    @property
    def gaps(self) -> list[DayGap]:
        return self._gaps.by_day()

    def lines(self, span: Span) -> Iterator[tuple[LineKey, Sums]]:
        days = span.days()
        for first_ms in days[::DAYS_AT_ONCE]:
            end_ms = min(first_ms + DAYS_AT_ONCE * MS_PER_DAY, days.stop)
            slices = sorted(self._ledger.spend(first_ms, end_ms), key=_day)
            for day_ms, of_day in groupby(slices, _day):
                yield from self._day(day_ms, list(of_day))

    def _day(self, day_ms: int, slices: Sequence[SpendSlice]) -> Iterator[tuple[LineKey, Sums]]:
        lines: dict[LineKey, Sums] = {}
        spend = spend_of_day(slices, grain_of_slice, self._prices)
        for line in spend.lines:
            if line.fields.vendor == OWN_FLEET:
                continue  # the fleet counts it
            who = (line.fields, line.account, line.is_unseen)
            carrier = self._carriers.get(who)
            if carrier is None:
                carrier = self._remembered(who, self._carrier(line))
            key = LineKey(day_ms, SOURCE, line.fields.vendor, NO_NODE, carrier)
            sums = lines.get(key)
            if sums is None:
                sums = lines[key] = Sums()
            self._add(day_ms, line, sums)
        for one in spend.beyond:
            subject = f"{own_name(one.vendor)}, account {own_name(one.account)}, {one.layer}"
            self._gaps.add(BEYOND_BILLED, subject, day_ms, GapAmounts(tokens=one.tokens, requests=one.requests))
        yield from lines.items()

    def _remembered(self, who: tuple[SpendFields, str, bool], carrier: Carrier) -> Carrier:
        if len(self._carriers) >= REMEMBERED_MAX:
            self._carriers.clear()
        self._carriers[who] = carrier
        return carrier

    def _carrier(self, line: ScopedLine) -> Carrier:
        fields = line.fields
        caller = {
            "team": fields.team, "product": fields.product, "project": fields.project, "key": fields.api_key,
            "user": fields.person, "agent_task": fields.agent_task, "session": fields.session,
        }  # fmt: skip
        labels = {"vendor": fields.vendor, "account": line.account, "service": fields.service}
        workload = fields.workload or fields.api_key or fields.product or fields.project
        values = self._policy.dimension_values(
            "", workload, fields.model, msgspec.json.encode(labels).decode(), _named(caller)
        )
        return Carrier(
            "unseen" if line.is_unseen else "work",
            values,
            fields.model,
            workload if self._grain.workload and not line.is_unseen else "",
            vendor=fields.vendor,
        )

    def _add(self, day_ms: int, line: ScopedLine, sums: Sums) -> None:
        amounts = line.amounts
        counts = (_sum(amounts.fresh, amounts.cache_write), amounts.cache_read, amounts.output)
        for kind, count in zip((*_KINDS, "requests"), (*counts, amounts.requests), strict=True):
            if count is not None:
                sums.add(kind, count)
                sums[FIELD_AT[f"{kind}_reported"]] = 1
        tokens = amounts.tokens or 0
        sums.add("unmetered_tokens", tokens)
        if self._policy.prices.token_prices:
            sums.add("unsold_tokens", tokens)
        quanta = self._quanta(day_ms, line)
        if quanta is not None:
            sums[_COST_AT] += quanta
            return
        for kind, count in zip((*_KINDS, "requests"), (*counts, amounts.requests), strict=True):
            sums.add(f"unpriced_{kind}", count or 0)

    def _quanta(self, day_ms: int, line: ScopedLine) -> int | None:
        """In the price book's currency; None where it is not known."""
        fields, amounts = line.fields, line.amounts
        if amounts.cost_micro is None:
            if any(much := _gap_amounts(amounts)):
                self._gaps.add(BOUGHT_UNPRICED, _subject(fields), day_ms, much)
            return None
        rate = self._rate(fields.currency, day_ms)
        if rate is None:
            self._gaps.add(NO_EXCHANGE_RATE, fields.currency, day_ms, _gap_amounts(amounts))
            return None
        if line.price_source:
            self._gaps.add(LIST_PRICED, f"{_subject(fields)}, {line.price_source}", day_ms, _gap_amounts(amounts))
        quanta = amounts.cost_micro * _QUANTA_PER_MICRO
        return quanta if rate == 1 else int((quanta * rate).to_integral_value(ROUND_HALF_UP))

    def _rate(self, currency: str, day_ms: int) -> Decimal | None:
        if (currency, day_ms) not in self._exchange:
            self._exchange[currency, day_ms] = self._rates.exchange(currency, day_of(day_ms))
        return self._exchange[currency, day_ms]


def unbilled_prices(prices: PriceBook) -> UnbilledPrices:
    """Of a price book, and of the public list that the collector ships."""
    return AgreedOrListed(prices.bought_prices, prices.currency, bundled_list())


def _gap_amounts(amounts: SpendAmounts) -> GapAmounts:
    return GapAmounts(tokens=amounts.tokens or 0, requests=amounts.requests or 0)


def _subject(fields: SpendFields) -> str:
    return f"{own_name(fields.vendor)} {own_name(fields.model) or fields.service}"


def _day(one: SpendSlice) -> int:
    return one.key.day_ms


def _named(texts: dict[str, str]) -> str:
    """A JSON object of those that say something."""
    return msgspec.json.encode({name: text for name, text in sorted(texts.items()) if text}).decode()


def _sum(one: int | None, other: int | None) -> int | None:
    known = [count for count in (one, other) if count is not None]
    return sum(known) if known else None
