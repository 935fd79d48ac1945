"""`verify` names what facts show that do not fit each other."""

import time
from pathlib import Path

import pytest

from collector.fleet import HOUR_MS, Fleet, Gpu, Held, Server, close_months, prices
from tokenyield_collector.cli import main
from tokenyield_collector.prices.period import iso, month_of, months_before, parse_period
from tokenyield_wire.units import NS_PER_MS
from tokenyield_wire.window import Demand

HOUR = "2026-10-20T10:00"


def ledger_of(path: Path, *, nodes: tuple[str, ...] = ("n1",)) -> Path:
    fleet = Fleet(path)
    demand = [Demand(gateway="g", model="gpt-5", caller={"team": "a"}, completion=500_000, requests=7)]
    for node in nodes:
        held = Held(workload="w", active_min=60, active_j=1000)
        fleet.hour(HOUR, [Gpu(held=[held])], [Server(key="w", completion=1000)], demand, node=node)
    fleet.ledger.fold()
    fleet.ledger.close()
    return path


def test_verify_names_demand_that_no_server_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = ledger_of(tmp_path / "l.duckdb")
    assert main(["verify", "--ledger", str(path)]) == 0, "the ledger balances all the same"
    said = " ".join(capsys.readouterr().out.split())
    assert "demand that no server made: c: model gpt-5, by gateway g, 0.50 Mtok, 7 requests (2026-10-20)" in said
    assert "gateway_models" in said


def test_verify_fails_where_two_nodes_report_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = ledger_of(tmp_path / "l.duckdb", nodes=("n1", "n2"))
    assert main(["verify", "--ledger", str(path)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "GPU of another node: GPU-0 of c/n1, also by c/n2, 1.0 GPU-hours" in said
    assert "the ledger balances" in said


def test_check_names_the_gaps_of_the_present_month(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start_ms = parse_period(month_of(time.time_ns() // NS_PER_MS)).start_ms
    fleet = Fleet(tmp_path / "l.duckdb")
    demand = [Demand(gateway="g", model="gpt-5", caller={}, completion=500_000, requests=7)]
    fleet.hour(start_ms, [Gpu()], [], demand)
    fleet.ledger.fold()
    fleet.ledger.close()
    book = tmp_path / "prices.yaml"
    book.write_text("pools: [{name: l4, match: {gpu: '*L4*'}, rented: {per_gpu_hour: 1}}]")
    config = tmp_path / "collector.yaml"
    config.write_text(f"ledger_path: {tmp_path}/l.duckdb\nprices_file: {book}\n")
    assert main(["check", "--config", str(config)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    if time.time_ns() // NS_PER_MS < start_ms + 2 * HOUR_MS:
        return  # the first hour of the month has not closed
    assert "GPUs in no pool: NVIDIA H100 80GB HBM3 (e.g. c/n1), 1.0 GPU-hours" in said
    assert "demand that no server made: c: model gpt-5, by gateway g" in said


def test_check_names_what_was_found_of_closed_months(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A month that changed after it was closed; and one of which something changed that has no name."""
    now_ms = time.time_ns() // NS_PER_MS
    now, month = iso(now_ms), months_before(now_ms, 1)[0]
    path, config = tmp_path / "l.duckdb", tmp_path / "collector.yaml"
    fleet = Fleet(path)
    fleet.hour(f"{month}-20T10:00", [Gpu()])
    maker = close_months(fleet.maker(prices(tmp_path, "pools: [{name: p, rented: {per_gpu_hour: 1}}]"), now=now))
    fleet.hour(f"{month}-20T11:00", [Gpu()])
    close_months(maker)
    check = fleet.ledger.versions.checks()[month]
    fleet.ledger.versions.note_check(check._replace(finding="it differs, and nothing changed"))
    fleet.ledger.close()
    config.write_text(f"ledger_path: {path}\nprices_file: {tmp_path}/prices.yaml\n")
    assert main(["check", "--config", str(config)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"closed month {month}: it differs, and nothing changed" in said
    changed = (
        f"closed month {month}: version 2, changed against version 1: facts: late windows of {month}-20: nodes c/n1"
    )
    assert changed in said
