"""A backup while batches come in, and `verify` that reports where the ledger does not balance."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from collector.api.test_batches import now_window_ms, post
from collector.samples import HOUR_MS, NOON_MS, batch, shipment
from harness import Stack
from tokenyield_collector.cli import main
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.verify import verify
from tokenyield_wire.codec import encode_shipment


@pytest.fixture
def ledger_path(tmp_path: Path) -> Path:
    """Two nodes, two hours."""
    path = tmp_path / "ledger.duckdb"
    ledger = DuckDbLedger(path)
    for node in ("n1", "n2"):
        batches = [batch(n + 1, NOON_MS + n * 900_000) for n in range(8)]
        ledger.append([shipment(*batches, node=node, agent_id=node)], NOON_MS)
    ledger.roll()
    ledger.close()
    return path


def findings(path: Path) -> list[str]:
    ledger = DuckDbLedger(path)
    findings = list(verify(ledger))
    ledger.close()
    return findings


def changed(path: Path, sql: str) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(sql)


def test_a_ledger_that_balances(ledger_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert findings(ledger_path) == []
    assert main(["verify", "--ledger", str(ledger_path)]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "2 hours: the ledger balances"
    assert [line.partition(":")[0] for line in others] == ["demand that no server made"]  # said, and no fault


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        ("UPDATE gpu_hours SET active_ms = active_ms + 1 WHERE node = 'n2'", "gpus c/n2/NVIDIA H100 80GB HBM3: the hour has"),
        ("DELETE FROM token_hours WHERE node = 'n1'", "the hour has nothing; its windows"),
        ("INSERT INTO batches SELECT * REPLACE ('again' AS epoch) FROM batches WHERE node = 'n1'", "is there 2 times"),
        ("UPDATE share_hours SET idle_mj = idle_mj * 3", "workloads hold"),
        ("DELETE FROM capacity_hours", "reports read"),
    ],
)  # fmt: skip
def test_a_ledger_that_does_not_balance(
    ledger_path: Path, damage: str, finding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(ledger_path, damage)
    assert any(finding in line for line in findings(ledger_path))
    assert main(["verify", "--ledger", str(ledger_path)]) == 1
    assert "the ledger does not balance" in capsys.readouterr().out


def test_hours_without_windows_are_compared_with_what_is_left(ledger_path: Path) -> None:
    ledger = DuckDbLedger(ledger_path)
    ledger.retire(windows_before_ms=NOON_MS + HOUR_MS, hours_before_ms=0, counter_bases={})
    ledger.close()
    assert findings(ledger_path) == []


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    running = Stack(tmp_path)
    running.start_collector()
    yield running
    running.kill_all()


def test_a_backup_while_the_collector_is_running(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest_ms = now_window_ms()  # asked once: windows of different seqs must not fall together when time passes

    def sent(seq: int) -> int:
        return post(stack.url, encode_shipment(shipment(batch(seq, newest_ms - seq * 15_000)))).status

    assert [sent(seq) for seq in range(1, 6)] == [200] * 5
    settings = ["--set", f"ledger_path={stack.ledger_path}", "--set", f"listen=127.0.0.1:{stack.port}"]
    assert main(["verify", "--ledger", str(stack.ledger_path)]) == 1
    assert "tokenyield-collector backup copy.duckdb" in capsys.readouterr().err
    copy = tmp_path / "copy.duckdb"
    assert main(["backup", str(copy), *settings]) == 0
    assert sent(6) == 200
    assert sorted(path.name for path in tmp_path.glob("*.duckdb*") if "wal" not in path.name) == [
        "copy.duckdb",
        "ledger.duckdb",
    ]
    assert main(["verify", "--ledger", str(copy)]) == 0
    with duckdb.connect(str(copy), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM batches").fetchall() == [(5,)]
    assert main(["backup", str(copy), *settings]) == 2, "nothing is overwritten"
    assert stack.collector.terminate() == 0
    assert main(["backup", str(tmp_path / "closed.duckdb"), *settings]) == 0
    assert main(["verify", "--ledger", str(tmp_path / "closed.duckdb")]) == 0


def test_a_backup_that_cannot_be_made_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backup", str(tmp_path / "copy"), "--set", f"ledger_path={tmp_path / 'nowhere'}"]) == 1
    assert "there is no ledger at" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
