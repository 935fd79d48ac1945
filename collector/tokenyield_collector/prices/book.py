"""The price book: who is in which pool, and the terms of each. Pure; `load.py` reads it from a file.

Amounts are in the price book's `currency` unless an entry names its own. Facility, terms and exchange rates may be
lists whose entries hold `from` a local day on; an entry states only what changes against the one before it, and null
unsets what that has.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from tokenyield_collector.prices.bought_prices import BoughtPrice
from tokenyield_collector.prices.calendar import TariffBand
from tokenyield_collector.prices.sites import Site
from tokenyield_collector.prices.token_prices import ApiPrice, TokenPrice

ZERO = Decimal(0)
PRESETS = {
    "gigawatt": {"capex_per_kw": Decimal(40_000), "capex_life_years": Decimal(15)},
}
"""`gigawatt`: 40 billion US dollars for a gigawatt over 15 years, "even when you put nothing on it" (NVIDIA's
GTC keynote of March 2026): $40,000 per kW, $0.3044 per kW-hour."""


class PoolMatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which GPUs a pool holds: shell patterns, all of which must fit. `labels` are those of the node (agent setting
    `node_labels`)."""

    cluster: str = "*"
    node: str = "*"
    gpu: str = "*"
    labels: dict[str, str] = {}

    def fits(self, cluster: str, node: str, gpu_model: str, labels: dict[str, str]) -> bool:
        return (
            fnmatchcase(cluster, self.cluster)
            and fnmatchcase(node, self.node)
            and fnmatchcase(gpu_model, self.gpu)
            and all(fnmatchcase(labels.get(name, ""), pattern) for name, pattern in self.labels.items())
        )

    @property
    def depends_on_node(self) -> bool:
        return self.node != "*" or bool(self.labels)


class Facility(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Space, cooling and electricity of one site. One of the two ways to pay for capacity, or none."""

    from_: date | None = msgspec.field(name="from", default=None)
    currency: str | None = None
    pue: Decimal = Decimal("1.0")
    per_kwh: Decimal = ZERO
    bands: tuple[TariffBand, ...] = ()
    per_kw_month: Decimal | None = None
    """Colocation by the kW: the fee of each month for each kW."""
    per_month: Decimal | None = None
    """Colocation of a site: the fee of each month for `kw` of provisioned power; a GPU pays for its part of that."""
    kw: Decimal | None = None
    preset: Literal["gigawatt"] | None = None
    capex_per_kw: Decimal | None = None
    capex_life_years: Decimal = Decimal(15)
    kw_per_gpu: Decimal = ZERO
    host_watts_per_gpu: Decimal = ZERO
    carbon_g_per_kwh: Decimal | tuple[Decimal, ...] | None = None
    """One figure, or 24 by local hour."""

    @property
    def has_space_price(self) -> bool:
        """Whether provisioned power costs something, used or not."""
        ways = (self.per_kw_month, self.per_month, self.preset, self.capex_per_kw)
        return any(way is not None for way in ways)


NO_FACILITY = Facility()
_NO_FACILITIES = (NO_FACILITY,)
"""Of pools without one: nothing is paid for it."""


class Owned(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hardware that is owned. Prices are per GPU, the server's, network's and storage's as its share."""

    from_: date | None = msgspec.field(name="from", default=None)
    currency: str | None = None
    gpu: Decimal
    server: Decimal = ZERO
    network: Decimal = ZERO
    storage: Decimal = ZERO
    residual_fraction: Decimal = ZERO
    life_years: Decimal
    method: Literal["straight_line", "annuity"] = "straight_line"
    cost_of_capital: Decimal = ZERO
    maintenance_rate: Decimal = ZERO
    per_gpu_year: Decimal = ZERO
    """Yearly costs that do not depend on the price: software licences, staff."""
    in_service: date | None = None
    retired: date | None = None
    count: int | None = None
    """All that there are: GPUs that do not report are dark, and those beyond it are not of this pool."""
    overflow_per_gpu_hour: Decimal | None = None
    """What GPUs beyond `count` cost; without it they go to the next pool that matches."""

    @property
    def price(self) -> Decimal:
        return self.gpu + self.server + self.network + self.storage


class Rented(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Capacity paid by the hour. The provider pays the energy unless `energy_included` is false, and the space unless
    `facility_included` is false: where it is left out, space is in the rent when energy is, and the pool names no
    facility."""

    from_: date | None = msgspec.field(name="from", default=None)
    currency: str | None = None
    kind: Literal["on_demand", "reserved", "spot"] = "on_demand"
    per_gpu_hour: Decimal | None = None
    per_instance_hour: Decimal | None = None
    gpus_per_instance: int | None = None
    upfront_per_gpu: Decimal = ZERO
    """Paid once for each of `count`, spread evenly over the hours of the term; needs `starts` and `ends`."""
    energy_included: bool = True
    facility_included: bool | None = None
    count: int | None = None
    """Paid for whether they report or not. Reserved GPUs beyond it are not of this pool; others cost the same."""
    overflow_per_gpu_hour: Decimal | None = None
    starts: date | None = None
    ends: date | None = None


Terms = Owned | Rented


def term_of(terms: Terms) -> tuple[date | None, date | None]:
    """The first day that is paid for, and the first that is not any more."""
    return (terms.in_service, terms.retired) if isinstance(terms, Owned) else (terms.starts, terms.ends)


def is_paid(terms: Terms, day: date) -> bool:
    start, end = term_of(terms)
    return (start is None or start <= day) and (end is None or day < end)


def is_capped(terms: Terms) -> bool:
    """Whether it has a count beyond which GPUs go to the next pool. Of GPUs on demand, more may be had at the price."""
    return terms.count is not None and (isinstance(terms, Owned) or terms.kind == "reserved")


class PoolHead(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pool without its terms."""

    name: str
    match: PoolMatch = PoolMatch()
    facility: str | None = None
    kw_per_gpu: Decimal | None = None
    host_watts_per_gpu: Decimal | None = None
    owner: dict[str, str] = {}
    """Values of the dimensions; they carry what the pool loses, under the sharing policy `ownership`."""


class Pool(PoolHead, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """GPUs that share a price. Its terms are in the order of their first days."""

    terms: tuple[Terms, ...]
    reference: bool = False
    """Priced with the bundled reference figures, because no other pool fits."""
    overflow_of: str | None = None
    """The pool beyond whose count its GPUs are (overflow.py)."""

    @property
    def takes_all(self) -> bool:
        """Whether each GPU that matches is of this pool on every day: its terms neither begin nor end, and have no
        count beyond which GPUs go to the next pool."""
        return self.terms[0].from_ is None and not any(
            start or end or is_capped(terms) for terms in self.terms for start, end in (term_of(terms),)
        )

    def pays_energy(self, terms: Terms) -> bool:
        return not (isinstance(terms, Rented) and terms.energy_included)

    def pays_space(self, terms: Terms) -> bool:
        """Whether a GPU pays its share of the facility's space and building."""
        if isinstance(terms, Rented):
            included = terms.facility_included
            return not (terms.energy_included and self.facility is None if included is None else included)
        return True


class TokenWeights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much a token of each kind counts where several share one cost. At most three decimals."""

    prompt: Decimal = Decimal(1)
    cached: Decimal = Decimal("0.1")
    completion: Decimal = Decimal(4)

    def per_thousand(self) -> dict[str, int]:
        """By kind of the ledger, times 1000, so that weighted sums stay integers."""
        prompt, cached, completion = (int(w * 1000) for w in (self.prompt, self.cached, self.completion))
        return {
            "prompt_computed": prompt,
            "prompt_cached": cached,
            "prompt_unsplit": prompt,
            "completion": completion,
        }


class ReferencePace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The pace that an instance of a model should sustain: completion tokens a second, or their equivalent."""

    model: str = "*"
    gpu: str = "*"
    gpus: int | None = None
    tokens_per_second: Decimal


class ReferenceRates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configured paces take precedence over learned ones."""

    learn: bool = True
    learn_days: int = 30
    configured: tuple[ReferencePace, ...] = ()


class ExchangeRate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The value of one unit of a currency in the price book's."""

    from_: date | None = msgspec.field(name="from", default=None)
    rate: Decimal


@dataclass(frozen=True, kw_only=True)
class PriceBook:
    """The pools, in the order in which they are tried. `fingerprint` changes when anything in it does."""

    currency: str = "USD"
    timezone: str = "UTC"
    facilities: dict[str, tuple[Facility, ...]] = field(default_factory=dict)
    sites: dict[str, tuple[Site, ...]] = field(default_factory=dict)
    pools: tuple[Pool, ...] = ()
    exchange_rates: dict[str, tuple[ExchangeRate, ...]] = field(default_factory=dict)
    token_weights: TokenWeights = field(default_factory=TokenWeights)
    token_prices: tuple[TokenPrice, ...] = ()
    api_prices: tuple[ApiPrice, ...] = ()
    bought_prices: tuple[BoughtPrice, ...] = ()
    reference_rates: ReferenceRates = field(default_factory=ReferenceRates)
    inherited: Mapping[str, Mapping[date | None, Mapping[str, str]]] = field(default_factory=dict)
    """'pools.NAME', 'facilities.NAME' or 'exchange_rates.NAME' -> first day of an entry -> what it inherits: field ->
    'the first entry' or 'the entry from 2026-11-01'."""
    fingerprint: str = ""
    document: str = ""
    """The whole price book as JSON with sorted keys, to compare two of them line by line."""

    @property
    def depends_on_node(self) -> bool:
        """Whether a price can depend on the node; if not, facts may be summed over nodes before they are priced."""
        return any(pool.match.depends_on_node for pool in self.pools)

    def pools_of(self, cluster: str, node: str, gpu_model: str, labels: dict[str, str] | None = None) -> list[Pool]:
        """The pools that a GPU matches, in order, up to the first that always takes all. None: its price is missing."""
        chain = []
        for pool in self.pools:
            if pool.match.fits(cluster, node, gpu_model, labels or {}):
                chain.append(pool)
                if pool.takes_all:
                    break
        return chain

    def facility_of(self, pool: Pool) -> tuple[Facility, ...]:
        """The facility of a pool: the one that it names, or the only one."""
        if pool.facility is not None:
            return self.facilities[pool.facility]
        return next(iter(self.facilities.values())) if len(self.facilities) == 1 else _NO_FACILITIES

    def facility_name_of(self, pool: Pool) -> str | None:
        return pool.facility or (next(iter(self.facilities)) if len(self.facilities) == 1 else None)
