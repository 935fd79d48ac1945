"""The way of waits, from two recorded pages of a vLLM server to what the collector answers and reports."""

import json
from pathlib import Path
from typing import Any

import pytest

from collector.fleet import policy, prices, rules
from recordings import RUNS
from tokenyield_agent.tokens.dialects import vllm
from tokenyield_agent.tokens.endpoint import read
from tokenyield_agent.tokens.latency import read_latency
from tokenyield_agent.tokens.scrape import ScrapeResult
from tokenyield_agent.tokens.workload_tokens import WorkloadTokens
from tokenyield_agent.windows.builder import WindowBuilder
from tokenyield_agent.workloads.workload_name import WorkloadName
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.verify import verify
from tokenyield_collector.live.live_view import read_live_view
from tokenyield_collector.live.summary import encode, summarize
from tokenyield_collector.live.view import View
from tokenyield_collector.metrics.exposition import Exposition
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.statements.names import own_name
from tokenyield_wire.codec import decode_shipment, encode_shipment
from tokenyield_wire.window import Batch, Shipment

NOON_MS = 1_795_435_200_000
HOUR_MS = 3_600_000
END_TO_END = {"observations": 726, "mean_ms": 228_461 / 726, "p50_ms": 300, "p95_ms": 800, "p99_ms": 1_000}
FIRST_TOKEN = {"observations": 726, "mean_ms": 7_242 / 726, "p50_ms": 10, "p95_ms": 40, "p99_ms": 40}


def scraped(when: str) -> ScrapeResult:
    page = (RUNS["vllm"] / f"metrics.{when}.prom").read_bytes()
    names = vllm.COUNTERS
    return ScrapeResult(
        target="chat",
        scraped_mono_s=0.0,
        names=names,
        reading=read(page, names),
        latency=read_latency(page, names.latency),
    )


def batches(node: str) -> list[Batch]:
    """Of an agent that read the page before the recorded load, and the page after it."""
    windows = WindowBuilder(length_ms=15_000, settle_ms=12_000)
    windows.jump(NOON_MS)
    tokens = WorkloadTokens("chat", None, has_endpoint=True, mark=None)
    for when, at_ms in (("before", NOON_MS + 5_000), ("after", NOON_MS + 50_000)):
        windows.extend(at_ms, [])
        for event in tokens.from_endpoint(scraped(when), at_ms):
            windows.add(event)
    windows.extend(NOON_MS + 60_000, [])
    for event in tokens.poll(NOON_MS + 60_000, 60.0):
        windows.add(event)
    names = {"chat": WorkloadName(server="vllm", place=node, model="tiny-llama", labels={"team": node})}
    return windows.batches(windows.ready(flush=True), names, 1)


@pytest.fixture
def ledger(tmp_path: Path) -> DuckDbLedger:
    """With two nodes, each of which had the recorded load."""
    ledger = DuckDbLedger(tmp_path / "ledger.duckdb")
    for node in ("n1", "n2"):
        sent = Shipment(
            schema=1, agent_id=node, epoch="e", cluster=f"c-{node}", node=node, batches=tuple(batches(node))
        )
        ledger.append([decode_shipment(encode_shipment(sent))], NOON_MS)
    ledger.fold()
    return ledger


def test_the_summary_shows_what_callers_of_each_workload_waited(ledger: DuckDbLedger, tmp_path: Path) -> None:
    judged_by = policy(prices(tmp_path, "{}"))
    live = read_live_view(ledger, judged_by, NOON_MS, NOON_MS + HOUR_MS)
    first, second = json.loads(encode(summarize(live, judged_by)))["workloads"]
    assert first["latency"] == second["latency"]
    assert (first["cluster"], first["tokens"]["completion"]) == ("c-n1", 75_032)
    assert first["latency"]["end_to_end"] == END_TO_END
    assert first["latency"]["first_token"] == FIRST_TOKEN
    assert first["latency"]["inter_token"]["observations"] == 75_032 - 726
    assert first["latency"]["inter_token"]["p99_ms"] == 10


def test_metrics_show_percentiles_of_workloads_that_are_shown_by_name(ledger: DuckDbLedger, tmp_path: Path) -> None:
    live = read_live_view(ledger, policy(prices(tmp_path, "{}")), NOON_MS, NOON_MS + HOUR_MS)

    def samples(*workloads: str) -> dict[tuple[str, ...], float]:
        shown = {(own_name(row.cluster), own_name(row.workload), own_name(row.model)) for row in live.facts.latency}
        names = {"workload": tuple(name for name in shown if name[1] in workloads)}
        return {
            (sample.labels["cluster"], sample.labels["kind"], sample.labels["percentile"]): sample.value
            for family in Exposition(View(live=live, names=names), 80_000).collect()
            if family.name == "tokenyield_latency_seconds"
            for sample in family.samples
        }

    shown = samples("chat")
    assert len(shown) == 2 * 3 * 3
    assert shown["c-n1", "end_to_end", "p95"] == 0.8
    assert samples() == {}


def report(ledger: DuckDbLedger, tmp_path: Path, by: list[str], where: dict[str, str] | None = None) -> Any:
    judged_by = policy(
        prices(tmp_path, "{}"), rules(tmp_path, {"dimensions": ["team"], "rules": [{"set": {"team": "{labels.team}"}}]})
    )
    maker = ReportMaker(ledger=ledger, policy=judged_by, now_ms=NOON_MS + 48 * HOUR_MS)
    return json.loads(maker.encode("2026-11-23", by, "json", where))["latency"]


def test_a_report_adds_the_waits_up_by_its_own_columns(ledger: DuckDbLedger, tmp_path: Path) -> None:
    by_model = report(ledger, tmp_path, ["model", "node"])
    assert by_model["by"] == ["model"]
    rows = {row["kind"]: row for row in by_model["rows"]}
    assert rows["end_to_end"]["observations"] == 2 * 726
    assert {name: rows["end_to_end"][name] for name in ("p50_ms", "p95_ms")} == {"p50_ms": 300, "p95_ms": 800}
    assert sum(rows["inter_token"]["counts"]) == 2 * (75_032 - 726)
    by_team = report(ledger, tmp_path, ["team", "workload"])
    assert [(row["team"], row["workload"], row["kind"]) for row in by_team["rows"]] == [
        (team, "chat", kind) for team in ("n1", "n2") for kind in ("end_to_end", "first_token", "inter_token")
    ]


def test_a_report_of_a_part_has_the_waits_of_that_part_or_says_nothing(ledger: DuckDbLedger, tmp_path: Path) -> None:
    (end_to_end, *_) = report(ledger, tmp_path, ["model"], {"team": "n2"})["rows"]
    assert end_to_end["observations"] == 726
    assert report(ledger, tmp_path, ["model"], {"team": "nobody"})["rows"] == []
    assert report(ledger, tmp_path, ["model"], {"node": "n2"}) is None


def test_waits_enter_no_cost_and_no_version_of_a_closed_period(ledger: DuckDbLedger) -> None:
    ledger.roll()
    before = ledger.usage().checksum(NOON_MS, NOON_MS + HOUR_MS)
    ledger._file.connection.execute("UPDATE latency_hours SET bucket_00 = bucket_00 + 1")
    ledger._file.connection.execute(f"INSERT INTO unrolled_hours VALUES ({NOON_MS})")
    ledger.roll()
    assert ledger.usage().checksum(NOON_MS, NOON_MS + HOUR_MS) == before


def test_hours_agree_with_their_windows_and_go_with_them(ledger: DuckDbLedger) -> None:
    assert list(verify(ledger)) == []
    ledger.retire(windows_before_ms=NOON_MS + HOUR_MS, hours_before_ms=0, counter_bases={})
    assert {row.kind: sum(row.counts) for row in ledger.facts_of_hours().latency}["end_to_end"] == 726
    assert ledger.facts_between(NOON_MS, NOON_MS + HOUR_MS).latency == []
    ledger.retire(windows_before_ms=NOON_MS + HOUR_MS, hours_before_ms=NOON_MS + HOUR_MS, counter_bases={})
    assert ledger.facts_of_hours().latency == []
