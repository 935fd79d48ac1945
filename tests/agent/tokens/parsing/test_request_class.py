"""The class of a request: its service tier, by a list, and how long its prompt is."""

import json
import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tokenyield_agent.config import load_settings
from tokenyield_agent.tokens.dialects.registry import new_dialect
from tokenyield_agent.tokens.parsing.request_class import RequestClasses
from tokenyield_settings.loader import SettingsError
from tokenyield_wire.window import LABELS_MAX

ROOT = Path(__file__).parents[4]
EDGES = (32_000, 128_000, 200_000)


def labels(
    dialect: str, *lines: dict[str, Any], classes: RequestClasses | None = None, fields: dict[str, str] | None = None
) -> list[dict[str, str]]:
    """Of each caller of these lines."""
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    counts = new_dialect(dialect, classes=classes, fields=fields).feed(body, 0.0)
    return [dict(one.caller.labels) for one in counts if one.caller is not None]


def litellm(**more: Any) -> dict[str, Any]:
    return {
        "id": "x", "call_type": "acompletion", "status": "success", "prompt_tokens": 10, "completion_tokens": 2,
        "startTime": 1795000000.25, "endTime": 1795000001.5, "model_group": "chat", "metadata": {}, **more,
    }  # fmt: skip


USAGE = {"prompt_tokens": 10, "completion_tokens": 2}


@pytest.mark.parametrize(
    ("dialect", "line", "tier"),
    [
        ("openai-usage", {"model": "m", "usage": USAGE, "service_tier": "priority"}, "priority"),
        ("openai-usage", {"response": {"model": "m", "usage": USAGE, "service_tier": "Flex"}}, "flex"),
        ("openai-usage", {"model": "m", "usage": {**USAGE, "service_tier": "standard"}}, "standard"),
        ("openai-usage", {"model": "m", "usage": USAGE, "serviceTier": {"type": "reserved"}}, "reserved"),
        ("openai-usage", {"model": "m", "usage": USAGE, "service_tier": "my-own-4711"}, "other"),
        ("openai-usage", {"model": "m", "usage": USAGE, "metadata": {"service_tier": "free"}}, None),
        ("openai-usage", {"model": "m", "usage": USAGE, "service_tier": None}, None),
        ("litellm", litellm(response={"service_tier": "default"}, model_parameters={"service_tier": "auto"}), "default"),
        ("litellm", litellm(model_parameters={"service_tier": "priority"}), "priority"),
        ("litellm", litellm(service_tier="batch"), "batch"),
        ("litellm", litellm(metadata={"usage_object": {"service_tier": "standard"}}), "standard"),
        ("litellm", litellm(metadata={"requester_metadata": {"service_tier": "free"}}), None),
        ("litellm", litellm(), None),
        (
            "envoy-ai-gateway",
            {"gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 9, "gen_ai.usage.output_tokens": 1,
             "response_code": 200, "gen_ai.openai.response.service_tier": "scale"},
            "scale",
        ),
    ],
)  # fmt: skip
def test_the_service_tier_is_that_of_the_answer_else_of_the_request(
    dialect: str, line: dict[str, Any], tier: str | None
) -> None:
    """What a client writes into its own metadata is no tier: it would choose its price."""
    (own,) = labels(dialect, line)
    assert own.get("service_tier") == tier


def test_fields_name_the_tier_before_the_answer_does() -> None:
    line = {"model": "m", "usage": USAGE, "service_tier": "default", "headers": {"x-tier": "gold"}}
    classes = RequestClasses(frozenset({"gold"}))
    (own,) = labels("openai-usage", line, classes=classes, fields={"service_tier": "headers.x-tier"})
    assert own == {"service_tier": "gold"}


def test_tiers_are_few_whatever_clients_send() -> None:
    lines = [{"id": str(i), "model": "m", "usage": USAGE, "service_tier": f"t{i}"} for i in range(1000)]
    assert labels("openai-usage", *lines) == [{"service_tier": "other"}]


@pytest.mark.parametrize(
    ("prompt", "context"),
    [(1, "le_32k"), (32_000, "le_32k"), (32_001, "le_128k"), (200_000, "le_200k"), (200_001, "gt_200k")],
)
def test_a_prompt_is_classed_with_what_was_cached(prompt: int, context: str) -> None:
    usage = {"prompt_tokens": prompt, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": prompt // 2}}
    classes = RequestClasses(context_edges=EDGES)
    assert labels("openai-usage", {"model": "m", "usage": usage}, classes=classes) == [{"context": context}]


def test_classes_keep_all_tokens() -> None:
    lines = [
        {"id": str(i), "model": "m", "usage": {"prompt_tokens": tokens, "completion_tokens": 1}}
        for i, tokens in enumerate((10, 40_000, 20, 300_000))
    ]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    counts = new_dialect("openai-usage", classes=RequestClasses(context_edges=EDGES)).feed(body, 0.0)
    by_class = {dict(one.caller.labels)["context"]: (one.prompt_unsplit, one.requests) for one in counts if one.caller}
    assert by_class == {"le_32k": (30, 2), "le_128k": (40_000, 1), "gt_200k": (300_000, 1)}


def test_what_is_no_single_request_or_has_no_prompt_has_no_class() -> None:
    classes = RequestClasses(context_edges=EDGES)
    failed = {"model": "m", "status": 500, "usage": {"prompt_tokens": 0, "completion_tokens": 0}}
    assert labels("openai-usage", failed, classes=classes) == [{}]
    batch = {
        "id": "b1", "object": "batch", "status": "completed", "model": "m",
        "usage": {"input_tokens": 900_000, "output_tokens": 5, "total_tokens": 900_005},
    }  # fmt: skip
    assert all("context" not in own for own in labels("openai-usage", batch, classes=classes))


def test_a_context_that_a_line_names_is_not_taken() -> None:
    line = {"model": "m", "usage": USAGE, "x": "anything"}
    assert labels("openai-usage", line, fields={"context": "x"}) == [{}]


def test_settings_are_checked() -> None:
    with pytest.raises(SettingsError) as error:
        load_settings(None, {}, ["context_edges=[3,2]", "service_tiers=[Gold]"])
    message = str(error.value)
    assert "context_edges: expected 1 to 16 numbers of tokens that grow, found 3, 2" in message
    assert "service_tiers: expected at most 16 names in lower case, found Gold" in message
    own = load_settings(None, {}, ["context_edges=[1000,1000000]", "caller_labels=[team,context]"])
    assert RequestClasses(context_edges=own.context_edges).labels(
        (), {"prompt_unsplit": 5000}, is_one_request=True
    ) == (("context", "le_1m"),)
    assert len(own.caller_labels) <= LABELS_MAX


def test_the_callback_keeps_the_tier_and_nothing_else_of_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/gateways/litellm_usage_log.py, with LiteLLM's class in the place of the library's."""
    for name in ("litellm", "litellm.integrations"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    stand_in = ModuleType("litellm.integrations.custom_logger")
    stand_in.CustomLogger = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "litellm.integrations.custom_logger", stand_in)
    monkeypatch.setenv("LITELLM_USAGE_LOG", str(tmp_path / "usage.jsonl"))
    script = runpy.run_path(str(ROOT / "docs" / "gateways" / "litellm_usage_log.py"))
    payload = litellm(response={"service_tier": "priority", "choices": ["secret"]}, model_parameters={"user": "secret"})
    script["writer"]._write({"standard_logging_object": payload})
    for handler in script["writer"]._log.handlers:
        handler.close()
    written = (tmp_path / "usage.jsonl").read_text()
    assert "secret" not in written
    assert labels("litellm", json.loads(written))[0]["service_tier"] == "priority"
