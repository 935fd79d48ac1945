"""Every recorded log gives exactly its expected events, `auto` picks its dialect, and no trap counts.

`TOKENYIELD_WRITE_GOLDEN=1` writes the expected events; read them in review.
"""

import json
import os
from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recordings import EXPECTED, LOGS, RUNS, TRAPS, Recording
from tokenyield_agent.tokens.dialects.registry import (
    SERVERS,
    AutoDialect,
    names,
    new_dialect,
)
from tokenyield_agent.tokens.event import KINDS, Dialect, TokenCounts
from tokenyield_agent.tokens.offline import read_log

ARRIVAL_S = datetime(2026, 11, 23, 13, 0).timestamp()
"""Times in logs are of this host's zone, so that the expected instants are compared with the first."""

RELATED = ({"llamacpp", "ollama"}, {"litellm", "openai-usage"})
"""Dialects of which one reads lines that stand in the other's log."""


def as_rows(events: list[TokenCounts]) -> list[dict[str, Any]]:
    rows = []
    first_s = next((counts.at_s for counts in events if counts.at_s is not None), 0.0)
    for counts in events:
        row: dict[str, Any] = {"method": counts.method, **counts.kinds()}
        if counts.span_ms:
            row["span_ms"] = counts.span_ms
        if counts.at_s is not None:
            row["after_s"] = round(counts.at_s - first_s, 3)
        if counts.caller is not None:
            row["caller"] = msgspec.to_builtins(counts.caller)
        rows.append(row)
    return rows


def totals(events: list[TokenCounts]) -> dict[str, int]:
    return {kind: sum(getattr(counts, kind) or 0 for counts in events) for kind in KINDS}


@pytest.mark.parametrize("recording", LOGS, ids=str)
def test_auto_picks_the_dialect_of_a_recorded_log(recording: Recording) -> None:
    dialect = new_dialect("auto")
    dialect.feed(recording.body, ARRIVAL_S)
    assert isinstance(dialect, AutoDialect)
    assert dialect.chosen is not None
    assert dialect.chosen.name == recording.dialect


@pytest.mark.parametrize("recording", LOGS, ids=str)
def test_a_recorded_log_gives_exactly_its_events(recording: Recording) -> None:
    rows = json.loads(json.dumps(as_rows(new_dialect("auto").feed(recording.body, ARRIVAL_S))))
    expected = recording.path.with_suffix(".json")
    if os.environ.get("TOKENYIELD_WRITE_GOLDEN"):
        expected.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    assert rows == json.loads(expected.read_bytes())


@pytest.mark.parametrize("recording", [log for log in LOGS if "totals" in log.expected], ids=str)
def test_the_totals_are_those_worked_out_by_hand(recording: Recording) -> None:
    by_hand = {**dict.fromkeys(KINDS, 0), **recording.expected["totals"]}
    counts = totals(new_dialect("auto").feed(recording.body, ARRIVAL_S))
    worked_out = {kind: count for kind, count in by_hand.items() if count is not None}
    assert {kind: count for kind, count in counts.items() if kind in worked_out} == worked_out


@pytest.mark.parametrize("recording", LOGS, ids=str)
def test_a_log_reports_no_other_kinds_than_its_server_declares(recording: Recording) -> None:
    if recording.dialect not in SERVERS:
        return  # a gateway's are those of its requests
    report = SERVERS[recording.dialect].log_report
    assert report is not None
    events = new_dialect("auto").feed(recording.body, ARRIVAL_S)
    assert {kind for counts in events for kind in counts.kinds()} <= set(report.kinds)
    assert report.has_load or not any(counts.load() for counts in events)


@pytest.mark.parametrize("name", RUNS)
def test_the_log_of_a_whole_run_gives_the_usage_of_all_answers(name: str) -> None:
    """To the token and request where the server counts, within what expected.yaml allows where it gives rates, and
    unknown where it reports nothing."""
    report = SERVERS[name].log_report
    assert report is not None
    usage = json.loads((RUNS[name] / "truth.json").read_bytes())["from_responses_usage"]
    read = read_log(RUNS[name] / "server.log", "auto")
    assert read.dialect == name
    for kind in ("completion", "requests"):
        if report.exactness(kind) in ("exact", "lower bound"):  # no request of these runs was given up
            assert getattr(read, kind) == usage[kind]
        elif kind in report.rates:
            assert getattr(read, kind) == pytest.approx(usage[kind], rel=EXPECTED[name]["run"]["rates_off_by"])
        else:
            assert getattr(read, kind) is None
    if {"prompt_computed", "prompt_cached"} <= {*report.exact, *report.lower_bound}:
        assert (read.prompt_computed or 0) + (read.prompt_cached or 0) == usage["prompt"]


@pytest.mark.parametrize("recording", LOGS, ids=str)
def test_the_same_events_however_the_log_is_cut_into_blocks(recording: Recording) -> None:
    """Line by line, with the state written down and restored after each."""
    kind = recording.dialect
    whole = totals(new_dialect(kind).feed(recording.body, ARRIVAL_S))
    events: list[TokenCounts] = []
    dialect = new_dialect(kind)
    for line in recording.body.splitlines(keepends=True):
        events += dialect.feed(line, ARRIVAL_S)
        state = json.loads(json.dumps(dialect.state()))
        dialect = new_dialect(kind)
        dialect.restore(state)
    assert totals(events) == whole


@pytest.mark.parametrize("kind", [*names(), "auto"])
def test_traps_count_nothing(kind: str) -> None:
    dialect = new_dialect(kind)
    assert totals(dialect.feed(TRAPS, ARRIVAL_S)) == dict.fromkeys(KINDS, 0)
    assert dialect.recognised == 0


@pytest.mark.parametrize("kind", names())
@pytest.mark.parametrize("recording", LOGS, ids=str)
def test_a_dialect_counts_nothing_in_the_logs_of_others(kind: str, recording: Recording) -> None:
    if kind == recording.dialect or any({kind, recording.dialect} <= related for related in RELATED):
        return
    assert totals(new_dialect(kind).feed(recording.body, ARRIVAL_S)) == dict.fromkeys(KINDS, 0)


LINES = [line for body in (*(log.body for log in LOGS), TRAPS) for line in body.splitlines(keepends=True)]
COUNT_MAX = 2**48


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Recorded lines, shuffled, cut, spliced, with bytes changed."""
    lines = []
    for line in draw(st.lists(st.sampled_from(LINES), min_size=1, max_size=8)):
        at = draw(st.integers(0, len(line) - 1))
        kind = draw(st.sampled_from(["keep", "cut", "splice", "byte", "digits"]))
        if kind == "cut":
            line = line[:at] + b"\n"
        elif kind == "splice":
            line = line[:at] + draw(st.sampled_from(LINES))
        elif kind == "byte":
            line = line[:at] + bytes([draw(st.integers(0, 255))]) + line[at + 1 :]
        elif kind == "digits":
            line = line[:at] + draw(st.sampled_from([b"9" * 30, b"-1", b"nan", b"inf", b"1,000", b"1e9"])) + line[at:]
        lines.append(line if line.endswith(b"\n") else line + b"\n")
    return b"".join(lines)


@pytest.mark.parametrize("kind", [*names(), "auto"])
@given(blocks=st.lists(mutated(), min_size=1, max_size=3))
@settings(max_examples=int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "60")), deadline=None)
def test_mutated_lines_neither_raise_nor_give_what_the_wire_refuses(kind: str, blocks: list[bytes]) -> None:
    dialect: Dialect = new_dialect(kind)
    for block in blocks:
        for counts in dialect.feed(block, ARRIVAL_S):
            assert all(0 <= count < COUNT_MAX for count in counts.kinds().values()), counts
            assert 0 <= counts.span_ms <= 100 * 86_400_000
    json.dumps(dialect.state())
    dialect.finish()
