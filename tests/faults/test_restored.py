"""A collector that is restored from a backup gets again what it lost, by itself: real shipper, real HTTP, real ledger file."""

import shutil
from pathlib import Path

from collector.api.test_batches import now_window_ms
from collector.samples import batch
from harness import Stack, wait_until
from tokenyield_agent.config import Settings
from tokenyield_agent.shipping.shipper import Shipper
from tokenyield_agent.shipping.spool import Spool


def test_what_a_restored_collector_lacks_is_sent_again(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    spool = Spool(tmp_path / "spool", bytes_max=1 << 20, keep_bytes=1 << 19)
    shipper = Shipper(Settings(collector_url=stack.url, node="n1", state_dir=str(tmp_path)), spool, "a1")
    now_ms = now_window_ms()

    def closed(count: int) -> None:
        for _ in range(count):
            spool.append([batch(spool.next_seq, now_ms - spool.next_seq * 15_000)], {})
        wait_until(lambda: spool.depth()[0] == 0, what="everything is shipped")

    try:
        stack.start_collector()
        shipper.start()
        closed(5)
        assert stack.collector.terminate() == 0
        shutil.copyfile(stack.ledger_path, tmp_path / "backup")
        stack.start_collector()
        closed(10)
        stack.collector.kill()
        for file in tmp_path.glob("ledger.duckdb*"):
            file.unlink()
        shutil.copyfile(tmp_path / "backup", stack.ledger_path)
        stack.start_collector()
        closed(1)
        wait_until(lambda: spool.counts["sent_again"] == 10 and spool.depth()[0] == 0, what="what was lost is back")
        shipper.stop(5)
        assert stack.collector.terminate() == 0
        assert stack.query("SELECT count(*), count(DISTINCT seq), min(seq), max(seq) FROM batches") == [(16, 16, 1, 16)]
        assert spool.counts["corrupt"] == 0
    finally:
        shipper.stop(0)
        stack.kill_all()
