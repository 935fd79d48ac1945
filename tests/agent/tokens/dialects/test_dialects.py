"""The dialects against recorded logs with the true counts, and against traps."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recordings import RUNS
from tokenyield_agent.tokens.dialects.llamacpp import LlamaCpp
from tokenyield_agent.tokens.dialects.registry import UnknownDialect, new_dialect
from tokenyield_agent.tokens.dialects.vllm import Vllm
from tokenyield_agent.tokens.event import Dialect, TokenCounts
from tokenyield_agent.tokens.offline import UnrecognizedLog, read_log

ARRIVAL_S = datetime(2026, 11, 23, 13, 0).timestamp()
TAIL = "Running: 4 reqs, Waiting: 0 reqs, GPU KV cache usage: 0.1%, Prefix cache hit rate: 33.5%"
TAIL_V0 = "Running: 1 reqs, Swapped: 0 reqs, Pending: 0 reqs, GPU KV cache usage: 2.0%, CPU KV cache usage: 0.0%."


def v1(clock: str, prompt: float, generation: float, engine: str = "000", prefix: str = "") -> str:
    rates = f"Avg prompt throughput: {prompt} tokens/s, Avg generation throughput: {generation} tokens/s"
    return f"{prefix}INFO 11-23 {clock} [loggers.py:335] Engine {engine}: {rates}, {TAIL}"


def v0(clock: str, prompt: float, generation: float, source: str = "metrics.py:449]") -> str:
    rates = f"Avg prompt throughput: {prompt} tokens/s, Avg generation throughput: {generation} tokens/s"
    return f"INFO 11-23 {clock} {source} {rates}, {TAIL_V0}"


def feed(dialect: Dialect, *lines: str) -> list[TokenCounts]:
    return dialect.feed("".join(f"{line}\n" for line in lines).encode(), ARRIVAL_S)


def completion(events: list[TokenCounts]) -> list[int | None]:
    return [counts.completion for counts in events if counts.completion is not None]


def truth(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((RUNS[name] / "truth.json").read_bytes())
    return document


# --- the recordings -------------------------------------------------------------------------------------------------


def test_llamacpp_counts_equal_the_usage_of_all_answers() -> None:
    usage = truth("llamacpp")
    read = read_log(RUNS["llamacpp"] / "server.log", "auto")
    assert (read.dialect, read.model, read.method) == ("llamacpp", "tiny.gguf", "count")
    assert read.completion == usage["from_responses_usage"]["completion"]
    assert read.requests == usage["from_responses_usage"]["requests"]
    assert read.prompt_computed == usage["from_metrics"]["prompt_computed"]
    assert read.prompt_cached == usage["from_metrics"]["prompt_cached"]
    assert read.first_timestamp is None, "this log has no wall clock"


def test_vllm_rates_are_within_two_percent_of_the_usage_of_all_answers() -> None:
    usage = truth("vllm")["from_responses_usage"]
    read = read_log(RUNS["vllm"] / "server.log", "auto")
    assert (read.dialect, read.model, read.method) == ("vllm", "tiny-llama", "rate")
    assert read.completion == pytest.approx(usage["completion"], rel=0.02)
    assert read.requests == usage["requests"]
    assert read.prompt_cached is None, "the log does not report them"
    assert read.first_timestamp is not None


def test_vllm_regular_intervals_are_within_a_thousandth() -> None:
    """The second burst of the recording, after the silent gap: 20,535 tokens by the server's counter."""
    lines = (RUNS["vllm"] / "server.log").read_bytes().splitlines(keepends=True)
    dialect = Vllm()
    events = [c for line in lines if b"throughput: " in line for c in dialect.feed(line, ARRIVAL_S)]
    assert sum(c.completion or 0 for c in events[5:]) == pytest.approx(20_535, rel=0.001)


# --- vLLM's forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        v1("12:00:00", 0.0, 77.3),
        v1("12:00:00", 0.0, 77.3, prefix="(APIServer pid=12397) "),
        v1("12:00:00", 0.0, 77.3, prefix="\x1b[1;36m(APIServer pid=1)\x1b[0;0m "),
        v1("12:00:00", 0.0, 77.3, prefix="2026-05-12T08:01:39.331095044Z (APIServer pid=1) "),
        v1("12:00:00", 0.0, 77.3, prefix="Nov 23 12:00:00 host vllm[77]: "),
        v1("12:00:00", 0.0, 77.3, prefix="vllm-1  | "),
        v1("12:00:00", 0.0, 77.3).replace("Engine 000", "2 Engines Aggregated"),
        v1("12:00:00", 0.0, 77.3).replace("Engine 000: ", "").replace("loggers.py:335", "loggers.py:87"),
        v1("12:00:00", 0.0, 77.3) + ", MFU: 1.7 TF/s/GPU 50.0 GB/s/GPU",
    ],
)
def test_vllm_v1_forms(line: str) -> None:
    assert completion(feed(Vllm(), line)) == [773]


@pytest.mark.parametrize(
    "line",
    [
        v0("12:00:00", 0.0, 41.8),
        v0("12:00:00", 0.0, 41.8, "llm_engine.py:706]"),
        v0("12:00:00", 0.0, 41.8, "[metrics.py:486]"),
        "(_AsyncLLMEngine pid=1974) " + v0("12:00:00", 0.0, 41.8, "llm_engine.py:706]"),
    ],
)
def test_vllm_v0_forms_report_five_seconds(line: str) -> None:
    assert completion(feed(Vllm(), line)) == [209]


def test_vllm_v0_uses_the_spacing_of_its_lines() -> None:
    lines = [v0(f"12:00:{s:02}", 0.0, 10.0) for s in (0, 5, 10, 20, 30)]
    assert completion(feed(Vllm(), *lines)) == [50, 50, 50, 100, 100]


def test_vllm_engines_are_distinguished_and_add_up() -> None:
    lines = []
    for clock in ("12:00:00", "12:00:10", "12:00:20"):
        lines += [v1(clock, 1.0, 100.0, "000"), v1(clock, 1.0, 50.0, "001")]
    assert sum(filter(None, completion(feed(Vllm(), *lines)))) == 3 * 1500


def test_vllm_what_a_log_driver_puts_before_the_line_does_not_matter() -> None:
    prefixes = [f"2026-11-23T12:00:{s:02}.331095044Z (APIServer pid=1) " for s in range(0, 60, 10)]
    dialect = Vllm()
    events = feed(dialect, *[v1(f"12:00:{n * 10:02}", 0.0, 0.25, prefix=prefix) for n, prefix in enumerate(prefixes)])
    assert sum(filter(None, completion(events))) == 15, "one engine, its fractions carried"
    assert len(dialect.state()["engines"]) == 1
    assert "2026" not in json.dumps(dialect.state()), "nothing of a line but its numbers is kept"


def test_vllm_a_restarted_server_brings_its_model() -> None:
    def started(model: str, pid: int) -> str:
        return (
            f"(EngineCore pid={pid}) INFO 11-23 12:00:00 [core.py:1] config: model='x', served_model_name={model}, a=1"
        )

    dialect = Vllm()
    feed(dialect, started("one", 5), v1("12:00:10", 0.0, 1.0, prefix="(APIServer pid=4) "))
    assert dialect.model == "one"
    feed(dialect, "filler")
    feed(dialect, started("two", 9))
    feed(dialect, v1("12:10:10", 0.0, 1.0, prefix="(APIServer pid=8) "))
    assert dialect.model == "two"


def test_vllm_memory_is_bounded() -> None:
    dialect = Vllm()
    feed(dialect, *[v1("12:00:00", 0.0, 1.0, engine=str(n)) for n in range(3000)])
    assert len(dialect.state()["engines"]) <= 1024


def test_vllm_silence_is_not_invented_into_tokens() -> None:
    events = feed(Vllm(), v1("12:00:00", 0.0, 10.0), v1("12:30:00", 0.0, 10.0))
    assert completion(events) == [100, 100]


def test_vllm_interval_of_the_operator_is_learned() -> None:
    lines = [v1(f"12:00:{s:02}", 0.0, 10.0) for s in range(0, 40, 2)]
    assert completion(feed(Vllm(), *lines))[1:] == [20] * 19


def test_vllm_fractions_of_tokens_are_carried() -> None:
    events = completion(feed(Vllm(), *[v1(f"12:00:{s:02}", 0.0, 0.1) for s in range(0, 60, 10)]))
    assert sum(filter(None, events)) == 6
    lines = [v1(f"12:{s // 60:02}:{s % 60:02}", 0.0, 0.25) for s in range(0, 400, 10)]
    assert sum(filter(None, completion(feed(Vllm(), *lines)))) == 100


@pytest.mark.parametrize(
    "line",
    [
        "Received request cmpl-1: prompt: 'explain " + v1("12:00:00", 0.0, 77.3) + "'",
        "Avg prompt throughput: 1.0 tokens/s, Avg generation throughput: 77.3 tokens/s",
        v1("12:00:00", 0.0, 77.3)[:-90],
        v1("12:00:00", 0.0, 77.3).replace("77.3", "nan"),
        v1("12:00:00", 0.0, 77.3).replace("77.3", "inf"),
        v1("12:00:00", 0.0, 77.3).replace("77.3", "1,077.3"),
        v1("12:00:00", 0.0, 77.3).replace("77.3", "-5.0"),
        "Output token throughput (tok/s): 1234.5  generation throughput: 77.3",
        "INFO 11-23 12:00:00 [loggers.py:335] " + "x" * 9000 + "generation throughput: 1.0 tokens/s",
    ],
)
def test_vllm_traps_count_nothing(line: str) -> None:
    dialect = Vllm()
    assert feed(dialect, line) == []
    assert dialect.recognised == 0


def test_vllm_dates_without_a_year_are_in_the_past() -> None:
    arrival_s = datetime(2026, 1, 1, 0, 5).timestamp()
    line = v1("23:59:00", 0.0, 1.0).replace("11-23", "12-31")
    (counts,) = Vllm().feed(line.encode() + b"\n", arrival_s)
    assert counts.at_s == datetime(2025, 12, 31, 23, 59).timestamp()
    leap = v1("12:00:00", 0.0, 1.0).replace("11-23", "02-29")
    (counts,) = Vllm().feed(leap.encode() + b"\n", arrival_s)
    assert counts.at_s == datetime(2024, 2, 29, 12, 0).timestamp()


def test_requests_wait_for_a_line_that_shows_whose_they_are() -> None:
    dialect = Vllm()
    access = 'INFO:     127.0.0.1:1 - "POST /v1/chat/completions HTTP/1.1" 200 OK'
    refused = 'INFO:     127.0.0.1:1 - "POST /v1/chat/completions HTTP/1.1" 400 Bad Request'
    assert feed(dialect, access, access, refused) == []
    assert [c.requests for c in feed(dialect, v1("12:00:00", 0.0, 1.0))] == [None, 2]


# --- llama.cpp's forms ------------------------------------------------------------------------------------------------

NEW = """\
0.04.1.2 I slot print_timing: id  3 | task 7 | prompt eval time =       4.70 ms /   162 tokens (    0.03 ms per token)
0.04.1.2 I slot print_timing: id  3 | task 7 |        eval time =      17.03 ms /     5 tokens (    4.26 ms per token)
0.04.1.2 I slot      release: id  3 | task 7 | stop processing: n_tokens = 196, truncated = 0"""
BELOW = """\
slot print_timing: id  0 | task 124 |
prompt eval time =    5093.47 ms /  1360 tokens (    3.75 ms per token,   267.01 tokens per second)
       eval time =     319.58 ms /    10 tokens (   31.96 ms per token,    31.29 tokens per second)
      total time =    5413.05 ms /  1370 tokens
slot      release: id  0 | task 124 | stop processing: n_tokens = 1369, truncated = 0"""
RELEASED_FIRST = """\
slot      release: id  0 | task 519 | stop processing: n_past = 380, truncated = 0
slot print_timing: id  0 | task 519 |
prompt eval time =    5093.47 ms /    71 tokens (    3.75 ms per token,   267.01 tokens per second)
       eval time =     319.58 ms /    10 tokens (   31.96 ms per token,    31.29 tokens per second)"""
SHIFTED = NEW.replace("truncated = 0", "truncated = 1")
CANCELLED = "0.05 I slot      release: id  0 | task 22416 | stop processing: n_tokens = 8192, truncated = 0"


@pytest.mark.parametrize(
    ("log", "wanted"),
    [
        (NEW, (162, 30, 5)),
        (BELOW, (1360, 0, 10)),
        (RELEASED_FIRST, (71, 300, 10)),
        (SHIFTED, (162, None, 5)),
    ],
)
def test_llamacpp_forms(log: str, wanted: tuple[int, int | None, int]) -> None:
    (counts,) = feed(LlamaCpp(), log)
    assert (counts.prompt_computed, counts.prompt_cached, counts.completion) == wanted
    assert counts.requests == 1


@pytest.mark.parametrize(
    "log",
    [
        CANCELLED,
        "slot print_timing: id  0 | task 1 | prompt processing, n_tokens =   1536, progress = 0.10, t =   3.42 s",
        "user said: eval time = 5.0 ms / 99 tokens (",
        NEW.replace("eval time =", "evaluation time ="),
        NEW.split("\n")[0],
    ],
)
def test_llamacpp_traps_count_nothing(log: str) -> None:
    dialect = LlamaCpp()
    assert feed(dialect, log) == []
    assert dialect.finish() == []


def test_llamacpp_counts_a_request_whose_release_was_not_seen() -> None:
    dialect = LlamaCpp()
    assert feed(dialect, *NEW.split("\n")[:2]) == []
    (counts,) = dialect.finish()
    assert (counts.prompt_computed, counts.prompt_cached, counts.completion) == (162, None, 5)


def test_llamacpp_memory_is_bounded() -> None:
    dialect = LlamaCpp()
    for task in range(5000):
        feed(dialect, CANCELLED.replace("22416", str(task)))
    assert len(dialect.state()["pending"]) <= 1024


# --- any dialect ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vllm", "llamacpp", "auto"])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_blocks_and_restarts_change_nothing(name: str, data: st.DataObject) -> None:
    """However the lines are cut into blocks, and wherever the state is saved and restored, the counts are the same."""
    source = "llamacpp" if name == "auto" else name
    lines = (RUNS[source] / "server.log").read_bytes().splitlines(keepends=True)[:400]
    whole = new_dialect(name)
    wanted = whole.feed(b"".join(lines), ARRIVAL_S)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(lines)), max_size=8)))
    dialect = new_dialect(name)
    events: list[TokenCounts] = []
    for start, end in zip([0, *cuts], [*cuts, len(lines)], strict=True):
        events += dialect.feed(b"".join(lines[start:end]), ARRIVAL_S)
        restored = new_dialect(name)
        restored.restore(json.loads(json.dumps(dialect.state())))
        dialect = restored
    for kind in ("prompt_computed", "prompt_cached", "completion", "requests"):
        assert sum(getattr(c, kind) or 0 for c in events) == sum(getattr(c, kind) or 0 for c in wanted)
    assert dialect.model == whole.model


@given(st.binary(max_size=4000))
def test_no_bytes_break_a_dialect(junk: bytes) -> None:
    dialect = new_dialect("auto")
    dialect.feed(junk + b"\n", ARRIVAL_S)
    dialect.finish()


def test_auto_reports_a_log_that_it_does_not_recognize(tmp_path: Path) -> None:
    log = tmp_path / "other.log"
    log.write_text('hello\nINFO:     127.0.0.1:1 - "POST /v1/chat/completions HTTP/1.1" 200 OK\n')
    with pytest.raises(UnrecognizedLog, match="expected lines of a known dialect"):
        read_log(log, "auto")


def test_an_unknown_dialect_is_named() -> None:
    with pytest.raises(UnknownDialect, match=r"expected one of auto, .*; found 'vlm'"):
        new_dialect("vlm")
