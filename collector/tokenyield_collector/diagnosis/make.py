"""A stretch of the ledger into diagnoses.

In: a ledger and a price book. Out: the document that `/v1/diagnosis` answers and `tokenyield-collector diagnose` shows.
"""

from decimal import Decimal

from tokenyield_collector.diagnosis.findings import Cost, Diagnosis, diagnose
from tokenyield_collector.diagnosis.sums import courses
from tokenyield_collector.http.schemas import DiagnosesDocument, DiagnosisDocument
from tokenyield_collector.ledger.base import Facts, Ledger
from tokenyield_collector.live.pricing import Books, rates_and_pools
from tokenyield_collector.live.refresher import read_stretch
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.money import energy_quanta
from tokenyield_collector.prices.period import iso
from tokenyield_wire.units import MS_PER_HOUR

STEP_MS = 60_000
WINDOW_S_MAX = 7 * 86_400
LOSS_PERCENT = 2.0
"""Of the tokens, that a power cap may cost."""


def diagnoses(
    ledger: Ledger, prices: PriceBook, start_ms: int, end_ms: int, *, loss_percent: float = LOSS_PERCENT
) -> DiagnosesDocument:
    """Of [start, end), as far as its windows are kept. Raises `LedgerError`."""
    kept_ms = ledger.windows_from_ms()
    start_ms = min(max(start_ms, end_ms if kept_ms is None else kept_ms), end_ms)
    found: list[Diagnosis] = []
    if start_ms < end_ms:
        facts, books = read_stretch(ledger, prices, start_ms, end_ms)
        found = diagnose(
            courses(ledger.work_between(start_ms, end_ms, STEP_MS), ledger.made_between(start_ms, end_ms, STEP_MS)),
            _costs(facts, books, prices, end_ms),
            ledger.last_tokens(),
            step_ms=STEP_MS,
            loss=loss_percent / 100,
        )
    stakes = [finding.at_stake for one in found for finding in one.findings[:1] if finding.at_stake is not None]
    return {
        "start": iso(start_ms),
        "end": iso(end_ms),
        "currency": prices.currency,
        "loss_percent": loss_percent,
        "at_stake_per_hour": sum(stakes, Decimal(0)) if stakes else None,
        "workloads": [_document(one) for one in found],
    }


def _costs(facts: Facts, books: Books, prices: PriceBook, end_ms: int) -> dict[tuple[str, str], Cost]:
    rates, pools = rates_and_pools(facts, prices, end_ms)
    per_mj = {}
    for share in facts.shares:
        rate = rates.get(pools[share.cluster, share.node, share.gpu_model] or "")
        if rate is not None:
            per_mj[share.cluster, share.workload] = energy_quanta(rate.pico_per_kwh, 1)
    return {
        (row.cluster, row.workload): Cost(
            direct=direct * MS_PER_HOUR // books.elapsed_ms,
            allocated=allocated * MS_PER_HOUR // books.elapsed_ms,
            per_mj=per_mj.get((row.cluster, row.workload), 0),
        )
        for row in books.workloads
        if (direct := row.quanta["direct"]) is not None and (allocated := row.quanta["allocated"]) is not None
    }


def _document(one: Diagnosis) -> DiagnosisDocument:
    return {
        "cluster": one.cluster,
        "workload": one.workload,
        "server": one.server,
        "model": one.model or None,
        "gpu_model": one.gpu_model,
        "gpus": one.gpus,
        "cost_per_hour": one.cost_per_hour,
        "findings": [
            {
                "kind": finding.kind,
                "text": finding.text,
                "evidence": {name: round(value, 4) for name, value in finding.evidence.items()},
                "at_stake_per_hour": finding.at_stake,
            }
            for finding in one.findings
        ],
        "untold": list(one.untold),
    }
