"""Tenants of a GPU host against the running programs: what one of them does costs itself, and nothing falls silent."""

import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent.shipping.test_aside import too_long, written
from agent.workloads.test_process_groups import lay_out
from harness import Stack, get, wait_until
from hostile_server import (
    BEHAVIOURS,
    PAGE,
    HostileServer,
    hostile,
    sends_a_body_without_end,
    sends_a_page_that_is_hard_to_read,
)
from metrics_server import serving
from nvml.stand_in import Scenario, gpu_lines
from test_whole_way import Server
from tokenyield_agent.shipping.spool import Spool

RSS_BYTES_MAX = 200 << 20
"""It is 35 MiB with servers that mean no harm, and may be 256 MiB by the unit and the chart."""
PROBLEM = r'endpoint_problem\{workload="([^"]+)",reason="(\w+)"\}'
CONTAINER = "0f3c" * 16
UID = "3a1bc2d4-5e6f-4a7b-8c9d-0e1f2a3b4c5d"
NAMESPACE, POD, NAME = "n" * 63, "p" * 150, "c" * 63
"""278 characters with two slashes; the wire takes 253."""
FAST = {"window_length_s": 1, "window_settle_s": 0, "poll_interval_ms": 200}


@pytest.fixture
def make_stack(tmp_path: Path, nvml_library: Path, scenario: Scenario) -> Iterator[Callable[..., Stack]]:
    started: list[Stack] = []

    def make(gpu: list[str] | None = None, **settings: Any) -> Stack:
        scenario.restart(gpu if gpu is not None else gpu_lines(0))
        stack = Stack(tmp_path, agent={**FAST, **settings}, agent_env=scenario.environment(nvml_library))
        started.append(stack)
        return stack

    yield make
    for stack in started:
        stack.kill_all()


class Watchdog:
    """systemd's end of the socket: how often it heard that the agent is alive."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.heard = 0
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                self.heard += self.socket.recv(1024) == b"WATCHDOG=1"
            except OSError:
                return


@contextmanager
def watchdog(folder: Path) -> Iterator[Watchdog]:
    listening = Watchdog(str(folder / "notify"))
    try:
        yield listening
    finally:
        listening.socket.close()


def metric(stack: Stack, name: str) -> float:
    found = re.search(
        rb"^tokenyield_agent_%s (\S+)" % re.escape(name.encode()), get(f"{stack.agent_url}/metrics"), re.M
    )
    assert found is not None, name
    return float(found[1])


def shipped(stack: Stack) -> None:
    polls = metric(stack, "polls_total")
    wait_until(lambda: metric(stack, "polls_total") > polls + 10, what="the agent polls")
    appended = metric(stack, "spool_appended_total")
    wait_until(
        lambda: metric(stack, "spool_appended_total") >= appended + 2, what="the window of the last tokens is closed"
    )
    wait_until(lambda: stack.spool_batches() <= 1, what=f"it ships; {stack.agent.said()[-2000:]}")


def test_a_pod_with_a_name_beyond_the_wire_is_counted_as_all_others(
    make_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    folder = tmp_path / "pods" / f"{NAMESPACE}_{POD}_{UID}" / NAME
    folder.mkdir(parents=True)
    log = Server(folder / "0.log")
    log.log.touch()
    (tmp_path / "proc").mkdir()
    cgroup = f"0::/kubepods/pod{UID}/{CONTAINER}"
    lay_out(tmp_path / "proc", [{"pid": 77, "parent": 1, "command": "llama-server --port 8081", "cgroup": cgroup}])
    chat = Server(tmp_path / "chat.log")
    stack = make_stack(
        gpu_lines(0, pid=77),
        proc_dir=str(tmp_path / "proc"),
        pods_dir=str(tmp_path / "pods"),
        workloads=[{"name": "chat", "log": str(chat.log), "gpus": [1]}],
    )
    stack.start_collector()
    stack.start_agent()
    wait_until(lambda: "discovered" in stack.agent.said(), what="the pod is found")
    for server in (log, chat):
        for _ in range(5):
            server.answer(random.Random(4))
    shipped(stack)
    stack.stop()
    rows = dict(stack.query("SELECT workload, sum(completion)::BIGINT FROM token_hours GROUP BY 1"))
    assert rows.pop("chat") == chat.completion
    ((name, completion),) = rows.items()
    assert name.startswith(f"{NAMESPACE}/{POD}/")
    assert re.fullmatch(r".*~[0-9a-f]{12}", name)
    assert completion == log.completion


def test_what_can_never_be_shipped_is_set_aside_and_shown(make_stack: Callable[..., Stack], tmp_path: Path) -> None:
    """An earlier agent has written a record into the spool that no collector takes: it lost all that came after it."""
    spool = Spool(tmp_path / "agent" / "spool", bytes_max=1 << 30)
    spool.append([], None)
    (segment,) = (tmp_path / "agent" / "spool").glob("*.seg")
    with segment.open("ab") as file:
        file.write(written({"epoch": spool.epoch, "next_seq": 2, "batches": [too_long(1)], "resume": None, "turn": 9}))
    (tmp_path / "agent" / "spool" / "newest").unlink()
    chat = Server(tmp_path / "chat.log")
    stack = make_stack(workloads=[{"name": "chat", "log": str(chat.log), "gpus": [0]}])
    stack.start_collector()
    stack.start_agent()
    for _ in range(5):
        chat.answer(random.Random(4))
    shipped(stack)
    assert metric(stack, "spool_unsendable_total") == 1
    shown = get(f"{stack.agent_url}/healthz").decode()
    assert shown.startswith("ok\n1 records were set aside")
    stack.stop()
    assert stack.query("SELECT sum(completion)::BIGINT FROM token_hours") == [(chat.completion,)]
    assert len(list((tmp_path / "agent" / "rejected").iterdir())) == 1


def test_no_server_stops_the_counting_of_the_others(make_stack: Callable[..., Stack], tmp_path: Path) -> None:
    with ExitStack() as servers:
        behaviours = [*BEHAVIOURS, *[sends_a_body_without_end, sends_a_page_that_is_hard_to_read] * 10]
        bad = [servers.enter_context(hostile(behaviour)) for behaviour in behaviours]
        good = servers.enter_context(serving(PAGE % 0))
        workloads = [{"name": f"bad-{i}", "metrics": server.url} for i, server in enumerate(bad)]
        stack = make_stack(
            workloads=[*workloads[:7], {"name": "good", "metrics": f"{good.url}/metrics", "gpus": [0]}, *workloads[7:]],
            scrape_interval_s=1,
            scrape_timeout_s=1,
        )
        stack.start_collector()
        stack.start_agent()
        wait_until(lambda: all(server.connections for server in bad) and bool(good.asked), what="all are asked")
        asked = len(good.asked)
        wait_until(lambda: len(good.asked) >= asked + 10, what=f"it is asked on; {stack.agent.said()[-2000:]}")
        good.body = PAGE % 1234
        asked = len(good.asked)
        wait_until(lambda: len(good.asked) >= asked + 3, what="its tokens are read")
        shown = get(f"{stack.agent_url}/metrics").decode()
        reasons = dict(re.findall(PROBLEM, shown))
        named = {f"bad-{i}" for i, one in enumerate(behaviours) if one is not sends_a_page_that_is_hard_to_read}
        assert named <= reasons.keys()
        assert "good" not in reasons
        assert stack.agent.process is not None
        assert psutil.Process(stack.agent.process.pid).memory_info().rss < RSS_BYTES_MAX
        assert not any("/elsewhere" in path for path, _ in good.asked)
        shipped(stack)
        stack.stop()
    assert stack.query("SELECT sum(completion)::BIGINT FROM token_hours WHERE completion > 0") == [(1234,)]


PROXY_PAGE = b"<html><body>Please log in</body></html>"


def test_a_page_of_a_proxy_is_no_receipt(make_stack: Callable[..., Stack], tmp_path: Path) -> None:
    """Any 200 was taken for one, and what it answered was lost."""
    chat = Server(tmp_path / "chat.log")
    stack = make_stack(workloads=[{"name": "chat", "log": str(chat.log), "gpus": [0]}], collector_timeout_s=2)
    said = [
        PROXY_PAGE,
        b"",
        b"{}",
        b'{"accepted":1,"duplicates":0}',
        b'{"accepted":1,"duplicates":0,"epoch":"another","first_seq":1,"last_seq":1}',
    ]

    def portal(server: HostileServer, connection: socket.socket) -> None:
        body = said[server.connections % len(said)]
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    listener = HostileServer(portal, port=stack.port)
    stack.start_agent()
    for _ in range(5):
        chat.answer(random.Random(4))
    wait_until(lambda: listener.connections >= 5, what="it tries to ship")
    wait_until(
        lambda: "is no receipt for this shipment" in get(f"{stack.agent_url}/healthz").decode(), what="it says so"
    )
    assert metric(stack, "spool_acknowledged_total") == 0
    listener.close()
    stack.start_collector()
    shipped(stack)
    stack.stop()
    assert stack.query("SELECT sum(completion)::BIGINT FROM token_hours") == [(chat.completion,)]


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbfty_secret\n", "t\u00f6ken".encode(), b"\xff\xfe", b"", b"two words", None]
)
def test_a_token_file_that_cannot_be_used_is_named_and_heals(
    content: bytes | None, make_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    """A byte order mark ended the thread that ships."""
    token = tmp_path / "token"
    if content is not None:
        token.write_bytes(content)
    stack = make_stack(collector_token_file=str(token))
    stack.start_collector()
    stack.start_agent()
    wait_until(lambda: "collector_token_file: " in get(f"{stack.agent_url}/healthz").decode(), what="it is named")
    assert "secret" not in get(f"{stack.agent_url}/healthz").decode()
    token.write_text("ty_good\n")
    shipped(stack)
    assert "collector_token_file" not in get(f"{stack.agent_url}/healthz").decode()
    assert metric(stack, "ship_connections_total") == 1, "the connection is kept"
    stack.stop()


BREAKER = """
import os, sys, threading, time
def breaks():
    while "tokenyield_agent.daemon" not in sys.modules or not hasattr(sys.modules["tokenyield_agent.daemon"], "Agent"):
        time.sleep(0.01)
    from tokenyield_agent.gpu.poller import Poller
    from tokenyield_agent.host.energy import Dcmi
    from tokenyield_agent.shipping.shipper import Shipper
    from tokenyield_agent.status.server import _Server
    from tokenyield_agent.tokens.scrape import Scraper
    def broken(of, name):
        whole = getattr(of, name)
        def call(self, *words, **named):
            if os.path.exists(os.environ["BREAK_THREADS"]):
                raise SystemExit("broken by the test")
            return whole(self, *words, **named)
        setattr(of, name, call)
    for of, name in ((Poller, "_read_or_release"), (Shipper, "_ship"), (_Server, "service_actions"), (Scraper, "_go_on")):
        broken(of, name)
if "BREAK_THREADS" in os.environ:
    threading.Thread(target=breaks, daemon=True).start()
"""


def test_no_thread_ends_whatever_is_raised_in_it(
    make_stack: Callable[..., Stack], tmp_path: Path, scenario: Scenario
) -> None:
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "sitecustomize.py").write_text(BREAKER)
    broken = tmp_path / "broken"
    with serving(PAGE % 0) as server, watchdog(tmp_path) as alive:
        stack = make_stack(
            workloads=[{"name": "chat", "metrics": f"{server.url}/metrics", "gpus": [0]}], scrape_interval_s=1
        )
        stack.agent.env |= {
            "PYTHONPATH": str(tmp_path / "python"), "BREAK_THREADS": str(broken), "NOTIFY_SOCKET": alive.address,
        }  # fmt: skip
        stack.start_collector()
        stack.start_agent()
        wait_until(lambda: len(server.asked) > 2 and alive.heard > 2, what="all threads work")
        broken.touch()

        def all_failed() -> bool:
            stack.agent._answers(f"{stack.agent_url}/healthz")  # the thread status sleeps until somebody connects
            return all(
                f"the thread {name} failed" in stack.agent.said() for name in ("gpus", "ship", "status", "scrape")
            )

        wait_until(all_failed, what=f"all threads fail; {stack.agent.said()[-2000:]}")
        broken.unlink()
        wait_until(lambda: stack.agent._answers(f"{stack.agent_url}/healthz"), what="the status is back")
        shown = get(f"{stack.agent_url}/healthz").decode()
        assert "the thread ship failed with SystemExit" in shown
        asked = len(server.asked)
        wait_until(lambda: len(server.asked) > asked + 2, what="servers are asked again")
        is_up = b'tokenyield_agent_gpu_up{gpu="GPU-00000000-stand-in",index="0"} 1.0'
        wait_until(lambda: is_up in get(f"{stack.agent_url}/metrics"), what="the GPU is read again")
        for name in ("gpus", "ship", "status", "scrape"):
            assert metric(stack, f'thread_restarts_total{{thread="{name}"}}') >= 1
        shipped(stack)
        stack.stop()


def test_the_watchdog_hears_nothing_while_a_thread_fails_again_and_again(
    make_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "sitecustomize.py").write_text(
        BREAKER + "import tokenyield_agent.supervision as s\ns.PAUSE_S_MIN = s.PAUSE_S_MAX = 0.05\n"
    )
    broken = tmp_path / "broken"
    with watchdog(tmp_path) as alive:
        stack = make_stack()
        stack.agent.env |= {
            "PYTHONPATH": str(tmp_path / "python"), "BREAK_THREADS": str(broken), "NOTIFY_SOCKET": alive.address,
        }  # fmt: skip
        stack.start_agent()
        wait_until(lambda: alive.heard > 2, what="the watchdog hears of it")
        broken.touch()

        def is_silent() -> bool:
            heard = alive.heard
            time.sleep(2)
            return alive.heard == heard

        wait_until(is_silent, what="it hears nothing")


def test_a_log_that_is_hard_to_read_costs_itself(make_stack: Callable[..., Stack], tmp_path: Path) -> None:
    """Bytes without a newline held up the readings of the GPUs for 21 s, and lines of every server's words for 18: so much
    processor time, whatever else the machine does."""
    chat, logs = Server(tmp_path / "chat.log"), [tmp_path / "scattered.log", tmp_path / "words.log"]
    words = b"print_timing: eval time Decode batch Avg prompt throughput time_per_token POST /v1/chat/completions\n"
    workloads = [{"name": log.stem, "log": str(log), "start": "beginning"} for log in logs]
    stack = make_stack(workloads=[*workloads, {"name": "chat", "log": str(chat.log), "gpus": [0]}])
    stack.start_collector()
    stack.start_agent()
    for log, content in zip(logs, (b"x\0" * (1 << 19), words * (1 << 14)), strict=True):
        with log.open("wb") as file:
            for _ in range(200):
                file.write(content)
    polls, cpu_s = (metric(stack, name) for name in ("polls_total", "poll_cpu_seconds_total"))
    while (new_polls := metric(stack, "polls_total") - polls) < 6:
        chat.answer(random.Random(4))
        time.sleep(0.3)
    assert (metric(stack, "poll_cpu_seconds_total") - cpu_s) / new_polls < 3, "processor time of a poll"
    shipped(stack)
    assert b'source_events_total{workload="chat"} 0.0' not in get(f"{stack.agent_url}/metrics")
    stack.agent.kill()
    stack.collector.terminate()
    assert stack.query("SELECT sum(completion)::BIGINT FROM token_hours WHERE workload = 'chat'") == [
        (chat.completion,)
    ]


def test_a_log_that_a_tenant_swaps_for_a_link_is_refused_and_named(
    make_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    victim, chat = Server(tmp_path / "victim.log"), Server(tmp_path / "own" / "chat.log")
    chat.log.touch()
    stack = make_stack(workloads=[{"name": "chat", "log": str(chat.log), "gpus": [0]}])
    stack.start_collector()
    stack.start_agent()
    for _ in range(3):
        victim.answer(random.Random(4))
        chat.answer(random.Random(4))
    shipped(stack)
    chat.log.unlink()
    chat.log.symlink_to(victim.log)
    wait_until(lambda: "is a link" in stack.agent.said(), what="it is named")
    victim.answer(random.Random(4))
    shipped(stack)
    stack.stop()
    assert stack.query("SELECT sum(completion)::BIGINT FROM token_hours") == [(chat.completion,)]
