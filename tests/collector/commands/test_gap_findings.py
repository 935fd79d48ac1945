"""`verify` names what facts show that do not fit each other."""

from pathlib import Path

import pytest

from collector.fleet import Fleet, Gpu, Held, Server
from tokenyield_collector.cli import main
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


def test_verify_fails_where_a_gpu_counts_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = ledger_of(tmp_path / "l.duckdb", nodes=("n1", "n2"))
    assert main(["verify", "--ledger", str(path)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "GPU reported twice: GPU-0, by c/n1, c/n2, 1.0 GPU-hours" in said
