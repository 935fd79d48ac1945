"""Tenants of a GPU host against the running programs: what one of them does costs itself, and nothing falls silent."""

import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.shipping.test_aside import too_long, written
from agent.workloads.test_process_groups import lay_out
from harness import Stack, get, wait_until
from nvml.stand_in import Scenario, gpu_lines
from test_whole_way import Server
from tokenyield_agent.shipping.spool import Spool

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


def metric(stack: Stack, name: str) -> float:
    found = re.search(
        rb"^tokenyield_agent_%s (\S+)" % re.escape(name.encode()), get(f"{stack.agent_url}/metrics"), re.M
    )
    assert found is not None, name
    return float(found[1])


def shipped(stack: Stack) -> None:
    polls = metric(stack, "polls_total")
    wait_until(lambda: metric(stack, "polls_total") > polls + 10, what="the agent polls")
    time.sleep(1.2)  # the window that holds the last tokens
    wait_until(lambda: stack.spool_batches() <= 1, timeout_s=60, what=f"it ships; {stack.agent.said()[-2000:]}")


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
