"""The collector's commands over a ledger whose names mean harm: what they write acts on no terminal, and nothing ends."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from collector.fleet import Fleet, Gpu, Held, Server
from hostile import NAMES, acting, is_formula
from tokenyield_collector.cli import main
from tokenyield_collector.commands.budget import budget_table
from tokenyield_collector.commands.diagnose import diagnosis_table
from tokenyield_collector.demo.live_table import summary_tables
from tokenyield_collector.live.live_view import read_live_view
from tokenyield_collector.live.summary import summarize
from tokenyield_collector.policy import Policy
from tokenyield_collector.targets.terminal import terminal
from tokenyield_settings.visible import visible

PERIOD = "2026-10-05"
RULES = {
    "dimensions": ["team"],
    "budgets": [
        {"name": "team [/] \x1b[31m", "match": {"team": "[[]/]"}, "monthly": 1000},
        {"name": "dark", "match": {"team": "(dark)"}, "monthly": 1000},
        {"name": "a team called dark", "match": {"team": '"(dark)"'}, "monthly": 1000},
    ],
}


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of a ledger, its prices and its rules."""
    folder = tmp_path_factory.mktemp("hostile")
    fleet = Fleet(folder / "ledger.duckdb")
    gpus = [Gpu(uuid=f"GPU-{i}", held=[Held(workload=name, active_min=30)]) for i, name in enumerate(NAMES)]
    servers = [Server(key=name, model=name, labels={"team": name}, completion=100 + i) for i, name in enumerate(NAMES)]
    fleet.hour(f"{PERIOD}T08:00", gpus, servers, node="[/]\x1b[31m", cluster="\u202ec")
    fleet.ledger.fold()
    fleet.ledger.close()
    pools = [{"name": "[red]", "rented": {"kind": "reserved", "per_gpu_hour": 2, "count": len(NAMES) + 4}}]
    (folder / "prices.yaml").write_text(yaml.safe_dump({"pools": pools}))
    (folder / "rules.yaml").write_text(yaml.safe_dump(RULES))
    files = {"ledger": "ledger.duckdb", "prices": "prices.yaml", "rules": "rules.yaml"}
    return [part for flag, name in files.items() for part in (f"--{flag}", str(folder / name))]


def call(arguments: Sequence[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    assert main(list(arguments)) == code
    out, err = capsys.readouterr()
    assert not acting(out + err)
    return out if code == 0 else err


@pytest.mark.parametrize("form", ["table", "csv", "json", "focus", "focus-metadata", "html"])
def test_a_report_on_the_terminal(form: str, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    shown = call(["report", "--period", PERIOD, "--by", "team,workload,cluster", "--format", form, *flags], capsys)
    if form == "json":
        assert len(json.loads(shown)["rows"]) == len(NAMES) + 2
    elif form in ("csv", "focus"):
        rows = list(csv.reader(io.StringIO(shown, newline="")))
        assert len(rows) >= len(NAMES) + 1
        assert not [cell for row in rows for cell in row if is_formula(cell) and not cell[1:2].isdigit()]


@pytest.mark.parametrize("name", ["[/]", "\x1b[31mred\x1b[0m", "a\nb", "=1+1", ":warning:"])
def test_a_filter_by_a_name_is_shown_as_text(name: str, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    shown = call(["report", "--period", PERIOD, "--where", f"team={name}", *flags], capsys)
    assert f"only team {visible(name)}" in shown
    assert shown.count(visible(name)) >= 3, "in the note and the row, as team and model"


def test_what_cannot_be_used_is_named_as_text(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--by", "\x1b[31m"], ["--where", "a\nb=c"], ["--where", "\x1b[2J"]):
        call(["report", "--period", PERIOD, *arguments, *flags], capsys, code=2)
    call(["report", "--period", "\x1b[2J", *flags], capsys, code=2)
    call(["verify", "--ledger", "no\x1b[2J\nsuch"], capsys, code=1)


def test_budgets_tell_a_team_called_like_a_marker_from_it(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(call(["budget", "--month", "2026-10", "--format", "json", *flags], capsys))
    spent = [budget["spent"] for budget in found["budgets"]]
    assert spent[0] == pytest.approx(spent[2]) != 0
    assert spent[1] > spent[2], "four GPUs that nobody reported"
    assert "team [/] \\x1b[31m" in call(["budget", "--month", "2026-10", *flags], capsys)


def test_prices_and_the_check_of_a_ledger(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "[red]" in call(["rate", "--prices", flags[flags.index("--prices") + 1]], capsys)
    assert "balances" in call(["verify", "--ledger", flags[1]], capsys)


def _drawn(renderable: Any) -> str:
    out = io.StringIO()
    terminal(file=out, width=200).print(renderable)
    assert not acting(out.getvalue())
    return out.getvalue()


def test_diagnoses_and_the_demo_s_picture_show_names_as_text() -> None:
    fleet = Fleet()
    gpus = [Gpu(uuid=f"GPU-{i}", held=[Held(workload=name, active_min=30)]) for i, name in enumerate(NAMES)]
    fleet.hour(0, gpus, [Server(key=name, model=name, completion=9) for name in NAMES])
    live = read_live_view(fleet.ledger, Policy(), 0, 3_600_000)
    picture = _drawn(summary_tables(dict(summarize(live, Policy())), ["note [/] \x1b[31m"]))
    finding: dict[str, Any] = {
        "kind": "starved",
        "text": "why [/] \x1b[31m\n",
        "evidence": {},
        "at_stake_per_hour": None,
        "shown": None,
    }
    workloads = [
        {"workload": name, "gpus": 1, "cost_per_hour": None, "findings": [finding] if i % 2 else [], "unknown": [name]}
        for i, name in enumerate((*NAMES, "x" * 512))
    ]
    document = {"currency": "USD", "start": "a", "end": "b", "shown": None, "workloads": workloads}
    diagnosed = _drawn(diagnosis_table(document))
    assert "nothing found" in diagnosed, "a long name takes no other column's place"
    for text in ("[/]", ":warning:", "[bold]x[/bold]"):
        assert text in picture
        assert text in diagnosed
    amounts = dict.fromkeys(("monthly", "spent", "remaining"), 1.0)
    amounts |= {"spent_percent": 100.0}
    shape = {"month": "2026-10", "unit": "USD", "step": None, "state": "ok", "shown": amounts | {"forecast": None}}
    budgets = [{"name": name, **shape, **amounts} for name in NAMES]
    assert "[/]" in _drawn(budget_table({"currency": "USD", "budgets": budgets}))
