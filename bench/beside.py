"""What a server loses by the agent beside it: tokens a second of a real llama-server that has all cores, with the agent and
without.

The agent runs as users run it: 8 GPUs of the NVML stand-in at 1 Hz, the server's log followed, its `/metrics` asked every
5 s, windows shipped to a collector. It is held (SIGSTOP) in one half of each pair and goes on (SIGCONT) in the other, in an
order drawn for each pair, so what else the machine does falls on both alike; going on, it also makes up for what it missed,
which counts against it. A request counts in the half in which it began and ended; a pair with a half in which none did, as
on a busy machine, is left out and counted, and another one made. The figure is the mean of the pairs' losses with its 95 %
interval (Student's t); the bar is 0.3 %. Needs the llama-server of `make test-real`.
"""

import argparse
import json
import math
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from harness import Stack
from nvml.stand_in import Scenario, build, gpu_lines
from real.llama_server import LlamaServer

GPUS = 8
CLIENTS = 2
TOKENS = 64
"""Of an answer: some hundredths of a second, so few requests lie across an edge."""


class Request(NamedTuple):
    """One answered request, in monotonic seconds."""

    start_s: float
    end_s: float
    tokens: int


class Clients:
    """Threads that ask one request after the other until they are stopped."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/completion"
        self.requests: list[Request] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        body = json.dumps(
            {"prompt": f"client {number}", "n_predict": TOKENS, "ignore_eos": True, "cache_prompt": True}
        ).encode()
        while not self._stop.is_set():
            start_s = time.monotonic()
            with urllib.request.urlopen(urllib.request.Request(self._url, body), timeout=120) as answer:
                tokens = json.load(answer)["tokens_predicted"]
            self.requests.append(Request(start_s, time.monotonic(), tokens))

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def rate(requests: list[Request], start_s: float, end_s: float) -> float | None:
    """Tokens a second of one client, over the requests that lie wholly between the two; None where none does."""
    within = [request for request in requests if request.start_s >= start_s and request.end_s <= end_s]
    if not within:
        return None
    return sum(request.tokens for request in within) / sum(request.end_s - request.start_s for request in within)


def interval(values: list[float]) -> tuple[float, float, float]:
    """(mean, lower, upper): the 95 % interval by Student's t, its quantile by Cornish and Fisher's expansion."""
    n, mean = len(values) - 1, statistics.fmean(values)
    z = statistics.NormalDist().inv_cdf(0.975)
    t = z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    half = t * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def cpu_s(pid: int) -> float:
    """Of all its threads, user and system, by the scheduler's own clock."""
    return sum(int((task / "schedstat").read_text().split()[0]) / 1e9 for task in Path(f"/proc/{pid}/task").iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=5, help="of each half of a pair")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    order = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "llama.log"
        server = LlamaServer(folder, log)
        scenario = Scenario(folder / "scenario.txt")
        scenario.restart([line for gpu in range(GPUS) for line in gpu_lines(gpu, pid=server.process.pid)])
        address = f"http://127.0.0.1:{server.port}"
        stack = Stack(
            folder,
            agent={
                "workloads": [{"name": "chat", "log": str(log), "metrics": address}],
                "window_length_s": 15,
                "window_settle_s": 12,
            },
            collector={"refresh_interval_s": 60},
            agent_env=scenario.environment(build(folder)),
        )
        clients = None
        try:
            stack.start_collector()
            stack.start_agent()
            assert stack.agent.process is not None
            agent = stack.agent.process.pid
            clients = Clients(server.port)
            time.sleep(20)  # past the first window
            losses: list[float] = []
            with_agent, without, agent_cpu = [], [], []
            left_out = 0
            while len(losses) < arguments.pairs:
                assert left_out <= arguments.pairs, f"no request ended within {arguments.seconds} s; make that longer"
                rates = {}
                for runs in order.sample([True, False], 2):
                    os.kill(agent, signal.SIGCONT if runs else signal.SIGSTOP)
                    before_s, start_s = cpu_s(agent), time.monotonic()
                    time.sleep(arguments.seconds)
                    end_s = time.monotonic()
                    rates[runs] = rate(clients.requests, start_s, end_s)
                    if runs:
                        agent_cpu.append(100 * (cpu_s(agent) - before_s) / (end_s - start_s))
                beside, alone = rates[True], rates[False]
                if beside is None or alone is None:
                    left_out += 1
                    continue
                with_agent.append(beside)
                without.append(alone)
                losses.append(100 * (1 - beside / alone))
            os.kill(agent, signal.SIGCONT)
        finally:
            if clients is not None:
                clients.stop()
            stack.kill_all()
            server.kill()
    mean, lower, upper = interval(losses)
    print(
        json.dumps(
            {
                "bench": "beside",
                "pairs": arguments.pairs,
                "pairs_left_out": left_out,
                "seconds_of_a_half": arguments.seconds,
                "tokens_per_s_of_a_client_with_agent": round(statistics.fmean(with_agent), 1),
                "tokens_per_s_of_a_client_without": round(statistics.fmean(without), 1),
                "loss_percent": round(mean, 3),
                "loss_percent_95": [round(lower, 3), round(upper, 3)],
                "loss_percent_median": round(statistics.median(losses), 3),
                "agent_cpu_percent_of_one_core": round(statistics.fmean(agent_cpu), 3),
                "load_average": round(os.getloadavg()[0], 1),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
