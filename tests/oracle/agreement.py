"""Where two opinions on a report differ. In: the statement that was recomputed, and what the product says.

Out: one text for each difference; nothing where they agree. What is exact must be equal to 2 x 10^-8, what was divided
to its slack, what is shown in cents to the cent.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from oracle.columns import Figure, Row, columns_of, grouped, rows_of, waterfall
from oracle.lines import BUCKETS, COSTS, summed
from oracle.people import spreadsheet
from oracle.statement import Statement
from oracle.terms import COMPONENTS, ZERO

CENT = Decimal("0.01")
CENTS_OF_A_ROW = 2 * CENT
"""A row is the sum of its buckets and components, each within a cent (docs/money.md, Exactness)."""
EXACT = Decimal("2e-8")
"""Of a decimal number with nine digits, rows of which sum by largest remainder; and of a float of the same."""


def report_differences(statement: Statement, document: Mapping[str, Any]) -> Iterator[str]:
    """The JSON of a report."""
    by, where = document["by"], document["where"]
    yield from rows_differences(rows_of(statement, by, where), by, document["rows"])
    whole = columns_of(summed(grouped(statement, by, where).values()), statement)
    yield from row_differences("total", whole, document["total"])
    yield from sum_differences(document)
    if not where:
        steps = {step["bucket"]: step for step in document["waterfall"]}
        for bucket, (cost, hours) in waterfall(statement).items():
            yield from _difference(f"waterfall {bucket} cost", cost, steps[bucket]["cost"])
            yield from _difference(f"waterfall {bucket} gpu_hours", hours, steps[bucket]["gpu_hours"])


def rows_differences(
    rows: Mapping[tuple[str, ...], Row], by: Sequence[str], found: Sequence[Mapping[str, Any]], *, is_csv: bool = False
) -> Iterator[str]:
    if is_csv:
        rows = {tuple(map(spreadsheet, values)): row for values, row in rows.items()}
    shown = {tuple(str(row[name]) for name in by): row for row in found}
    if len(shown) != len(found):
        yield f"two rows with one name: {[tuple(row[name] for name in by) for row in found]}"
    for values in sorted(rows.keys() - shown.keys()):
        if any(figure.value and abs(figure.value) > figure.slack for figure in rows[values].values()):
            yield f"row {values} is missing: {_short(rows[values])}"
    for values in sorted(shown.keys() - rows.keys()):
        yield f"row {values} should not be there: cost {shown[values]['cost']}"
    for values in sorted(rows.keys() & shown.keys()):
        yield from row_differences(f"row {values}", rows[values], shown[values])


def sum_differences(document: Mapping[str, Any]) -> Iterator[str]:
    """What a reader adds up, of exact amounts and of those shown in cents: rows to the total, buckets and components to
    the cost, the total to the waterfall."""
    for name in ("exact", "shown"):
        rows, total = [of(row, name) for row in document["rows"]], of(document["total"], name)
        for column in total:
            is_money = (
                name == "shown"
                or column.startswith("cost_of_")
                or column in {"cost", *(f"cost_{one}" for one in COSTS)}
            )
            column_sum = sum((row.get(column) or ZERO for row in rows), ZERO) if is_money else ZERO
            if is_money and total[column] is not None and column_sum != total[column]:
                yield f"{name}: rows sum to {column_sum} in {column}, total {total[column]}"
        for row in (*rows, total):
            if sum(row[f"cost_{one}"] for one in COSTS) != row["cost"]:
                yield f"{name}: buckets do not sum to the cost: {row}"
            if sum(row[f"cost_of_{one}"] for one in COMPONENTS) != row["cost"]:
                yield f"{name}: components do not sum to the cost: {row}"
        fall = [of(step, name) for step in document["waterfall"]]
        if sum((step["cost"] for step in fall), ZERO) != total["cost"]:
            yield f"{name}: waterfall {fall}, total {total['cost']}"
        for step in document["waterfall"]:
            if (shared := of(step, name)["cost_shared"]) is None:
                continue  # of a part only what it carries is known
            of_bucket = total[f"cost_{step['bucket']}"] + shared if step["bucket"] != "shared" else ZERO
            if step["bucket"] != "shared" and of_bucket != of(step, name)["cost"]:
                yield f"{name}: rows and what was shared of {step['bucket']} are {of_bucket}: {step}"


def of(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Its exact amounts, or those shown."""
    shown: Mapping[str, Any] = row if name == "exact" else row["shown"]
    return shown


def row_differences(at: str, row: Row, found: Mapping[str, Any]) -> Iterator[str]:
    for name, figure in row.items():
        if name not in found:
            yield f"{at}: column {name} is missing"
        else:
            yield from _difference(f"{at}: {name}", figure, found[name])


def _difference(at: str, figure: Figure, found: Any, step: Decimal = EXACT) -> Iterator[str]:
    shown = number(found)
    if figure.value is None or shown is None:
        is_little = figure.value is not None and abs(figure.value) <= figure.slack + step
        if (figure.value is None) != (shown is None) and not is_little:
            yield f"{at}: expected {_plain(figure)}, found {found}"
    elif abs(figure.value - shown) > figure.slack + step + abs(figure.value) * Decimal("1e-12"):
        yield f"{at}: expected {_plain(figure)}, found {shown}"


def number(value: Any) -> Decimal | None:
    """None for nothing."""
    return None if value is None or value == "" else Decimal(str(value))


def _plain(figure: Figure) -> str:
    return "nothing" if figure.value is None else f"{figure.value:.9f} +- {figure.slack:.9f}"


def _short(row: Row) -> str:
    return ", ".join(f"{name} {figure.value:.6f}" for name, figure in row.items() if figure.value)[:300]


def shown_differences(statement: Statement, by: Sequence[str], cells: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table for people: the cost of each row, the waterfall, both to the cent, and a column that sums."""
    rows, whole = rows_of(statement, by), ZERO
    shown = {tuple(line[: len(by)]): line for line in cells if len(line) > len(by)}
    for values, row in rows.items():
        line = shown.get(tuple(value or "-" for value in values)) or shown.get(values)
        if line is None:
            yield f"no line of {values}"
            continue
        cost = cents(line[len(by)])
        whole += cost
        yield from _difference(f"shown {values}", row["cost"], cost, CENTS_OF_A_ROW)
    titles = {bucket.replace("_", "-"): cost for bucket, (cost, _) in waterfall(statement).items()}
    falls: dict[str, Decimal] = {}
    at = -2 if any("of it shared" in cell for line in cells for cell in line) else -1
    for line in cells:
        if line[0] in titles and line[0] not in falls and len(line) > 3 and line[-1][-1:].isdigit():
            falls[line[0]] = cents(line[at])
    for title, fall in titles.items():
        yield from _difference(f"shown waterfall {title}", fall, falls[title], CENT)
    if sum(falls.values()) != whole:
        yield f"waterfall shown sums to {sum(falls.values())}, rows to {whole}"
    if not any(line[0] == "sum" and f"{whole:,.2f}" in line for line in cells[len(rows) :]):
        yield f"the sum {whole:,.2f} is not shown"


def cents(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))


def focus_differences(statement: Statement, rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """FOCUS rows summed by who is charged, by day, by bucket; hours, joules, tokens, revenue."""
    first = statement.people.dimensions[0]
    few = EXACT + Decimal("1e-8") * len(rows)
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
            expected = {
                "EffectiveCost": figures["cost"],
                "BilledCost": figures["cost"],
                "x_GpuHours": Figure(hours, figures["active_gpu_hours"].slack),
                "x_Joules": figures["joules_gpu"],
                "x_Tokens": Figure(figures["tokens"].value or ZERO, figures["tokens"].slack),
            }
            for amount, figure in expected.items():
                yield from _difference(f"FOCUS {at}: {amount}", figure, sums[at][amount], few)
        for at in sums.keys() - lines.keys():
            yield f"FOCUS has rows of {at}, which is not there"
    yield from _focus_wholes(statement, rows, few)


def _focus_wholes(statement: Statement, rows: Sequence[Mapping[str, str]], few: Decimal) -> Iterator[str]:
    whole = summed(statement.lines.values())
    by_bucket: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        cost = number(row["EffectiveCost"]) or ZERO
        by_bucket[row["x_CostBucket"]] += cost
        if row["x_CostBucket"] == "used":
            under = number(row["x_UnderYieldCost"]) or ZERO
            by_bucket["under_yield"] += under
            by_bucket["productive"] += cost - under
    sold = sum((number(row["ListCost"]) or ZERO for row in rows if "Tokens" in row["PricingUnit"]), ZERO)
    revenue = Figure(whole.money["revenue"], whole.slack.revenue)
    yield from _difference("FOCUS ListCost of tokens, the revenue", revenue, sold, few)
    for bucket in COSTS:
        slack = whole.slack.cost + whole.slack.shared + whole.slack.pace_cost
        yield from _difference(f"FOCUS bucket {bucket}", Figure(whole.bucket(bucket), slack), by_bucket[bucket], few)
