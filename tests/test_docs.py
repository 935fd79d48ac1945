"""The docs say what is: what is made from the code is as the code makes it, tests and files that are named exist."""

import ast
import re
from pathlib import Path

import generate
import pytest

import chart

ROOT = Path(__file__).parents[1]
PAGES = [path for path in sorted(ROOT.rglob("*.md")) if not {".venv", "build", "node_modules"} & set(path.parts)]


@pytest.mark.parametrize("path", generate.pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_made_from_the_code_is_as_the_code_makes_it(path: Path) -> None:
    assert path.read_text() == generate.pages()[path], "run `make docs`"


def test_the_chart_has_no_other_dashboards_and_rules() -> None:
    assert set((chart.CHART / "monitoring").iterdir()) == set(chart.pages()) - {chart.CHART / "README.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    known = {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    named = set(re.findall(r"`(test_\w+)`", text))
    assert named <= known
    links = {link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link}
    assert not [link for link in links if link and not (page.parent / link).exists()]
    files = set(re.findall(r"(?<![\w/])((?:[a-z_]+/)*)(test_\w+\.py)\b", text))
    assert not [
        name
        for folder, name in files
        if not list((ROOT / "tests").glob(f"{folder.removeprefix('tests/') or '**/'}{name}"))
    ]
