"""Two servers that one shell or one terminal multiplexer started, which nobody configured: both are counted whole."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness import Stack, free_port, get, wait_until
from nvml.stand_in import Scenario, gpu_lines
from test_whole_way import LINE
from tokenyield_agent.workloads.procfs import Procfs

SERVER = '''#!{python}
"""Writes the log of llama-server, and shows its counters if it is started with --metrics. Once `go` exists it answers
requests; then it says what it made, and how often its counters were read since."""
import http.server, os, pathlib, sys, threading, time
port, seed = int(sys.argv[sys.argv.index("--port") + 1]), int(sys.argv[sys.argv.index("--seed") + 1])
folder = pathlib.Path(sys.argv[sys.argv.index("--model") + 1]).parent
made, reads = dict(prompt=0, completion=0, requests=0), []
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        shows = "--metrics" in sys.argv and self.path == "/metrics"
        self.send_response(200 if shows else 501)
        self.end_headers()
        if shows:
            self.wfile.write(b"# TYPE llamacpp:prompt_tokens_total counter\\nllamacpp:prompt_tokens_total %d\\n"
                b"# TYPE llamacpp:tokens_predicted_total counter\\nllamacpp:tokens_predicted_total %d\\n"
                % (made["prompt"], made["completion"]))
            if (folder / f"truth-{{port}}").exists():
                reads.append(1)
                (folder / f"reads-{{port}}-{{len(reads)}}").touch()
    def log_message(self, *words): pass
threading.Thread(target=http.server.ThreadingHTTPServer(("127.0.0.1", port), Page).serve_forever, daemon=True).start()
while not (folder / "go").exists():
    time.sleep(0.02)
for n in range(1, 101):
    p, c = 5 + seed, 10 + n % 7 + seed
    print({line!r}.format(n=n, p=p, c=c, length=p + c - 1), end="", flush=True)
    made = dict(prompt=made["prompt"] + p, completion=made["completion"] + c, requests=n)
    time.sleep(0.03)
(folder / f"truth-{{port}}").write_text(f"{{made['prompt']}} {{made['completion']}}")
time.sleep(600)
'''


@pytest.fixture
def server(tmp_path: Path) -> Path:
    program = tmp_path / "llama-server"
    program.write_text(SERVER.format(python=sys.executable, line=LINE))
    program.chmod(0o755)
    return program


def one_shell(commands: list[str], folder: Path) -> Callable[[], None]:
    """One `bash -c "A & B"`, each with a log of its own."""
    line = " & ".join(f"{command} >{folder}/{i}.log 2>&1" for i, command in enumerate(commands))
    shell = subprocess.Popen(["bash", "-c", f"{line} & wait"], start_new_session=True)

    def stop() -> None:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()

    return stop


def one_tmux(commands: list[str], folder: Path) -> Callable[[], None]:
    """One tmux, whose command line holds the first server's; their output goes to its terminals."""
    if shutil.which("tmux") is None:
        pytest.skip("apt install tmux")
    tmux = ["tmux", "-S", str(folder / "tmux.socket"), "-f", os.devnull]
    subprocess.run([*tmux, "new-session", "-d", f"{commands[0]} --metrics"], check=True)
    subprocess.run([*tmux, "split-window", "-d", f"{commands[1]} --metrics"], check=True)

    def stop() -> None:
        subprocess.run([*tmux, "kill-server"], check=True)

    return stop


@pytest.fixture(params=[one_shell, one_tmux])
def started_by(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[list[str]], bool]]:
    """Stopped before `tmp_path` goes, where tmux has its socket."""
    stops: list[Callable[[], None]] = []

    def start(commands: list[str]) -> bool:
        """Whether they show their counters."""
        stops.append(request.param(commands, tmp_path))
        return request.param is one_tmux

    yield start
    for stop in stops:
        stop()


def test_both_are_counted_whole(
    started_by: Callable[[list[str]], bool],
    server: Path,
    tmp_path: Path,
    nvml_library: Path,
    scenario: Scenario,
) -> None:
    ports = sorted(free_port() for _ in range(2))
    commands = [
        shlex.join([str(server), "--model", str(tmp_path / "m.gguf"), "--port", str(port), "--seed", str(i)])
        for i, port in enumerate(ports)
    ]
    has_counters = started_by(commands)
    procfs = Procfs()
    own = (sys.executable, str(server))

    def pids() -> list[int]:
        running = {
            argv[argv.index("--port") + 1]: pid for pid in psutil.pids() if (argv := procfs.argv_of(pid))[:2] == own
        }
        return [running[str(port)] for port in ports if str(port) in running]

    wait_until(lambda: len(pids()) == 2, what="both servers run")
    scenario.restart([line for i, pid in enumerate(pids()) for line in gpu_lines(i, pid=pid)])
    stack = Stack(tmp_path, agent={"scrape_interval_s": 1}, agent_env=scenario.environment(nvml_library))
    try:
        stack.start_collector()
        stack.start_agent()
        names = [f"llamacpp:{port}" for port in ports]
        shown = [f'counted_by_endpoint{{workload="{name}"}} {float(has_counters)}' for name in names]
        wait_until(lambda: all(line in get(f"{stack.agent_url}/metrics").decode() for line in shown), what=f"{shown}")
        (tmp_path / "go").touch()
        done = [tmp_path / (f"reads-{port}-2" if has_counters else f"truth-{port}") for port in ports]
        wait_until(lambda: all(path.exists() for path in done), what="they are done")
        stack.stop()
    finally:
        stack.kill_all()
    truth = {f"llamacpp:{port}": tuple(map(int, (tmp_path / f"truth-{port}").read_text().split())) for port in ports}
    rows = stack.query(
        "SELECT workload, sum(prompt_computed)::BIGINT, sum(completion)::BIGINT FROM token_windows GROUP BY 1"
    )
    assert {name: (prompt, completion) for name, prompt, completion in rows} == truth
