"""Diagnoses: every rule where it applies, and not where it does not; money from the price book."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from collector.samples import HOUR_MS, NOON_MS, batch, shipment
from tokenyield_collector.commands.diagnose import diagnosis_table
from tokenyield_collector.diagnosis.diagnose import diagnose
from tokenyield_collector.diagnosis.findings import Diagnosis, HourlyCost, WorkloadFinding
from tokenyield_collector.diagnosis.history import HistorySlot, histories
from tokenyield_collector.diagnosis.make import diagnoses
from tokenyield_collector.diagnosis.power_cap import SLOTS_MIN, advise
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.facts import MadeSlot, WorkSlot
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.load import load_prices
from tokenyield_collector.prices.money import QUANTA_PER_UNIT

STEP_MS = 60_000
COST = HourlyCost(direct=6 * QUANTA_PER_UNIT, allocated=10 * QUANTA_PER_UNIT, per_mj=1000)


def work(workload: str = "chat", slot: int = 0, **facts: Any) -> WorkSlot:
    """A minute of two GPUs that worked throughout."""
    known: dict[str, Any] = {
        "cluster": "c", "workload": workload, "gpu_model": "H100", "slot_ms": slot * STEP_MS, "gpus": 2,
        "active_ms": 2 * STEP_MS, "idle_ms": 0, "parked_ms": 0, "active_mj": 2 * STEP_MS * 500, "idle_mj": 0,
        "activity_known_ms": 2 * STEP_MS, "sm_ms": STEP_MS, "tensor_ms": STEP_MS, "dram_ms": STEP_MS // 2,
        "throttled_ms": 0, "throttled_lost_ms": 0,
    }  # fmt: skip
    return WorkSlot(**(known | facts))


def made(workload: str = "chat", slot: int = 0, **facts: Any) -> MadeSlot:
    known: dict[str, Any] = {
        "cluster": "c", "workload": workload, "server": "vllm", "model": "llama", "slot_ms": slot * STEP_MS,
        "prompt_computed": 1000, "prompt_cached": 500, "completion": 6000, "load_known_ms": STEP_MS,
        "running_request_ms": 8 * STEP_MS, "waiting_request_ms": 0, "cache_used_ms": STEP_MS // 2,
    }  # fmt: skip
    return MadeSlot(**(known | facts))


def diagnosed(
    work_: Sequence[WorkSlot], made_: Sequence[MadeSlot], last: dict[tuple[str, str], int] | None = None
) -> list[Diagnosis]:
    rows = histories(work_, made_)
    costs = {(row.cluster, row.workload): COST for row in rows}
    return diagnose(rows, costs, last or {}, step_ms=STEP_MS, loss=0.02)


def findings(work_: WorkSlot, made_: MadeSlot, last: dict[tuple[str, str], int] | None = None) -> list[WorkloadFinding]:
    (diagnosis,) = diagnosed([work_], [made_], last)
    return list(diagnosis.findings)


def test_a_healthy_workload_has_no_findings() -> None:
    (diagnosis,) = diagnosed([work()], [made()])
    assert (diagnosis.findings, diagnosis.unknown, diagnosis.gpus, diagnosis.cost_per_hour) == ([], [], 2, Decimal(10))


def test_parked_says_since_when_and_what_it_costs() -> None:
    idle = work(active_ms=0, idle_ms=2 * STEP_MS, parked_ms=2 * STEP_MS, sm_ms=0)
    (finding,) = findings(idle, made(completion=0), {("c", "chat"): NOON_MS + 12 * 60_000})
    assert (finding.kind, finding.at_stake) == ("parked", Decimal(10))
    assert finding.text == "holds 2 GPUs, no token since 2026-11-23 12:12 UTC"
    (never,) = findings(idle, made(completion=0))
    assert never.text == "holds 2 GPUs, no token while it was watched"


def test_half_parked_costs_half() -> None:
    half = work(active_ms=STEP_MS // 2, idle_ms=3 * STEP_MS // 2, parked_ms=STEP_MS)
    (finding,) = findings(half, made())
    assert (finding.kind, finding.at_stake) == ("parked", Decimal(5))


@pytest.mark.parametrize(("waiting_ms", "is_starved"), [(0, True), (None, True), (STEP_MS, False)])
def test_starved_costs_what_is_idle(waiting_ms: int | None, is_starved: bool) -> None:
    listed = findings(work(active_ms=STEP_MS // 2, idle_ms=3 * STEP_MS // 2), made(waiting_request_ms=waiting_ms))
    assert ("starved" in {finding.kind for finding in listed}) == is_starved
    if is_starved:
        (starved,) = (finding for finding in listed if finding.kind == "starved")
        assert starved.at_stake == Decimal(4)
        assert starved.evidence["busy"] == pytest.approx(0.25)


def test_saturated_by_its_cache_or_by_its_limit() -> None:
    (full,) = findings(work(), made(waiting_request_ms=3 * STEP_MS, cache_used_ms=round(0.97 * STEP_MS)))
    assert full.kind == "saturated"
    assert "3.0 requests waited" in full.text
    assert "97% full" in full.text
    (limit,) = findings(work(), made(waiting_request_ms=3 * STEP_MS))
    assert "at once" in limit.text
    assert limit.at_stake is None


def test_memory_bound_is_compared_with_its_own_best_pace() -> None:
    facts: dict[str, Any] = {"dram_ms": round(1.5 * STEP_MS), "tensor_ms": STEP_MS // 5}
    rows = [work(slot=slot, **facts) for slot in range(2)]
    (diagnosis,) = diagnosed(rows, [made(slot=0, completion=12_000), made(slot=1, completion=6_000)])
    (finding,) = diagnosis.findings
    assert finding.kind == "memory_bound"
    assert finding.evidence == {"dram": 0.75, "tensor": 0.1, "running": 8.0}
    assert finding.at_stake == Decimal("1.5"), "a quarter of the active cost, for it made three quarters of its best"


def test_activity_is_of_the_busy_part() -> None:
    (history,) = histories([work(active_ms=STEP_MS, idle_ms=STEP_MS, dram_ms=STEP_MS // 2)], [made()])
    assert history.activity("dram") == pytest.approx(0.5)


def test_prefill_heavy() -> None:
    (finding,) = findings(work(), made(prompt_computed=90_000, prompt_cached=10_000))
    assert (finding.kind, finding.evidence["prompt_per_completion"]) == ("prefill_heavy", 15)
    assert "10% of all prompt tokens came from the cache" in finding.text


def test_throttled_costs_at_most_what_the_clock_lacked() -> None:
    (finding,) = findings(work(throttled_ms=STEP_MS, throttled_lost_ms=STEP_MS // 5), made())
    assert (finding.kind, finding.at_stake) == ("throttled", Decimal("0.6"))
    assert "50% of the active time" in finding.text
    assert "at most 10.0%" in finding.text


def test_over_provisioned_is_computed_over_all_instances_of_a_model() -> None:
    names = ("a", "b", "c", "d")
    rows = [work(name, slot) for name in names for slot in range(3)]
    paces = {"a": (9_000, 1_000, 500), "b": (500, 3_000, 900), "c": (400, 200, 300), "d": (100, 100, 100)}
    tokens = [made(name, slot, completion=paces[name][slot]) for name in names for slot in range(3)]
    by_kind = {row.workload: {f.kind: f for f in row.findings} for row in diagnosed(rows, tokens)}
    # At the busiest minute all made 10,000 and one alone has made 9,000: two would do, at 85 % of it.
    assert [name for name in names if "over_provisioned" in by_kind[name]] == ["c", "d"]
    finding = by_kind["d"]["over_provisioned"]
    assert finding.evidence["needed"] == 2
    assert finding.text.startswith("2 of 4 instances of llama would do (4 GPUs)")
    assert finding.at_stake == Decimal(10)


def test_one_instance_is_never_too_many() -> None:
    assert diagnosed([work()], [made(completion=1, prompt_computed=1)])[0].findings == []


def slots(*points: tuple[int, int]) -> list[HistorySlot]:
    """(watts of one GPU, tokens a second)"""
    return [
        HistorySlot(gpus=1, active_ms=STEP_MS, active_mj=watts * STEP_MS, completion=rate * STEP_MS // 1000)
        for watts, rate in points
    ]


def test_a_power_cap_that_costs_nothing_is_found() -> None:
    """The last 200 W bring 1 % of tokens: what most decoding looks like."""
    observed = slots(*[(300 + 10 * i, 900 + 5 * i) for i in range(20)], *[(650, 1004)] * 20, (700, 1005))
    advice = advise(observed, step_ms=STEP_MS, loss=0.02)
    assert advice is not None
    assert advice.cap_watts <= 500
    assert 0 < advice.lost <= 0.02
    # By hand: what the minutes above the cap drew more than it, over all 41.
    over = [slot.active_mj / slot.active_ms - advice.cap_watts for slot in observed]
    assert advice.saved_watts == pytest.approx(sum(max(0, watts) for watts in over) / len(observed))
    assert (advice.slots, round(advice.mean_watts)) == (41, 527)


def test_no_advice_where_tokens_follow_power_or_little_was_seen() -> None:
    proportional = slots(*[(300 + 10 * i, 300 + 10 * i) for i in range(40)])
    assert advise(proportional, step_ms=STEP_MS, loss=0.02) is None
    assert advise(slots(*[(300, 900)] * 60, (700, 901)), step_ms=STEP_MS, loss=0.02) is None, "it would save 2 %"
    assert advise(slots(*[(650, 1000)] * (SLOTS_MIN - 1)), step_ms=STEP_MS, loss=0.02) is None
    idle = [slot for _ in range(40) for slot in slots((300, 900))]
    for slot in idle:
        slot.active_ms //= 2
    assert advise(idle, step_ms=STEP_MS, loss=0.5) is None, "half busy minutes show no pace"


def test_what_is_not_measured_is_said_and_not_guessed() -> None:
    blind = work(activity_known_ms=0, sm_ms=None, tensor_ms=None, dram_ms=None)
    silent = made(load_known_ms=None, running_request_ms=None, waiting_request_ms=None, cache_used_ms=None)
    (diagnosis,) = diagnosed([blind], [silent])
    assert diagnosis.findings == []
    assert ["GPM" in diagnosis.unknown[0], "queue" in diagnosis.unknown[1]] == [True, True]
    (untied,) = diagnosed([blind], [])
    assert "tokens are not read" in untied.unknown[0]


PRICES = """
currency: USD
pools:
  - name: h100
    match: {gpu: "*H100*"}
    rented: {per_gpu_hour: 3.6}
"""


def test_the_document_from_a_ledger(tmp_path: Any) -> None:
    ledger = DuckDbLedger(tmp_path / "ledger.duckdb")
    quiet = [
        msgspec.structs.replace(
            whole,
            gpus=tuple(msgspec.structs.replace(g, parked_ms=4_000, parked_mj=480_000, active_ms=0, idle_ms=13_000,
                                               energy_mj=msgspec.structs.replace(g.energy_mj, active=0))
                       for g in whole.gpus),
            shares=tuple(msgspec.structs.replace(s, active_ms=0, active_mj=0, idle_ms=13_000, parked_ms=13_000)
                         for s in whole.shares),
        )
        for whole in (batch(i, NOON_MS + i * 15_000) for i in range(1, 21))
    ]  # fmt: skip
    ledger.append([shipment(*quiet)], NOON_MS)
    (tmp_path / "prices.yaml").write_text(PRICES)
    policy = Policy(prices=load_prices(tmp_path / "prices.yaml"))
    document = diagnoses(ledger, policy, NOON_MS, NOON_MS + HOUR_MS // 10)
    (workload,) = document["workloads"]
    (finding,) = workload["findings"]
    assert (workload["workload"], workload["gpus"], finding["kind"]) == ("chat", 2, "parked")
    # 2 GPUs x 13 of 15 s over 20 windows of the hour's first six minutes less the 15 s before the first window.
    held_hours = 2 * 13 * 20 / 3600
    assert float(workload["cost_per_hour"] or 0) == pytest.approx(3.6 * held_hours / ((360 - 15) / 3600), rel=1e-6)
    assert document["at_stake_per_hour"] == finding["at_stake_per_hour"]
    assert diagnosis_table(dict(document))
    empty = diagnoses(ledger, policy, NOON_MS - HOUR_MS, NOON_MS - HOUR_MS // 2)
    assert (empty["workloads"], empty["at_stake_per_hour"]) == ([], None)
    ledger.close()
