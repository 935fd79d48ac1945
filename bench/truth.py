"""What is counted of real servers, against the sum of `usage` in their answers and their own counters.

    python bench/truth.py                             all servers that are installed, all kinds of load, all paths
    python bench/truth.py --servers llama-server      only this one

Each server is real, with a tiny random model on the CPU: llama.cpp (llama-server, `llama serve`, router), Ollama, Dynamo with its
mocker, vLLM for CPUs. For each kind of load (tests/real/servers/load.py) five agents watch the same server, each
with a collector of its own: one by the counters, one by the log, one by the log as a pod's with rotation, one by the log in
the journal, one by counters and log with the endpoint going away and coming back.
Prints JSON, which `make docs` shows in docs/dialects.md (bench/results-truth.json).
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from harness import Stack
from real.door import Door
from real.log_relays import UNIT, JournalLog, PodLog, Relay
from real.servers import SERVERS
from real.servers.load import KINDS, drive
from real.servers.server import RealServer

SETTLE_S = 14.0
"""After the load: a rate in the log is about ten seconds, and a window closes two after its end."""
COUNTED = (
    "SELECT sum(completion)::BIGINT, sum(prompt_computed)::BIGINT, sum(prompt_cached)::BIGINT, sum(prompt_unsplit)::BIGINT, "
    "sum(requests)::BIGINT, sum(requests_aborted)::BIGINT, sum(requests_failed)::BIGINT FROM token_windows"
)
PATHS = ("counters", "log", "pod", "journal", "both")
ROTATE_EVERY_S = 4.0


class Watch:
    """An agent and a collector of its own that count one server in one way."""

    def __init__(self, folder: Path, server: RealServer, path: str) -> None:
        folder.mkdir(parents=True)
        self.path = path
        self._door = Door(server.port) if path == "both" else None
        workload: dict[str, Any] = {"name": "w"}
        settings: dict[str, Any] = {}
        self._relay: Relay | None = None
        if path in ("log", "both"):
            workload["log"] = str(server.log)
        elif path == "pod":
            pod = PodLog(server.log, folder / "pods" / "ns_server-0_0123-4567" / "server", ROTATE_EVERY_S)
            self._relay, workload["log"] = pod, str(pod.path)
        elif path == "journal":
            journal = JournalLog(server.log, folder / "journal")
            self._relay, workload["journal"] = journal, UNIT
            settings["journal_dir"] = str(journal.folder)
        if self._relay is not None:
            self._relay.start()
        if path in ("counters", "both"):
            port = self._door.port if self._door is not None else server.port
            workload["metrics"] = f"http://127.0.0.1:{port}{server.metrics_path}"
        self._stack = Stack(
            folder, agent={"workloads": [workload], "discover": "false", "scrape_interval_s": 1, **settings}
        )
        self._stack.start_collector()
        self._stack.start_agent()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._open_and_shut, daemon=True)
        if self._door is not None:
            self._thread.start()

    def _open_and_shut(self) -> None:
        assert self._door is not None
        while not self._stop.wait(3):
            self._door.shut()
            self._stop.wait(3)
            self._door.open()

    def finish(self) -> dict[str, int | None]:
        self._stop.set()
        if self._door is not None:
            self._thread.join()
        time.sleep(SETTLE_S)
        if self._relay is not None:
            self._relay.stop()
        self._stack.stop()
        ((completion, computed, cached, unsplit, requests, aborted, failed),) = self._stack.query(COUNTED)
        return {
            "completion": completion,
            "prompt": sum(part or 0 for part in (computed, cached, unsplit)),
            "prompt_computed": computed,
            "prompt_cached": cached,
            "prompt_unsplit": unsplit,
            "requests": requests,
            "requests_aborted": aborted,
            "requests_failed": failed,
        }

    def kill(self) -> None:
        self._stop.set()
        self._stack.kill_all()


@contextmanager
def watched(folder: Path, server: RealServer) -> Iterator[list[Watch]]:
    paths = tuple(path for path in PATHS if server.metrics_path is not None or path not in ("counters", "both"))
    watches = [Watch(folder / path, server, path) for path in paths]
    try:
        yield watches
    finally:
        for watch in watches:
            watch.kill()


def measure(server: RealServer, kind: str, seconds: float, folder: Path) -> list[dict[str, Any]]:
    """One kind of load, as each path counts it."""
    with watched(folder, server) as watches:
        time.sleep(3)  # each has read the counters where they begin
        before = server.own_counts()
        truth = drive(server, kind, seconds)
        with ThreadPoolExecutor(len(watches)) as pool:
            counted = list(pool.map(Watch.finish, watches))
        own = {kind: value - before[kind] for kind, value in server.own_counts().items()}
    return [
        {
            "server": server.name,
            "version": server.version,
            "load": kind,
            "path": watch.path,
            "answers": dict(truth.sums),
            "own_counters": own,
            "counted": counts,
        }
        for watch, counts in zip(watches, counted, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", nargs="*", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seconds", type=float, default=15, help="of load of each kind")
    arguments = parser.parse_args()
    cache = Path(os.environ.get("TOKENYIELD_CACHE", "~/.cache/tokenyield")).expanduser()
    rows, left_out = [], {}
    for name in arguments.servers:
        folder = Path(tempfile.mkdtemp(prefix=f"truth-{name}-"))
        try:
            print(f"starting {name}", file=sys.stderr)
            server = SERVERS[name](folder, cache)
        except (AssertionError, OSError) as error:
            left_out[name] = str(error)[-300:]
            continue
        try:
            for kind in arguments.kinds:
                print(f"{name}: {kind}", file=sys.stderr)
                rows += measure(server, kind, arguments.seconds, folder / kind)
        finally:
            server.stop()
            shutil.rmtree(folder, ignore_errors=True)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()}
    print(
        json.dumps(
            {
                "bench": "truth",
                "date": time.strftime("%Y-%m-%d"),
                "machine": machine,
                "left_out": left_out,
                "rows": rows,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
