"""SECURITY.md and docs/access.md claim nothing without naming the test that holds it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CLAIMS = {
    "SECURITY.md": {"Report a vulnerability", "What is protected, from whom"},
    "docs/access.md": set(),
}
"""Pages, and their sections that promise nothing that a program does: how to write to us, and which attackers are considered."""
DEFINED = {
    node.name
    for file in (ROOT / "tests").rglob("test_*.py")
    for node in ast.walk(ast.parse(file.read_text()))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
}
FILES = {file.name for file in (ROOT / "tests").rglob("test_*.py")}


def sections(text: str) -> dict[str, str]:
    without_examples = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    parts = re.split(r"^##? (.+)$", without_examples, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def claims(section: str) -> list[str]:
    """Its paragraphs, items and the rows of its table of attacks. A paragraph that only names tests belongs to the one before it."""
    attacks = section.partition("| attack |")[2].partition("\n\n")[0]
    rows = [line for line in attacks.splitlines()[1:] if line.startswith("| ")]
    text = re.sub(r"^\|.*$\n?", "", section, flags=re.MULTILINE)
    blocks = [block.strip() for block in re.split(r"\n\s*\n|\n(?=- )", text) if block.strip()]
    joined: list[str] = []
    for block in blocks:
        if joined and (joined[-1].endswith(":") or block.startswith("*Test")):
            joined[-1] += "\n" + block
        else:
            joined.append(block)
    return joined + rows


def unnamed(page: str) -> list[str]:
    text = (ROOT / page).read_text()
    return [
        claim[:100]
        for title, section in sections(text).items()
        if title not in CLAIMS[page]
        for claim in claims(section)
        if not re.search(r"\btest_\w+", claim) and not claim.startswith("Tests are in ")
    ]


@pytest.mark.parametrize("page", CLAIMS)
def test_every_claim_names_a_test(page: str) -> None:
    assert not unnamed(page)


@pytest.mark.parametrize("page", CLAIMS)
def test_every_test_that_a_claim_names_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    named = set(re.findall(r"(?<![\w/])(test_\w+)(?!\w*\.py)\b", text))
    files = set(re.findall(r"\b(test_\w+\.py)\b", text))
    assert len(named) > 20
    assert not sorted({name for name in named if f"{name}.py" not in files} - DEFINED)
    assert not files - FILES


def test_a_claim_without_a_test_is_recognized() -> None:
    section = """
It is open: `test_a`.

It is closed.
*Tests: `test_b`.*

- It never ends.
- It ends. *Test: `test_c`.*

A table follows:
| word | means |
|---|---|
| a | b |

*Tests: `test_d`.*

It hangs in the air.

| attack | what happens | test |
|---|---|---|
| asks | 401 | `test_e` |
| begs | 403 | |
"""
    bare = [claim for claim in claims(section) if "test_" not in claim]
    assert bare == ["- It never ends.", "It hangs in the air.", "| begs | 403 | |"]
