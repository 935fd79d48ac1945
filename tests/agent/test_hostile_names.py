"""The agent's commands with names that mean harm: a row each, and nothing acts on the terminal."""

import json
from pathlib import Path

import pytest

from hostile import NAMES, acting
from tokenyield_agent.cli import main
from tokenyield_agent.commands.doctor import _print_report
from tokenyield_agent.doctor.report import DoctorFinding, DoctorReport, GpuRow
from tokenyield_agent.windows.totals import _quoted
from tokenyield_settings.visible import visible


def gateway_log(path: Path) -> Path:
    """LiteLLM's, with one request of each team; `request_tags` and the end user are called so too."""
    with path.open("w", encoding="utf-8") as log:
        for i, name in enumerate(NAMES):
            line = {
                "id": f"req-{i}", "call_type": "acompletion", "status": "success", "model": name, "model_group": name,
                "prompt_tokens": 10, "completion_tokens": 100 + i, "startTime": 1795000000 + i,
                "endTime": 1795000001 + i, "end_user": name, "request_tags": [name],
                "metadata": {"user_api_key_team_alias": name, "user_api_key_alias": f"key {i}"},
            }  # fmt: skip
            log.write(json.dumps(line) + "\n")
    return path


def test_a_gateway_s_log_with_such_callers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = gateway_log(tmp_path / "litellm\x1b[31m\n.log")
    assert main(["tokens", str(log), "--format", "json"]) == 0
    out = capsys.readouterr().out
    assert not acting(out)
    callers = json.loads(out)["callers"]
    assert sorted(caller["completion"] for caller in callers) == [100 + i for i in range(len(NAMES))]
    assert main(["tokens", str(log)]) == 0
    out = capsys.readouterr().out
    assert not acting(out)
    (at,) = [i for i, line in enumerate(out.split("\n")) if set(line) == {"-", " "}]
    assert len(out.split("\n")[at + 1 :]) == len(callers) + 1, "a line each"
    assert main(["tokens", str(tmp_path / "no\x1b[31m\nsuch")]) == 2
    assert not acting(capsys.readouterr().err)


def test_the_doctor_s_report_of_such_workloads(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        GpuRow(gpu=str(i), model=name, held_by=name, known_by=name, tokens=f"vllm log, {name}", quality="exact",
               change=name)
        for i, name in enumerate(NAMES)
    ]  # fmt: skip
    _print_report(DoctorReport(rows=rows, findings=[DoctorFinding("note", "log", name) for name in NAMES]))
    out = capsys.readouterr().out
    assert not acting(out)
    assert len(out.rstrip("\n").split("\n")) == 3 * len(NAMES) + 5, "a line each"
    assert all(visible(name) in out for name in NAMES)


def test_no_workload_takes_the_place_of_what_has_no_name_in_the_agent_s_metrics() -> None:
    assert len({_quoted(name) for name in NAMES}) == len(NAMES)
    assert not {_quoted(name) for name in NAMES} & {"(untied)", "(other)"}
    assert _quoted("chat") == "chat"
