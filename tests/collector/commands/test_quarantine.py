"""A ledger with impossible numbers, written by another program, is repaired by one command; then the collector works again."""

from pathlib import Path

import duckdb
import pytest

from collector.api.test_batches import now_window_ms, post
from collector.samples import batch, shipment
from harness import Stack
from tokenyield_collector.cli import main
from tokenyield_wire.codec import encode_shipment
from tokenyield_wire.window import Shipment


def of_node(node: str, seq: int, start_ms: int) -> Shipment:
    return shipment(batch(seq, start_ms, gpus=1), node=node, agent_id=node)


def test_the_collector_works_again_and_others_books_are_exact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stack, start_ms = Stack(tmp_path), now_window_ms() - 120_000
    path = str(stack.ledger_path)
    try:
        stack.start_collector()
        for seq in range(4):
            for node in ("good", "bad"):
                assert post(stack.url, encode_shipment(of_node(node, seq + 1, start_ms + seq * 15_000))).status == 200
        assert main(["verify", "--quarantine", "--ledger", path]) == 1
        assert "stop it, and run it again" in capsys.readouterr().err
        assert stack.collector.terminate() == 0
        with duckdb.connect(path) as connection:
            of_good = connection.execute("FROM gpu_hours WHERE node = 'good' ORDER BY ALL").fetchall()
            connection.execute(
                f"UPDATE gpu_windows SET active_ms = -{2**62}, idle_mj = {2**62} "
                f"WHERE node = 'bad' AND start_ms < {start_ms + 30_000}"
            )
            connection.execute("INSERT INTO dirty_hours SELECT DISTINCT hour_ms FROM gpu_hours")
        assert main(["verify", "--ledger", path]) == 1
        assert f"gpu.active_ms: -{2**62}, which is below 0" in capsys.readouterr().out.replace("\n", " ")
        assert main(["verify", "--quarantine", "--ledger", path]) == 0
        out = capsys.readouterr().out
        assert "2 windows and hours moved aside" in out
        assert "2 windows or hours of nodes are in quarantine" in out
        assert main(["verify", "--quarantine", "--ledger", path]) == 0
        assert "nothing was moved" in capsys.readouterr().out
        stack.start_collector()
        assert post(stack.url, encode_shipment(of_node("bad", 1, start_ms))).status == 200, "it comes again"
        assert stack.collector.terminate() == 0
        with duckdb.connect(path) as connection:
            assert connection.execute("FROM gpu_hours WHERE node = 'good' ORDER BY ALL").fetchall() == of_good
            ((of_bad,),) = connection.execute("SELECT sum(active_ms) FROM gpu_hours WHERE node = 'bad'").fetchall()
            assert of_bad == 2 * 9_000
        assert main(["verify", "--ledger", path]) == 0
    finally:
        stack.kill_all()
