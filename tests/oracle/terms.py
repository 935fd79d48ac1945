"""The price book, read from its YAML: who is in which pool, and what a GPU-hour of it costs in an hour.

From docs/money.md and the annotated `collector/prices.yaml`; nothing of the product. Decimals of 50 digits; a rate is
rounded once, to 10^-12 of the currency a GPU-hour or kWh (docs/money.md, Exactness).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from math import ceil
from typing import Any
from zoneinfo import ZoneInfo

QUARTER_MS = 900_000
ZERO = Decimal(0)
PICO = Decimal("1e-12")
ONE_HOUR = Decimal(1)
COMPONENTS = ("hardware", "rent", "capital", "maintenance", "facility", "host", "energy", "purchase")
GIGAWATT = {"capex_per_kw": 40000, "capex_life_years": 15}
PAID_ONCE = ("hardware", "capital", "upfront")
"""Converted at the rate of the day on which it was paid, where that is known."""
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def amount(value: Any) -> Decimal:
    return Decimal(str(value)) if value is not None else ZERO


@dataclass(frozen=True, kw_only=True)
class HourRate:
    """What a pool costs in one hour."""

    owned: bool
    per_gpu_hour: dict[str, Decimal]
    """By component; they sum to a multiple of 10^-12."""
    per_kwh: Decimal
    """At the GPU, PUE included; 0 where the rent includes it."""
    pue: Decimal
    host_watts: Decimal
    carbon: Decimal | None

    def with_host(self, milliwatts: int) -> "HourRate":
        """The same with hosts that were measured."""
        more = self.per_kwh * (Decimal(milliwatts) / 1000 - self.host_watts) / 1000
        parts = self.per_gpu_hour | {"host": max(ZERO, self.per_gpu_hour.get("host", ZERO) + more)}
        return HourRate(
            owned=self.owned, per_gpu_hour=parts, per_kwh=self.per_kwh, pue=self.pue,
            host_watts=Decimal(milliwatts) / 1000, carbon=self.carbon,
        )  # fmt: skip


class Terms:
    """Of one price book."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.currency: str = document.get("currency", "USD")
        self.zone = ZoneInfo(document.get("timezone", "UTC"))
        self._pools: dict[str, Mapping[str, Any]] = {}
        for pool in document.get("pools") or ():
            self._pools[pool["name"]] = pool
            if (beyond := overflow_of(pool)) is not None:
                self._pools[beyond["name"]] = beyond
        self.facilities: Mapping[str, Any] = document.get("facilities") or {}
        weights = document.get("token_weights") or {}
        prompt, cached, completion = (
            amount(weights.get(k, d)) for k, d in (("prompt", 1), ("cached", "0.1"), ("completion", 4))
        )
        self.weights = {
            "prompt_computed": prompt,
            "prompt_cached": cached,
            "prompt_unsplit": prompt,
            "completion": completion,
        }
        self._rates: dict[tuple[str, int], HourRate | None] = {}

    def pools_of(self, cluster: str, node: str, gpu: str, labels: Mapping[str, str]) -> tuple[str, ...]:
        """All that match, in order, up to the first that takes every GPU on every day."""
        named, chain = {"cluster": cluster, "node": node, "gpu": gpu}, []
        for name, pool in self._pools.items():
            match = pool.get("match") or {}
            if all(fnmatchcase(named[one], match.get(one, "*")) for one in named) and all(
                fnmatchcase(labels.get(one, ""), pattern) for one, pattern in (match.get("labels") or {}).items()
            ):
                chain.append(name)
                if takes_all(pool):
                    break
        return tuple(chain)

    @property
    def pool_names(self) -> list[str]:
        return list(self._pools)

    def owner_of(self, name: str) -> Mapping[str, str]:
        return (self._pools[name].get("owner") or {}) if name in self._pools else {}

    def offer(self, name: str, hour_ms: int) -> tuple[int | None, bool] | None:
        """Where its terms hold then: how many GPUs it has, and whether it takes no more, be there a price or not."""
        pool = self._pools[name]
        terms = self._terms_at(pool, self._quarters(hour_ms)[0].date())
        if terms is None:
            return None
        return terms.get("count"), pool.get("owned") is not None or terms.get("kind") == "reserved"

    def rate(self, name: str, hour_ms: int) -> HourRate | None:
        """None where the pool is not paid for then, or cannot be priced."""
        if (name, hour_ms) not in self._rates:
            self._rates[name, hour_ms] = self._rate(self._pools[name], hour_ms)
        return self._rates[name, hour_ms]

    def site(self, name: str, hour_ms: int) -> tuple[str, Decimal] | None:
        """Its facility, and what all its provisioned power costs in that hour; None where it is not paid or unknown."""
        day = self._quarters(hour_ms)[0].date()
        entry = in_force(as_list(self.document["sites"][name]), day)
        if entry is None or (entry.get("until") is not None and day >= entry["until"]):
            return None
        facility = entry.get("facility") or next(iter(self.facilities))
        terms = in_force(as_list(self.facilities[facility]), day)
        exchange = self.exchange(terms.get("currency"), day) if terms is not None else None
        if terms is None or exchange is None:
            return None
        per_hour = space_per_kw_hour(terms, day, self.zone) * amount(entry["provisioned_kw"]) * exchange
        return facility, per_hour.quantize(PICO)

    def facility_name(self, pool: str) -> str | None:
        """The one that a pool names, or the only one."""
        named: str | None = self._pools[pool].get("facility")
        return named or (next(iter(self.facilities)) if len(self.facilities) == 1 else None)

    def exchange(self, currency: str | None, day: date) -> Decimal | None:
        if currency in (None, self.currency):
            return Decimal(1)
        rates = (self.document.get("exchange_rates") or {}).get(currency)
        if not isinstance(rates, list):
            rates = [rates if isinstance(rates, dict) else {"rate": rates}] if rates is not None else []
        entry = in_force(rates, day)
        return amount(entry["rate"]) if entry else None

    def _rate(self, pool: Mapping[str, Any], hour_ms: int) -> HourRate | None:
        quarters = self._quarters(hour_ms)
        day = quarters[0].date()
        owned, terms = pool.get("owned") is not None, self._terms_at(pool, day)
        if terms is None:
            return None
        pays_energy = owned or not terms.get("energy_included", True)
        included = terms.get("facility_included")
        pays_space = owned or (pays_energy or pool.get("facility") is not None if included is None else not included)
        site = self._facility(pool, day)
        if site is None and (pays_space or pays_energy):
            return None
        site = site or {}
        exchange = self.exchange(terms.get("currency"), day)
        site_exchange = self.exchange(site.get("currency"), day) if pays_space or pays_energy else Decimal(1)
        if exchange is None or site_exchange is None:
            return None
        tariff = sum((tariff_at(site, quarter) for quarter in quarters), ZERO) / 4
        pue = amount(site.get("pue", 1))
        watts = amount(pool.get("host_watts_per_gpu", site.get("host_watts_per_gpu", 0)))
        own = owned_parts(terms, day, self.zone) if owned else rented_parts(terms, self.zone)
        when_paid = terms.get("in_service" if owned else "starts")
        once = self.exchange(terms.get("currency"), when_paid) if when_paid is not None else None
        parts: dict[str, Decimal] = {}
        for name, part in own.items():
            component = {"upfront": "rent"}.get(name, name)
            rate = (once or exchange) if name in PAID_ONCE else exchange
            parts[component] = parts.get(component, ZERO) + part * rate
        if pays_space:
            kw = amount(pool.get("kw_per_gpu", site.get("kw_per_gpu", 0)))
            parts["facility"] = space_per_kw_hour(site, day, self.zone) * kw * site_exchange
        if pays_energy:
            parts["host"] = watts / 1000 * pue * tariff * site_exchange
        carbon = site.get("carbon_g_per_kwh")
        return HourRate(
            owned=owned,
            per_gpu_hour=rounded_together(parts),
            per_kwh=(tariff * pue * site_exchange).quantize(PICO) if pays_energy else ZERO,
            pue=pue,
            host_watts=watts,
            carbon=sum((amount(carbon[q.hour]) for q in quarters), ZERO) / 4
            if isinstance(carbon, list)
            else (amount(carbon) if carbon is not None else None),
        )

    def _quarters(self, hour_ms: int) -> list[datetime]:
        return [datetime.fromtimestamp((hour_ms + i * QUARTER_MS) / 1000, UTC).astimezone(self.zone) for i in range(4)]

    def _terms_at(self, pool: Mapping[str, Any], day: date) -> Mapping[str, Any] | None:
        owned = pool.get("owned") is not None
        terms = in_force(as_list(pool["owned"] if owned else pool["rented"]), day)
        if terms is None:
            return None
        start, end = terms.get("in_service" if owned else "starts"), terms.get("retired" if owned else "ends")
        return None if (start is not None and day < start) or (end is not None and day >= end) else terms

    def _facility(self, pool: Mapping[str, Any], day: date) -> Mapping[str, Any] | None:
        """The one that it names, or the only one; None where it has no entry yet."""
        if pool.get("facility") is not None:
            entries = self.facilities[pool["facility"]]
        elif len(self.facilities) == 1:
            entries = next(iter(self.facilities.values()))
        else:
            entries = {}
        return in_force(as_list(entries), day)


def takes_all(pool: Mapping[str, Any]) -> bool:
    """Whether its terms always hold, and have no count beyond which GPUs go on."""
    owned = pool.get("owned") is not None
    known: dict[str, Any] = {}
    entries = as_list(pool["owned"] if owned else pool["rented"])
    for entry in entries:
        known = over(known, entry)
        is_capped = known.get("count") is not None and (owned or known.get("kind") == "reserved")
        if is_capped or any(known.get(name) for name in ("in_service", "retired", "starts", "ends")):
            return False
    return entries[0].get("from") is None


def overflow_of(pool: Mapping[str, Any]) -> dict[str, Any] | None:
    """The pool of what is beyond a count: rented by the hour, at that rate, with the pool's own space and energy."""
    owned = pool.get("owned") is not None
    entries: list[dict[str, Any]] = []
    known: dict[str, Any] = {}
    for entry in as_list(pool["owned"] if owned else pool["rented"]):
        known = over(known, entry)
        rate = known.get("overflow_per_gpu_hour")
        beyond: dict[str, Any] = {name: known.get(name) for name in ("from", "currency")}  # None where it was unset
        beyond |= {"per_gpu_hour": rate, "starts": known.get("in_service" if owned else "starts")}
        beyond |= {"ends": known.get("retired" if owned else "ends") if rate is not None else date.min}
        beyond |= {"energy_included": False if owned else known.get("energy_included", True)}
        beyond |= {"facility_included": False if owned else known.get("facility_included")}
        entries.append(beyond)
    if all(entry["per_gpu_hour"] is None for entry in entries):
        return None
    return {
        **{name: value for name, value in pool.items() if name != "owned"},
        "name": f"{pool['name']} (overflow)",
        "rented": entries,
    }


def as_list(entries: Any) -> list[Mapping[str, Any]]:
    return entries if isinstance(entries, list) else [entries]


def in_force(entries: Sequence[Mapping[str, Any]], day: date) -> Mapping[str, Any] | None:
    """The last that has begun; each states only what changes."""
    known: dict[str, Any] = {}
    found = None
    for entry in entries:
        known = over(known, entry)
        if known.get("from") is None or known["from"] <= day:
            found = known
    return found


def over(known: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """What holds from an entry on; null unsets."""
    return {name: value for name, value in {**known, **entry}.items() if value is not None}


def hours(first: date, end: date, zone: ZoneInfo) -> Decimal:
    """From midnight to midnight, as the clock on the wall shows them."""
    instants = [datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() for day in (first, end)]
    return Decimal(int(instants[1] - instants[0])) / 3600


def year_hours(day: date, zone: ZoneInfo) -> Decimal:
    return hours(date(day.year, 1, 1), date(day.year + 1, 1, 1), zone)


def end_of_life(since: date, years: Decimal) -> date:
    """The first day after it: whole months on, then days, begun ones too."""
    months = int(years * 12)
    year, month = since.year + (since.month - 1 + months) // 12, (since.month - 1 + months) % 12 + 1
    last = (date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)).day
    rest = (years * 12 - months) * Decimal("365.25") / 12
    return date(year, month, min(since.day, last)) + timedelta(days=ceil(rest))


def life_hours(since: date, years: Decimal, day: date, zone: ZoneInfo) -> tuple[Decimal, bool]:
    """The hours that share a year's amount, and whether the life still lasts: whole calendar years have one each, the
    two ends of the life what is left, evenly."""
    end = end_of_life(since, years)
    inner = [year for year in range(since.year, end.year) if date(year, 1, 1) >= since]
    if day.year in inner:
        return year_hours(day, zone), day < end
    ends = hours(since, end, zone) - sum((year_hours(date(year, 1, 1), zone) for year in inner), ZERO)
    return ends / (years - len(inner)) if years > len(inner) else ONE_HOUR, day < end


def owned_parts(terms: Mapping[str, Any], day: date, zone: ZoneInfo) -> dict[str, Decimal]:
    """finops.md 2.1: straight line (P - S) / (n H), financing of the mean book value; or the annuity. H are the hours
    of the calendar year, and at both ends of a life those that are left."""
    price = sum((amount(terms.get(name, 0)) for name in ("gpu", "server", "network", "storage")), ZERO)
    years, r = amount(terms["life_years"]), amount(terms.get("cost_of_capital", 0))
    residual = price * amount(terms.get("residual_fraction", 0))
    shared, lasts = year_hours(day, zone), True
    if terms.get("in_service") is not None:
        shared, lasts = life_hours(terms["in_service"], years, day, zone)
    hardware = (price - residual) / years / shared
    capital = (price + residual) / 2 * r / shared
    if terms.get("method") == "annuity" and r:
        v = (1 + r) ** -years
        capital = (price - residual * v) * r / (1 - v) / shared - hardware
    if not lasts:
        hardware = capital = ZERO
    yearly = price * amount(terms.get("maintenance_rate", 0)) + amount(terms.get("per_gpu_year", 0))
    return {"hardware": hardware, "capital": capital, "maintenance": yearly / year_hours(day, zone)}


def rented_parts(terms: Mapping[str, Any], zone: ZoneInfo) -> dict[str, Decimal]:
    """By the hour, and what was paid upfront over the hours of the term."""
    rent = amount(terms.get("per_gpu_hour"))
    if terms.get("per_instance_hour") is not None:
        rent = amount(terms["per_instance_hour"]) / terms["gpus_per_instance"]
    if terms.get("upfront_per_gpu"):
        return {"rent": rent, "upfront": amount(terms["upfront_per_gpu"]) / hours(terms["starts"], terms["ends"], zone)}
    return {"rent": rent}


def space_per_kw_hour(site: Mapping[str, Any], day: date, zone: ZoneInfo) -> Decimal:
    """finops.md 2.3: colocation, of which each month pays its fee; or the own building over its life."""
    first = day.replace(day=1)
    month = hours(first, date(day.year + day.month // 12, day.month % 12 + 1, 1), zone)
    if site.get("per_kw_month") is not None:
        return amount(site["per_kw_month"]) / month
    if site.get("per_month") is not None:
        return amount(site["per_month"]) / amount(site["kw"]) / month
    site = {**site, **GIGAWATT} if site.get("preset") == "gigawatt" else site
    if site.get("capex_per_kw") is not None:
        return amount(site["capex_per_kw"]) / amount(site.get("capex_life_years", 15)) / year_hours(day, zone)
    return ZERO


def tariff_at(site: Mapping[str, Any], local: datetime) -> Decimal:
    """The first band that fits holds."""
    for band in site.get("bands") or ():
        if _holds(band, local):
            return amount(band["per_kwh"])
    return amount(site.get("per_kwh", 0))


def _holds(band: Mapping[str, Any], local: datetime) -> bool:
    minute = local.hour * 60 + local.minute
    first, last = (_minute(clock) for clock in str(band.get("hours", "00:00-24:00")).split("-"))
    is_hour = first <= minute < last if first < last else minute >= first or minute < last
    is_day = any(
        _within(local.weekday(), [DAYS.index(d) for d in part.split("-")])
        for part in str(band.get("days", "mon-sun")).split(",")
    )
    is_month = any(
        _within(local.month, [int(m) for m in part.split("-")]) for part in str(band.get("months", "1-12")).split(",")
    )
    return is_hour and is_day and is_month


def _minute(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes or 0)


def _within(value: int, span: Sequence[int]) -> bool:
    first, last = span[0], span[-1]
    return first <= value <= last if first <= last else value >= first or value <= last


def rounded_together(parts: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Their sum is rounded; what that moves is in the largest."""
    parts = {name: part for name, part in parts.items() if part}
    if not parts:
        return {}
    whole = sum(parts.values(), ZERO)
    largest = max(parts, key=lambda name: abs(parts[name]))
    return {**parts, largest: parts[largest] + whole.quantize(PICO) - whole}
