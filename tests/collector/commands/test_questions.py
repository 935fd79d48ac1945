"""docs/money.md, "Questions": each command runs as it is written, and shows the figures that stand below it."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

pytestmark = pytest.mark.timeout(600)

PAGE = Path(__file__).parents[3] / "docs" / "money.md"
COMMAND_S = 120
CLAIM = "#=> "


class Command(NamedTuple):
    line: str
    claims: list[str]


def commands(page: str) -> list[Command]:
    """Those of the section, in their order, with what each claims."""
    section = page[page.index("\n## Questions\n") :]
    found: list[Command] = []
    for block in re.findall(r"^```sh\n(.*?)^```", section, flags=re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            if line.startswith(CLAIM):
                found[-1].claims.append(line.removeprefix(CLAIM))
            else:
                found.append(Command(line, []))
    return found


def shows(output: str, claim: str) -> bool:
    """Whether a line has the parts of the claim, in their order, each as a whole word."""
    parts = [rf"(?<![\w.,-]){re.escape(part.strip())}(?!\w|[.,]\d)" for part in claim.split("…")]
    return any(re.search(".*".join(parts), line) for line in output.splitlines())


def test_a_claim_is_found_only_where_it_stands() -> None:
    output = " search   3,430.22  0.001091 \n ads  12 "
    assert shows(output, "search … 3,430.22 … 0.001091")
    assert not shows(output, "search … 430.22")
    assert not shows(output, "search … 12"), "another line"
    assert not shows(output, "0.001091 … search")


def test_every_question_has_a_command_with_a_figure() -> None:
    found = commands(PAGE.read_text())
    section = PAGE.read_text().split("\n## Questions\n")[1]
    assert section.count("\n**") == sum(block.count(CLAIM) > 0 for block in section.split("\n**")[1:]) >= 8
    asked = " ".join(command.line for command in found if command.claims)
    for word in ("--by team ", "agent_task", "--by product ", "--by tier", "coverage", "on_behalf_of", "budget "):
        assert word in asked


def test_the_commands_answer_the_questions(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "tokenyield-collector").write_text(f'#!/bin/sh\nexec {sys.executable} -m tokenyield_collector.cli "$@"\n')
    (tools / "tokenyield-collector").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "COLUMNS": "160"}
    for line, claims in commands(PAGE.read_text()):
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        missing = [claim for claim in claims if not shows(done.stdout, claim)]
        assert not missing, f"{line}\n{done.stdout}"
    pasted = yaml.safe_load((tmp_path / "rules.yaml").read_text())
    assert all(set(rule) == {"name", "match", "set"} for rule in pasted)
    assert len(pasted) == 4
