"""Seeded schedules of a hostile node and hostile tenants against the running programs: a collector and an agent as processes.

    make faults-hostile HOSTILE_SCHEDULES=100

On the agent's host a server is counted beside tenants who swap, cut and flood a log and whose endpoints do what
hostile_server.py has. Another node is honest and sends windows by itself. The hostile one has a token of its own and
sends what hostile_shipments.py makes, bombs, bodies that do not come, and connections that say nothing. Meanwhile:
* `/healthz` and `/readyz` answer 200, however often they are asked; no process ends, no thread of the agent restarts;
* the collector's memory stays below `MEMORY_BYTES` above what it has at rest.
Then all of it drains, and the tokens of the server and every fact and figure of the honest node are exact; `verify`
names nothing but windows of the hostile node that cannot have been measured, or are there twice.
"""

import gzip
import http.client
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import psutil
import zstandard

from collector import samples
from faults.program_host import ServerLog
from faults.program_runs import MOST, run_many
from faults.tenant_log import TenantLog
from figures import difference_of_figures, facts_of_nodes, figures_of_nodes
from harness import Stack, get, wait_until
from hostile_server import BEHAVIOURS, hostile
from hostile_shipments import LyingNode, encoded
from nvml.stand_in import Scenario, gpu_lines
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.verify import verify
from tokenyield_wire.codec import encode_shipment
from tokenyield_wire.units import MS_PER_HOUR, NS_PER_MS
from tokenyield_wire.window import Shipment

MEMORY_BYTES = 300 << 20
EVENTS = (8, 16)
AGENT, HONEST, LIAR = "gpu-1", "n1", "liar"
BOMB_BYTES = 256 << 20
REFUSALS = (400, 403, 408, 413, 415, 422, 425, 429, 503)


class Probes:
    """Asks both probes, and looks at the collector's memory, until stopped."""

    def __init__(self, stack: Stack) -> None:
        assert stack.collector.process is not None
        self._stack, self._process = stack, psutil.Process(stack.collector.process.pid)
        self.rest_bytes = self.most_bytes = self._process.memory_info().rss
        self.answered = 0
        self.faults: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            for path in ("/healthz", "/readyz"):
                try:
                    get(f"{self._stack.url}{path}")
                except OSError as error:
                    self.faults.append(f"{path}: {error}")
                self.answered += 1
            with suppress(psutil.NoSuchProcess):  # then the probes have said so
                self.most_bytes = max(self.most_bytes, self._process.memory_info().rss)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


class HostileSchedule:
    """One schedule in a folder of its own."""

    def __init__(self, seed: int, folder: Path, library: Path, hold: ExitStack) -> None:
        self._chosen = random.Random(seed)
        self.folder = folder
        self.happened: Counter[str] = Counter()
        self._log = ServerLog(folder / "chat.log", random.Random(seed + 1))
        hold.callback(self._log.stop)
        self._tenant = TenantLog(folder / "tenant.log", self._log.path, self._chosen)
        self._liar = LyingNode(self._chosen, "c", LIAR, ["GPU-0", "GPU-1"], ["chat"])
        self._now_ms = time.time_ns() // NS_PER_MS
        self._seq = 0
        self._sent: list[Shipment] = []
        self._silent: list[socket.socket] = []
        hold.callback(self._hang_up)
        scenario = Scenario(folder / "scenario.txt")
        scenario.restart([*gpu_lines(0), *gpu_lines(1, percent=0)])
        self.stack = Stack(
            folder,
            agent=self._agent_settings(hold),
            collector=self._collector_settings(),
            agent_env=scenario.environment(library),
        )
        hold.callback(self.stack.kill_all)

    def _agent_settings(self, hold: ExitStack) -> dict[str, object]:
        behaviours = self._chosen.sample(BEHAVIOURS, 3)
        self.happened.update(f"endpoint: {one.__name__.replace('_', ' ')}" for one in behaviours)
        servers = [hold.enter_context(hostile(behaviour)) for behaviour in behaviours]
        token = self.folder / "agent-token"
        token.write_text(_token(AGENT))
        return {
            "cluster": "c", "node": AGENT, "collector_token_file": str(token), "window_length_s": 1, "window_settle_s": 0,
            "poll_interval_ms": 100, "discover": "false", "scrape_interval_s": 1, "scrape_timeout_s": 1,
            "workloads": [
                {"name": "served", "log": str(self._log.path), "gpus": [0]},
                {"name": "tenant", "log": str(self._tenant.path)},
                *[{"name": f"bad-{i}", "metrics": server.url} for i, server in enumerate(servers)],
            ],
        }  # fmt: skip

    def _collector_settings(self) -> dict[str, object]:
        tokens = self.folder / "tokens"
        tokens.write_text(
            "".join(f"{_token(node)} may=write,gateway cluster=c nodes={node}\n" for node in (AGENT, HONEST, LIAR))
        )
        tokens.chmod(0o600)
        return {"token_file": str(tokens), "commit_interval_ms": 20, "agent_batches_per_s": 100}

    # --- what happens ------------------------------------------------------------------------------------------------

    def play(self) -> None:
        self.stack.start_collector()
        self.stack.start_agent()
        self._send_honest()
        self._log.pause(False)
        wait_until(lambda: self._agent_metric("spool_appended_total") >= 2, what="the log is known")
        probes = Probes(self.stack)
        try:
            for _ in range(self._chosen.randrange(*EVENTS)):
                getattr(self, event := self._chosen.choice(EVENT_NAMES))()
                self.happened[event.replace("_", " ")] += 1
            self._drain()
        finally:
            probes.stop()
        self.happened["probes"] += probes.answered
        assert not probes.faults, probes.faults[:5]
        assert probes.answered
        grown = probes.most_bytes - probes.rest_bytes
        assert grown < MEMORY_BYTES, f"{grown >> 20} MiB above rest"
        self.happened[f"{MOST}MiB above rest"] = grown >> 20
        self._check_programs()
        self.stack.stop()
        self._check()

    def send_windows(self) -> None:
        self._send_honest()

    def lie(self) -> None:
        this_ms = self._now_ms // MS_PER_HOUR * MS_PER_HOUR
        for _ in range(self._chosen.randrange(1, 6)):
            document = self._liar.document([this_ms - back * MS_PER_HOUR for back in (0, 1, 2)])
            if self._chosen.random() < 0.1:
                document["node"] = self._chosen.choice([AGENT, HONEST])
            body, headers = encoded(document), {}
            if self._chosen.random() < 0.3:
                body, headers = gzip.compress(body), {"Content-Encoding": "gzip"}
            self._refused_or_taken(body, headers)

    def send_a_bomb(self) -> None:
        if self._chosen.random() < 0.5:
            body = zstandard.ZstdCompressor().compress(bytes(BOMB_BYTES))
            self._refused_or_taken(body, {"Content-Encoding": "zstd"})
        else:
            self._refused_or_taken(gzip.compress(b"[" * (64 << 20), 1), {"Content-Encoding": "gzip"})

    def nest_deeply(self) -> None:
        self._refused_or_taken(b'{"schema":' * 10_000 + b"[" * 20_000, {})

    def connect_and_say_nothing(self) -> None:
        self._connect(b"")

    def trickle_a_header(self) -> None:
        self._connect(b"POST /v1/batches HTTP/1.1\r\nHost: x\r\nX-A: ")

    def keep_a_body(self) -> None:
        head = f"POST /v1/batches HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {_token(LIAR)}\r\nContent-Length: 9000000\r\n\r\n"
        self._connect(head.encode() + b"{")

    def play_with_a_log(self) -> None:
        for _ in range(4):
            if (trick := self._tenant.step()) is not None:
                self.happened[f"tenant's log: {trick.replace('_', ' ')}"] += 1

    def rotate_the_log(self) -> None:
        self._log.rotate()

    def _connect(self, said: bytes) -> None:
        connection = socket.create_connection(("127.0.0.1", self.stack.port))
        connection.sendall(said)
        self._silent.append(connection)

    def _hang_up(self) -> None:
        for connection in self._silent:
            connection.close()

    def _send_honest(self) -> None:
        """The first comes an hour before any lie, see decision 0015."""
        self._seq += 1
        back = (4, 3, 2, 1)[self._seq % 4] if self._seq > 1 else 4
        start_ms = (self._now_ms // MS_PER_HOUR - back) * MS_PER_HOUR + self._seq * 15_000
        sent = samples.shipment(samples.batch(self._seq, start_ms, completion=self._seq), node=HONEST, agent_id=HONEST)
        self._sent.append(sent)
        status = self._post(HONEST, encode_shipment(sent), {})
        assert status == 200, f"the honest node had {status}"

    def _refused_or_taken(self, body: bytes, headers: dict[str, str]) -> None:
        try:
            status = self._post(LIAR, body, headers)
        except (ConnectionError, http.client.HTTPException):  # answered before the body was read
            self.happened["cut off"] += 1
            return
        assert status == 200 or status in REFUSALS, status
        self.happened[f"answer {status}"] += 1

    def _post(self, node: str, body: bytes, headers: dict[str, str]) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.stack.port, timeout=60)
        with closing(connection):
            connection.request("POST", "/v1/batches", body, {"Authorization": f"Bearer {_token(node)}", **headers})
            return connection.getresponse().status

    # --- the end -----------------------------------------------------------------------------------------------------

    def _agent_metric(self, name: str) -> float:
        """The sum over its series."""
        lines = get(f"{self.stack.agent_url}/metrics").decode().splitlines()
        values = [line.rpartition(" ")[2] for line in lines if line.startswith(f"tokenyield_agent_{name}")]
        assert values, name
        return sum(map(float, values))

    def _drain(self) -> None:
        self._log.write()
        self._log.stop()
        seen = self._agent_metric("polls_total")
        wait_until(lambda: self._agent_metric("polls_total") > seen + 15, what="the agent polls")

    def _check_programs(self) -> None:
        assert self._agent_metric("thread_restarts_total") == 0
        assert self._agent_metric("poll_failures_total") == 0
        for program in (self.stack.collector, self.stack.agent):
            assert program.process is not None
            assert program.process.poll() is None
            assert "Traceback" not in program.said(), program.said()[-3000:]
        get(f"{self.stack.agent_url}/healthz")

    def _check(self) -> None:
        ((completion,),) = self.stack.query(
            f"SELECT sum(completion)::BIGINT FROM token_hours WHERE workload = 'served' AND node = '{AGENT}'"
        )
        assert completion == self._log.completion, f"{completion} of {self._log.completion} tokens"
        for uuid, total_ms, covered_ms in self.stack.query(
            "SELECT gpu_uuid, sum(active_ms + idle_ms + unallocated_ms + unknown_ms)::BIGINT, (SELECT sum(end_ms - start_ms)"
            f"::BIGINT FROM batches WHERE node = '{AGENT}') FROM gpu_hours WHERE node = '{AGENT}' GROUP BY 1"
        ):
            assert total_ms == covered_ms, f"{uuid}: {total_ms} of {covered_ms} ms"
        hours = [self._now_ms - 4 * MS_PER_HOUR, self._now_ms]
        with closing(DuckDbLedger(self.stack.ledger_path)) as whole, closing(DuckDbLedger(":memory:")) as alone:
            alone.append(self._sent, self._now_ms)
            alone.fold()
            assert facts_of_nodes(whole, {HONEST}) == facts_of_nodes(alone, {HONEST})
            figures = [figures_of_nodes(one, {HONEST}, hours, self._now_ms) for one in (whole, alone)]
            assert not (difference := difference_of_figures(*figures)), difference
            findings = list(verify(whole))
        unexpected = [one for one in findings if not one.startswith(f"c/{LIAR}: ") or not _is_of_lies(one)]
        assert not unexpected, unexpected


def _is_of_lies(finding: str) -> bool:
    return "cannot be" in finding or " times" in finding


def _token(node: str) -> str:
    return f"token-of-the-node-{node}"


EVENT_NAMES = (
    *("send_windows",) * 2,
    *("lie",) * 6,
    *("play_with_a_log",) * 4,
    "send_a_bomb",
    "nest_deeply",
    "connect_and_say_nothing",
    "trickle_a_header",
    "keep_a_body",
    "rotate_the_log",
)


@contextmanager
def opened(seed: int, folder: Path, library: Path) -> Iterator[HostileSchedule]:
    """Its programs end with the block."""
    with ExitStack() as hold:
        yield HostileSchedule(seed, folder, library, hold)


if __name__ == "__main__":
    sys.exit(run_many(__doc__, opened, schedules=100, at_once=2))
