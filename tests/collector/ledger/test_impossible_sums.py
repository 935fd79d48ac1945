"""A ledger that took in what nobody can do, before the wire bounded it, still opens, refreshes, reports and retires."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from collector.fleet import policy, prices
from collector.ledger.engines import Open
from collector.samples import HOUR_MS, NOON_MS, batch, shipment
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.tables import INTEGER_MAX
from tokenyield_collector.ledger.verify import quarantine, verify
from tokenyield_collector.live.live_view import read_live_view
from tokenyield_collector.live.refresher import Refresher
from tokenyield_collector.live.series import Series
from tokenyield_collector.live.summary import encode, summarize
from tokenyield_collector.metrics.exposition import Exposition
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_wire.window import COUNT_MAX, Batch, Demand, StateMillijoules, TokenCount

LIES = 40_000
BOOK = "{facilities: {a: {per_kwh: 0.10}}, pools: [{name: p, rented: {per_gpu_hour: 4, count: 3}}]}"
SETTINGS = CollectorSettings(ledger_path="", hours_keep_days=1, windows_keep_days=1)


def impossible() -> Batch:
    """Of each amount more than 64 bits hold, in one hour."""
    one = batch(1, NOON_MS)
    lie = TokenCount(method="count", prompt_computed=COUNT_MAX, completion=COUNT_MAX, requests=COUNT_MAX)
    demand = Demand(gateway="g", model="llama", caller={"team": "t"}, completion=COUNT_MAX, requests=COUNT_MAX)
    gpus = tuple(replace(gpu, energy_mj=StateMillijoules(active=COUNT_MAX, idle=240_000)) for gpu in one.gpus)
    shares = tuple(replace(share, active_mj=COUNT_MAX, idle_mj=240_000) for share in one.shares)
    workloads = (replace(one.workloads[0], tokens=(lie,) * LIES),)
    return replace(one, gpus=gpus, shares=shares, workloads=workloads, demand=(demand,) * LIES)


@pytest.fixture
def ledger(open_ledger: Open) -> Iterator[Ledger]:
    """Opened again after a kill."""
    before = open_ledger()
    before.append([shipment(impossible(), batch(2, NOON_MS + HOUR_MS))], NOON_MS)
    if isinstance(before, DuckDbLedger):
        before._file.connection.close()
    else:
        before.close()
    after = open_ledger()
    after.leads()
    yield after
    after.close()


def test_refreshes_and_reports_go_on(ledger: Ledger, tmp_path: Path) -> None:
    book = prices(tmp_path, BOOK)
    refresher = Refresher(SETTINGS, ledger, policy(book))
    now_ms = NOON_MS + 3 * HOUR_MS
    view = refresher.refresh(ledger.fold(), now_ms, {})
    assert view.counters[Series("tokens", ("c", "chat", "llama", "completion", "rate"))] == 100
    counted = view.counters[Series("tokens", ("c", "chat", "llama", "completion", "count"))]
    assert counted > 2**47
    ledger.roll()
    refresher.bring_to_date(now_ms)
    again = refresher.refresh(ledger.fold(), now_ms, {})
    list(Exposition(again, 80_000).collect())
    live = read_live_view(ledger, policy(book), NOON_MS, NOON_MS + 2 * HOUR_MS)
    encode(summarize(live, policy(book)))
    ledger.gpus_between(NOON_MS, NOON_MS + HOUR_MS, NOON_MS - HOUR_MS)
    ledger.work_between(NOON_MS, NOON_MS + HOUR_MS, 60_000)
    ledger.made_between(NOON_MS, NOON_MS + HOUR_MS, 60_000)
    maker = ReportMaker(ledger=ledger, policy=policy(book), now_ms=now_ms, settle_ms=0)
    for form in ("json", "csv", "table", "focus"):
        assert maker.encode("2026-11", ["team", "model"], form)
    findings = list(verify(ledger))
    assert findings, "they show where the lie is"
    assert all("2026-11-23T12:00" in finding for finding in findings), findings
    assert len(list(quarantine(ledger, now_ms))) == 1
    assert list(verify(ledger)) == []
    assert {row.hour_ms for row in ledger.facts_of_hours().tokens} == {NOON_MS + HOUR_MS}
    after = refresher.refresh(ledger.fold(), now_ms, {})
    assert after.counters[Series("tokens", ("c", "chat", "llama", "completion", "count"))] >= counted, (
        "it never goes back"
    )
    assert maker.encode("2026-11", ["team", "model"], "json")


def test_counters_hold_more_than_64_bits(tmp_path: Path) -> None:
    """Of an hour that is not written down yet all that came is summed."""
    ledger = DuckDbLedger(tmp_path / "ledger.duckdb")
    ledger.append([shipment(impossible())], NOON_MS)
    refresher = Refresher(SETTINGS, ledger, policy(prices(tmp_path, BOOK)))
    series = Series("tokens", ("c", "chat", "llama", "completion", "count"))
    assert refresher.refresh(ledger.fold(), NOON_MS + HOUR_MS, {}).counters[series] == LIES * COUNT_MAX
    ledger.append([shipment(batch(2, NOON_MS + 15_000))], NOON_MS)
    again = refresher.refresh(ledger.fold(), NOON_MS + HOUR_MS, {}).counters
    assert again[series] == LIES * COUNT_MAX, "taken out and in again"
    ledger.close()


def test_what_is_retired_fits_its_column(ledger: Ledger) -> None:
    from tokenyield_collector.prices.book import PriceBook

    refresher = Refresher(SETTINGS, ledger, policy(PriceBook()))
    for number in range(2):
        refresher.refresh(ledger.fold(), NOON_MS + HOUR_MS, {})
        refresher.retire(NOON_MS + (26 + number) * HOUR_MS)
    bases = ledger.counter_bases()
    assert max(bases.values()) <= INTEGER_MAX
    again = Refresher(SETTINGS, ledger, policy(PriceBook()))
    assert again.refresh([], NOON_MS + 27 * HOUR_MS, {}).counters
    if not ledger.is_shared:  # there the same cut counts once
        ledger.retire(windows_before_ms=0, hours_before_ms=0, counter_bases={"x": INTEGER_MAX})
        ledger.retire(windows_before_ms=0, hours_before_ms=0, counter_bases={"x": INTEGER_MAX})
        assert ledger.counter_bases()["x"] == INTEGER_MAX
