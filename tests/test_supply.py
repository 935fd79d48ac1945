"""What can be checked of the supply without building it: locks satisfy pyproject.toml, and the audit's exit codes."""

import json
import re
import stat
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = {"agent": ["kubernetes"], "collector": ["collector", "clickhouse"]}
"""Of each lock: the extras that it is made for (`make locks`)."""


def locked(name: str) -> dict[str, str]:
    text = (ROOT / "locks" / f"{name}.txt").read_text()
    return {
        canonicalize_name(found[0]): found[1] for found in re.findall(r"^([\w.-]+)==([\w.!+]+)", text, re.MULTILINE)
    }


def unsatisfied(requirements: list[str], versions: dict[str, str]) -> list[str]:
    parsed = [Requirement(text) for text in requirements]
    return [
        f"{one}: locked {versions.get(canonicalize_name(one.name))}"
        for one in parsed
        if (one.marker is None or one.marker.evaluate({"extra": ""}))
        and versions.get(canonicalize_name(one.name), "") not in one.specifier
    ]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_satisfies_pyproject_and_what_it_locks(name: str) -> None:
    """Run `make locks` if not. What the locked distributions require themselves is asked of those that are installed here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [
        *project["dependencies"],
        *(one for extra in LOCKS[name] for one in project["optional-dependencies"][extra]),
    ]
    versions = locked(name)
    assert not unsatisfied(required, versions)
    installed: dict[str, metadata.Distribution] = {canonicalize_name(one.name): one for one in metadata.distributions()}
    same = [one for key, version in versions.items() if (one := installed.get(str(key))) and one.version == version]
    assert same
    assert not [fault for one in same for fault in unsatisfied(one.requires or [], versions)]


def test_a_lock_that_does_not_satisfy_is_recognized() -> None:
    versions = {"msgspec": "0.18.6", "psutil": "7.0"}
    assert unsatisfied(["msgspec>=0.19", "psutil>=5.9", "h2>=4.1", "x; python_version<'3'"], versions) == [
        "msgspec>=0.19: locked 0.18.6",
        "h2>=4.1: locked None",
    ]


@pytest.mark.parametrize("name", [*LOCKS, "build"])
def test_all_that_is_locked_has_hashes(name: str) -> None:
    entries = re.split(r"^(?=[\w.-]+==)", (ROOT / "locks" / f"{name}.txt").read_text(), flags=re.MULTILINE)[1:]
    assert entries
    assert not [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry]


# --- the audit's exit codes, for what pip-audit 2.10 prints ---------------------------------------------------------

CLEAN = {"dependencies": [{"name": "h2", "version": "4.4.1", "vulns": []}], "fixes": []}
SKIPPED = {
    "dependencies": [
        {"name": "h2", "skip_reason": "Dependency not found on PyPI and could not be audited: h2 (4.4.1)"}
    ],
    "fixes": [],
}
FAULT = {"id": "PYSEC-2024-1", "fix_versions": ["4.5"], "aliases": [], "description": ""}
VULNERABLE = {
    "dependencies": [*SKIPPED["dependencies"], {"name": "idna", "version": "3.6", "vulns": [FAULT]}],
    "fixes": [],
}


@pytest.mark.parametrize(
    ("answer", "code", "allowed_code"),
    [
        (json.dumps(CLEAN), 0, 0),
        (json.dumps(SKIPPED), 2, 0),
        (json.dumps({"dependencies": []}), 2, 0),
        ("", 2, 0),
        (json.dumps(VULNERABLE), 1, 1),
    ],
    ids=["clean", "without advisories", "empty", "unreachable", "vulnerable"],
)
def test_the_audit_says_whether_it_could_judge(answer: str, code: int, allowed_code: int, tmp_path: Path) -> None:
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\necho 'ERROR: no route to host' >&2\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def audit(*flags: str) -> "subprocess.CompletedProcess[str]":
        call = [sys.executable, str(ROOT / ".ci" / "audit"), *flags, str(tmp_path), str(tmp_path)]
        return subprocess.run(call, capture_output=True, text=True, check=False)

    assert audit().returncode == code
    tolerant = audit("--unjudged-is-allowed")
    assert tolerant.returncode == allowed_code
    assert ("NOT ALL COULD BE JUDGED" in tolerant.stdout) == (code == 2)


def test_only_ci_goes_on_when_the_audit_could_not_judge() -> None:
    """`make audit` and `make release` are strict."""
    flag = "--unjudged-is-allowed"
    assert flag in (ROOT / ".ci" / "run").read_text()
    makefile = (ROOT / "Makefile").read_text()
    assert flag not in makefile
    assert "$(MAKE) audit AUDIT_FLAGS= " in makefile
