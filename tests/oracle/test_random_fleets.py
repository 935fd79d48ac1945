"""Random fleets x policies x grains: the product against a second opinion, and against what a reader adds up.

`TOKENYIELD_FUZZ_EXAMPLES=1000` runs a thousand seeds, from `TOKENYIELD_FUZZ_FIRST` on (0), so that a long run can go on
where it ended; a failure names its seed: `python -m pytest ... -k "seed-17"`.
"""

import os
import random
from collections.abc import Iterator
from decimal import localcontext
from pathlib import Path

import pytest

from oracle.agreement import (
    focus_differences,
    report_differences,
    row_differences,
    rows_differences,
    shown_differences,
    sum_differences,
)
from oracle.carrying import TooLittleUse
from oracle.columns import columns_of, rows_of
from oracle.fleets import Fleet, fleet_of
from oracle.lines import summed
from oracle.policies import policy_of
from oracle.product import Product, product_of
from oracle.recompute import DIGITS, statement_of
from oracle.scopes import kept_names
from oracle.statement import Statement

FIRST = int(os.environ.get("TOKENYIELD_FUZZ_FIRST", "0"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "8")))
COLUMNS = ("model", "workload", "pool", "cluster", "node", "day", "hour", "tier")


def differences(seed: int, folder: Path) -> Iterator[str]:
    fleet = fleet_of(seed)
    prices, rules = policy_of(fleet)
    statement = statement_of(kept_names(fleet.shipments, fleet.scopes), prices, rules, fleet.period)
    product = product_of(fleet.shipments, prices, rules, folder, roll_after=fleet.roll_after, scopes=fleet.scopes)
    try:
        yield from compared(fleet, statement, product)
    finally:
        product.close()


def compared(fleet: Fleet, statement: Statement, product: Product) -> Iterator[str]:
    rng = random.Random(f"grain {fleet.seed}")
    for by in grains(rng, statement.people.dimensions):
        where = {}
        document = product.json(fleet.period, by)
        if rng.random() < 0.4 and document["rows"]:
            name = rng.choice(by)
            where = {name: rng.choice(document["rows"])[name]}
        for difference in report_differences(statement, document):
            yield f"by {','.join(by)}: {difference}"
        if where:
            for difference in report_differences(statement, product.json(fleet.period, by, where=where)):
                yield f"by {','.join(by)} where {where}: {difference}"
    yield from forms_compared(rng, fleet, statement, product)
    yield from focus_compared(fleet, statement, product)


def forms_compared(rng: random.Random, fleet: Fleet, statement: Statement, product: Product) -> Iterator[str]:
    """One of the other formats, and the rows that lose most with one of all others."""
    first, form = statement.people.dimensions[0], rng.choice(("csv", "parquet", "table", "html"))
    if form in ("csv", "parquet"):
        by = rng.sample(COLUMNS, 2)
        rows = product.csv(fleet.period, by) if form == "csv" else product.parquet(fleet.period, by)
        found = rows_differences(rows_of(statement, by), by, rows, is_csv=form == "csv")
    else:
        cells = product.table(fleet.period, [first]) if form == "table" else product.html(fleet.period, [first])
        found = shown_differences(statement, [first], cells)
    yield from (f"{form}: {difference}" for difference in found)
    top = product.json(fleet.period, [first, "model"], top=2)
    yield from (f"top 2: {difference}" for difference in sum_differences(top))
    whole = columns_of(summed(statement.lines.values()), statement)
    yield from (f"top 2: {difference}" for difference in row_differences("total", whole, top["total"]))


def focus_compared(fleet: Fleet, statement: Statement, product: Product) -> Iterator[str]:
    """A FOCUS file is of days of one month."""
    period = fleet.period_of_month
    if period != fleet.period:
        statement = statement_of(kept_names(fleet.shipments, fleet.scopes), *policy_of(fleet), period)
    for version in ("1.2", "1.4"):
        rows = product.csv(period, ["model"], "focus", focus_version=version)
        for difference in focus_differences(statement, rows):
            yield f"FOCUS {version}: {difference}"


def grains(rng: random.Random, dimensions: tuple[str, ...]) -> list[list[str]]:
    columns = [*dimensions, *COLUMNS]
    return [[dimensions[0]], ["day"], *(rng.sample(columns, rng.randint(1, 4)) for _ in range(2))]


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
def test_a_random_fleet_costs_what_is_recomputed(seed: int, tmp_path: Path) -> None:
    with localcontext(prec=DIGITS):
        try:
            assert list(differences(seed, tmp_path)) == []
        except TooLittleUse as error:
            pytest.skip(str(error.__doc__))


def test_fleets_have_names_that_several_scopes_use() -> None:
    """Else the oracle would agree on nothing."""
    fleets = [fleet_of(seed) for seed in range(40)]
    kept = [
        workload["key"]
        for fleet in fleets
        for shipment in kept_names(fleet.shipments, fleet.scopes)
        for batch in shipment["batches"]
        for workload in batch["workloads"]
    ]
    for end in (" (scope fleet)", " (scope team-*)", " (node n1)", " [node n1]"):
        assert any(name.endswith(end) for name in kept), end
