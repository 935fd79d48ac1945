"""The formats: each is one file that is found by its name, and costs only its own imports."""

import subprocess
import sys
from pathlib import Path

import pytest

from collector.fleet import prices
from collector.reports.test_reports import PRICE_BOOK, month
from tokenyield_collector.reports import formats
from tokenyield_collector.reports.formats import FORMAT_NAMES, MEDIA_TYPES, load_format

FOLDER = Path(formats.__file__).parent
HEAVY: dict[str, set[str]] = {
    "csv": set(),
    "json": set(),
    "html": {"jinja2"},
    "table": {"rich"},
    "focus": set(),
    "focus-metadata": set(),
}


def test_every_file_is_a_format_of_its_name() -> None:
    files = {path.stem.replace("_", "-") for path in FOLDER.glob("*.py")} - {"--init--"}
    assert files == set(FORMAT_NAMES) == set(MEDIA_TYPES)
    for name in FORMAT_NAMES:
        assert load_format(name).name == name
        assert "/" in MEDIA_TYPES[name]
    assert MEDIA_TYPES.get("pdf") is None
    assert "pdf" not in MEDIA_TYPES


@pytest.mark.parametrize(("name", "libraries"), HEAVY.items())
def test_a_format_imports_only_what_it_needs(name: str, libraries: set[str]) -> None:
    code = (
        "import sys; from tokenyield_collector.reports.formats import load_format\n"
        f"load_format({name!r}); print(*sys.modules)"
    )
    program = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"aiohttp", "duckdb", "jinja2", "rich"} & set(program.stdout.split()) == libraries


def test_a_new_file_is_a_new_format(tmp_path: Path) -> None:
    """In a program of its own: the listing is made once."""
    (tmp_path / "row_count.py").write_text(
        "from tokenyield_collector.reports.formats import ReportFormat\n"
        "FORMAT = ReportFormat('row-count', 'text/plain', lambda report: str(len(report.rows)).encode())\n"
    )
    code = (
        "import pkgutil; listed = pkgutil.iter_modules\n"
        f"pkgutil.iter_modules = lambda path: [path.append({str(tmp_path)!r}), *listed(path)][1:]\n"
        "from tokenyield_collector.cli import main\n"
        "import contextlib\n"
        "from tokenyield_collector.reports.maker import MEDIA_TYPES\n"
        "print(MEDIA_TYPES['row-count'])\n"
        "with contextlib.suppress(SystemExit): main(['report', '--help'])\n"
    )
    program = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert program.stdout.startswith("text/plain\n")
    assert "row-count" in program.stdout


def test_the_header_names_the_columns_of_an_empty_report(tmp_path: Path) -> None:
    maker = month().maker(prices(tmp_path, PRICE_BOOK))
    full, empty = (maker.encode("2026-10", ["team", "model"], "csv", where) for where in ({}, {"team": "nobody"}))
    assert empty.splitlines() == full.splitlines()[:1]
    assert empty.startswith(b"team,model,cost,")
