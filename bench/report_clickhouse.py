"""Reports over a big month on ClickHouse 18.16: `report --by team,model` and FOCUS, as a user waits for them.

In: nothing. Out: JSON with seconds, CPU seconds of the collector and of the server, bytes that came from the server,
and the peak memory of the collector; with `--code` the same by the collector of another checkout.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from big_ledger import PRICES

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from harness import free_port
from real.clickhouse_server import PASSWORD, Server
from tokenyield_collector.ledger.clickhouse.ledger import connect


class Relay:
    """Before the server; counts what it answers."""

    def __init__(self, to_port: int) -> None:
        self.answered_bytes, self._to_port = 0, to_port
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._socket.accept()
            server = socket.create_connection(("127.0.0.1", self._to_port))
            threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        while data := source.recv(1 << 18):
            if is_answer:
                self.answered_bytes += len(data)
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def timed(command: list[str], server: psutil.Process, relay: Relay) -> dict[str, Any]:
    before, cpu = relay.answered_bytes, sum(server.cpu_times()[:2])
    started = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        assert status == 0, command
        written = out.seek(0, os.SEEK_END)
    found = {
        "wall_s": round(wall, 2),
        "collector_cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "server_cpu_s": round(sum(server.cpu_times()[:2]) - cpu, 2),
        "answered_mb": round((relay.answered_bytes - before) / 1e6, 2),
        "peak_mib": round(usage.ru_maxrss / 1024),
        "written_mb": round(written / 1e6, 2),
        "load": round(os.getloadavg()[0], 1),
    }
    print(found, file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--hours", type=int, default=2, help="hours whose sums are made, not roll-ups alone")
    parser.add_argument("--workloads", choices=("node", "fleet"), default="node")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--no-focus", action="store_true", help="no FOCUS, which takes the collector minutes")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/report-clickhouse"), help="removed at the start")
    parser.add_argument("--code", type=Path, help="another checkout, whose collector makes the reports as well")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.folder, ignore_errors=True)
    arguments.folder.mkdir(parents=True)
    port = free_port()
    clickhouse = Server(arguments.folder / "server", [port], port)
    clickhouse.start()
    try:
        print(json.dumps(measure(clickhouse, arguments), indent=2))
    finally:
        clickhouse.kill()


def measure(clickhouse: Server, arguments: Any) -> dict[str, Any]:
    from big_clickhouse import make_clickhouse

    ledger = connect(clickhouse.address("ledger"), PASSWORD, "")
    made = make_clickhouse(ledger, arguments.gpus, 24 * arguments.days, arguments.workloads, arguments.hours)
    size = sum(row[0] for row in ledger._tables.client.rows(
        "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND (table LIKE 'work\\_%' OR table LIKE 'capacity\\_%')"
    ))  # fmt: skip
    ((rows,),) = ledger._tables.client.rows("SELECT count() FROM work_hours")
    ledger.close()
    prices, password = arguments.folder / "prices.yaml", arguments.folder / "password"
    prices.write_text(
        PRICES.replace("count: 3400", f"count: {max(1, arguments.gpus * 34 // 100)}")
    )  # else it is divided
    password.write_text(PASSWORD)
    assert clickhouse.process is not None
    relay, server = Relay(clickhouse.port), psutil.Process(clickhouse.process.pid)
    result: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, {os.uname().machine}", "gpus": arguments.gpus, "days": arguments.days,
        "workloads": arguments.workloads, "work_rows": rows, "roll_up_bytes": size,
        **{name: round(seconds, 3) for name, seconds in made.items()},
    }  # fmt: skip
    print(result, file=sys.stderr, flush=True)
    for name, code in (("here", Path(__file__).parents[1]), ("other", arguments.code)):
        if code is None:
            continue
        if name == "other":  # which may be older, and would refuse a newer schema
            connect(clickhouse.address("ledger"), PASSWORD, "")._tables.client.run("TRUNCATE TABLE schema_version")
        command = [
            "env", f"PYTHONPATH={code / 'collector'}:{code / 'agent'}", sys.executable, "-m", "tokenyield_collector.cli", "report", "--period", "2026-10",
            "--prices", str(prices), "--set", f"ledger_url=clickhouse://default@127.0.0.1:{relay.port}/ledger",
            "--set", f"ledger_password_file={password}",
        ]  # fmt: skip
        print(name, file=sys.stderr, flush=True)
        by = [*command, "--by", "team,model", "--format", "json"]
        result[name] = {"report": [timed(by, server, relay) for _ in range(arguments.runs)]}
        if not arguments.no_focus:
            result[name]["focus"] = timed([*command, "--format", "focus"], server, relay)
    return result


if __name__ == "__main__":
    main()
