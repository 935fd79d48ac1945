"""`tokens` on saved pages: what each page of tests/fixtures/pages must give, alone and in a series."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from recordings import FIXTURES
from tokenyield_agent.cli import main
from tokenyield_agent.tokens.event import KINDS

PAGES = FIXTURES / "pages"
COUNTS = (*KINDS, "running", "waiting")
DYNAMO = {
    "dialect": "dynamo",
    "model": "tiny",
    "prompt_computed": 33,
    "prompt_cached": 0,
    "completion": 140,
    "requests": 7,
    "requests_aborted": 0,
    "requests_failed": 0,
}
ALONE: dict[str, dict[str, Any]] = {
    "dp-before": {"dialect": "vllm", "completion": 2000},
    "sglang-0.3.6": {
        "dialect": "sglang",
        "model": "meta-llama/Llama-3.2-3B",
        "prompt_unsplit": 230_794,
        "completion": 1234,
        "running": 1,
    },
    "sglang-all-schedulers": {"dialect": "sglang", "completion": 100, "running": 5, "waiting": 2},
    "sglang-priority": {"dialect": "sglang", "completion": 100, "running": 5},
    "sglang-underscore": {
        "dialect": "sglang",
        "prompt_computed": 950,
        "prompt_cached": 550,
        "completion": 400,
        "requests": 12,
        "requests_aborted": 2,
        "running": 5,
    },
    "triton-vllm-backend": {"dialect": "vllm", "model": "mistral7b", "prompt_unsplit": 100, "completion": 50},
    "trtllm-1.1": {"dialect": "trtllm", "model": None, "requests": 2, "requests_aborted": 0},
    "vllm-0.10-preempted": {
        "dialect": "vllm",
        "prompt_computed": 0,
        "prompt_cached": 6000,
        "completion": 500,
    },
    "vllm-0.14-pd-decode": {
        "dialect": "vllm",
        "prompt_computed": 100,
        "prompt_cached": 9900,
        "completion": 500,
        "requests": 11,
        "requests_aborted": 2,
        "requests_failed": 0,
        "running": 3,
        "waiting": 0,
    },
    "dynamo-frontend": {
        "dialect": "dynamo",
        "prompt_computed": 4000,
        "prompt_cached": 1000,
        "completion": 800,
        "requests": 10,
        "requests_aborted": 2,
        "requests_failed": 1,
    },
    "dynamo-1.4.2": DYNAMO,
    "dynamo-1.6.1": DYNAMO,
}


def page(tmp_path: Path, name: str, text: str) -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def vllm(tmp_path: Path, completion: int, *, start: float | None = None, engine: str = "0") -> str:
    """A page of one counter."""
    started = "" if start is None else f"process_start_time_seconds {start}\n"
    sample = f'vllm:generation_tokens_total{{engine="{engine}",model_name="m"}} {completion}\n'
    text = f"{started}# TYPE vllm:generation_tokens_total counter\n{sample}"
    return page(tmp_path, f"{completion}-{start}-{engine}.prom", text)


def tokens(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main(["tokens", *map(str, arguments), "--format", "json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.parametrize("name", ALONE)
def test_a_page_gives_what_its_server_counted_since_its_start(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = tokens(capsys, PAGES / f"{name}.prom")
    expected = ALONE[name]
    assert {kind: shown[kind] for kind in COUNTS} == {kind: expected.get(kind) for kind in COUNTS}
    assert (shown["dialect"], shown["method"]) == (expected["dialect"], "counter")
    if "model" in expected:
        assert shown["model"] == expected["model"]


@pytest.mark.parametrize(
    ("names", "completion"),
    [
        (("dp-before", "dp-one-missing"), 10),
        (("dp-before", "dp-one-missing", "dp-back"), 40),  # the last step: 10 of one engine, 20 of the other
        (("dp-before", "dp-one-restarted"), 150),
        (("dp-before", "half-page-ray", "dp-back"), 40),
    ],
)
def test_a_series_of_pages_gives_what_was_counted_in_between(
    names: tuple[str, ...], completion: int, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *others = [PAGES / f"{name}.prom" for name in names]
    assert tokens(capsys, "--since", first, *others)["completion"] == completion


def test_a_page_without_the_counters_is_no_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half = PAGES / "half-page-ray.prom"
    one, two, three, four = (vllm(tmp_path, count) for count in (1_000_000, 1_000_050, 1_000_100, 1_000_150))
    assert main(["tokens", "--since", one, two, str(half), three, str(half), four, "--format", "json"]) == 0
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert (document["completion"], document["left_out"]) == (150, [str(half)] * 2)
    assert shown.err.splitlines() == [f"{half}: left out, as it lacks the counters of vllm"] * 2


def test_a_page_cut_in_a_line_does_not_look_like_a_restart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = vllm(tmp_path, 1_000_050)
    cut = page(tmp_path, "cut.prom", Path(whole).read_text()[:-4])
    assert tokens(capsys, "--since", vllm(tmp_path, 1_000_000), cut, whole)["completion"] == 50


def test_two_processes_behind_one_address_each_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    series = [
        vllm(tmp_path, count, start=start)
        for count, start in ((1000, 200.0), (500_000, 100.0), (1010, 200.0), (500_020, 100.0), (1015, 200.0))
    ]
    assert tokens(capsys, "--since", *series)["completion"] == 35


def test_a_restart_that_the_start_time_shows_counts_from_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series = [vllm(tmp_path, 100, start=100.0), vllm(tmp_path, 120, start=900.0)]
    assert tokens(capsys, "--since", *series)["completion"] == 120


def test_a_new_engine_counts_from_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = vllm(tmp_path, 100), vllm(tmp_path, 30, engine="1")
    both = page(tmp_path, "both.prom", Path(one).read_text() + Path(other).read_text())
    assert tokens(capsys, "--since", one, both)["completion"] == 30


def test_a_series_that_is_there_twice_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = Path(vllm(tmp_path, 100)).read_text()
    assert tokens(capsys, page(tmp_path, "twice.prom", text + text))["completion"] == 100


def test_another_alternative_on_a_page_is_not_taken_for_the_one_that_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page that was cut has the hits, which are counted otherwise, and not yet the cached tokens."""

    def of(cached: int | None, hits: int, prompt: int | None, made: int) -> str:
        lines = [f"vllm:generation_tokens_total {made}", f"vllm:prefix_cache_hits_total {hits}"]
        lines += [f"vllm:prompt_tokens_total {prompt}"] if prompt is not None else []
        lines += [f"vllm:prompt_tokens_cached_total {cached}"] if cached is not None else []
        return page(tmp_path, f"{made}.prom", "\n".join(lines) + "\n")

    series = [of(100, 5000, 1000, 1), of(None, 5200, None, 2), of(None, 5300, 1080, 3), of(150, 5400, 1100, 4)]
    shown = tokens(capsys, "--since", *series)
    assert (shown["prompt_computed"], shown["prompt_cached"], shown["prompt_unsplit"]) == (50, 50, None)


def test_a_server_that_was_not_used_yet_counts_from_its_first_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unused = page(tmp_path, "unused.prom", 'dynamo_frontend_model_context_length{model="tiny"} 0\n')
    shown = tokens(capsys, "--since", unused, PAGES / "dynamo-1.6.1.prom")
    assert (shown["completion"], shown["requests"]) == (140, 7)
    assert main(["tokens", unused]) == 0
    assert capsys.readouterr().err == f"{unused}: dynamo shows no counters before its first request\n"


def test_the_first_stream_of_dynamo_does_not_choose_what_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While it runs only the counter is shown that leaves out parts of streams. Seen on a busy machine: 911 of 1,857."""
    whole = (PAGES / "dynamo-1.6.1.prom").read_text()
    begun = [line for line in whole.splitlines() if "tokenizer_cache" in line or "output_tokens_total" in line]
    assert any(line.startswith("dynamo_frontend_output_tokens_total") for line in begun)
    early = page(tmp_path, "early.prom", re.sub(r"(?m) [0-9.]+$", " 0", "\n".join(begun)) + "\n")
    shown = tokens(capsys, "--since", early, PAGES / "dynamo-1.6.1.prom")
    assert (shown["completion"], shown["requests"]) == (140, 7)


def test_a_page_is_known_by_its_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = (PAGES / "dp-before.prom").read_bytes()
    named = tmp_path / "server.log"
    named.write_bytes(body)
    zipped = tmp_path / "page.gz"
    zipped.write_bytes(gzip.compress(body))
    assert tokens(capsys, named)["completion"] == tokens(capsys, zipped)["completion"] == 2000
    assert tokens(capsys, named, "--dialect", "vllm")["completion"] == 2000


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["other.prom"], 1, "expected a metrics page with counters of one of"),
        (["vllm.prom", "--dialect", "sglang"], 1, "with counters of sglang, found none"),
        (["vllm.prom", "--dialect", "ollama"], 2, "expected a server with counters"),
        (["vllm.prom", "vllm.prom"], 2, "add --since"),
        (["--since", "other.prom", "vllm.prom"], 1, "expected two pages with the counters of vllm, found 1"),
        (["--since", "missing.prom", "vllm.prom"], 2, "missing.prom: cannot be read"),
    ],
)
def test_what_cannot_be_counted_says_what_to_do(
    arguments: list[str],
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("vllm.prom").write_bytes((PAGES / "dp-before.prom").read_bytes())
    Path("other.prom").write_text('node_cpu_seconds_total{cpu="0"} 3\n')
    assert main(["tokens", *arguments]) == code
    assert says in capsys.readouterr().err


def test_requests_of_vllm_are_what_clients_sent_not_what_its_engine_ran(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One request with n=3, one refused, and one given up, of which V1's counter shows nothing."""
    page = tmp_path / "n3.prom"
    engine = 'vllm:request_success_total{engine="0",finished_reason='
    http = "http_requests_total{handler="
    page.write_text(
        "# TYPE vllm:generation_tokens_total counter\n"
        'vllm:generation_tokens_total{engine="0",model_name="m"} 30\n'
        "# TYPE vllm:request_success_total counter\n"
        f'{engine}"stop",model_name="m"}} 3\n{engine}"abort",model_name="m"}} 0\n{engine}"error",model_name="m"}} 0\n'
        "# TYPE http_requests_total counter\n"
        f'{http}"/v1/completions",method="POST",status="2xx"}} 1\n'
        f'{http}"/v1/completions",method="POST",status="4xx"}} 1\n'
        f'{http}"/v1/models",method="GET",status="2xx"}} 9\n'
    )
    read = tokens(capsys, str(page))
    assert (read["requests"], read["requests_failed"], read["requests_aborted"]) == (1, 1, None)
