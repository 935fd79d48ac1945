"""The bridge of `tokenyield-collector mcp`, as a desktop client starts it: the program, a running collector, the official client."""

import asyncio
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import Stack

TOKEN = "a-token-of-an-assistant"
COMMAND = ["-m", "tokenyield_collector.cli", "mcp"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("bridge")
    (folder / "tokens").write_text(f"{TOKEN} name=assistant may=read\n")
    (folder / "token").write_text(f"{TOKEN}\n")
    (folder / "wrong").write_text("another-token-of-nobody\n")
    running = Stack(folder, collector={"token_file": str(folder / "tokens")})
    running.start_collector()
    yield running
    running.kill_all()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_official_client_asks_through_the_bridge(stack: Stack, mode: str) -> None:
    official: Any = importlib.import_module("mcp")
    stdio: Any = importlib.import_module("mcp.client.stdio")
    arguments = [*COMMAND, "--url", f"{stack.url}/mcp", "--token-file", str(stack.folder / "token")]

    async def run() -> None:
        program = stdio.StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))
        async with official.Client(program, mode=mode) as session:
            assert session.protocol_version == ("2026-07-28" if mode == "auto" else "2025-11-25")
            assert {"get_context", "query"} <= {tool.name for tool in (await session.list_tools()).tools}
            result = await session.call_tool("query", {"period": "2026-10", "by": ["team"]})
            assert result.structured_content["rows"] == []

    asyncio.run(run())


def answers(url: str, token: Path | None, *lines: bytes) -> tuple[list[Any], str]:
    flags = ["--token-file", str(token)] if token else []
    done = subprocess.run(
        [sys.executable, *COMMAND, "--url", url, *flags],
        input=b"".join(line + b"\n" for line in lines),
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


def test_what_is_not_answered_is_an_error_of_the_protocol(stack: Stack) -> None:
    ping, notification = (
        b'{"jsonrpc":"2.0","id":7,"method":"ping"}',
        b'{"jsonrpc":"2.0","method":"notifications/initialized"}',
    )
    (wrong,), _ = answers(f"{stack.url}/mcp", stack.folder / "wrong", notification, ping)
    assert wrong["id"] == 7
    assert "answered 401: send Authorization: Bearer TOKEN" in wrong["error"]["message"]
    (away,), said = answers("http://127.0.0.1:9/mcp", None, ping)
    assert "no answer" in away["error"]["message"]
    assert "no answer" in said
    broken, pong = answers(f"{stack.url}/mcp", stack.folder / "token", b"{", b"", notification, ping)[0]
    assert broken["error"]["code"] == -32700
    assert pong == {"jsonrpc": "2.0", "id": 7, "result": {}}


def test_an_address_that_cannot_be_used() -> None:
    done = subprocess.run([sys.executable, *COMMAND, "--url", "localhost"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "url: expected http:// or https://, found 'localhost'\n")
