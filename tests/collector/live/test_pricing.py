"""The live view prices hour by hour, and so agrees with the report of the same hours."""

from pathlib import Path

import pytest

from collector.fleet import HOUR_MS, Fleet, Gpu, Held, Server, ms, prices
from tokenyield_collector.live.pricing import Stretch, hours_between, keep_books
from tokenyield_collector.prices.money import decimal

BOOK = """
facilities: {a: {per_kwh: 0.10, bands: [{name: peak, hours: "08:00-09:00", per_kwh: 0.50}]}}
pools:
  - name: p
    owned: [{gpu: 8760, life_years: 1, count: 2}, {from: 2026-10-06, gpu: 17520}]
"""


def test_hours_are_cut_at_whole_hours() -> None:
    noon = ms("2026-10-05T12:00")
    assert hours_between(noon - 5, noon + HOUR_MS + 7) == [
        (noon - 5, noon), (noon, noon + HOUR_MS), (noon + HOUR_MS, noon + HOUR_MS + 7),
    ]  # fmt: skip
    assert hours_between(noon, noon + 10) == [(noon, noon + 10)]
    assert hours_between(noon, noon) == []


def test_a_stretch_over_a_change_of_prices_costs_what_the_report_says(tmp_path: Path) -> None:
    """Two hours at a time: 07 to 09 (energy 0.10 and 0.50 a kWh), and 23 to 01 (the GPU's price doubles at midnight)."""
    fleet = Fleet()
    for hour in (7, 8, 23, 24):
        held = [Held(workload="w", active_min=30, idle_min=15, active_j=3_600_000)]
        fleet.hour(ms("2026-10-05") + hour * HOUR_MS, [Gpu(held=held)], [Server(key="w", completion=1000)])
    book = prices(tmp_path, BOOK)
    fleet.ledger.fold()

    def live(start: str, hours: int) -> tuple[float, float]:
        start_ms = ms(start)
        stretches = [
            Stretch(fleet.ledger.facts_between(a, b), a, b - a)
            for a, b in hours_between(start_ms, start_ms + hours * HOUR_MS)
        ]
        books = keep_books(stretches, book)
        (row,) = books.workloads
        assert row.quanta["loaded"] == books.fleet.total_quanta()
        return float(decimal(books.fleet.total_quanta())), float(decimal(row.quanta["allocated"] or 0))

    # 2 GPUs paid at 1 an hour, and 0.10 + 0.50 of energy; of it 0.75 h a GPU is held.
    assert live("2026-10-05T07:00", 2) == (4.6, 2.1)
    # 2 at 1, 2 at 2, and twice 0.10.
    assert live("2026-10-05T23:00", 2) == (6.2, 0.75 + 1.5 + 0.2)
    report = fleet.maker(book).report("2026-10-05..2026-10-06", ["hour"])
    by_hour = {row.by["hour"]: float(row.cost) for row in report.rows}
    assert by_hour["2026-10-05T07:00:00Z"] + by_hour["2026-10-05T08:00:00Z"] == pytest.approx(4.6)
    assert by_hour["2026-10-05T23:00:00Z"] + by_hour["2026-10-06T00:00:00Z"] == pytest.approx(6.2)
