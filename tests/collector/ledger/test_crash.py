"""`kill -9` at any moment: what had its receipt is in the ledger, once; what had none may be sent again."""

import random
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from collector.samples import batch, shipment
from harness import Stack, wait_until
from tokenyield_wire.codec import encode_shipment

AGENTS = 6
KILLS = 3


class PersistentAgent:
    """An agent that sends its batches in order, each until it has a receipt."""

    def __init__(self, stack: Stack, name: str, stop: threading.Event) -> None:
        self.name = name
        self.receipts = 0
        self._url = f"{stack.url}/v1/batches"
        self._stop = stop
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        start_ms = time.time_ns() // 1_000_000
        start_ms -= start_ms % 15_000 + 15_000
        while not self._stop.is_set():
            seq = self.receipts + 1
            body = encode_shipment(
                shipment(batch(seq, start_ms - seq % 100 * 15_000), agent_id=self.name, node=self.name)
            )
            try:
                with urllib.request.urlopen(urllib.request.Request(self._url, body), timeout=10) as answer:
                    assert answer.status == 200
                    self.receipts = seq
            except (OSError, urllib.error.URLError):
                time.sleep(0.02)


def test_receipts_survive_kills(tmp_path: Path) -> None:
    stack = Stack(tmp_path, collector={"commit_interval_ms": 10, "refresh_interval_s": 0.1})
    stop = threading.Event()
    chosen = random.Random(5)
    try:
        stack.start_collector()
        senders = [PersistentAgent(stack, f"agent-{i}", stop) for i in range(AGENTS)]
        for _ in range(KILLS):
            time.sleep(chosen.uniform(0.3, 1.2))
            stack.collector.kill()
            stack.start_collector()
        wait_until(lambda: all(sender.receipts > 10 for sender in senders), what="each agent has receipts")
        stop.set()
        for sender in senders:
            sender.thread.join()
        assert stack.collector.terminate() == 0
    finally:
        stop.set()
        stack.kill_all()
    kept = dict(stack.query("SELECT agent_id, count(*) FROM batches GROUP BY 1"))
    distinct = dict(stack.query("SELECT agent_id, count(DISTINCT seq) FROM batches GROUP BY 1"))
    assert kept == distinct
    for sender in senders:
        # The last request may have been committed by a collector that was killed before it could answer.
        assert kept[sender.name] in (sender.receipts, sender.receipts + 1)
    ((windows, hours),) = stack.query(
        "SELECT (SELECT sum(active_ms) FROM gpu_windows), (SELECT sum(active_ms) FROM gpu_hours)"
    )
    assert windows == hours == sum(kept.values()) * 2 * 9_000
