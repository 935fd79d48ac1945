"""Lines into the rows of a report: the columns of docs/money.md, each with what it may be off by. Plain Python."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from oracle.facts import KINDS, TOKENS
from oracle.lines import BUCKETS, COSTS, IDLE_CAPACITY, MS, Line
from oracle.statement import Statement
from oracle.terms import COMPONENTS, ZERO

MEGA = Decimal(10**6)
EXACT = Decimal("1e-9")
"""What decimals of 50 digits may lose, and components that are each rounded to 10^-12."""


@dataclass(frozen=True)
class Figure:
    """`value` (None: unknown) and by how much the product may differ from it."""

    value: Decimal | None
    slack: Decimal = ZERO

    def over(self, other: "Figure") -> "Figure":
        """A ratio; unknown without a numerator or a denominator."""
        if not self.value or not other.value:
            return Figure(None)
        ratio = self.value / other.value
        return Figure(ratio, abs(ratio) * (self.slack / abs(self.value) + other.slack / abs(other.value)) * 2)

    def times(self, factor: Decimal) -> "Figure":
        return Figure(None if self.value is None else self.value * factor, self.slack * abs(factor))


Row = dict[str, Figure]


def rows_of(
    statement: Statement, by: Sequence[str], where: Mapping[str, str] | None = None
) -> dict[tuple[str, ...], Row]:
    return {
        values: columns_of(line, statement) for values, line in grouped(statement, by, where).items() if happened(line)
    }


def grouped(
    statement: Statement, by: Sequence[str], where: Mapping[str, str] | None = None
) -> dict[tuple[str, ...], Line]:
    rows: dict[tuple[str, ...], Line] = defaultdict(Line)
    for key, line in statement.lines.items():
        if all(statement.column(key, name) == value for name, value in (where or {}).items()):
            rows[tuple(statement.column(key, name) for name in by)].add(line)
    return rows


def happened(line: Line) -> bool:
    """Whether anything at all is in it."""
    amounts = (*line.cost.values(), *line.ms.values(), *line.joules.values(), *line.counts.values())
    return bool(line.known) or any(amounts)


def columns_of(line: Line, statement: Statement) -> Row:
    slack = line.slack
    off = slack.cost + slack.shared + EXACT
    hours = {
        name: Figure(line.ms[name] / MS, (slack.ms + slack.pace_ms * (name in ("under_yield", "productive"))) / MS)
        for name in (*BUCKETS, "unrated", "parked", "missing")
    }

    def money(value: Decimal, more: Decimal = ZERO) -> Figure:
        return Figure(value, off + more)

    row = {
        "cost": money(line.total),
        **{f"cost_{name}": money(line.bucket(name), slack.pace_cost) for name in COSTS},
        **{f"cost_of_{name}": money(line.component(name)) for name in COMPONENTS},
        "energy_cost": money(line.money["energy_cost"]),
        "idle_capacity_cost": money(line.bucket(*IDLE_CAPACITY)),
        "parked_cost": money(line.money["parked"]),
    }
    for suffix, parts in (("", ("hardware", "rent")), ("_owned", ("hardware",)), ("_rented", ("rent",))):
        row[f"hardware_cost{suffix}"] = money(line.component(*parts))
        idle = line.component(*parts, of=IDLE_CAPACITY)
        share = money(idle).over(money(line.component(*parts)))
        row[f"idle_capacity_share_of_hardware_cost{suffix}"] = (
            share if idle or not line.component(*parts) else Figure(ZERO)
        )
    row |= {f"{name}_gpu_hours": hours[name] for name in ("idle", "unallocated", "dark", "unrated", "parked")}
    row["active_gpu_hours"] = Figure(hours["under_yield"].value + hours["productive"].value, slack.ms / MS)  # type: ignore[operator]
    row["price_missing_gpu_hours"] = hours["missing"]
    for kind in KINDS:
        row[kind] = Figure(
            line.counts[kind] if kind in line.known else None, slack.requests if kind == "requests" else slack.tokens
        )
    tokens = sum((line.counts[kind] for kind in TOKENS), ZERO)
    all_tokens = Figure(tokens if line.known & set(TOKENS) else None, slack.tokens)
    row["tokens"] = all_tokens
    sold = Figure(sum((line.counts[kind] - line.missing[kind] for kind in TOKENS), ZERO), slack.tokens)
    row |= _energy(line, all_tokens, sold)
    row |= _unit_costs(line, statement, sold)
    row["price_missing_tokens"] = Figure(sum((line.missing[kind] for kind in TOKENS), ZERO), slack.tokens)
    row["price_missing_joules"] = Figure(line.joules["missing"], slack.joules)
    if statement.terms.document.get("token_prices"):
        row |= _profit(line, tokens)
    return row


def _energy(line: Line, tokens: Figure, priced_tokens: Figure) -> Row:
    """What GPUs use is measured; what their hosts and the site add is known where their time has a price."""
    slack = line.slack
    off = slack.joules + slack.site_joules
    gpu = Figure(line.joules["gpu"], slack.joules)
    host = Figure(line.joules["gpu"] - line.joules["missing"] + line.joules["host"], off)
    facility = Figure(line.joules["facility"], off)
    metered = Figure((tokens.value or ZERO) - line.missing["unplaced"], tokens.slack)
    grams = Figure(None if line.joules["carbon_unknown"] else line.grams, slack.site_joules / 3600)
    mega = priced_tokens.times(1 / MEGA)
    return {
        "joules_gpu": gpu,
        "joules_host": host,
        "joules_facility": facility,
        "tokens_per_second_per_watt": metered.over(gpu),
        "tokens_per_joule_gpu": metered.over(gpu),
        "tokens_per_joule_host": priced_tokens.over(host),
        "tokens_per_joule_facility": priced_tokens.over(facility),
        "co2_grams": grams,
        "co2_grams_per_million_tokens": Figure(ZERO) if grams.value == 0 and mega.value else grams.over(mega),
    }


def _profit(line: Line, tokens: Decimal) -> Row:
    """Unknown where what tokens were sold for is; over what has a price."""
    slack, unsold = line.slack, line.missing["unsold"]
    off = slack.cost + slack.shared + EXACT
    revenue, costed = line.money["revenue"], line.money["revenue"] - line.money["revenue_without_cost"]
    whole = sum((line.ms[name] for name in BUCKETS), ZERO)
    paid = Figure(whole - line.ms["missing"], slack.ms)
    active = Figure(line.ms["under_yield"] + line.ms["productive"] - line.ms["missing_active"], slack.ms)
    is_unpriced = line.ms["missing"] or line.joules["missing"] or any(line.missing[kind] for kind in KINDS)
    is_known = not unsold and bool(line.total or paid.value or costed or not is_unpriced)
    even = Figure(None)
    if is_known and costed > 0 and paid.value and active.value:
        even = Figure(line.total, off).over(paid).over(Figure(costed, slack.revenue + EXACT).over(active))
        even = even if line.total else Figure(ZERO)
    return {
        "revenue": Figure(None if unsold and unsold == tokens else revenue, slack.revenue + EXACT),
        "revenue_missing_tokens": Figure(unsold, slack.tokens),
        "revenue_without_cost": Figure(line.money["revenue_without_cost"], slack.revenue + EXACT),
        "margin": Figure(costed - line.total if is_known else None, slack.revenue + off),
        "break_even_utilization": even,
    }


def _unit_costs(line: Line, statement: Statement, tokens: Figure) -> Row:
    """Of what has a price: weight x cost / sum(weight x tokens), on three bases."""
    weights, slack = statement.terms.weights, line.slack
    priced = {kind: line.counts[kind] - line.missing[kind] for kind in KINDS}
    weighted = Figure(
        sum((weights[kind] * priced[kind] for kind in TOKENS), ZERO), slack.tokens * max(weights.values())
    )
    requests = Figure(priced["requests"], slack.requests)
    row: Row = {}
    for basis, value in (("direct", line.direct), ("allocated", line.allocated), ("loaded", line.money["loaded"])):
        cost = Figure(value, (slack.loaded if basis == "loaded" else slack.cost) + EXACT)
        row[f"cost_per_request_{basis}"] = _each(cost, requests)
        row[f"cost_per_1000_tokens_{basis}"] = _each(cost, tokens).times(Decimal(1000))
        row[f"cost_per_mtok_{basis}"] = _each(cost, tokens).times(MEGA)
        for name, kind in (("prompt", "prompt_computed"), ("cached", "prompt_cached"), ("completion", "completion")):
            figure = _each(cost, weighted).times(MEGA * weights[kind])
            row[f"cost_per_mtok_{basis}_{name}"] = figure if priced[kind] else Figure(None)
    return row


def _each(cost: Figure, units: Figure) -> Figure:
    """0 where what has a price is free; unknown where nothing has one."""
    return Figure(ZERO, EXACT) if cost.value == 0 and units.value else cost.over(units)


def waterfall(statement: Statement) -> dict[str, tuple[Figure, Figure]]:
    """Bucket -> cost and GPU-hours, before anything was shared."""
    whole = statement.before_sharing
    off = whole.slack.cost + EXACT
    return {
        name: (
            Figure(whole.bucket(name), off + whole.slack.pace_cost),
            Figure(whole.ms[name] / MS, (whole.slack.ms + whole.slack.pace_ms) / MS),
        )
        for name in BUCKETS
    }
