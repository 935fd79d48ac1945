"""Random fleets x policies x grains: the product against a second opinion, and against what a reader adds up.

`TOKENYIELD_FUZZ_EXAMPLES=1000` runs a thousand seeds; a failure names its seed: `python -m pytest ... -k "seed-17"`.
"""

import os
import random
from collections.abc import Iterator
from decimal import localcontext
from pathlib import Path

import pytest

from oracle.agreement import focus_differences, report_differences
from oracle.carrying import TooLittleUse
from oracle.fleets import Fleet, fleet_of
from oracle.policies import policy_of
from oracle.product import Product, product_of
from oracle.recompute import DIGITS, statement_of
from oracle.statement import Statement

SEEDS = int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "12"))
COLUMNS = ("model", "workload", "pool", "cluster", "node", "day", "hour", "tier")


def differences(seed: int, folder: Path) -> Iterator[str]:
    fleet = fleet_of(seed)
    prices, rules = policy_of(fleet)
    statement = statement_of(fleet.shipments, prices, rules, fleet.period)
    product = product_of(fleet.shipments, prices, rules, folder, roll_after=fleet.roll_after)
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
    yield from focus_compared(fleet, statement, product)


def focus_compared(fleet: Fleet, statement: Statement, product: Product) -> Iterator[str]:
    """A FOCUS file is of days of one month."""
    period = fleet.period_of_month
    if period != fleet.period:
        statement = statement_of(fleet.shipments, *policy_of(fleet), period)
    for version in ("1.2", "1.4"):
        rows = product.csv(period, ["model"], "focus", focus_version=version)
        for difference in focus_differences(statement, rows):
            yield f"FOCUS {version}: {difference}"


def grains(rng: random.Random, dimensions: tuple[str, ...]) -> list[list[str]]:
    columns = [*dimensions, *COLUMNS]
    return [[dimensions[0]], ["day"], *(rng.sample(columns, rng.randint(1, 4)) for _ in range(2))]


@pytest.mark.parametrize("seed", range(SEEDS), ids=lambda seed: f"seed-{seed}")
def test_a_random_fleet_costs_what_is_recomputed(seed: int, tmp_path: Path) -> None:
    with localcontext(prec=DIGITS):
        try:
            assert list(differences(seed, tmp_path)) == []
        except TooLittleUse as error:
            pytest.skip(str(error.__doc__))
