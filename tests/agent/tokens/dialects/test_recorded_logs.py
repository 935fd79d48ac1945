"""Every recorded log gives exactly its expected events, `auto` picks its dialect, and no trap counts.

`TOKENYIELD_WRITE_GOLDEN=1` writes the expected events anew; read them in review.
"""

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenyield_agent.tokens.dialects.registry import GATEWAYS, SERVERS, AutoDialect, new_dialect
from tokenyield_agent.tokens.event import KINDS, Counted, Dialect

LOGS = Path(__file__).parents[3] / "fixtures" / "logs"
RECORDED = sorted(path.relative_to(LOGS).as_posix() for path in LOGS.glob("*/*.log"))
ARRIVAL_S = datetime(2026, 11, 23, 13, 0).timestamp()
"""Times in logs are of this host's zone, so that the expected instants are compared with the first."""

DIALECT_OF = {
    "gateways/envoy-ai-gateway.log": "envoy-ai-gateway",
    "gateways/litellm.log": "litellm",
    "gateways/openai-usage.log": "openai-usage",
}

# (prompt_computed, prompt_cached, prompt_unsplit, completion, requests, requests_aborted, requests_failed), by hand.
TOTALS = {
    # 8 first lines: 40 steps x 12; TP0: 200 by steps, then rate x 1, 2, 1, 2, 1, 1, 1 s; EP0: 40, then 140.78 x 1
    "sglang/0.5-ranks.log": (43008 + 43264 + 2304 + 256, 0, 0, None, 2, 0, 0),
    "sglang/0.5-plain.log": (771 + 3341 + 895 + 3 * 4096 + 158 + 290 + 172, 49, 0, None, 3, 0, 0),
    "sglang/0.4.log": (136, 460, 0, None, 2, 0, 0),
    "sglang/0.3-and-0.1.log": (2062 + 6 * 8192 + 462, 6928 + 2210, 0, 0, 6, 0, 0),
    "tgi/text.log": (0, 0, 0, 14 + 20 + 93 + 20, 4, 0, 0),
    "tgi/json.log": (0, 0, 0, 14 + 93 + 20 + 512 + 494, 5, 0, 1),
    "trtllm/serve.log": (58 + 2048, 0, 0, 16 + 10 + 1 + 3 + 8 + 8 + 0, 0, 0, 0),
    "trtllm/triton.log": (2048, 0, 0, 12, 0, 0, 0),
    "llamacpp/2026-router.log": (27 + 104, 0 + (19740 + 1 - 104 - 764), 0, 192 + 764, 2, 0, 0),
    "llamacpp/2025.log": (237, 434 + 1 - 237 - 13, 0, 13, 1, 0, 0),
    "llamacpp/2024.log": (12 + 27, 0, 0, 783 + 25, 2, 0, 0),
    "llamacpp/2023-library.log": (19 + 271 + 178, 0, 0, 400 + 512 + 1, 3, 0, 0),
    "ollama/2023.log": (800 + 178, 0, 0, 396 + 1, 1, 0, 0),
    "ollama/2024-2026.log": (237, 434 + 1 - 237 - 13, 0, 13, 3, 1, 1),
    # 773 + 209 + (12, 1) + 120 (6 s is the usual 5 s) + 386
    "vllm/0.4-to-0.8-v0.log": (12, 0, 0, 386 + 209 + 1 + 120 + 386, 1, 0, 0),
    "gateways/envoy-ai-gateway.log": (
        (101 - 64) + (105 - 64) + (109 - 64), 3 * 64, 15 + sum(100 + i for i in range(12) if i % 4 != 1),
        7 + 10 * sum(range(12)), 13, 1, 1,
    ),
    "gateways/openai-usage.log": (
        (21 + 23 + 25 + 27 - 4 * 16) + 15 + 18, 64 + 100 + 32, 20 + 22 + 24 + 26 + 7,
        5 * sum(range(8)) + 3 + 9 + 6, 11, 0, 0,
    ),
}  # fmt: skip


def block_of(name: str) -> bytes:
    return (LOGS / name).read_bytes()


def as_rows(found: list[Counted]) -> list[dict[str, Any]]:
    rows = []
    first_s = next((counted.at_s for counted in found if counted.at_s is not None), 0.0)
    for counted in found:
        row: dict[str, Any] = {"method": counted.method, **counted.kinds()}
        if counted.span_ms:
            row["span_ms"] = counted.span_ms
        if counted.at_s is not None:
            row["after_s"] = round(counted.at_s - first_s, 3)
        if counted.asker is not None:
            row["asker"] = msgspec.to_builtins(counted.asker)
        rows.append(row)
    return rows


def totals(found: list[Counted]) -> dict[str, int]:
    return {kind: sum(getattr(counted, kind) or 0 for counted in found) for kind in KINDS}


@pytest.mark.parametrize("name", RECORDED)
def test_auto_picks_the_dialect_of_a_recorded_log(name: str) -> None:
    dialect = new_dialect("auto")
    dialect.feed(block_of(name), ARRIVAL_S)
    assert isinstance(dialect, AutoDialect)
    assert dialect.chosen is not None
    assert dialect.chosen.name == DIALECT_OF.get(name, name.partition("/")[0])


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_log_gives_exactly_its_events(name: str) -> None:
    rows = json.loads(json.dumps(as_rows(new_dialect("auto").feed(block_of(name), ARRIVAL_S))))
    expected = (LOGS / name).with_suffix(".json")
    if os.environ.get("TOKENYIELD_WRITE_GOLDEN"):
        expected.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    assert rows == json.loads(expected.read_bytes())


@pytest.mark.parametrize("name", TOTALS)
def test_the_totals_are_those_worked_out_by_hand(name: str) -> None:
    found = totals(new_dialect("auto").feed(block_of(name), ARRIVAL_S))
    expected = dict(zip(KINDS, TOTALS[name], strict=True))
    assert {kind: count for kind, count in found.items() if expected[kind] is not None} == {
        kind: count for kind, count in expected.items() if count is not None
    }


@pytest.mark.parametrize("name", RECORDED)
def test_the_same_events_however_the_log_is_cut_into_blocks(name: str) -> None:
    """Line by line, with the state written down and restored after each."""
    kind = DIALECT_OF.get(name, name.partition("/")[0])
    whole = totals(new_dialect(kind).feed(block_of(name), ARRIVAL_S))
    found: list[Counted] = []
    dialect = new_dialect(kind)
    for line in block_of(name).splitlines(keepends=True):
        found += dialect.feed(line, ARRIVAL_S)
        state = json.loads(json.dumps(dialect.state()))
        dialect = new_dialect(kind)
        dialect.restore(state)
    assert totals(found) == whole


@pytest.mark.parametrize("kind", [*SERVERS, *GATEWAYS, "auto"])
def test_traps_count_nothing(kind: str) -> None:
    dialect = new_dialect(kind)
    assert totals(dialect.feed(block_of("traps.log"), ARRIVAL_S)) == dict.fromkeys(KINDS, 0)
    assert dialect.recognised == 0


@pytest.mark.parametrize("kind", [*SERVERS, *GATEWAYS])
@pytest.mark.parametrize("name", RECORDED)
def test_a_dialect_counts_nothing_in_the_logs_of_others(kind: str, name: str) -> None:
    own = DIALECT_OF.get(name, name.partition("/")[0])
    related = {own, *({"llamacpp", "ollama"} if own in ("llamacpp", "ollama") else set())}
    if kind in related or (kind == "openai-usage" and own == "litellm"):
        return
    assert totals(new_dialect(kind).feed(block_of(name), ARRIVAL_S)) == dict.fromkeys(KINDS, 0)


LINES = [line for name in RECORDED for line in block_of(name).splitlines(keepends=True)] + block_of(
    "traps.log"
).splitlines(keepends=True)
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


@pytest.mark.parametrize("kind", [*SERVERS, *GATEWAYS, "auto"])
@given(blocks=st.lists(mutated(), min_size=1, max_size=3))
@settings(max_examples=int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "60")), deadline=None)
def test_mutated_lines_neither_raise_nor_give_what_the_wire_refuses(kind: str, blocks: list[bytes]) -> None:
    dialect: Dialect = new_dialect(kind)
    for block in blocks:
        for counted in dialect.feed(block, ARRIVAL_S):
            assert all(0 <= count < COUNT_MAX for count in counted.kinds().values()), counted
            assert 0 <= counted.span_ms <= 100 * 86_400_000
    json.dumps(dialect.state())
    dialect.finish()
