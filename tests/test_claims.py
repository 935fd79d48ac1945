"""SECURITY.md and docs/access.md claim nothing without naming the test that holds it, sentence by sentence."""

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
    """Its paragraphs, items and the rows of tables with a column of tests. A paragraph that only names tests belongs to the one before it."""
    tables = re.findall(r"^\|.*\| test \|$\n\|[-|]+$\n((?:^\|.*$\n?)*)", section, flags=re.MULTILINE)
    rows = [line for table in tables for line in table.splitlines()]
    text = re.sub(r"^\|.*$\n?", "", section, flags=re.MULTILINE)
    blocks = [block.strip() for block in re.split(r"\n\s*\n|\n(?=- )", text) if block.strip()]
    joined: list[str] = []
    for block in blocks:
        if joined and (joined[-1].endswith(":") or block.startswith("*Test")):
            joined[-1] += "\n" + block
        else:
            joined.append(block)
    return joined + rows


NOTE = re.compile(r"\*Tests?: (.*?)\*(?=\s|$)", re.DOTALL)
"""Tests of a paragraph: `*Tests: 1: `test_a`, `test_b`; 2, 3: `test_c`; 4 is advice.*`, without numbers where it is one sentence."""


def sentences(claim: str) -> list[str]:
    words = " ".join(NOTE.sub("", claim).split())
    return re.split(r"(?<=[.?!])\s+(?=[A-Z`*\[(])", words) if not claim.startswith("| ") else [words]


def unheld(claim: str) -> str:
    """What is wrong with the tests that it names; empty where each of its sentences has one."""
    count, note = len(sentences(claim)), NOTE.search(claim)
    parts = [part.strip() for part in note[1].split(";")] if note else []
    numbered = [re.match(r"(\d+(?:, \d+)*)(:| is advice| is no claim)", part) for part in parts]
    if count == 1 and not any(numbered):
        return "" if re.search(r"\btest_\w+", claim) else "no test is named"
    bare = [part for part, number in zip(parts, numbered, strict=True)
            if number is None or (number[2] == ":" and not re.search(r"\btest_\w+|rules_test.yaml", part))]  # fmt: skip
    if bare:
        return f"expected '1: `test_…`' or '1 is advice', found '{bare[0]}'"
    named = {int(number) for one in numbered if one for number in one[1].split(", ")}
    wrong = named ^ set(range(1, count + 1))
    return f"{count} sentences; not so: {sorted(wrong)}" if wrong else ""


@pytest.mark.parametrize("page", CLAIMS)
def test_every_sentence_names_a_test(page: str) -> None:
    """Of a paragraph of several sentences by their numbers, so that a sentence that is added needs one too."""
    faults = [
        f"{claim[:80]}: {fault}"
        for title, section in sections((ROOT / page).read_text()).items()
        if title not in CLAIMS[page]
        for claim in claims(section)
        if not claim.startswith("Tests are in ") and (fault := unheld(claim))
    ]
    assert not faults


@pytest.mark.parametrize("page", CLAIMS)
def test_every_test_that_a_claim_names_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    named = set(re.findall(r"(?<![\w/])(test_\w+)(?!\w*\.py)\b", text))
    files = set(re.findall(r"\b(test_\w+\.py)\b", text))
    assert len(named) > 20
    assert not sorted({name for name in named if f"{name}.py" not in files} - DEFINED)
    assert not files - FILES


def test_a_sentence_without_a_test_is_recognized() -> None:
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

It opens `a.b`. It closes, since 1.30 too. Do this.
*Tests: 1, 2: `test_b`; 3 is advice.*

It opens. It closes. *Tests: 1: `test_b`.*

It opens. It closes. *Tests: `test_b`, `test_c`.*

It opens. It closes. *Tests: 1: `test_b`; 2: by hand.*

| attack | what happens | test |
|---|---|---|
| asks | 401 | `test_e` |
| begs | 403 | |
"""
    assert {claim.split(".")[0]: unheld(claim).partition(":")[0] for claim in claims(section) if unheld(claim)} == {
        "- It never ends": "no test is named",
        "It hangs in the air": "no test is named",
        "It opens": "expected '1",
        "| begs | 403 | |": "no test is named",
    }
    assert sum(bool(unheld(claim)) for claim in claims(section)) == 6
