"""Hosts priced by what they were measured to draw, and by the price book where they do not measure."""

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from collector.fleet import policy
from collector.samples import HOUR_MS, NOON_MS, batch, shipment
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.usage import GpuGroup, HostDay
from tokenyield_collector.live.live_view import read_live_view
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.load import load_prices
from tokenyield_collector.prices.money import decimal
from tokenyield_collector.statements.host_power import MeasuredHosts, measured_by_day, own_uj
from tokenyield_collector.statements.lines import Sums
from tokenyield_collector.statements.source import Grain, Span
from tokenyield_collector.statements.statement import fleet_statement
from tokenyield_wire.window import Batch

PRICE_BOOK_WATTS = 100
PRICES = f"""
currency: USD
facilities: {{main: {{pue: 2, per_kwh: 0.5, host_watts_per_gpu: {PRICE_BOOK_WATTS}}}}}
pools: [{{name: h100, owned: {{gpu: 87600, life_years: 10}}}}]
"""
"""A GPU-hour: 1 for the GPU, and 0.001 for each watt of host."""
WINDOWS = 240
"""An hour."""


@pytest.fixture
def prices(tmp_path: Path) -> PriceBook:
    file = tmp_path / "prices.yaml"
    file.write_text(PRICES)
    return load_prices(file)


def ledger_of(tmp_path: Path, **host_mj: dict[str, int]) -> DuckDbLedger:
    """An hour of each node, of two GPUs; what its host used in each window."""
    ledger = DuckDbLedger(tmp_path / "ledger.duckdb")
    for node, used in host_mj.items():
        windows = [_window(node, i, used) for i in range(WINDOWS)]
        for at in range(0, WINDOWS, 60):
            ledger.append([shipment(*windows[at : at + 60], node=node, agent_id=node)], NOON_MS)
    ledger.roll()
    return ledger


def _window(node: str, number: int, host_mj: dict[str, int]) -> Batch:
    """With GPUs of the node's own."""
    made = batch(number + 1, NOON_MS + number * 15_000)
    gpus = tuple(msgspec.structs.replace(gpu, uuid=f"{node}-{gpu.uuid}") for gpu in made.gpus)
    shares = tuple(msgspec.structs.replace(share, gpu_uuid=f"{node}-{share.gpu_uuid}") for share in made.shares)
    return msgspec.structs.replace(made, gpus=gpus, shares=shares, host_energy_mj=host_mj)


def capacity_by_hand(watts: float, gpus: int = 2) -> Decimal:
    return gpus * (1 + Decimal(str(watts)) / 1000)


ENERGY_OF_GPUS = Decimal(WINDOWS) * 2 * 6_000_000 / 1000 / 3_600_000 * 2 * Decimal("0.5")
"""Of one node: 6 kJ a GPU and window, at twice half a dollar a kWh."""


def statement(ledger: DuckDbLedger, prices: PriceBook, **grain: bool) -> Sums:
    span = Span(NOON_MS, NOON_MS + HOUR_MS)
    made = fleet_statement(ledger.usage(), policy(prices), span, Grain(**grain))
    whole = Sums()
    for _, sums in made.lines():
        whole.take(sums)
    return whole


@pytest.mark.parametrize(
    ("used", "watts"),
    [
        ({}, PRICE_BOOK_WATTS),
        ({"rapl": 15 * 2 * 350 * 1000}, 350),
        ({"dcmi": 15 * 2 * 350 * 1000 + 12_000_000}, 350),  # less what its two GPUs drew
        ({"power_meter": 1_000}, 0),  # less than its GPUs alone: nothing is left, never less than 0
    ],
)
def test_a_measured_host_takes_the_place_of_the_price_books_watts(
    tmp_path: Path, prices: PriceBook, used: dict[str, int], watts: int
) -> None:
    ledger = ledger_of(tmp_path, n1=used)
    by_hand = capacity_by_hand(watts) + ENERGY_OF_GPUS
    whole = statement(ledger, prices)
    assert decimal(whole.total) == by_hand
    assert whole.get("host_uj") == 2 * 3_600_000 * watts * 1000
    live = read_live_view(ledger, policy(prices), NOON_MS, NOON_MS + HOUR_MS)
    assert decimal(live.whole.total) == by_hand, "live as in reports"
    ledger.close()


def test_nodes_without_a_meter_use_the_price_book_and_every_cut_sums_to_the_same(
    tmp_path: Path, prices: PriceBook
) -> None:
    ledger = ledger_of(tmp_path, n1={"rapl": 15 * 2 * 317 * 1000 + 7}, n2={})
    # Both nodes are one pool: its hosts draw the mean, to the mW.
    measured = MeasuredHosts((15 * 2 * 317 * 1000 + 7) * 1000 * WINDOWS, 2 * HOUR_MS)
    mw = measured.mw(4 * HOUR_MS, PRICE_BOOK_WATTS * 1000)
    assert mw == round((317_000 + 100_000) / 2)
    totals = {
        statement(ledger, prices, **grain).total
        for grain in (
            {},
            {"node": True},
            {"hour": True},
            {"cluster": True, "workload": True},
            {"node": True, "hour": True},
        )
    }
    assert [decimal(total) for total in totals] == [capacity_by_hand(mw / 1000, 4) + 2 * ENERGY_OF_GPUS]
    live = read_live_view(ledger, policy(prices), NOON_MS, NOON_MS + HOUR_MS)
    assert {decimal(live.whole.total)} == {decimal(total) for total in totals}
    ledger.close()


def test_gpus_that_do_not_report_are_priced_by_the_price_book(tmp_path: Path, prices: PriceBook) -> None:
    file = tmp_path / "counted.yaml"
    file.write_text(PRICES.replace("owned: {", "owned: {count: 3, "))
    counted = load_prices(file)
    ledger = ledger_of(tmp_path, n1={"rapl": 15 * 2 * 350 * 1000})
    by_hand = capacity_by_hand(350) + capacity_by_hand(PRICE_BOOK_WATTS, 1) + ENERGY_OF_GPUS
    assert decimal(statement(ledger, counted).total) == by_hand
    live = read_live_view(ledger, policy(counted), NOON_MS, NOON_MS + HOUR_MS)
    assert decimal(live.whole.total) == by_hand
    ledger.close()


def test_a_node_of_several_pools_is_priced_by_the_price_book() -> None:
    groups = [GpuGroup("c", "n", "A"), GpuGroup("c", "n", "B"), GpuGroup("c", "m", "A"), GpuGroup("c", "o", "X")]
    days = [HostDay(0, "c", node, "rapl", 7, 100, 0) for node in ("n", "m", "o", "gone")]
    pool_of = {"A": "a", "B": "b", "X": ""}
    assert measured_by_day(days, groups, lambda group: pool_of[group.gpu_model]) == {
        ("a", 0): MeasuredHosts(7_000, 100)
    }


def test_what_is_measured_is_never_below_0() -> None:
    assert own_uj("dcmi", 5, 9) == 0
    assert own_uj("rapl", 5, 9) == 5_000
    assert MeasuredHosts().mw(0, 70) == 70
    assert MeasuredHosts(1_000, 10).mw(5, 70) == 100, "more was covered than reported: windows cut at an hour's end"
