"""A statement summed up by what people ask for. Pure.

In: a `Statement`, the columns to group by. Out: a `Report`: rows whose costs are in cents and sum, down every column
and along every row, to the report's total (largest remainder over all cells). Ratios are taken from the exact sums.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any

from tokenyield_collector.attribution.rules import BUILT_IN
from tokenyield_collector.errors import ParameterError
from tokenyield_collector.prices.book import ApiPrice, PriceBook
from tokenyield_collector.prices.components import COMPONENTS
from tokenyield_collector.prices.money import QUANTA_PER_UNIT, amount, cents
from tokenyield_collector.prices.period import Period, day_of, iso
from tokenyield_collector.prices.rates import Rates
from tokenyield_collector.statements.buckets import BUCKETS, COSTS, LOST
from tokenyield_collector.statements.lines import BASES, LineKey, Sums
from tokenyield_collector.statements.names import OTHER, column_values
from tokenyield_collector.statements.references import AppliedReference
from tokenyield_collector.statements.source import Grain
from tokenyield_collector.statements.statement import Statement
from tokenyield_settings.loader import nearest
from tokenyield_wire.units import MJ_PER_JOULE, MS_PER_DAY, MS_PER_HOUR, MS_PER_SECOND
from tokenyield_wire.window import TOKEN_KINDS

ROWS_MAX = 200_000
"""Rows that a report may have; a finer one is a FOCUS file, which is streamed."""
_CARBON_PER_GRAM = 1000 * 3_600_000 * 10**9
_MEGA = 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRow:
    """One row. `cost` and its parts are in cents; see `figures` for the rest."""

    by: dict[str, str]
    cost: Decimal
    parts: dict[str, Decimal]
    """Of the cost: productive, under_yield, idle, unallocated, dark, and what was taken over from others (shared)."""
    figures: dict[str, Any]

    @property
    def columns(self) -> dict[str, Any]:
        """The row as flat columns: what it is by, its cost, `cost_<part>`, figures."""
        return {**self.by, "cost": self.cost, **{f"cost_{name}": self.parts[name] for name in COSTS}, **self.figures}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuyOrRun:
    """The tokens of one model at an API's price, beside what they cost here."""

    model: str
    api: str
    source: str
    as_of: str
    api_cost: float
    allocated_cost: float
    loaded_cost: float
    break_even_tokens_per_second: float | None
    """Tokens a second and active GPU at which the API costs as much as the GPU-hour."""


@dataclass(kw_only=True)
class Report:
    """What the writers write. `notes` are lines for people."""

    period: Period
    currency: str
    by: tuple[str, ...]
    where: dict[str, str] = field(default_factory=dict)
    start: str
    end: str
    is_closed: bool
    price_book: str
    version: int | None = None
    notes: list[str] = field(default_factory=list)
    rows: list[ReportRow] = field(default_factory=list)
    total: ReportRow
    waterfall: dict[str, Decimal]
    waterfall_gpu_hours: dict[str, float]
    days: dict[str, dict[str, Decimal]]
    """Day -> bucket -> cost, before sharing; rounded by themselves, for plots."""
    references: list[AppliedReference] = field(default_factory=list)
    buy_or_run: list[BuyOrRun] = field(default_factory=list)
    token_weights: dict[str, str]

    @property
    def column_names(self) -> list[str]:
        """Of every row, in order."""
        return [*self.by, *self.total.columns]

    @property
    def head_lines(self) -> list[str]:
        """What the report is about, in words."""
        state = "closed" if self.is_closed else "open"
        version = f", version {self.version}" if self.version is not None else ""
        prices = self.price_book or "none"
        first = (
            f"{self.period.name} ({state}{version}): {self.start} to {self.end}, price book {prices}, {self.currency}"
        )
        return [first, *self.notes]


def check_by(by: Sequence[str], dimensions: Sequence[str]) -> tuple[str, ...]:
    """Raises `ParameterError` for the field `by`."""
    known = (*dimensions, *BUILT_IN)
    for name in by:
        if name not in known:
            raise ParameterError("by", expected="a column", found=f"'{name[:40]}'", fix=_nearest_column(name, known))
    if len(set(by)) != len(by) or not by:
        raise ParameterError("by", expected="at least one column, each once", found=f"'{','.join(by)[:200]}'")
    return tuple(by)


def check_where(where: Mapping[str, str], dimensions: Sequence[str]) -> dict[str, str]:
    """Raises `ParameterError`, whose field is the name that is not a column."""
    known = (*dimensions, *BUILT_IN)
    for name in where:
        if name not in known:
            fix = _nearest_column(name, known)
            raise ParameterError(name[:40], expected="a column", found=f"'{name[:40]}'", fix=fix)
    return dict(where)


def _nearest_column(name: str, known: Sequence[str]) -> str:
    return nearest(name, known).lstrip(",; ")


def grain_of(by: Iterable[str]) -> Grain:
    """The coarsest grain that tells these columns apart."""
    by = set(by)
    return Grain(hour="hour" in by, node="node" in by, workload="workload" in by, cluster="cluster" in by)


def make_report(
    statement: Statement,
    period: Period,
    by: Sequence[str],
    *,
    where: Mapping[str, str] | None = None,
    top: int | None = None,
    is_closed: bool,
    notes: Sequence[str] = (),
) -> Report:
    """Sum up `statement`, whose grain must be that of `by` and `where`; only lines whose columns are as `where` says.

    `top`: only so many rows, those that lose most; what is left is one row `OTHER`. Raises `ParameterError` when there
    are too many rows.
    """
    names, wanted = tuple(where or ()), tuple((where or {}).values())
    dimensions = statement.policy.rules.dimensions
    prices = statement.policy.prices
    grouped: dict[tuple[str, ...], Sums] = {}
    models: dict[str, Sums] = {}
    days: dict[int, Sums] = {}
    values_of = _Columns(by, names, dimensions)
    for key, sums in statement.lines():
        values, where_values = values_of(key)
        if where_values != wanted:
            continue
        if values not in grouped:
            if len(grouped) >= ROWS_MAX:
                fix = "name fewer columns or a shorter period"
                raise ParameterError("by", expected=f"at most {ROWS_MAX} rows", found="more", fix=fix)
            grouped[values] = Sums()
        grouped[values].take(sums)
        if prices.api_prices and key.carrier.kind == "work" and key.carrier.model:
            models.setdefault(key.carrier.model, Sums()).take(sums)
        days.setdefault(key.start_ms - key.start_ms % MS_PER_DAY, Sums()).take_costs(sums)
    if top is not None and len(grouped) > top:
        grouped = _top(grouped, top)
    ordered = [values for values in sorted(grouped) if any(grouped[values])]
    money = cents([grouped[values].get(cost) for values in ordered for cost in COSTS])
    rows = []
    for i, values in enumerate(ordered):
        parts = dict(zip(COSTS, money[i * len(COSTS) : (i + 1) * len(COSTS)], strict=True))
        rows.append(
            ReportRow(
                by=dict(zip(by, values, strict=True)),
                cost=sum(parts.values(), Decimal(0)),
                parts=parts,
                figures=figures(grouped[values], prices),
            )
        )
    whole = Sums()
    for sums in grouped.values():
        whole.take(sums)
    before_sharing = whole if where else statement.whole  # of a part, what it carries is all there is to tell
    waterfall = dict(zip(BUCKETS, cents([before_sharing.get(bucket) for bucket in BUCKETS]), strict=True))
    return Report(
        period=period,
        currency=prices.currency,
        by=tuple(by),
        where=dict(where or {}),
        start=iso(statement.span.start_ms),
        end=iso(statement.span.end_ms),
        is_closed=is_closed,
        price_book=prices.fingerprint,
        notes=list(notes),
        rows=rows,
        total=ReportRow(
            by={},
            cost=sum((row.cost for row in rows), Decimal(0)),
            parts={cost: sum((row.parts[cost] for row in rows), Decimal(0)) for cost in COSTS},
            figures=figures(whole, prices),
        ),
        waterfall=waterfall,
        waterfall_gpu_hours={bucket: before_sharing.get(f"{bucket}_ms") / MS_PER_HOUR for bucket in BUCKETS},
        days={
            day_of(day_ms).isoformat(): dict(zip(COSTS, cents([sums.get(c) for c in COSTS]), strict=True))
            for day_ms, sums in sorted(days.items())
        },
        references=statement.references,
        buy_or_run=_buy_or_run(models, statement),
        token_weights={name: str(getattr(prices.token_weights, name)) for name in ("prompt", "cached", "completion")},
    )


class _Columns:
    """The values of a line in the columns of a report and in those that it is filtered by. Lines of many days and pools
    share them, so they are remembered."""

    def __init__(self, by: Sequence[str], where: Sequence[str], dimensions: Sequence[str]) -> None:
        self._by, self._where, self._dimensions = by, where, dimensions
        self._is_timed = bool({"day", "hour"} & {*by, *where})
        self._remembered: dict[tuple[object, ...], tuple[tuple[str, ...], tuple[str, ...]]] = {}

    def __call__(self, key: LineKey) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if self._is_timed:
            return self._values(key)
        place = key[1:]
        if place not in self._remembered:
            self._remembered[place] = self._values(key)
        return self._remembered[place]

    def _values(self, key: LineKey) -> tuple[tuple[str, ...], tuple[str, ...]]:
        dimensions = self._dimensions
        return column_values(key, self._by, dimensions), column_values(key, self._where, dimensions)


def _top(grouped: dict[tuple[str, ...], Sums], top: int) -> dict[tuple[str, ...], Sums]:
    by_loss = sorted(grouped, key=lambda values: (-sum(grouped[values].get(bucket) for bucket in LOST), values))
    kept = {values: grouped[values] for values in by_loss[:top]}
    other = Sums()
    for values in by_loss[top:]:
        other.take(grouped[values])
    kept[(OTHER,) * len(by_loss[0])] = other
    return kept


def figures(sums: Sums, prices: PriceBook) -> dict[str, Any]:
    """Everything of a row beside its cost in cents: hours, energy, tokens and ratios. None: not known."""
    tokens = {kind: sums.get(kind) if sums.get(f"{kind}_reported") else None for kind in TOKEN_KINDS}
    all_tokens = sum(count or 0 for count in tokens.values())
    metered_tokens = all_tokens - sums.get("unmetered_tokens")
    joules = sums.get("gpu_mj") / MJ_PER_JOULE
    host = joules + sums.get("host_uj") / 10**6
    facility = sums.get("facility_nj") / 10**9
    grams = sums.get("carbon") / _CARBON_PER_GRAM if not sums.get("carbon_missing_nj") else None
    found: dict[str, Any] = {
        "energy_cost": _money(sums.get("energy_cost")),
        "idle_capacity_cost": _money(sums.idle_capacity),
        "hardware_cost": _money(sums.hardware()),
        "idle_capacity_share_of_hardware_cost": _ratio(sums.idle_hardware(), sums.hardware()),
        **{f"cost_of_{name}": _money(sums.component(name)) for name in COMPONENTS},
        "active_gpu_hours": sums.active_ms / MS_PER_HOUR,
        "idle_gpu_hours": sums.get("idle_ms") / MS_PER_HOUR,
        "unallocated_gpu_hours": sums.get("unallocated_ms") / MS_PER_HOUR,
        "dark_gpu_hours": sums.get("dark_ms") / MS_PER_HOUR,
        "unrated_gpu_hours": sums.get("unrated_ms") / MS_PER_HOUR,
        "parked_gpu_hours": sums.get("parked_ms") / MS_PER_HOUR,
        "parked_cost": _money(sums.get("parked")),
        "price_missing_gpu_hours": sums.get("missing_ms") / MS_PER_HOUR,
        **tokens,
        "tokens": all_tokens if any(count is not None for count in tokens.values()) else None,
        "requests": sums.get("requests") if sums.get("requests_reported") else None,
        "joules_gpu": joules,
        "joules_host": host,
        "joules_facility": facility,
        "tokens_per_second_per_watt": _ratio(metered_tokens, joules),
        "tokens_per_joule_gpu": _ratio(metered_tokens, joules),
        "tokens_per_joule_host": _ratio(metered_tokens, host),
        "tokens_per_joule_facility": _ratio(metered_tokens, facility),
        "co2_grams": grams,
        "co2_grams_per_million_tokens": _ratio(grams, metered_tokens / _MEGA),
        "revenue": _money(sums.get("revenue")) if prices.token_prices else None,
    }
    costs = {"direct": sums.direct, "allocated": sums.allocated, "loaded": sums.get("loaded")}
    for basis in BASES:
        found |= _unit_costs(basis, costs[basis], sums, prices, all_tokens)
    if prices.token_prices:
        found["margin"] = _money(sums.get("revenue") - sums.total)
        found["break_even_utilization"] = _break_even(sums)
    return found


def _unit_costs(basis: str, quanta: int, sums: Sums, prices: PriceBook, all_tokens: int) -> dict[str, float | None]:
    """Cost per million tokens: blended, and by kind, where price_k = weight_k x cost / sum(weight x tokens)."""
    weights = prices.token_weights.per_thousand()
    weighted = sum(weights[kind] * sums.get(kind) for kind in TOKEN_KINDS)
    per_unit = quanta / QUANTA_PER_UNIT / weighted * _MEGA if weighted else None
    names = {"prompt": "prompt_computed", "cached": "prompt_cached", "completion": "completion"}
    found = {f"cost_per_mtok_{basis}": _ratio(amount(quanta), all_tokens / _MEGA)}
    for name, kind in names.items():
        known = per_unit is not None and sums.get(kind) > 0
        found[f"cost_per_mtok_{basis}_{name}"] = weights[kind] * (per_unit or 0) if known else None
    return found


def _break_even(sums: Sums) -> float | None:
    """The share of its GPU time that must be active for revenue to cover cost; above 1 it cannot.

    Revenue comes with active time, cost with all time: u* = (cost / all hours) / (revenue / active hours).
    """
    held_ms = sum(sums.get(f"{bucket}_ms") for bucket in BUCKETS)
    if not sums.get("revenue") or not held_ms or not sums.active_ms:
        return None
    return (sums.total / held_ms) / (sums.get("revenue") / sums.active_ms)


def _buy_or_run(models: Mapping[str, Sums], statement: Statement) -> list[BuyOrRun]:
    prices, found = statement.policy.prices, []
    day = day_of(max(statement.span.start_ms, statement.span.end_ms - 1))
    for model, sums in sorted(models.items()):
        for api in prices.api_prices:
            exchange = Rates(prices).exchange(api.currency, day)
            if exchange is None or not fnmatchcase(model, api.model) or not any(sums.get(kind) for kind in TOKEN_KINDS):
                continue
            there = _api_cost(api, sums) * float(exchange)
            tokens = sum(sums.get(kind) for kind in TOKEN_KINDS)
            held_ms = sums.active_ms + sums.get("idle_ms")
            per_second = None
            if there and held_ms:
                per_second = amount(sums.allocated) / (held_ms / MS_PER_SECOND) / (there / tokens)
            found.append(
                BuyOrRun(
                    model=model,
                    api=api.name,
                    source=api.source,
                    as_of=api.as_of.isoformat() if api.as_of else "",
                    api_cost=round(there, 6),
                    allocated_cost=round(amount(sums.allocated), 6),
                    loaded_cost=round(amount(sums.get("loaded")), 6),
                    break_even_tokens_per_second=per_second,
                )
            )
    return found


def _api_cost(api: ApiPrice, sums: Sums) -> float:
    price = api.per_million
    cached = price.prompt if price.cached is None else price.cached
    prompt = sums.get("prompt_computed") + sums.get("prompt_unsplit")
    whole = price.prompt * prompt + cached * sums.get("prompt_cached") + price.completion * sums.get("completion")
    return float(whole) / _MEGA


def _ratio(value: float | None, by: float) -> float | None:
    return value / by if value and by else None


def _money(quanta: int) -> float:
    return round(amount(quanta), 6)
