"""A real LiteLLM proxy in front of a real llama-server, two teams with a key each: who asked stands in the ledger as the
answers said, and the server's tokens once. In front of a server that fails and never ends, it writes how requests ended
as we read it."""

import contextlib
import json
import os
import random
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness import Stack, free_port, get, wait_until
from nvml.stand_in import Scenario, gpu_lines
from real.llama_server import LlamaServer
from real.own_venv import install
from tokenyield_agent.tokens.offline import read_log

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
CONFIG = """
model_list:
  - model_name: chat
    litellm_params: {{model: openai/tiny, api_base: "http://127.0.0.1:{port}/v1", api_key: none}}
litellm_settings:
  callbacks: litellm_usage_log.writer
general_settings:
  custom_auth: keys.authenticate
  master_key: os.environ/LITELLM_MASTER_KEY
"""
KEYS = """
from fastapi import Request
from litellm.proxy._types import UserAPIKeyAuth

TEAMS = {"sk-search": ("search", "search-prod"), "sk-ads": ("ads", "ads-batch")}


async def authenticate(request: Request, api_key: str) -> UserAPIKeyAuth:
    team, alias = TEAMS[api_key]
    return UserAPIKeyAuth(api_key=api_key, team_id=f"id-{team}", team_alias=team, key_alias=alias, user_id="someone")
"""


class Proxy:
    """LiteLLM as an operator runs it, with the callback of our documentation."""

    def __init__(self, folder: Path, server_port: int) -> None:
        folder.mkdir()
        self.port, self.log = free_port(), folder / "usage.jsonl"
        shutil.copy(ROOT / "docs" / "gateways" / "litellm_usage_log.py", folder)
        (folder / "keys.py").write_text(KEYS)
        (folder / "config.yaml").write_text(CONFIG.format(port=server_port))
        program = install("litellm", Path(os.environ.get("TOKENYIELD_CACHE", "~/.cache/tokenyield")).expanduser())
        env = {**os.environ, "LITELLM_USAGE_LOG": str(self.log), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        env["LITELLM_MASTER_KEY"] = f"sk-{os.urandom(24).hex()}"
        self._out = folder / "out"
        call = [str(program), "--config", "config.yaml", "--port", str(self.port), "--host", "127.0.0.1"]
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [*call, "--telemetry", "False"], cwd=folder, env=env, stdout=out, stderr=out
            )
        wait_until(self._ready, timeout_s=120, what=f"LiteLLM is ready, see {folder}/out")

    def _ready(self) -> bool:
        assert self.process.poll() is None, self._out.read_text()[-3000:]
        try:
            return bool(get(f"http://127.0.0.1:{self.port}/health/liveliness"))
        except OSError:
            return False

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def chat(self, key: str, text: str, max_tokens: int, *, stream: bool) -> dict[str, Any]:
        """The `usage` of one answer."""
        body: dict[str, Any] = {
            "model": "chat",
            "messages": [{"role": "user", "content": text}],
            "max_tokens": max_tokens,
        }
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        with urllib.request.urlopen(
            urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=60
        ) as answer:
            if not stream:
                found: dict[str, Any] = json.load(answer)["usage"]
                return found
            chunks = [json.loads(line[6:]) for line in answer if line.startswith(b"data: {")]
            return next(chunk["usage"] for chunk in reversed(chunks) if chunk.get("usage"))


class UnsteadyServer(BaseHTTPRequestHandler):
    """Answers with 20 + 5 tokens, fails where the prompt says so, and streams until the client leaves."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        if body.get("stream"):
            self._answer(200, "text/event-stream", b"")
            with contextlib.suppress(ConnectionError):
                self._stream()
        elif prompt == "fail":
            self._answer(500, "application/json", b'{"error":{"message":"no","type":"server_error"}}')
        else:
            message = {"role": "assistant", "content": "word"}
            usage = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
            answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "tiny", "usage": usage}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            self._answer(200, "application/json", json.dumps({**answer, "choices": choices}).encode())

    def _stream(self) -> None:
        choice = {"index": 0, "delta": {"role": "assistant", "content": "word "}, "finish_reason": None}
        chunk = {"id": "chatcmpl-s", "object": "chat.completion.chunk", "created": 1, "model": "tiny"}
        line = b"data: " + json.dumps({**chunk, "choices": [choice]}).encode() + b"\n\n"
        while True:
            self.wfile.write(line)
            time.sleep(0.02)

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def unsteady(tmp_path: Path) -> Iterator[Proxy]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), UnsteadyServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    started = Proxy(tmp_path / "unsteady", server.server_address[1])
    yield started
    started.stop()
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LlamaServer]:
    started = LlamaServer(tmp_path, tmp_path / "llama.log")
    yield started
    started.kill()


@pytest.fixture
def proxy(tmp_path: Path, server: LlamaServer) -> Iterator[Proxy]:
    started = Proxy(tmp_path / "litellm", server.port)
    yield started
    started.stop()


def test_who_asked_stands_in_the_ledger(
    proxy: Proxy, server: LlamaServer, tmp_path: Path, nvml_library: Path, scenario: Scenario
) -> None:
    scenario.restart(gpu_lines(0, pid=server.process.pid))
    stack = Stack(
        tmp_path,
        agent={"gateways": [{"name": "litellm", "log": str(proxy.log)}], "scrape_interval_s": 1},
        agent_env=scenario.environment(nvml_library),
    )
    said = {team: {"prompt": 0, "completion": 0, "requests": 0} for team in ("search", "ads")}
    try:
        stack.start_collector()
        stack.start_agent()
        wait_until(lambda: b'counted_by_endpoint{workload="llamacpp' in get(f"{stack.agent_url}/metrics"))
        time.sleep(3)
        chosen = random.Random(11)
        for i in range(60):
            team = chosen.choice(("search", "ads"))
            words = "a shared beginning that the cache knows " * chosen.randrange(3) + str(i)
            usage = proxy.chat(f"sk-{team}", words, chosen.randrange(1, 60), stream=i % 5 == 0)
            said[team]["prompt"] += usage["prompt_tokens"]
            said[team]["completion"] += usage["completion_tokens"]
            said[team]["requests"] += 1
            if i == 30:
                stack.agent.kill()
                proxy.log.rename(proxy.log.with_suffix(".jsonl.1"))  # rotated while nobody looks
                stack.start_agent()
        with pytest.raises(urllib.error.HTTPError):
            proxy.chat("sk-nobody", "x", 1, stream=False)
        wait_until(lambda: lines_in(proxy) == 61, what="LiteLLM has logged every request, and the refused one")
        stack.wait_for_tokens(sum(team["completion"] for team in said.values()))
        requested = sum(team["completion"] for team in said.values())
        wait_until(lambda: stack.counted("tokenyield_demand_tokens_total") >= requested, what="callers are counted")
        stack.stop()
    finally:
        stack.kill_all()
    whole = "coalesce(sum(prompt_computed), 0) + coalesce(sum(prompt_cached), 0) + coalesce(sum(prompt_unsplit), 0)"
    found = stack.query(
        f"SELECT asker, {whole}, sum(completion), sum(requests) FROM demand_windows WHERE asker <> '{{}}' GROUP BY asker ORDER BY asker"
    )
    assert [(json.loads(asker), *counts) for asker, *counts in found] == [
        ({"key": alias, "team": team}, said[team]["prompt"], said[team]["completion"], said[team]["requests"])
        for team, alias in (("ads", "ads-batch"), ("search", "search-prod"))
    ], "no user: the settings do not let it out"
    assert stack.query("SELECT sum(requests), sum(requests_failed) FROM demand_windows WHERE asker = '{}'") == [
        (None, 1)
    ]
    ((prompt, completion),) = stack.query(f"SELECT {whole}, sum(completion) FROM token_windows")
    assert (prompt, completion) == tuple(said["ads"][kind] + said["search"][kind] for kind in ("prompt", "completion"))
    if target := os.environ.get("TOKENYIELD_RECORD_LITELLM"):
        Path(target).write_text(proxy.log.with_suffix(".jsonl.1").read_text())
    print(f"\n{said}: equal in the ledger by team, and once at the server")


def test_failed_requests_and_clients_that_leave_are_counted_apart_with_what_they_used(unsteady: Proxy) -> None:
    assert unsteady.chat("sk-search", "hello", 5, stream=False)["completion_tokens"] == 5
    with pytest.raises(urllib.error.HTTPError):
        unsteady.chat("sk-search", "fail", 5, stream=False)
    body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "on and on"}]}
    call = urllib.request.Request(
        f"http://127.0.0.1:{unsteady.port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": "Bearer sk-search", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(call, timeout=60) as answer:
        for _ in range(40):
            answer.readline()
    wait_until(lambda: len(unsteady.log.read_text().splitlines()) == 3, what="LiteLLM has logged every request")
    found = read_log(unsteady.log, "litellm")
    assert (found.requests, found.requests_failed, found.requests_aborted) == (1, 1, 1)
    assert found.completion is not None
    assert found.completion > 5 + 10, "LiteLLM's own estimate of what the stream was until then"


def lines_in(proxy: Proxy) -> int:
    logs = [proxy.log, proxy.log.with_suffix(".jsonl.1")]
    return sum(len(log.read_text().splitlines()) for log in logs if log.exists())
