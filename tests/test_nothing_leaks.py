"""Canaries in prompts, tokens, passwords and settings: none comes out of any log, metric, spool, ledger, answer or error."""

import base64
import json
import re
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import duckdb
import pytest

from harness import Stack, wait_until
from nvml.stand_in import Scenario, gpu_lines
from tokenyield_agent.cli import main as agent_main
from tokenyield_agent.shipping.record import HEAD  # the frame of a record, to look into it
from tokenyield_collector.cli import main as collector_main

PROMPT = "canary-prompt-4711"
AGENT_TOKEN, READER_TOKEN, WRONG_TOKEN = "canary-agents-token-1", "canary-readers-token-2", "canary-wrong-token-3"
PASSWORD = "canary-password-4"
CANARIES = (PROMPT, AGENT_TOKEN, READER_TOKEN, WRONG_TOKEN, PASSWORD)
STAMP = "2026-11-23T12:00:00.123456789Z"


def with_prompts(number: int) -> str:
    """Lines of servers and gateways with a prompt wherever one may stand."""
    spoken = json.dumps(
        {"messages": [{"role": "user", "content": f"{PROMPT} {number} tokens"}], "api_key": READER_TOKEN}
    )
    return (
        f"INFO 11-23 12:00:00 [logger.py:39] Received request cmpl-{number}: prompt: '{PROMPT}', params: SamplingParams()\n"
        f"{PROMPT}\n{spoken}\n"
        f'INFO: 127.0.0.1 - "POST /v1/completions?prompt={PROMPT} HTTP/1.1" 200 OK\n'
        "INFO 11-23 12:00:00 [loggers.py:127] Engine 000: Avg prompt throughput: 10.0 tokens/s, "
        "Avg generation throughput: 100.0 tokens/s, Running: 1 reqs, Waiting: 0 reqs, GPU KV cache usage: 1.0%\n"
    )


def spoken_by(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of a folder; what is packed, unpacked too."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        raw = path.read_bytes()
        yield str(path), raw
        at = 0
        while (at := raw.find(b"TYS1", at)) >= 0:
            _, length, _ = HEAD.unpack_from(raw, at)
            unpacked = zlib.decompressobj().decompress(raw[at + HEAD.size : at + HEAD.size + length])
            assert unpacked.startswith(b"{")
            yield f"{path} at {at}", unpacked
            at += 4


@pytest.fixture
def stack(tmp_path: Path, nvml_library: Path, scenario: Scenario) -> Iterator[Stack]:
    scenario.restart(gpu_lines(0))
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (secrets / "web.yaml").write_text(f"basic_auth_users: {{alice: '{hashed}'}}\n")
    (secrets / "tokens").write_text(f"{AGENT_TOKEN} name=agents may=write\n{READER_TOKEN} name=readers may=read\n")
    (secrets / "token").write_text(f"{AGENT_TOKEN}\n")
    out = tmp_path / "out"
    out.mkdir()
    running = Stack(
        out,
        agent={
            "window_length_s": 1,
            "window_settle_s": 0,
            "poll_interval_ms": 200,
            "log_level": "debug",
            "collector_token_file": str(secrets / "token"),
            "web_config_file": str(secrets / "web.yaml"),
            "workloads": [
                {"name": "chat", "log": str(secrets / "chat.log"), "gpus": [0], "start": "beginning"},
                {"name": "pod", "log": str(secrets / "pod.log"), "gpus": [0], "start": "beginning", "dialect": "vllm"},
            ],
            "gateways": [
                {"name": "gate", "log": str(secrets / "gate.log"), "dialect": "litellm", "start": "beginning"}
            ],
        },
        collector={
            "token_file": str(secrets / "tokens"),
            "web_config_file": str(secrets / "web.yaml"),
            "log_level": "debug",
        },
        agent_env=scenario.environment(nvml_library),
    )
    yield running
    running.kill_all()


def test_no_secret_and_no_prompt_comes_out(stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secrets = tmp_path / "secrets"
    seen: list[tuple[str, bytes]] = []

    def ask(url: str, path: str, authorization: str, body: bytes | None = None) -> int:
        request = urllib.request.Request(
            f"{url}{path}", body, {"Authorization": authorization} if authorization else {}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                status, said, headers = answer.status, answer.read(), str(answer.headers)
        except urllib.error.HTTPError as error:
            status, said, headers = error.code, error.read(), str(error.headers)
        seen.append((f"{path} {status}", said + headers.encode()))
        return int(status)

    basic = "Basic " + base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
    for part in range(20):
        with (secrets / "chat.log").open("a") as file:
            file.write(with_prompts(part))
        with (secrets / "gate.log").open("a") as file:
            file.write(json.dumps({"model": "m", "messages": PROMPT, "metadata": {"user_api_key": READER_TOKEN}, "usage": {
                "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, "response": PROMPT}) + "\n")  # fmt: skip
        with (secrets / "pod.log").open("a") as file:
            for line in with_prompts(part).splitlines():
                file.write(f"{STAMP} stdout F {line}\n")
            file.write(f"{STAMP} stdout P {PROMPT} in a part that is not whole yet\n")
        if part == 5:
            stack.agent.start(f"{stack.agent_url}/healthz")  # its collector is down: batches wait in the spool
            wait_until(
                lambda: sum(text.startswith(b"{") for _, text in spoken_by(stack.folder / "agent")) > 2,
                what="batches wait in the spool",
            )
            seen += spoken_by(stack.folder)
            stack.collector.start(f"{stack.url}/readyz")
    wait_until(lambda: stack.agent.said().count("again") > 0, what="batches are shipped")

    def is_counted() -> bool:
        request = urllib.request.Request(f"{stack.url}/metrics", headers={"Authorization": f"Bearer {READER_TOKEN}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return re.search(rb'kind="completion".* [1-9]', answer.read()) is not None

    wait_until(is_counted, what="tokens of the logs are counted")

    for path in (
        "/",
        "/metrics",
        "/v1/summary",
        "/v1/fleet",
        "/v1/report?period=2026-11",
        "/v1/budgets",
        "/v1/rates",
        "/nowhere",
    ):
        assert ask(stack.url, path, f"Bearer {READER_TOKEN}") in (200, 404, 400, 401)
        assert ask(stack.url, path, f"Bearer {WRONG_TOKEN}") in (401, 429)
        assert ask(stack.url, path, f"Basic {base64.b64encode(f'alice:{WRONG_TOKEN}'.encode()).decode()}") in (401, 429)
    for body in (f'{{"schema": 1, "agent_id": "{PROMPT}', f'{{"schema": "{PROMPT}"}}'):
        assert ask(stack.url, "/v1/batches", f"Bearer {READER_TOKEN}", body.encode()) == 403
    assert ask(stack.agent_url, "/metrics", basic) == 200
    assert ask(stack.agent_url, "/metrics", f"Bearer {WRONG_TOKEN}") == 401
    for process in (stack.agent.process, stack.collector.process):
        assert process is not None
        seen.append(("process title", Path(f"/proc/{process.pid}/cmdline").read_bytes()))

    flags = [
        f"--set=state_dir={tmp_path / 'state'}",
        "--set=pod_resources_socket=",
        "--set=slurm_jobs_dir=",
        f"--set=collector_token_file={secrets / 'token'}",
        f"--set=web_config_file={secrets / 'web.yaml'}",
    ]
    ledger_flag = f"--set=ledger_path={tmp_path / 'none.duckdb'}"
    agent_main(["check", *flags])
    agent_main(["doctor", *flags, f"--set=collector_url={stack.url}", "--set=gpu_reader=none"])
    agent_main(["tokens", str(secrets / "chat.log")])
    assert agent_main(["check", flags[0], "--set", f"collector_url=http://alice:{PASSWORD}@127.0.0.1"]) == 2
    collector_main(
        [
            "check",
            ledger_flag,
            f"--set=token_file={secrets / 'tokens'}",
            f"--set=web_config_file={secrets / 'web.yaml'}",
        ]
    )
    (secrets / "tokens-bad").write_text(f"{AGENT_TOKEN} {READER_TOKEN}\n{AGENT_TOKEN} may={READER_TOKEN}\n")
    assert collector_main(["check", ledger_flag, f"--set=token_file={secrets / 'tokens-bad'}"]) == 2
    captured = capsys.readouterr()
    seen.append(("the commands", (captured.out + captured.err).encode()))

    assert b"completion" in get_metrics(seen)
    stack.agent.terminate()
    stack.collector.terminate()
    seen += spoken_by(stack.folder)
    with duckdb.connect(str(stack.ledger_path), read_only=True) as ledger:
        for (table,) in ledger.execute("SELECT table_name FROM information_schema.tables").fetchall():
            seen.append((f"table {table}", repr(ledger.execute(f'SELECT * FROM "{table}"').fetchall()).encode()))
        assert ledger.execute("SELECT sum(completion) FROM token_hours").fetchone() != (0,), "the logs were read"

    assert len(seen) > 60
    for where, text in seen:
        for canary in CANARIES:
            assert canary.encode() not in text, f"{canary} came out: {where}"
            assert base64.b64encode(canary.encode()) not in text


def get_metrics(seen: list[tuple[str, bytes]]) -> bytes:
    return next(text for where, text in seen if where == "/metrics 200" and b"tokenyield_agent" not in text[:2000])
