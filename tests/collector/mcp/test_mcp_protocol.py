"""Messages of both eras of the protocol, and what is refused of each, by the specification's statuses and codes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from tokenyield_collector.mcp.protocol import HANDSHAKE, STATELESS, ProtocolAnswer, ToolCall, read_message
from tokenyield_collector.mcp.tools import LISTED, TOOLS_MAX

META = {"io.modelcontextprotocol/protocolVersion": STATELESS, "io.modelcontextprotocol/clientCapabilities": {}}


def read(
    method: str, params: dict[str, Any] | None = None, number: Any = 1, **headers: str
) -> ToolCall | ProtocolAnswer:
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_message(CIMultiDict(named), json.dumps(message).encode(), LISTED)


def stateless(method: str, params: dict[str, Any] | None = None, **headers: str) -> ToolCall | ProtocolAnswer:
    named = {"MCP_Protocol_Version": STATELESS, "Mcp_Method": method, **headers}
    return read(method, {"_meta": META, **(params or {})}, **named)


def result(answer: ToolCall | ProtocolAnswer) -> Any:
    assert isinstance(answer, ProtocolAnswer)
    assert answer.status == 200
    assert answer.document is not None
    return answer.document["result"]


def refusal(answer: ToolCall | ProtocolAnswer) -> tuple[int, int]:
    assert isinstance(answer, ProtocolAnswer)
    assert answer.document is not None
    return answer.status, answer.document["error"]["code"]


@pytest.mark.parametrize("version", HANDSHAKE)
def test_a_version_of_the_handshake_is_agreed_on(version: str) -> None:
    agreed = result(read("initialize", {"protocolVersion": version, "capabilities": {}}))
    assert agreed["protocolVersion"] == version
    assert agreed["capabilities"] == {"tools": {"listChanged": False}}
    assert result(read("tools/list", MCP_Protocol_Version=version)) == {"tools": LISTED}
    assert result(read("ping", MCP_Protocol_Version=version)) == {}


def test_an_unknown_version_gets_the_newest_of_the_handshake() -> None:
    assert result(read("initialize", {"protocolVersion": "2030-01-01"}))["protocolVersion"] == HANDSHAKE[-1]


def test_without_a_handshake() -> None:
    found = result(stateless("server/discover"))
    assert found["supportedVersions"] == [STATELESS]
    assert found["resultType"] == "complete"
    listed = result(stateless("tools/list"))
    assert listed["tools"] == LISTED
    assert listed["ttlMs"] > 0
    assert listed["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "tokenyield"
    called = stateless("tools/call", {"name": "get_context"}, Mcp_Name="get_context")
    assert isinstance(called, ToolCall)
    assert called.answer({"content": []}).document == {
        "jsonrpc": "2.0", "id": 1,
        "result": {"resultType": "complete", "content": [], "_meta": listed["_meta"]},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (stateless("tools/list", Mcp_Method="tools/call"), (400, -32020)),
        (stateless("tools/list", MCP_Protocol_Version="2025-11-25"), (400, -32020)),
        (stateless("tools/call", {"name": "query"}, Mcp_Name="get_context"), (400, -32020)),
        (stateless("tools/call", {"name": "query"}), (400, -32020)),
        (stateless("tools/list", {"_meta": {}}), (400, -32602)),
        (stateless("tools/list", {"_meta": {**META, "io.modelcontextprotocol/protocolVersion": "2031-01-01"}},
                   MCP_Protocol_Version="2031-01-01"), (400, -32022)),
        (stateless("ping"), (404, -32601)),
        (stateless("initialize"), (404, -32601)),
        (stateless("tools/call", {"name": "rm"}, Mcp_Name="rm"), (400, -32602)),
        (read("tools/list", MCP_Protocol_Version="1999-01-01"), (400, -32022)),
        (read("resources/list"), (200, -32601)),
        (read("tools/call", {"name": "rm"}), (200, -32602)),
        (read("tools/call", {"name": ["query"]}), (200, -32602)),
        (read("tools/call", {"name": "query", "arguments": [1]}), (200, -32602)),
        (read("ping", number=[1]), (400, -32600)),
        (read("ping", number=True), (400, -32600)),
        (read_message({}, b"", LISTED), (400, -32700)),
        (read_message({}, b"[" * 60_000, LISTED), (400, -32700)),
        (read_message({}, b"\xff", LISTED), (400, -32700)),
        (read_message({}, b"[]", LISTED), (400, -32600)),
        (read_message({}, b'{"jsonrpc":"2.0","id":1}', LISTED), (400, -32600)),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_refused(answer: ToolCall | ProtocolAnswer, expected: tuple[int, int]) -> None:
    assert refusal(answer) == expected


def test_notifications_and_answers_have_no_answer() -> None:
    for body in (b'{"jsonrpc":"2.0","method":"notifications/initialized"}', b'{"jsonrpc":"2.0","id":1,"result":{}}'):
        assert read_message({}, body, LISTED) == ProtocolAnswer(202, None)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["jsonrpc", "id", "method", "params", "name", "arguments", "_meta"]), inner), max_leaves=8))  # fmt: skip
def test_no_document_is_answered_with_a_failure_of_ours(document: Any) -> None:
    if isinstance(document, dict):
        document["jsonrpc"] = "2.0"
    answer = read_message({}, json.dumps(document).encode(), LISTED)
    assert isinstance(answer, ToolCall) or answer.status in (200, 202, 400, 404)


def test_tools_are_few_read_only_and_described_by_us_alone() -> None:
    assert 0 < len(LISTED) <= TOOLS_MAX
    for tool in LISTED:
        assert tool["annotations"]["readOnlyHint"] is True
        assert tool["annotations"]["openWorldHint"] is False
        assert tool["inputSchema"]["type"] == "object"
        assert tool["inputSchema"]["additionalProperties"] is False
        assert "$ref" not in json.dumps(tool)
