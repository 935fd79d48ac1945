"""OTLP requests of coding agents and applications become points and slices: the samples, to the token."""

import json
from pathlib import Path
from typing import Any

import pytest

from tokenyield_collector.spend.otlp.dialects import METRICS
from tokenyield_collector.spend.otlp.document import (
    LogsRequest,
    MetricsRequest,
    OtlpRequest,
    TracesRequest,
    decode_json,
)
from tokenyield_collector.spend.otlp.points import ObservedAmounts, ObservedPoint
from tokenyield_collector.spend.otlp.protobuf import decode_protobuf, encode_answer
from tokenyield_collector.spend.otlp.reading import ReceivedPoints, ReceiverRules, read_request
from tokenyield_collector.spend.otlp.slices import ObservedSum, slices_of_day
from tokenyield_collector.spend.people import DirectoryEntry, people_filter
from tokenyield_collector.spend.slices import SpendAmounts, SpendKey, SpendSlice
from tokenyield_wire.units import MS_PER_DAY

FILES = Path(__file__).parents[2] / "fixtures" / "otlp"
NS = 1_795_500_000_000_000_000
"""2026-11-24T10:00:00Z, when the samples were made."""
DAY_MS = NS // 10**6 // MS_PER_DAY * MS_PER_DAY
RULES = ReceiverRules(
    first_ms=DAY_MS,
    last_ms=DAY_MS + MS_PER_DAY,
    people=people_filter("name", {"ada@example.com": DirectoryEntry(team="directory")}),
)
KINDS: dict[str, type] = {"metrics": MetricsRequest, "logs": LogsRequest, "spans": TracesRequest}
SAMPLES = {
    "claude_code_metrics": SpendAmounts(cache_read=18400, output=385, cost_micro=20300),
    "claude_code_logs": SpendAmounts(
        fresh=12, cache_read=18400, cache_write=5120, output=385, requests=1, cost_micro=20300
    ),
    "codex_logs": SpendAmounts(fresh=4000, cache_read=8000, output=900, reasoning=400, requests=1),
    "gemini_cli_logs": SpendAmounts(fresh=1000, cache_read=4000, output=420, reasoning=120, requests=1),
}


def decoded(name: str, ending: str = "json") -> OtlpRequest:
    kind: Any = KINDS[name.rpartition("_")[2]]
    body = (FILES / f"otlp_{name}.{ending}").read_bytes()
    request: OtlpRequest = decode_json(body, kind) if ending == "json" else decode_protobuf(body, kind)
    return request


def read(document: dict[str, Any], rules: ReceiverRules = RULES) -> ReceivedPoints:
    kind: Any = {"resourceMetrics": MetricsRequest, "resourceLogs": LogsRequest, "resourceSpans": TracesRequest}[
        next(iter(document))
    ]
    return read_request(decode_json(json.dumps(document).encode(), kind), rules)


def sums(points: list[ObservedPoint]) -> list[ObservedSum]:
    return [ObservedSum(p.account, p.sender, p.signal, p.client, p.fields, p.amounts) for p in points]


def slices(points: list[ObservedPoint]) -> list[SpendSlice]:
    return slices_of_day(DAY_MS, sums(points), [])


def whole(shown: list[SpendSlice]) -> SpendAmounts:
    amounts = SpendAmounts()
    for one in shown:
        for line in one.lines:
            amounts = amounts.plus(line.amounts)
    return amounts


def attributes(**values: Any) -> list[dict[str, Any]]:
    kinds = {str: "stringValue", int: "intValue", float: "doubleValue"}
    return [{"key": key.replace("__", "."), "value": {kinds[type(value)]: value}} for key, value in values.items()]


def metric(
    name: str, *points: dict[str, Any], temporality: int = 1, kind: str = "sum", **resource: Any
) -> dict[str, Any]:
    data = {"aggregationTemporality": temporality, "isMonotonic": True, "dataPoints": list(points)}
    return {"resourceMetrics": [{"resource": {"attributes": attributes(**resource)},
            "scopeMetrics": [{"metrics": [{"name": name, kind: data}]}]}]}  # fmt: skip


def point(value: Any, start: int = 0, time: int = 60, field: str = "asInt", **named: Any) -> dict[str, Any]:
    return {"startTimeUnixNano": str(NS + start * 10**9), "timeUnixNano": str(NS + time * 10**9), field: value,
            "attributes": attributes(**named)}  # fmt: skip


def span(trace: str = "a" * 32, resource: dict[str, Any] | None = None, **named: Any) -> dict[str, Any]:
    one = {"traceId": trace, "spanId": "b" * 16, "endTimeUnixNano": str(NS + 5), "name": "chat", "attributes": attributes(**named),
           "events": [{"name": "gen_ai.content.prompt", "attributes": attributes(gen_ai__prompt="secret")}]}  # fmt: skip
    return {
        "resourceSpans": [
            {"resource": {"attributes": attributes(**(resource or {}))}, "scopeSpans": [{"spans": [one]}]}
        ]
    }


@pytest.mark.parametrize("ending", ["json", "pb"])
@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_count_to_the_token(name: str, ending: str) -> None:
    received = read_request(decoded(name, ending), RULES)
    assert (received.refused, whole(slices(received.points))) == (0, SAMPLES[name])
    (key,) = {one.key for one in slices(received.points)}
    assert key == SpendKey("otlp", "default", DAY_MS, f"received:{received.points[0].sender}")
    assert {point.fields.person for point in received.points} == {"ada@example.com"}


@pytest.mark.parametrize("name", SAMPLES)
def test_protobuf_says_what_json_says(name: str) -> None:
    """The protobuf was written by opentelemetry-proto from the JSON."""
    assert read_request(decoded(name, "pb"), RULES) == read_request(decoded(name), RULES)


def test_a_request_that_metrics_and_events_show_counts_once() -> None:
    by_metrics = read_request(decoded("claude_code_metrics"), RULES).points
    by_events = read_request(decoded("claude_code_logs"), RULES).points
    assert whole(slices([*by_metrics, *by_events])) == SAMPLES["claude_code_logs"], "the finer one"
    assert whole(slices(by_metrics * 3 + by_events)).output == 3 * 385, "but not where it has much less"


def test_of_people_is_kept_what_the_setting_allows() -> None:
    team = ReceiverRules(first_ms=DAY_MS, last_ms=DAY_MS + MS_PER_DAY, key=b"k",
                         people=people_filter("team", {"ada@example.com": DirectoryEntry(team="search")}))  # fmt: skip
    (one,) = read_request(decoded("codex_logs"), team).points
    assert (one.fields.person, one.fields.team, one.fields.session) == (
        "",
        "search",
        "019e0000-0000-7000-8000-000000000001",
    )
    off = ReceiverRules(
        first_ms=DAY_MS, last_ms=DAY_MS + MS_PER_DAY, people=people_filter("off", {}), keeps_sessions=False
    )
    (one,) = read_request(decoded("codex_logs"), off).points
    assert (one.fields.person, one.fields.team, one.fields.session) == ("", "", "")
    assert "ada" not in repr(one)


GEN_AI: dict[str, Any] = {
    "gen_ai__provider__name": "aws.bedrock",
    "gen_ai__request__model": "nova",
    "gen_ai__operation__name": "chat",
}
OLD: dict[str, Any] = {
    "gen_ai__system": "openai",
    "gen_ai__usage__prompt_tokens": 10,
    "gen_ai__usage__completion_tokens": 3,
}
NEW: dict[str, Any] = {
    **GEN_AI,
    "gen_ai__usage__input_tokens": 100,
    "gen_ai__usage__output_tokens": 20,
    "gen_ai__usage__cache_read__input_tokens": 60,
    "gen_ai__usage__cache_creation__input_tokens": 30,
    "gen_ai__usage__reasoning__output_tokens": 5,
    "gen_ai__agent__name": "planner",
    "gen_ai__conversation__id": "c-1",
    "gen_ai__prompt": "secret",
    "code__filepath": "/home/ada/secret",
}


@pytest.mark.parametrize(
    ("named", "expected", "vendor"),
    [
        (OLD, ObservedAmounts(fresh=10, output=3, requests=1), "openai"),
        (NEW, ObservedAmounts(10, 60, 30, 20, 5, 1), "aws"),
    ],
)
def test_spans_by_old_and_new_names(named: dict[str, Any], expected: ObservedAmounts, vendor: str) -> None:
    received = read(span(resource={"service__name": "shop"}, **named))
    (one,) = received.points
    assert (one.amounts, one.fields.vendor, one.fields.product) == (expected, vendor, "shop")
    assert "secret" not in repr(received)


def test_keys_of_a_span_and_the_own_fleet() -> None:
    rules = ReceiverRules(
        first_ms=DAY_MS, last_ms=DAY_MS + MS_PER_DAY, own_fleet=("*.llm.internal", "10.1.*:8000", "vllm")
    )
    own: list[dict[str, Any]] = [
        {"server__address": "a.LLM.internal"},
        {"server__address": "10.1.2.3", "server__port": 8000},
        {"gen_ai__provider__name": "vllm"},
    ]
    for address in own:
        (one,) = read(span(**{**NEW, **address}), rules).points
        assert one.fields.vendor == "own-fleet"
        assert (one.fields.workload, one.fields.session, one.fields.model) == ("planner", "c-1", "nova")
    (other,) = read(span(**NEW, server__address="bedrock.example"), rules).points
    assert other.fields.vendor == "aws"


@pytest.mark.parametrize(
    "named",
    [
        {**NEW, "gen_ai__operation__name": "invoke_agent"},
        {**NEW, "gen_ai__operation__name": "execute_tool"},
        GEN_AI,
        {"http__route": "/x"},
    ],
)
def test_spans_that_are_no_request_count_nothing(named: dict[str, Any]) -> None:
    assert read(span(**named)) == ReceivedPoints()


def test_a_coding_agent_counts_by_its_own_names_only() -> None:
    """Gemini CLI sends the same tokens as gen_ai.client.token.usage."""
    gen_ai = metric(
        "gen_ai.client.token.usage",
        point(5, **dict[str, Any]({"gen_ai.token.type": "input"})),
        service__name="gemini-cli",
    )
    assert read(gen_ai) == ReceivedPoints()
    assert read(span(resource={"service__name": "codex-cli"}, **NEW)) == ReceivedPoints()


@pytest.mark.parametrize(
    ("name", "by", "values", "expected"),
    [
        ("codex.turn.token_usage", "token_type",
         {"total": 130, "input": 100, "cached_input": 60, "cache_write_input": 10, "output": 30, "reasoning_output": 8},
         SpendAmounts(fresh=30, cache_read=60, cache_write=10, output=30, reasoning=8)),
        ("gemini_cli.token.usage", "type", {"input": 50, "cache": 40, "tool": 2, "output": 3, "thought": 4},
         SpendAmounts(fresh=12, cache_read=40, output=7, reasoning=4)),
        ("gen_ai.client.token.usage", "gen_ai.token.type", {"input": 7, "output": 2}, SpendAmounts(fresh=7, output=2)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["sum", "histogram", "exponentialHistogram"])
def test_metrics_by_kind_of_token(
    name: str, by: str, values: dict[str, int], expected: SpendAmounts, kind: str
) -> None:
    field = "asInt" if kind == "sum" else "sum"
    points = [point(value, field=field, **dict[str, Any]({by: of})) for of, value in values.items()]
    received = read(metric(name, *points, kind=kind))
    assert (received.refused, whole(slices(received.points))) == (0, expected)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (metric("claude_code.token.usage", point(1, type="imagined")), "type: expected one of input"),
        (metric("claude_code.token.usage", point(1, type="input"), temporality=0), "aggregationTemporality"),
        (metric("claude_code.token.usage", point(-1, type="input")), "value: expected from 0"),
        (metric("claude_code.token.usage", point("NaN", field="asDouble", type="input")), "finite"),
        (metric("claude_code.token.usage", point("9" * 400, type="input")), "value: expected from 0"),
        (metric("claude_code.token.usage", point("x", type="input")), "a number"),
        (metric("claude_code.cost.usage", point(2e9, field="asDouble")), "value: expected from 0 to 1000000"),
        (metric("claude_code.token.usage", point(1, time=-40_000, type="input")), "time: expected one that is still"),
        (metric("claude_code.token.usage", point(1, time=10**6, type="input")), "not in the future"),
        (metric("claude_code.token.usage", {"timeUnixNano": "x", "asInt": 1, "attributes": attributes(type="input")}), "nanoseconds"),
        (metric("claude_code.token.usage", {"timeUnixNano": NS, "attributes": attributes(type="input")}), "found none"),
        (span(**{**NEW, "gen_ai__usage__cache_read__input_tokens": 71}), "input tokens"),
    ],
)  # fmt: skip
def test_a_point_that_cannot_be_counted_is_refused_and_why(document: dict[str, Any], why: str) -> None:
    received = read(document)
    assert (received.points, received.refused) == ([], 1)
    assert why in received.why


def test_only_the_bad_point_is_refused() -> None:
    received = read(metric("claude_code.token.usage", point(1, type="input"), point(-1, type="input")))
    assert (len(received.points), received.refused) == (1, 1)


def test_what_no_dialect_knows_is_left_out_without_a_word() -> None:
    assert read(metric("http.server.duration", point(-1))) == ReceivedPoints()
    assert all("." in name for name in METRICS)


@pytest.mark.parametrize(
    "body", [b"\xff", b"\x0a\x05", b"\x0b", b"\x08\x01", b"\x0a\x04\x12\x02\x0a\xff", b"\x80" * 11]
)
def test_broken_protobuf_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=" "):
        decode_protobuf(body, MetricsRequest)


def test_every_cut_of_a_request_ends_in_a_request_or_a_value_error() -> None:
    body = (FILES / "otlp_claude_code_metrics.pb").read_bytes()
    for i in range(len(body)):
        for cut in (body[:i], body[:i] + bytes([body[i] ^ 0xFF]) + body[i + 1 :]):
            try:
                read_request(decode_protobuf(cut, MetricsRequest), RULES)
            except ValueError:
                continue


def test_the_answer_in_protobuf() -> None:
    assert encode_answer(0, "") == b""
    assert encode_answer(300, "no") == b"\x0a\x07\x08\xac\x02\x12\x02no"


def test_what_has_no_points_any_more_goes() -> None:
    old = SpendKey("otlp", "default", DAY_MS, "received:codex")
    assert slices_of_day(DAY_MS, [], [old, old._replace(source="codex")]) == [SpendSlice(old, "observed", ())]
