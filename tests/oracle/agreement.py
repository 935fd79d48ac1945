"""Where two opinions on a report differ. In: the statement that was recomputed, and what the product says.

Out: one text for each difference; nothing where they agree. What is exact must be equal to 10^-8, what was divided to
its slack, what is shown in cents to the cent.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from oracle.columns import Figure, Row, columns_of, grouped, rows_of, waterfall
from oracle.lines import BUCKETS, COSTS, summed
from oracle.people import spreadsheet
from oracle.statement import Statement
from oracle.terms import COMPONENTS, ZERO

CENT = Decimal("0.01")
SPREAD = 6 * CENT
"""What a row may be off while rows are spread over cents, cell by cell."""
NINE = Decimal("2e-8")
"""Of a decimal number with nine digits, rows of which sum by largest remainder; and of a float of the same."""
RATIO = Decimal("1e-6")


def report_differences(statement: Statement, document: Mapping[str, Any]) -> Iterator[str]:
    """The JSON of a report, all of it."""
    by, where = document["by"], document["where"]
    rows = rows_of(statement, by, where)
    yield from rows_differences(rows, by, document["rows"], resolution_of(document["rows"]))
    lines = grouped(statement, by, where)
    whole = columns_of(summed(lines.values()), statement)
    if resolution_of(document["rows"]) == NINE:
        yield from _row_differences("total", whole, document["total"], NINE)
    yield from sum_differences(document)
    if not where:
        steps = {step["bucket"]: step for step in document["waterfall"]}
        for bucket, (cost, hours) in waterfall(statement).items():
            yield from _difference(
                f"waterfall {bucket} cost",
                cost,
                steps[bucket]["cost"],
                step_of("cost", resolution_of(document["rows"])),
            )
            yield from _difference(f"waterfall {bucket} gpu_hours", hours, steps[bucket]["gpu_hours"], NINE)


def resolution_of(rows: Iterable[Mapping[str, Any]]) -> Decimal:
    """Cents, while the product has no more."""
    exact = any(number(row["cost"]).as_tuple().exponent < -2 for row in rows)  # type: ignore[operator, union-attr]
    return NINE if exact else CENT


def rows_differences(
    rows: Mapping[tuple[str, ...], Row], by: Sequence[str], found: Sequence[Mapping[str, Any]], resolution: Decimal
) -> Iterator[str]:
    shown = {tuple(str(row[name]) for name in by): row for row in found}
    if len(shown) != len(found):
        yield f"two rows with one name: {[tuple(row[name] for name in by) for row in found]}"
    for values in sorted(rows.keys() - shown.keys()):
        if any(figure.value and abs(figure.value) > figure.slack for figure in rows[values].values()):
            yield f"row {values} is missing: {_short(rows[values])}"
    for values in sorted(shown.keys() - rows.keys()):
        yield f"row {values} should not be there: cost {shown[values]['cost']}"
    for values in sorted(rows.keys() & shown.keys()):
        yield from _row_differences(f"row {values}", rows[values], shown[values], resolution)


def sum_differences(document: Mapping[str, Any]) -> Iterator[str]:
    """What a reader adds up: rows to the total, parts to the cost, the total to the waterfall, each exactly."""
    rows, total = document["rows"], document["total"]
    names = ["cost", *(f"cost_{name}" for name in COSTS)]
    if resolution_of(rows) == NINE:
        names += [f"cost_of_{name}" for name in COMPONENTS]
    for name in names:
        if sum((row[name] for row in rows), ZERO) != total[name]:
            yield f"rows sum to {sum(row[name] for row in rows)} in {name}, total {total[name]}"
    for row in (*rows, total):
        if sum(row[f"cost_{name}"] for name in COSTS) != row["cost"]:
            yield f"buckets do not sum to the cost: {row}"
        if resolution_of(rows) == NINE and sum(row[f"cost_of_{name}"] for name in COMPONENTS) != row["cost"]:
            yield f"components do not sum to the cost: {row}"
    if not document["where"]:
        fall = sum((step["cost"] for step in document["waterfall"]), ZERO)
        if fall != total["cost"] and resolution_of(rows) == NINE:
            yield f"waterfall {fall}, total {total['cost']}"


def _row_differences(at: str, row: Row, found: Mapping[str, Any], resolution: Decimal) -> Iterator[str]:
    for name, figure in row.items():
        if name not in found:
            yield f"{at}: column {name} is missing"
            continue
        yield from _difference(f"{at}: {name}", figure, found[name], step_of(name, resolution))


def step_of(name: str, resolution: Decimal) -> Decimal:
    """Of a column's decimals. Other amounts than costs had six while costs were in cents."""
    if name == "cost" or name in {f"cost_{bucket}" for bucket in COSTS}:
        return SPREAD if resolution == CENT else resolution
    is_money = (
        name.startswith("cost_of_")
        or name.endswith("_cost")
        or name.startswith("hardware_cost")
        or name in ("revenue", "margin")
    )
    return Decimal("1e-6") if is_money and resolution == CENT else NINE


def _difference(at: str, figure: Figure, found: Any, step: Decimal) -> Iterator[str]:
    shown = number(found)
    if figure.value is None or shown is None:
        small = figure.value is not None and abs(figure.value) <= figure.slack + step
        if (figure.value is None) != (shown is None) and not small:
            yield f"{at}: expected {_plain(figure)}, found {found}"
    elif abs(figure.value - shown) > figure.slack + step + abs(figure.value) * Decimal("1e-12"):
        yield f"{at}: expected {_plain(figure)}, found {shown}"


def number(value: Any) -> Decimal | None:
    """None for nothing."""
    if value is None or value == "":
        return None
    try:
        return Decimal(str(value))
    except InvalidOperation:
        raise AssertionError(f"not a number: {value!r}") from None


def _plain(figure: Figure) -> str:
    return "nothing" if figure.value is None else f"{figure.value:.9f} +- {figure.slack:.9f}"


def _short(row: Row) -> str:
    return ", ".join(f"{name} {figure.value:.6f}" for name, figure in row.items() if figure.value)[:300]


def shown_differences(
    statement: Statement, by: Sequence[str], cells: Sequence[Sequence[str]], step: Decimal = CENT
) -> Iterator[str]:
    """A table for people: the cost of each row, the waterfall, both to the cent, and a column that sums."""
    rows, whole = rows_of(statement, by), ZERO
    shown = {tuple(line[: len(by)]): line for line in cells if len(line) > len(by)}
    for values, row in rows.items():
        line = shown.get(values)
        if line is None:
            yield f"no line of {values}"
            continue
        cost = cents(line[len(by)])
        whole += cost
        yield from _difference(f"shown {values}", row["cost"], cost, step)
    titles = {bucket.replace("_", "-"): cost for bucket, (cost, _) in waterfall(statement).items()}
    falls = {line[0]: cents(line[-1]) for line in cells if line[0] in titles and line[-1][-1:].isdigit()}
    for title, fall in titles.items():
        yield from _difference(f"shown waterfall {title}", fall, falls[title], CENT)
    if sum(falls.values()) != whole and step == CENT:
        yield f"waterfall shown sums to {sum(falls.values())}, rows to {whole}"
    if not any(line[0] == "sum" and f"{whole:,.2f}" in line for line in cells[len(rows) :]):
        yield f"the sum {whole:,.2f} is not shown"


def cents(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))


def focus_differences(statement: Statement, rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """FOCUS rows summed by who is charged, by day, by bucket; hours, joules, tokens, revenue."""
    first = statement.people.dimensions[0]
    for name, column in (("SubAccountId", first), ("ChargePeriodStart", "day")):
        sums: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
        for row in rows:
            at = row[name][:10] if column == "day" else row[name]
            for amount in ("EffectiveCost", "BilledCost", "x_GpuHours", "x_Joules", "x_Tokens"):
                sums[at][amount] += number(row[amount]) or ZERO
        lines = {spreadsheet(values[0]): line for values, line in grouped(statement, [column]).items()}
        for at, line in lines.items():
            figures = columns_of(line, statement)
            hours = sum((line.ms[bucket] for bucket in BUCKETS), ZERO) / 3_600_000
            few = NINE + Decimal("1e-8") * len(rows)
            for amount, figure in (
                ("EffectiveCost", figures["cost"]), ("BilledCost", figures["cost"]),
                ("x_GpuHours", Figure(hours + line.ms["missing"] / 3_600_000, figures["active_gpu_hours"].slack)),
                ("x_Joules", figures["joules_gpu"]), ("x_Tokens", Figure(figures["tokens"].value or ZERO, figures["tokens"].slack)),
            ):  # fmt: skip
                yield from _difference(f"FOCUS {at}: {amount}", figure, sums[at][amount], few)
        for at in sums.keys() - lines.keys():
            yield f"FOCUS has rows of {at}, which is not there"
    whole = summed(statement.lines.values())
    by_bucket: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        by_bucket[row["x_CostBucket"]] += number(row["EffectiveCost"]) or ZERO
        if row["x_CostBucket"] == "used":
            under = number(row["x_UnderYieldCost"]) or ZERO
            by_bucket["under_yield"] += under
            by_bucket["productive"] += (number(row["EffectiveCost"]) or ZERO) - under
    for bucket in COSTS:
        slack = whole.slack.cost + whole.slack.shared + whole.slack.pace_cost + NINE * (1 + len(rows))
        yield from _difference(f"FOCUS bucket {bucket}", Figure(whole.bucket(bucket), slack), by_bucket[bucket], NINE)
