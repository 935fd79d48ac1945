"""The whole exposition against a golden file; regenerate with TOKENYIELD_WRITE_GOLDEN=1, read the difference in review."""

import os
from decimal import Decimal
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from collector.samples import HOUR_MS, NOON_MS, batch, shipment
from tokenyield_collector.books import Stretch, keep_books
from tokenyield_collector.counters import Counters
from tokenyield_collector.ledger.duckdb import DuckDbLedger
from tokenyield_collector.metrics import Exposition, Ingest, View
from tokenyield_collector.prices.book import Facility, Match, Owned, Pool, PriceBook
from tokenyield_collector.summary import encode, summarize

GOLDEN = Path(__file__).parents[1] / "golden"
PRICES = PriceBook(
    facilities={"main": (Facility(pue=Decimal("1.3"), per_kwh=Decimal("0.08")),)},
    pools=(
        Pool(
            name="h100",
            match=Match(gpu="*H100*"),
            terms=(Owned(gpu=Decimal(35_040), life_years=Decimal(4), count=3),),
        ),
    ),
    fingerprint="golden",
)


def exposition(workloads_max: int = 10) -> tuple[str, bytes]:
    ledger = DuckDbLedger(":memory:")
    sent = [batch(n + 1, NOON_MS + n * 15_000) for n in range(4)]
    ledger.append([shipment(*sent)], NOON_MS)
    counters = Counters(PRICES, bases={}, floors={})
    as_of_ms = NOON_MS + 60_000
    counters.update(ledger.fold(), ledger.facts_of_hours(), NOON_MS, as_of_ms)
    facts = ledger.facts_between(NOON_MS, NOON_MS + HOUR_MS)
    books = keep_books([Stretch(facts, NOON_MS, 60_000)], PRICES)
    view = View(counters=counters.values(), workloads=counters.workloads(), live=books, as_of_ms=as_of_ms)
    registry = CollectorRegistry()
    registry.register(Exposition(lambda: view, Ingest(batches=4, commits=1), workloads_max))
    return generate_latest(registry).decode(), encode(summarize(facts, books, PRICES))


def compare(name: str, found: str) -> None:
    if os.environ.get("TOKENYIELD_WRITE_GOLDEN"):
        (GOLDEN / name).write_text(found)
    assert (GOLDEN / name).read_text() == found


def test_the_exposition_is_the_golden_one() -> None:
    compare("collector.prom", exposition()[0])


def test_the_summary_is_the_golden_one() -> None:
    import json

    compare("summary.json", json.dumps(json.loads(exposition()[1]), indent=2) + "\n")


def test_workloads_beyond_the_bound_share_a_label() -> None:
    found = exposition(workloads_max=0)[0]
    assert 'workload="chat"' not in found
    assert (
        'tokenyield_tokens_total{cluster="c",kind="completion",method="rate",model="llama",workload="(other)"} 400.0'
        in found
    )
