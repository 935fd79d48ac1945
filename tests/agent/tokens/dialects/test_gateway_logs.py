"""Gateways' logs as the world leaves them: read as `tokenyield-agent tokens` reads them, they give what was worked out by
hand, whatever a container's runtime wrote around the lines; and no cut, lost or repeated line makes tokens of nothing."""

import copy
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recordings import LOGS, Recording
from tokenyield_agent.tokens.dialects.registry import GATEWAYS, new_dialect
from tokenyield_agent.tokens.event import KINDS, LINE_COUNT_MAX, TokenCounts
from tokenyield_agent.tokens.offline import read_log
from tokenyield_agent.tokens.parsing.loose_json import LooseDecoder
from tokenyield_wire.window import REQUEST_KINDS

GATEWAY_LOGS = [log for log in LOGS if log.dialect in GATEWAYS]
COUNTED = [log for log in GATEWAY_LOGS if "totals" in log.expected]
PREFIXES = (
    b"",
    b"gateway-1  | ",
    b"[pod/gateway-0/gateway] ",
    b"2026-11-27T00:00:00.123456789Z ",
    b"<14>Nov 27 00:00:00 node-7 gateway[4242]: ",
    b"level=info tags={prod} msg=",
)
PROMPT_KINDS = ("prompt_computed", "prompt_cached", "prompt_unsplit")


def totals(events: list[TokenCounts]) -> dict[str, int]:
    return {kind: sum(getattr(counts, kind) or 0 for counts in events) for kind in KINDS}


def comparable(sums: dict[str, int]) -> tuple[int, int, int]:
    """(prompts, completions, requests however they ended)."""
    return (
        sum(sums[kind] for kind in PROMPT_KINDS),
        sums["completion"],
        sum(sums[kind] for kind in REQUEST_KINDS),
    )


def as_cri(line: bytes) -> bytes:
    return b"2026-11-27T00:00:00.123456789Z stdout F " + line


def as_docker(line: bytes) -> bytes:
    entry = {"log": line.decode("utf-8", "replace") + "\n", "stream": "stdout", "time": "2026-11-27T00:00:00Z"}
    return json.dumps(entry).encode()


@pytest.mark.parametrize("wrapped", [bytes, as_cri, as_docker, *(prefix.__add__ for prefix in PREFIXES[1:])])
@pytest.mark.parametrize("recording", COUNTED, ids=str)
def test_a_log_gives_what_was_worked_out_by_hand_whatever_is_around_its_lines(
    recording: Recording, wrapped: Any, tmp_path: Path
) -> None:
    log = tmp_path / "0.log"
    log.write_bytes(b"".join(wrapped(line) + b"\n" for line in recording.body.splitlines()))
    read = read_log(log, "auto")
    by_hand = {**dict.fromkeys(KINDS), **recording.expected["totals"]}
    assert read.dialect == recording.dialect
    assert {kind: getattr(read, kind) for kind in KINDS} == by_hand


def has_id(line: bytes) -> bool:
    return any(name in line for name in (b'"id":', b'"id": ', b'"custom_id":', b'"x-request-id":'))


@st.composite
def untidy(draw: st.DrawFn, *, whole: bool) -> tuple[Recording, list[bytes]]:
    """A gateway's lines with prefixes, those with an id repeated; where not `whole`, some cut or lost."""
    recording = draw(st.sampled_from(GATEWAY_LOGS))
    lines: list[bytes] = []
    for line in recording.body.splitlines():
        ways = ["keep", "keep", "repeat"] if whole else ["keep", "repeat", "lose", "cut the end", "cut the beginning"]
        way = draw(st.sampled_from(ways))
        at = draw(st.integers(1, max(1, len(line) - 1)))
        if way == "cut the end":
            line = line[:at]
        elif way == "cut the beginning":
            line = line[at:]
        if way != "lose":
            lines.append(draw(st.sampled_from(PREFIXES)) + line)
        if way == "repeat" and has_id(line):
            again = draw(st.integers(0, len(lines)))  # a shipper sends it again, sooner or later
            lines.insert(again, draw(st.sampled_from(PREFIXES)) + line)
    return recording, lines


def fed(kind: str, lines: list[bytes], restarts_every: int) -> dict[str, int]:
    """Totals of the lines, with the state written down and restored after every so many."""
    dialect, events = new_dialect(kind), []
    for start in range(0, len(lines), restarts_every):
        events += dialect.feed(b"".join(line + b"\n" for line in lines[start : start + restarts_every]), 0.0)
        state = json.loads(json.dumps(dialect.state()))
        dialect = new_dialect(kind)
        dialect.restore(state)
    return totals(events)


@given(log=untidy(whole=True), restarts_every=st.integers(1, 30))
@settings(deadline=None)
def test_prefixes_and_repeated_lines_change_nothing(log: tuple[Recording, list[bytes]], restarts_every: int) -> None:
    recording, lines = log
    whole = totals(new_dialect(recording.dialect).feed(recording.body, 0.0))
    assert comparable(fed(recording.dialect, lines, restarts_every)) == comparable(whole)


@given(log=untidy(whole=False), restarts_every=st.integers(1, 30))
@settings(deadline=None)
def test_cut_lost_and_repeated_lines_never_make_tokens_of_nothing(
    log: tuple[Recording, list[bytes]], restarts_every: int
) -> None:
    recording, lines = log
    whole = comparable(totals(new_dialect(recording.dialect).feed(recording.body, 0.0)))
    read = comparable(fed(recording.dialect, lines, restarts_every))
    assert all(part <= most for part, most in zip(read, whole, strict=True)), (read, whole)


@pytest.mark.parametrize(
    ("name", "line", "requests"),
    [
        ("litellm", '"id":"a","startTime":1795000000', 1),
        ("litellm", '"id":null,"startTime":1795000000.123456', 1),
        ("litellm", '"id":null,"startTime":1795000000', 2),
        ("envoy-ai-gateway", '"x-request-id":"a"', 1),
        ("envoy-ai-gateway", '"x-request-id":"-","downstream_remote_address":"10.0.0.1:4711"', 1),
        ("envoy-ai-gateway", '"start_time":"2026-11-27T00:00:00.894Z"', 2),
        ("openai-usage", '"request_id":"a"', 1),
        ("openai-usage", '"time":"2026-11-27T00:00:00Z"', 2),
    ],
)
def test_equal_lines_are_one_request_where_something_tells_requests_apart(name: str, line: str, requests: int) -> None:
    tokens = {
        "litellm": '"call_type":"completion","status":"success","prompt_tokens":3,"completion_tokens":1',
        "envoy-ai-gateway": '"response_code":200,"gen_ai.usage.input_tokens":3,"gen_ai.usage.output_tokens":1',
        "openai-usage": '"usage":{"prompt_tokens":3,"completion_tokens":1}',
    }
    twice = f"{{{line},{tokens[name]}}}\n".encode() * 2
    assert totals(new_dialect(name).feed(twice, 0.0))["requests"] == requests


HOSTILE: tuple[Any, ...] = (
    None, True, -1, 0, 499, 2**40, 10**30, 1e308, float("nan"), float("inf"), "", "-", "15", "9" * 5000, "x" * 300,
    "\ud83d", "\x00\n", [], [[1]], ["a", None], {}, {"": {"": 1}}, {"prompt_tokens": {}}, {"type": []}, "{", '{"a":1}',
)  # fmt: skip


def places(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The paths of all fields of a document."""
    if not isinstance(value, dict):
        return []
    return [place for name, inner in value.items() for place in [(*path, name), *places(inner, (*path, name))]]


DOCUMENTS = [
    (recording.dialect, document)
    for recording in GATEWAY_LOGS
    for line in recording.body.splitlines()
    if line.startswith(b"{") and isinstance(document := LooseDecoder().decode(line), dict)
]


@given(
    known=st.sampled_from(DOCUMENTS),
    values=st.lists(st.tuples(st.integers(0, 99), st.sampled_from(HOSTILE)), min_size=1, max_size=3),
)
@settings(deadline=None)
def test_no_value_raises_or_counts_more_than_a_line_may(
    known: tuple[str, dict[str, Any]], values: list[tuple[int, Any]]
) -> None:
    name, document = known[0], json.loads(json.dumps(known[1]))
    for number, value in values:
        paths = places(document)
        *folders, last = paths[number % len(paths)]
        inner = document
        for folder in folders:
            inner = inner[folder]
        inner[last] = copy.deepcopy(value)
    dialect = new_dialect(name)
    for counts in dialect.feed(json.dumps(document).encode() + b"\n", 0.0):
        assert all(0 <= count < LINE_COUNT_MAX for count in counts.kinds().values())
        assert len(counts.kinds().keys() & set(REQUEST_KINDS)) <= 2
        msgspec.json.encode(counts)
    json.dumps(dialect.state())


@pytest.mark.parametrize("name", GATEWAYS)
def test_the_state_of_an_older_agent_is_still_read(name: str) -> None:
    dialect = new_dialect(name)
    dialect.restore({"model": None, "recognised": 7})
    assert dialect.recognised == 7
    assert dialect.state().keys() == {"model", "recognised", "seen", "jobs"}


@pytest.mark.parametrize("recording", COUNTED, ids=str)
def test_no_name_is_longer_than_its_bound(recording: Recording) -> None:
    long = recording.body.replace(b'"search"', b'"%b"' % (b"\xc3\xa9" * 5000)).replace(b'"m"', b'"%b"' % (b"m" * 5000))
    for counts in new_dialect(recording.dialect).feed(long, 0.0):
        assert counts.caller is not None
        assert all(len(text) <= 128 for text in (counts.caller.model or "", *dict(counts.caller.labels).values()))
