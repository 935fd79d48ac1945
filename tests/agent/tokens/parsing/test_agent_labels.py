"""The task, session and name of an agent, as gateways log them."""

import json
import runpy
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from tokenyield_agent.config import load_settings
from tokenyield_agent.tokens.dialects.json_lines import LABEL_CHARS_MAX, LABELS
from tokenyield_agent.tokens.dialects.registry import GATEWAYS, new_dialect
from tokenyield_agent.tokens.parsing.agent_labels import AGENT_LABELS, HEADERS, METADATA_NAMES

ROOT = Path(__file__).parents[4]
AGENT = {"agent_task": "T-1", "session": "s-9", "agent": "triage"}
HEADER = {"x-agent-task": "T-1", "x-session-id": "s-9", "x-agent": "triage"}


def labels(dialect: str, line: dict[str, Any], fields: dict[str, str] | None = None) -> dict[str, str]:
    (counts,) = new_dialect(dialect, fields=fields, among={dialect: GATEWAYS[dialect].log}).feed(
        json.dumps(line).encode() + b"\n", 0.0
    )
    assert counts.caller is not None
    return dict(counts.caller.labels)


def litellm(**metadata: Any) -> dict[str, Any]:
    return {
        "id": "c-1", "call_type": "acompletion", "status": "success", "model": "m", "prompt_tokens": 9,
        "completion_tokens": 2, "startTime": 1.5, "endTime": 2.5,
        "metadata": {"user_api_key_team_alias": "search", **metadata},
    }  # fmt: skip


def usage(**more: Any) -> dict[str, Any]:
    return {"model": "m", "usage": {"prompt_tokens": 9, "completion_tokens": 2}, **more}


def envoy(**more: Any) -> dict[str, Any]:
    counts = {"gen_ai.usage.input_tokens": 15, "gen_ai.usage.output_tokens": 7}
    return {"gen_ai.request.model": "m", "response_code": 200, "method": "POST", **counts, **more}


@pytest.mark.parametrize(
    ("dialect", "line"),
    [
        ("litellm", litellm(spend_logs_metadata=AGENT)),
        ("litellm", litellm(requester_metadata=AGENT)),
        ("litellm", litellm(requester_metadata=json.dumps(AGENT))),
        ("litellm", litellm(requester_custom_headers=HEADER)),
        ("litellm", litellm(spend_logs_metadata={"agent_task_id": "T-1"}, requester_metadata={**AGENT, "agent_task": "x"})),
        ("envoy-ai-gateway", envoy(**HEADER)),
        ("envoy-ai-gateway", envoy(**AGENT)),
        ("openai-usage", usage(**AGENT)),
        ("openai-usage", usage(metadata=AGENT)),
        ("openai-usage", usage(metadata={"task_id": "T-1", "session_id": "s-9", "agent_name": "triage"})),
        ("openai-usage", usage(**HEADER)),
    ],
)  # fmt: skip
def test_what_agents_write_becomes_labels_of_the_caller(dialect: str, line: dict[str, Any]) -> None:
    assert {label: text for label, text in labels(dialect, line).items() if label in AGENT_LABELS} == AGENT


@pytest.mark.parametrize("dialect", ["envoy-ai-gateway", "openai-usage"])
def test_fields_come_first_and_leave_the_other_labels_their_names(dialect: str) -> None:
    line = {"envoy-ai-gateway": envoy, "openai-usage": usage}[dialect](**HEADER, job="J-7", **{"x-team": "search"})
    assert labels(dialect, line, {"team": "x-team", "agent_task": "job"}) == {
        "team": "search", "agent_task": "J-7", "session": "s-9", "agent": "triage",
    }  # fmt: skip


@pytest.mark.parametrize("value", [None, "", "-", {"id": 1}, ["a", 1, None], True, 1.5])
def test_what_is_no_name_is_no_label(value: Any) -> None:
    for dialect, line in (
        ("litellm", litellm(requester_metadata={"agent_task": value})),
        ("openai-usage", usage(metadata={"agent_task": value})),
    ):
        assert labels(dialect, line).get("agent_task") in (None, "a")


def test_a_long_task_is_cut_and_stays_distinct() -> None:
    one, other = (labels("openai-usage", usage(agent_task="x" * 500 + end))["agent_task"] for end in "ab")
    assert len(one) == len(other) == LABEL_CHARS_MAX
    assert one != other


def test_they_leave_the_host_only_if_the_settings_name_them() -> None:
    assert not set(AGENT_LABELS) & set(load_settings(None, {}, []).caller_labels)
    assert load_settings(None, {}, ["caller_labels=[team, agent_task]"]).caller_labels == ("team", "agent_task")
    assert set(AGENT_LABELS) <= set(LABELS)


def test_the_page_names_what_is_read() -> None:
    page = (ROOT / "docs" / "gateways.md").read_text()
    for label in AGENT_LABELS:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{label}` |")]
        assert row.split(" | ")[1:] == [
            ", ".join(f"`{name}`" for name in METADATA_NAMES[label]),
            ", ".join(f"`{name}`" for name in HEADERS[label]) + " |",
        ]


def test_the_callback_for_litellm_keeps_them_and_nothing_else_of_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = types.ModuleType("litellm.integrations.custom_logger")
    logger.CustomLogger = object  # type: ignore[attr-defined]
    for name in ("litellm", "litellm.integrations"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, logger.__name__, logger)
    monkeypatch.setenv("LITELLM_USAGE_LOG", str(tmp_path / "usage.jsonl"))
    writer = runpy.run_path(str(ROOT / "docs" / "gateways" / "litellm_usage_log.py"))["writer"]
    payload = litellm(
        spend_logs_metadata={"agent_task": "T-1", "notes": "a secret"},
        requester_metadata={"session_id": "s-9", "prompt": "a secret"},
        requester_custom_headers={"x-agent": "triage", "x-api-key": "a secret"},
    )
    writer._write({"standard_logging_object": payload})
    writer._log.handlers[0].close()
    line = (tmp_path / "usage.jsonl").read_text()
    assert "secret" not in line
    assert {name: text for name, text in labels("litellm", json.loads(line)).items() if name in AGENT_LABELS} == AGENT
