import json
import os
import subprocess
from pathlib import Path

import pytest

from recordings import RUNS
from tokenyield_agent.cli import main
from tokenyield_agent.tokens.dialects.registry import SERVERS
from tokenyield_wire.window import TOKEN_KINDS

FIXTURES = Path(__file__).parents[1] / "fixtures"
KEYS = "dialect model prompt_computed prompt_cached completion requests method first_timestamp last_timestamp events".split()


def test_tokens_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", str(FIXTURES / "servers" / "vllm" / "run" / "server.log"), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found)[: len(KEYS)] == KEYS
    assert list(found)[len(KEYS) :] == [
        "prompt_unsplit", "requests_aborted", "requests_failed", "callers", "exactness",
    ]  # fmt: skip
    assert found["exactness"] == {
        "prompt_computed": "rate", "completion": "rate", "requests": "exact", "requests_failed": "exact",
    }  # fmt: skip
    assert (found["dialect"], found["prompt_cached"], found["method"], found["events"]) == ("vllm", None, "rate", 9)


def test_tokens_of_a_log_through_a_pipe_are_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe can be read only once: whether it is a page must not cost the log its beginning."""
    log, pipe = FIXTURES / "servers" / "vllm" / "run" / "server.log", tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["dd", f"if={log}", f"of={pipe}", "status=none"]) as writer:
        assert main(["tokens", str(pipe), "--format", "json"]) == 0
        assert writer.wait() == 0
    through_pipe = json.loads(capsys.readouterr().out)
    assert main(["tokens", str(log), "--format", "json"]) == 0
    assert through_pipe == json.loads(capsys.readouterr().out)


def test_tokens_as_text_and_a_named_dialect(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", str(FIXTURES / "servers" / "llamacpp" / "run" / "server.log"), "--dialect", "llamacpp"]) == 0
    shown = capsys.readouterr().out
    assert "completion       20,941\n" in shown
    assert "lower bound      prompt_computed, prompt_cached, completion, requests\n" in shown


def test_tokens_of_a_log_that_says_why_it_holds_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "vllm.log"
    log.write_text(
        "(ApiServer_1 pid=1063) WARNING 11-26 14:44:17 [loggers.py:1386] AsyncLLM created with api_server_count more "
        "than 1; disabling stats logging to avoid incomplete stats.\n"
        '(ApiServer_1 pid=1063) INFO:     127.0.0.1:4001 - "POST /v1/completions HTTP/1.1" 200 OK\n'
    )
    assert main(["tokens", str(log)]) == 1
    assert "--api-server-count 1" in capsys.readouterr().err


def test_tokens_of_a_gateways_log_by_caller(capsys: pytest.CaptureFixture[str]) -> None:
    log = str(FIXTURES / "gateways" / "litellm" / "1.106.log")
    assert main(["tokens", log, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {(caller["team"], caller["key"]) for caller in found["callers"]} == {
        ("ads", "ads-batch"), ("search", "search-prod"),
    }  # fmt: skip
    assert sum(caller["completion"] for caller in found["callers"]) == found["completion"]
    assert main(["tokens", log]) == 0
    assert "search-prod" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name in RUNS if not SERVERS[name].reports_tokens])
def test_tokens_of_a_server_that_reports_none_are_unknown(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    log = str(RUNS[name] / "server.log")
    assert main(["tokens", log, "--format", "json"]) == 1
    shown = capsys.readouterr()
    totals = json.loads(shown.out)
    assert {totals[kind] for kind in TOKEN_KINDS} == {None}
    assert shown.err == f"{log}: {SERVERS[name].no_tokens}\n"
    assert main(["tokens", log]) == 1
    assert "completion       unknown\n" in capsys.readouterr().out


def test_tokens_of_a_log_as_a_container_runtime_keeps_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (FIXTURES / "servers" / "llamacpp" / "run" / "server.log").read_text().splitlines()
    wrapped = tmp_path / "0.log"
    wrapped.write_text("".join(f"2026-11-23T12:00:00.123456789Z stderr F {line}\n" for line in lines))
    assert main(["tokens", str(wrapped), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["completion"] == 20_941


def test_tokens_of_a_compressed_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import gzip

    packed = tmp_path / "server.log.gz"
    packed.write_bytes(
        gzip.compress((FIXTURES / "servers" / "llamacpp" / "run" / "server.log").read_bytes().rstrip(b"\n"))
    )
    assert main(["tokens", str(packed), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["requests"] == 203


def test_tokens_takes_nothing_from_a_line_longer_than_a_chunk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = next(
        line
        for line in (FIXTURES / "servers" / "vllm" / "run" / "server.log").read_bytes().splitlines()
        if b"generation throughput" in line
    )
    log = tmp_path / "vllm.log"
    for padding in (262_144, 2 * 262_144 - 5, 600_000):
        log.write_bytes(b"x" * padding + real + b"\n" + real + b"\n" + b"y" * 300_000 + real)
        assert main(["tokens", str(log), "--format", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["events"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["tokens", "/nowhere.log"], 2, "/nowhere.log: cannot be read"),
        (["tokens", __file__], 1, "expected lines of a known dialect"),
        (["tokens", __file__, "--dialect", "vlm"], 2, "found 'vlm'"),
        (["check", "--set", "cluter=x"], 2, "did you mean 'cluster'?"),
        (["check", "--set", "cluster"], 2, "expected name=value"),
    ],
)
def test_what_is_wrong_is_reported_with_its_exit_code(
    arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    assert said in capsys.readouterr().err


def test_check_prints_the_effective_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--set", "cluster=prod"]) == 0
    assert "cluster: prod\n" in capsys.readouterr().out
