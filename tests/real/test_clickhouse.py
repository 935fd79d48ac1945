"""Several collectors on one ClickHouse: what any of them took in is there once, whoever is killed, and all report the same."""

import json
import random
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from collector.samples import HOUR_MS, batch, shipment
from harness import Stack, get, wait_until
from real.clickhouse_server import PASSWORD, Server
from tokenyield_collector.ledger.clickhouse.client import NativeClient
from tokenyield_collector.ledger.clickhouse.ledger import ClickHouseLedger, connect
from tokenyield_collector.ledger.tables import columns_of_batch
from tokenyield_wire.codec import encode_shipment

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
AGENTS, KILLS = 5, 4


def collectors(folder: Path, servers: list[Server], database: str, count: int = 2) -> list[Stack]:
    (folder / "password").write_text(f"{PASSWORD}\n")
    made = []
    for i in range(count):
        (folder / f"collector-{i}").mkdir()
        settings = {
            "ledger_url": f"clickhouse://default@127.0.0.1:{servers[i % len(servers)].port}/{database}",
            "ledger_password_file": str(folder / "password"),
            "ledger_cluster": "fleet",
            "commit_interval_ms": 20,
        }
        made.append(Stack(folder / f"collector-{i}", collector=settings))
    return made


class BalancedAgent(threading.Thread):
    """An agent behind a balancer: each batch goes to any collector until one gives a receipt, sometimes to both."""

    def __init__(self, urls: list[str], name: str, start_ms: int, stop: threading.Event) -> None:
        super().__init__()
        self.name, self.receipts = name, 0
        self._urls, self._start_ms, self._should_stop = urls, start_ms, stop
        self._chosen = random.Random(name)
        self.start()

    def body(self, seq: int) -> bytes:
        return encode_shipment(shipment(batch(seq, self._start_ms - seq * 15_000), agent_id=self.name, node=self.name))

    def run(self) -> None:
        while not self._should_stop.is_set():
            body = self.body(self.receipts + 1)
            sent = [self._sent(url, body) for url in self._chosen.sample(self._urls, self._chosen.choice([1, 1, 2]))]
            if any(sent):
                self.receipts += 1
            else:
                time.sleep(0.05)

    def _sent(self, url: str, body: bytes) -> bool:
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/batches", body), timeout=20) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False


def test_nothing_is_lost_or_doubled_whoever_dies(clickhouse_servers: list[Server], tmp_path: Path) -> None:
    stacks = collectors(tmp_path, clickhouse_servers, "killed")
    alone = Stack(tmp_path, collector={"commit_interval_ms": 20})
    start_ms = time.time_ns() // 1_000_000 // HOUR_MS * HOUR_MS - HOUR_MS
    stop, chosen = threading.Event(), random.Random(3)
    try:
        for stack in stacks:
            stack.start_collector()
        senders = [BalancedAgent([stack.url for stack in stacks], f"agent-{i}", start_ms, stop) for i in range(AGENTS)]
        for i in range(KILLS):
            time.sleep(chosen.uniform(0.5, 1.5))
            if i % 2:
                server = chosen.choice(clickhouse_servers)
                server.kill()
                time.sleep(0.3)
                server.start()
            else:
                stack = chosen.choice(stacks)
                stack.collector.kill()
                stack.start_collector()
        wait_until(lambda: min(sender.receipts for sender in senders) > 10, what="each has ten receipts")
        stop.set()
        for sender in senders:
            sender.join()
        assert min(sender.receipts for sender in senders) > 10
        kept = kept_batches(clickhouse_servers[0])
        for sender in senders:
            # A batch that was in flight when all was stopped, or whose receipt was lost, may be there as well.
            assert sender.receipts <= kept[sender.name] <= sender.receipts + 1
            # Sent again, for the comparison, to the one that has it all in one file.
            for seq in range(1, kept[sender.name] + 1):
                if seq == 1:
                    alone_ready(alone)
                with urllib.request.urlopen(f"{alone.url}/v1/batches", sender.body(seq), timeout=20) as answer:
                    assert answer.status == 200
        wait_until(lambda: sum(shows_fleet(stack) for stack in stacks) == 1, what="one of them shows the fleet")
        reports = [settled(stack) for stack in (*stacks, alone)]
        assert reports[0]["rows"]
        assert reports[0] == reports[1] == reports[2]
        with closing(ledger(clickhouse_servers[1])) as opened:
            ((active_ms,),) = opened._tables.client.rows("SELECT sum(active_ms) FROM gpu_hours_all FINAL")
        assert active_ms == sum(kept.values()) * 2 * 9_000
        (leading,) = (stack for stack in stacks if shows_fleet(stack))
        (other,) = (stack for stack in stacks if stack is not leading)
        leading.collector.kill()
        wait_until(lambda: shows_fleet(other), what="the other takes over")
    finally:
        stop.set()
        for stack in (*stacks, alone):
            stack.kill_all()
        for server in clickhouse_servers:
            if server.process is not None and server.process.poll() is not None:
                server.start()


def alone_ready(alone: Stack) -> None:
    if alone.collector.process is None:
        alone.start_collector()


def ledger(server: Server) -> ClickHouseLedger:
    return connect(server.address("killed"), PASSWORD, "fleet")


def kept_batches(server: Server) -> dict[str, int]:
    with closing(ledger(server)) as opened:
        rows = opened._tables.client.rows(
            "SELECT agent_id, count(), uniqExact(seq) FROM windows_all FINAL GROUP BY agent_id"
        )
    assert all(count == distinct for _, count, distinct in rows)
    return {agent: count for agent, count, _ in rows}


def shows_fleet(stack: Stack) -> bool:
    return b"\ntokenyield_tokens_total{" in get(f"{stack.url}/metrics")


def settled(stack: Stack) -> dict[str, Any]:
    """The month's report without what differs by nature: when it was made, and the hash of the facts."""
    month = time.strftime("%Y-%m", time.gmtime(time.time_ns() / 1e9 - 7200))
    document: dict[str, Any] = json.loads(get(f"{stack.url}/v1/report?period={month}&by=team,model"))
    return document


def test_a_wrong_password_is_reported_and_never_shown(clickhouse_servers: list[Server], tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong-password")
    stack = Stack(tmp_path, collector={
        "ledger_url": f"clickhouse://default@127.0.0.1:{clickhouse_servers[0].port}/t",
        "ledger_password_file": str(tmp_path / "password"),
    })  # fmt: skip
    stack.collector.start_without_waiting()
    assert stack.collector.process is not None
    assert stack.collector.process.wait(120) == 1
    output = stack.collector.said()
    assert f"clickhouse://127.0.0.1:{clickhouse_servers[0].port}/t" in output
    assert "password" in output.lower()
    assert "wrong-password" not in output
    assert "Traceback" not in output


@pytest.mark.parametrize("cluster", ["", "fleet"])
def test_nodes_of_a_ledger_of_before_share_what_they_used_there(clickhouse_servers: list[Server], cluster: str) -> None:
    servers, database = clickhouse_servers if cluster else clickhouse_servers[:1], f"names_{cluster}"
    address = servers[0].address(database)
    start_ms = time.time_ns() // 1_000_000 // HOUR_MS * HOUR_MS - HOUR_MS
    with closing(connect(address, PASSWORD, cluster)) as ledger:
        ledger.append([shipment(batch(1, start_ms), node=node, agent_id=node) for node in ("n1", "n2")], start_ms)
        ledger.fold()
    for server in servers:
        client = NativeClient(server.address(database), PASSWORD)
        for table in ("workload_names", "schema_version"):
            client.run(f"DROP TABLE {table}")
        client.close()
    with closing(connect(address, PASSWORD, cluster)) as ledger:
        sent = [shipment(batch(2, start_ms + 15_000), node=node, agent_id=node) for node in ("n1", "n2", "n3")]
        ledger.append(sent, start_ms + HOUR_MS, ["n1", "n2", "n3"])
        ledger.fold()
        assert {(share.node, share.workload) for share in ledger.facts_of_hours().shares} == {
            ("n1", "chat"), ("n2", "chat"), ("n3", "chat (node n3)"),
        }  # fmt: skip


NEWER = {
    "gpu": ("energy_error_mj", "parked_ms", "parked_mj", "activity_known_ms", "sm_ms", "tensor_ms", "dram_ms",
            "nvlink_mib", "pcie_mib"),
    "share": ("parked_ms", "parked_mj"),
    "token": ("load_known_ms", "running_request_ms", "waiting_request_ms", "cache_used_ms"),
}  # fmt: skip
"""What schema 2 brought, beside `measure`."""


@pytest.mark.parametrize("cluster", ["", "fleet"])
def test_a_ledger_of_the_first_version_gains_its_columns(clickhouse_servers: list[Server], cluster: str) -> None:
    servers, database = clickhouse_servers if cluster else clickhouse_servers[:1], f"first_{cluster}"
    address = servers[0].address(database)
    start_ms = time.time_ns() // 1_000_000 // HOUR_MS * HOUR_MS - HOUR_MS
    with closing(connect(address, PASSWORD, cluster)) as ledger:
        ledger.append([shipment(batch(1, start_ms))], start_ms)
        ledger.fold()
    for server in servers:
        client = NativeClient(server.address(database), PASSWORD)
        for ending in ("", "_all") if cluster else ("",):
            for table, columns in NEWER.items():
                for column in columns:
                    client.run(f"ALTER TABLE windows{ending} DROP COLUMN {table}.{column}")
                    client.run(f"ALTER TABLE {table}_hours{ending} DROP COLUMN {column}")
            for column in ("gpu_uuid", "kind", "name", "amount"):
                client.run(f"ALTER TABLE windows{ending} DROP COLUMN measure.{column}")
            for column in columns_of_batch("latency"):
                client.run(f"ALTER TABLE windows{ending} DROP COLUMN latency.{column}")
            for table in ("measure", "latency"):
                client.run(f"DROP TABLE {table}_hours{ending}")
        client.run("TRUNCATE TABLE schema_version")
        client.close()
    with closing(connect(address, PASSWORD, cluster)) as ledger:
        old = ledger.facts_of_hours()
        assert [(gpu.active_ms, gpu.parked_ms, gpu.sm_ms) for gpu in old.gpus] == [(18_000, 0, None)]
        assert ledger.facts_between(start_ms, start_ms + HOUR_MS).gpus[0].parked_ms == 0
        assert (old.measures, old.latency) == ([], [])
        ledger.append([shipment(batch(2, start_ms + 15_000))], start_ms)
        ledger.fold()
        both = ledger.facts_of_hours()
        assert [(gpu.active_ms, gpu.parked_ms, gpu.sm_ms) for gpu in both.gpus] == [(36_000, 4_000, 6_000)]
        assert {row.name: row.amount for row in both.measures if row.kind == "host"} == {"rapl": 2_700_000}
        assert {row.kind: row.sum_ms for row in both.latency} == {"first_token": 450, "end_to_end": 4_100}
        assert {row.sm_ms for row in ledger.work_between(start_ms, start_ms + HOUR_MS, HOUR_MS)} == {6_000}
    with closing(connect(address, PASSWORD, cluster)) as ledger:
        assert ledger.facts_of_hours() == both, "opening it again changes nothing"
