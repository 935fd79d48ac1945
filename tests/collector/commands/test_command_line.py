"""The commands of the program: each is one file that the program finds, and costs only its own imports."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tokenyield_collector import commands
from tokenyield_collector.cli import COMMANDS, main

FOLDER = Path(commands.__file__).parent
HEAVY = {"aiohttp", "duckdb", "jinja2", "numpy", "prometheus_client", "rich", "uvloop", "yaml", "zstandard"}


def test_every_file_that_is_a_command_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    modules = [importlib.import_module(f"{commands.__name__}.{path.stem}") for path in FOLDER.glob("*.py")]
    named = {module.__name__.rpartition(".")[2].rstrip("_") for module in modules if hasattr(module, "HELP")}
    assert named == set(COMMANDS)
    with pytest.raises(SystemExit):
        main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    for name in COMMANDS:
        assert any(line.split()[:1] == [name] for line in lines)
        assert any(line.startswith(f"  tokenyield-collector {name} ") for line in lines), "and has an example"


@pytest.mark.parametrize(
    "argv", [["--help"], ["report", "--help"], ["example", "prices.yaml"], ["example", "prices-tiers.yaml"]]
)
def test_the_help_imports_no_library(argv: list[str]) -> None:
    code = (
        "import sys, contextlib; from tokenyield_collector.cli import main\n"
        f"with contextlib.suppress(SystemExit): main({argv!r})\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    program = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY.isdisjoint(program.stderr.split())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("demo --month 2026-13 --ledger {folder}/new", "demo: --month: expected a month, a day or two days, found"),
        ("report --period 2026-10 --where team", "report: --where: expected a column and a value, found 'team'"),
        ("report --period 2026-10 --collector host:1", "report: --collector: expected a URL, found 'host:1'"),
        ("diagnose --hours 0", "diagnose: --hours: expected up to 168 hours, found 0"),
        ("rate --prices {folder}/prices.yaml --at noon", "rate: --at: expected a day or an hour, found 'noon'; write"),
    ],
)
def test_an_error_names_the_flag(argv: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prices.yaml").write_text("pools: []")
    assert main(argv.format(folder=tmp_path).split()) == 2
    assert capsys.readouterr().err.startswith(message)
