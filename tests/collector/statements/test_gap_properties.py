"""For random fleets whose prices begin on the second of two days: no ratio is better than that of the priced day."""

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings

from collector.fleet import Fleet, prices
from collector.statements.test_gaps import RATIOS
from collector.statements.test_statement_properties import books, hours

BOTH, PRICED = "2026-10-05..2026-10-06", "2026-10-06"


def from_the_second_day(document: dict[str, Any]) -> dict[str, Any]:
    pools = [
        {
            **pool,
            **{kind: [{"from": PRICED, **pool[kind]}] for kind in ("owned", "rented") if kind in pool},
        }
        for pool in document["pools"]
    ]
    return {**document, "timezone": "UTC", "pools": pools, "reference_rates": {"learn": False}}


@settings(
    max_examples=int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "5")),
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(hours(), books())
def test_ratios_are_those_of_the_priced_part_and_hours_need_no_price(
    listed: list[dict[str, Any]], document: dict[str, Any]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        book = prices(Path(folder), yaml.safe_dump(from_the_second_day(document)))
        nothing = prices(Path(folder), "{pools: [], reference_rates: {learn: false}}")
    fleet = Fleet()
    for one in listed:
        fleet.hour(one["start"], one["gpus"], one["servers"], one["demand"], node=one["node"])
    both, part = (fleet.maker(book).report(period, ["team"]) for period in (BOTH, PRICED))
    for name in RATIOS:
        found, expected = both.total.figures[name], part.total.figures[name]
        if found is None or expected is None:
            assert found is None, f"{name}: nothing is known of the whole that is not known of the part"
        else:
            assert float(found) == pytest.approx(float(expected), rel=1e-6, abs=1e-6), name
    without = fleet.maker(nothing).report(BOTH, ["team"])
    for bucket in ("unallocated", "idle", "productive", "under_yield"):
        assert without.steps[bucket].gpu_hours == pytest.approx(both.steps[bucket].gpu_hours), bucket
