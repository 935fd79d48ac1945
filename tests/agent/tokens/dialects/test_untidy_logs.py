"""Logs as the world leaves them: lines cut, dropped, there twice, behind prefixes, and of several servers in one file.

In general: nothing makes tokens out of nothing, and what stands before lines changes nothing.
"""

import os
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recordings import LOGS, Recording
from tokenyield_agent.tokens.dialects.llamacpp import LlamaCpp
from tokenyield_agent.tokens.dialects.registry import SERVERS, new_dialect
from tokenyield_agent.tokens.dialects.sglang import SgLang
from tokenyield_agent.tokens.dialects.vllm import Vllm
from tokenyield_agent.tokens.event import KINDS, Dialect, TokenCounts
from tokenyield_wire.window import REQUEST_KINDS, TOKEN_KINDS

ARRIVAL_S = datetime(2026, 11, 23, 13, 0).timestamp()
EXAMPLES = int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "30"))
SERVER_LOGS = [log for log in LOGS if log.dialect in SERVERS]
TOLD_APART = ("llamacpp", "lmdeploy", "tgi", "trtllm", "vllm")
"""Dialects whose lines have an id or a time that distinguishes each from the next; SGLang's and Ollama's have whole seconds."""
PREFIXES = [
    b"llm-1  | ",
    b"2026-05-16T22:30:40.722000000Z ",
    b"Nov 23 12:00:00 host vllm[77]: ",
    b"2026-09-01T08:00:00+02:00 box ollama[77]: ",
    b"2026-09-01T08:00:00.123456+0200 box llama-server[77]: ",
    b"[pod/lmd-0/server] ",
    b"1779264164792\t2026-05-20T08:02:44.792Z\t",
    b"[ 1234.567890] ",
    b"2026-05-16 22:30:44.722 | ",
]


def lines_of(recording: Recording) -> list[bytes]:
    return recording.body.splitlines(keepends=True)


def totals(events: list[TokenCounts]) -> dict[str, int]:
    return {kind: sum(getattr(counts, kind) or 0 for counts in events) for kind in KINDS}


def read(dialect: Dialect, body: bytes) -> dict[str, int]:
    return totals(dialect.feed(body, ARRIVAL_S))


def counted(recording: Recording, counts: dict[str, int]) -> tuple[int, int]:
    """(tokens, requests) of the kinds that this log counts; a rate over a time that is not whole is only near."""
    report = SERVERS[recording.dialect].log_report
    assert report is not None
    kinds = {*report.exact, *report.lower_bound}
    tokens = sum(counts[kind] for kind in TOKEN_KINDS if kind in kinds)
    return tokens, sum(counts[kind] for kind in REQUEST_KINDS if kind in kinds)


def is_at_most(found: tuple[int, int], whole: tuple[int, int]) -> bool:
    return all(part <= of for part, of in zip(found, whole, strict=True))


# --- what stands before lines -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", PREFIXES, ids=lambda prefix: prefix.decode().strip())
@pytest.mark.parametrize("recording", SERVER_LOGS, ids=str)
def test_a_prefix_before_every_line_changes_nothing(recording: Recording, prefix: bytes) -> None:
    dialect = new_dialect("auto")
    prefixed = b"".join(prefix + line for line in lines_of(recording))
    assert read(dialect, prefixed) == read(new_dialect("auto"), recording.body)
    assert dialect.model is None or "/" in dialect.model or prefix.strip() not in dialect.model.encode()


@pytest.mark.parametrize("recording", SERVER_LOGS, ids=str)
def test_times_that_change_from_line_to_line_name_no_sender(recording: Recording) -> None:
    lines = lines_of(recording)
    prefixed = b"".join(b"2026-05-16T22:%02d:%02d.5Z " % (n // 60 % 60, n % 60) + line for n, line in enumerate(lines))
    assert read(new_dialect("auto"), prefixed) == read(new_dialect("auto"), recording.body)


@pytest.mark.parametrize("recording", SERVER_LOGS, ids=str)
def test_two_servers_in_one_log_count_as_much_as_apart(recording: Recording) -> None:
    """As docker compose and kubectl write them: line by line in turn, with the same ids, ranks and times."""
    both = b"".join(b"one-1  | " + line + b"two-1  | " + line for line in lines_of(recording))
    once = read(new_dialect("auto"), recording.body)
    assert read(new_dialect("auto"), both) == {kind: 2 * count for kind, count in once.items()}


# --- what is missing, cut, or there twice -----------------------------------------------------------------------------


@pytest.mark.parametrize("recording", SERVER_LOGS, ids=str)
@given(data=st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_lines_dropped_or_cut_make_nothing(recording: Recording, data: st.DataObject) -> None:
    part = []
    for line in lines_of(recording):
        what = data.draw(st.sampled_from(["keep", "keep", "keep", "drop", "cut"]))
        if what == "cut":
            line = line[: data.draw(st.integers(0, len(line)))].rstrip(b"\n") + b"\n"
        part += [] if what == "drop" else [line]
    found, whole = (read(new_dialect(recording.dialect), body) for body in (b"".join(part), recording.body))
    assert is_at_most(counted(recording, found), counted(recording, whole)), (found, whole)


@pytest.mark.parametrize("recording", [log for log in SERVER_LOGS if log.dialect in TOLD_APART], ids=str)
@given(data=st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_lines_that_are_there_twice_count_once(recording: Recording, data: st.DataObject) -> None:
    lines = [line for line in lines_of(recording) for _ in range(data.draw(st.integers(1, 2)))]
    once, found = (read(new_dialect(recording.dialect), body) for body in (recording.body, b"".join(lines)))
    assert {kind: found[kind] for kind in TOKEN_KINDS} == {kind: once[kind] for kind in TOKEN_KINDS}


# --- llama.cpp --------------------------------------------------------------------------------------------------------


def slot(task: int, text: str, *, number: int = 0) -> bytes:
    return f"0.10.000.001 I slot {text.format(f'id  {number} | task {task} |')}\n".encode()


def answered(task: int, prompt: int, made: int, *, child: int | None = None) -> bytes:
    launch = b"" if child is None else slot(task, "launch_slot_: {} processing task, is_child = " + str(child))
    return launch + b"".join(
        [
            slot(task, f"print_timing: {{}} prompt eval time =  100.00 ms / {prompt:5} tokens (  1.00 ms per token)"),
            slot(task, f"print_timing: {{}}        eval time =  100.00 ms / {made:5} tokens (  1.00 ms per token)"),
            slot(task, f"     release: {{}} stop processing: n_tokens = {prompt + made - 1}, truncated = 0"),
        ]
    )


def test_llamacpp_children_count_no_prompt_and_no_request() -> None:
    body = answered(8, 100, 7, child=1) + answered(9, 100, 6, child=1) + answered(7, 100, 5, child=0)
    counts = read(LlamaCpp(), body)
    assert (counts["prompt_computed"], counts["completion"], counts["requests"]) == (100, 18, 1)


def test_llamacpp_a_request_whose_launch_is_missing_may_be_a_child() -> None:
    counts = read(LlamaCpp(), answered(7, 100, 5, child=0) + answered(8, 100, 5, child=1) + answered(9, 100, 5))
    assert (counts["prompt_computed"], counts["completion"], counts["requests"]) == (100, 15, 1)
    counts = read(LlamaCpp(), answered(7, 100, 5, child=0) + answered(9, 100, 5))
    assert (counts["prompt_computed"], counts["completion"], counts["requests"]) == (200, 10, 2), "nobody had children"


def test_llamacpp_what_was_given_up_is_aborted_and_what_finished_before_is_not() -> None:
    launch = slot(7, "launch_slot_: {} processing task, is_child = 0")
    cancel = b"0.12.000.000 W srv          stop: cancel task, id_task = 7\n"
    release = slot(7, "     release: {} stop processing: n_tokens = 900, truncated = 0")
    made = slot(7, "print_timing: {} n_decoded =    300, tg =  100.00 t/s")
    counts = read(LlamaCpp(), launch + made + cancel + release)
    assert (counts["completion"], counts["requests"], counts["requests_aborted"]) == (300, 0, 1)
    counts = read(LlamaCpp(), answered(7, 100, 5, child=0) + cancel)
    assert (counts["completion"], counts["requests"], counts["requests_aborted"]) == (5, 1, 0)


def test_llamacpp_an_answer_before_a_restart_counts_without_its_release() -> None:
    started = b"0.00.100.000 I srv    load_model: loading model '/models/tiny.gguf'\n"
    without_release = answered(7, 100, 5).rpartition(slot(7, "     release: {}").strip())[0]
    counts = read(LlamaCpp(), started + without_release + started + answered(7, 100, 6))
    assert (counts["prompt_computed"], counts["completion"], counts["requests"]) == (200, 11, 2)
    without_completion = answered(7, 100, 5).splitlines(keepends=True)[0]
    counts = read(LlamaCpp(), started + without_completion + started + answered(7, 100, 6))
    assert (counts["prompt_computed"], counts["completion"], counts["requests"]) == (100, 6, 1), "it was not answered"


def test_llamacpp_of_2025_shows_what_was_given_up_too() -> None:
    launch = slot(7, "launch_slot_: {} processing task")
    cancel = b"srv  cancel_tasks: cancel task, id_task = 7\n"
    release = slot(7, "     release: {} stop processing: n_past = 900, truncated = 0")
    counts = read(LlamaCpp(), launch + cancel + release + answered(8, 100, 5))
    assert (counts["prompt_computed"], counts["requests"], counts["requests_aborted"]) == (100, 1, 1)


def test_llamacpp_children_of_a_router_keep_their_models_and_requests() -> None:
    def of(port: int, lines: bytes) -> bytes:
        return b"".join(b"[%d] " % port + line for line in lines.splitlines(keepends=True))

    dialect = LlamaCpp()
    start = b"0.00.012.853 I srv    load_model: loading model '/srv/%s.gguf'\n"
    prompt, rest = answered(0, 100, 5).split(b"\n", 1)
    body = (
        of(41, start % b"a") + of(41, prompt + b"\n") + of(42, start % b"b") + of(41, rest) + of(42, answered(0, 7, 9))
    )
    counts = read(dialect, body)
    assert (counts["prompt_computed"], counts["completion"], counts["requests"]) == (107, 14, 2)
    assert dialect.model == "a.gguf+b.gguf"
    read(dialect, start % b"c")
    assert dialect.model == "c.gguf", "another server writes this log now"


def test_llamacpp_goes_on_from_the_state_of_an_older_agent() -> None:
    dialect = LlamaCpp()
    older = {"model": "m", "recognised": 1, "current": "0:35", "pending": {"0:35": {"computed": 200, "ms": 182.78}}}
    dialect.restore(older)
    rest = b"       eval time =     342.29 ms /    13 tokens (   26.33 ms per token)\n"
    release = slot(35, "     release: {} stop processing: n_tokens = 312, truncated = 0")
    counts = read(dialect, rest + release)
    assert (counts["prompt_computed"], counts["prompt_cached"], counts["completion"]) == (200, 100, 13)


# --- SGLang -----------------------------------------------------------------------------------------------------------


def prefill(head: str, new: int, more: str = "") -> bytes:
    return f"[{head}] Prefill batch, #new-seq: 1, #new-token: {new}, #cached-token: 4, token usage: 0.02, {more}\n".encode()


@pytest.mark.parametrize(
    "rank", ["ATTN_CP{0} TP{0}", "MOE_DP{0} TP{0} EP{0}", "CP{0} TP0", "Xyz{0}", "NODE_RANK{0} EP{0}"]
)
def test_sglang_a_rank_of_any_name_is_counted_once(rank: str) -> None:
    lines = [prefill(f"2026-09-10 10:00:0{n} {rank.format(r)}", 100) for n in range(3) for r in (0, 1, 2)]
    assert read(SgLang(), b"".join(lines))["prompt_computed"] == 300


@pytest.mark.parametrize(
    "head",
    [
        "[2026-09-10 10:00:0{1} node=3 TP{0}] ",
        "INFO 2026-09-10 10:00:0{1} sglang.scheduler: [TP:{0}] ",
        "[0{1}] [TP={0}] ",
    ],
)
def test_sglang_in_a_format_of_the_operators_own_is_counted_once(head: str) -> None:
    line = prefill("", 100).replace(b"[] ", b"").decode()
    lines = [head.format(rank, second) + line for second in range(3) for rank in (0, 1, 2)]
    assert read(SgLang(), "".join(lines).encode())["prompt_computed"] == 300


def test_sglang_without_any_head_is_counted() -> None:
    assert read(SgLang(), prefill("", 100).replace(b"[] ", b""))["prompt_computed"] == 100


def test_sglang_data_parallel_ranks_add_up_whatever_ranks_they_have_beside() -> None:
    lines = [prefill(f"2026-09-10 10:00:00 DP{dp} ATTN_CP{tp} TP{dp * 2 + tp}", 100) for dp in (0, 1) for tp in (0, 1)]
    assert read(SgLang(), b"".join(lines))["prompt_computed"] == 200


def test_sglang_with_milliseconds_a_line_that_is_there_twice_counts_once() -> None:
    line, later = prefill("2026-09-10 10:00:00.123 TP0", 100), prefill("2026-09-10 10:00:00.124 TP0", 100)
    assert read(SgLang(), line + line + later)["prompt_computed"] == 200


@pytest.mark.parametrize(
    "options",
    [
        "server_args=ServerArgs(model_path='/m', served_model_name='qwen', port=30000)",
        "server_args={'model_path': '/m', 'served_model_name': 'qwen', 'port': 30000}",
        'server_args={"model_path": "/m", "served_model_name": "qwen"}',
        "server_args=ServerArgs(model_path='/m', " + "x=1, " * 3000 + "served_model_name='qwen', port=30000)",
    ],
)
def test_sglang_options_in_any_form_show_the_model(options: str) -> None:
    dialect = SgLang()
    dialect.feed(f"[2026-09-10 10:00:00] {options}\n".encode(), ARRIVAL_S)
    assert dialect.model == "qwen"


# --- vLLM -------------------------------------------------------------------------------------------------------------

LINE = (
    "(APIServer pid=9) INFO 10-20 08:00:{:02} [loggers.py:{}] Engine 000: Avg prompt throughput: 100.0 tokens/s, Avg "
    "generation throughput: 20.0 tokens/s, Running: 4 reqs, Waiting: 0 reqs, GPU KV cache usage: 4.0%, Prefix cache hit "
    "rate: {}%\n"
)


@pytest.mark.parametrize(
    ("start", "source", "hits", "kind"),
    [
        ("vLLM API server version 0.8.5.post1", 300, "90.0", "prompt_unsplit"),
        ("vLLM API server version 0.14.1", 257, "0.0", "prompt_unsplit"),
        ("Initializing a V1 LLM engine (v0.15.1) with config: served_model_name=m,", 257, "9.0", "prompt_unsplit"),
        ("Initializing a V1 LLM engine (v0.16.0) with config: served_model_name=m,", 1, "9.0", "prompt_computed"),
        ("Initializing a V1 LLM engine (v1.2.0) with config: served_model_name=m,", 1, "9.0", "prompt_computed"),
        (
            "Initializing a V1 LLM engine (v0.1.dev1+g12ab) with config: served_model_name=m,",
            259,
            "9.0",
            "prompt_computed",
        ),
        ("nothing about its version", 257, "9.0", "prompt_unsplit"),
        ("nothing about its version", 259, "9.0", "prompt_computed"),
        ("nothing about its version", 127, "0.0", "prompt_computed"),
    ],
)
def test_vllm_whole_prompts_are_those_of_versions_up_to_0_15(start: str, source: int, hits: str, kind: str) -> None:
    dialect = Vllm()
    body = f"(EngineCore pid=8) INFO 10-20 08:00:00 [core.py:1] {start}\n" + LINE.format(0, source, hits)
    assert read(dialect, body.encode())[kind] == 1000
    again = Vllm()
    again.restore(dialect.state())
    assert read(again, LINE.format(10, source, hits).encode())[kind] == 1000


def test_vllm_of_unknown_version_and_source_is_unsplit_where_the_cache_served_something() -> None:
    line = LINE.format(0, 1, "12.5").replace("[loggers.py:1]", "loggers.log:")
    assert read(Vllm(), line.encode())["prompt_unsplit"] == 1000


@pytest.mark.parametrize(
    "line",
    [
        LINE.format(0, 300, "0.0").replace("(APIServer pid=9) ", "chat-server (APIServer pid=9) "),
        LINE.format(0, 300, "0.0").partition("] ")[2],
        "2026-10-02T12:00:00.5Z | vllm.v1.metrics | " + LINE.format(0, 300, "0.0").partition("] ")[2],
        '{"ts": "2026-10-02 12:00:00", "msg": "' + LINE.format(0, 300, "0.0").partition("] ")[2].strip() + '"}\n',
        'llm-1  | {"message": "' + LINE.format(0, 300, "0.0").strip() + '", "process": 7}\n',
    ],
)
def test_vllm_in_a_format_of_the_operators_own(line: str) -> None:
    assert read(Vllm(), line.encode())["completion"] == 200


def test_vllm_a_prompt_in_a_json_line_is_no_statistics() -> None:
    copied = LINE.format(0, 300, "0.0").strip()
    lines = [f'{{"message": "Received request: prompt: \'{copied}\'"}}', f'{{"prompt": "{copied}", "message": "hi"}}']
    dialect = Vllm()
    assert sum(read(dialect, "".join(f"{line}\n" for line in lines).encode()).values()) == 0
    assert dialect.recognised == 0
