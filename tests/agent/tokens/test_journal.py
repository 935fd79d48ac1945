"""The journal's reader against a journalctl of our own: what a unit logged as it started gives its model."""

import json
import os
import time
from pathlib import Path

import pytest

from tokenyield_agent.tokens.dialects.registry import new_dialect
from tokenyield_agent.tokens.journal import Journal
from tokenyield_agent.tokens.log_source import JournalUnit

UNIT = "llama.service"
INVOCATION = "0123456789abcdef0123456789abcdef"
START = b"0.00.012.853 I srv    load_model: loading model '/srv/llm/tiny.gguf'"
REQUEST = [
    b"0.04.1.2 I slot print_timing: id  3 | task 7 | prompt eval time =  4.70 ms /   162 tokens (  0.03 ms per token)",
    b"0.04.1.2 I slot print_timing: id  3 | task 7 |        eval time = 17.03 ms /     5 tokens (  4.26 ms per token)",
    b"0.04.1.2 I slot      release: id  3 | task 7 | stop processing: n_tokens = 196, truncated = 0",
]


def entry(number: int, message: bytes) -> str:
    return json.dumps(
        {
            "__CURSOR": f"s={number}",
            "_SYSTEMD_UNIT": UNIT,
            "_SYSTEMD_INVOCATION_ID": INVOCATION,
            "MESSAGE": message.decode(),
        }
    )


def entries(first: int, messages: list[bytes]) -> str:
    return "".join(entry(first + number, message) + "\n" for number, message in enumerate(messages))


@pytest.fixture
def journal_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what a journalctl in the PATH answers: `newest`, `start` and `follow`."""
    answers = tmp_path / "answers"
    answers.mkdir()
    program = tmp_path / "bin" / "journalctl"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path}/calls\n'
        'case "$*" in\n'
        f"*--follow*) cat {answers}/follow; exec sleep 60;;\n"
        f"*--lines=1*) cat {answers}/newest;;\n"
        f"*) cat {answers}/start;;\n"
        "esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    (answers / "newest").write_text(entry(9, b"newest") + "\n")
    (answers / "start").write_text(entry(1, START) + "\n" + entries(2, REQUEST))
    (answers / "follow").write_text(entry(9, b"newest") + "\n" + entries(10, REQUEST))
    return tmp_path


def follow(journal: Journal, unit: JournalUnit) -> int:
    """Polls as the roster does until a request was read; its completion."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        for _, block in journal.poll(time.monotonic()):
            unit.add(block)
        for start in journal.take_starts().values():
            unit.learn_model(start)
        if events := unit.poll(1_000_000, 0.0):
            journal.close()
            return sum(event.counts.completion or 0 for event in events)
        time.sleep(0.02)
    raise AssertionError("nothing was read from the journal")


def unit_of(journal: Journal) -> JournalUnit:
    journal.set_units(frozenset({UNIT}))
    return JournalUnit(workload="w", unit=UNIT, dialect_name="auto", dialect=new_dialect("auto"))


def test_a_model_that_was_logged_before_the_agent_began_is_found(journal_of: Path) -> None:
    journal = Journal()
    unit = unit_of(journal)
    assert follow(journal, unit) == 5, "the request before the agent's watch is not counted"
    assert [dialect.model for dialect in unit.dialects()] == ["tiny.gguf"]
    assert f"_SYSTEMD_INVOCATION_ID={INVOCATION}" in (journal_of / "calls").read_text()


def test_without_invocations_the_unit_is_read_from_the_boot(journal_of: Path) -> None:
    (journal_of / "answers" / "newest").write_text('{"__CURSOR": "s=9"}\n')
    journal = Journal()
    unit = unit_of(journal)
    assert follow(journal, unit) == 5
    assert [dialect.model for dialect in unit.dialects()] == ["tiny.gguf"]
    (start,) = (call for call in (journal_of / "calls").read_text().splitlines() if "--boot" in call)
    assert UNIT in start


@pytest.mark.parametrize("answer", ["", "not JSON\n", "[]\n", '{"MESSAGE": 7}\n'])
def test_a_start_that_cannot_be_read_only_leaves_the_model_unknown(journal_of: Path, answer: str) -> None:
    (journal_of / "answers" / "newest").write_text(entry(9, b"newest") + "\n")
    (journal_of / "answers" / "start").write_text(answer)
    journal = Journal()
    unit = unit_of(journal)
    assert follow(journal, unit) == 5
    assert [dialect.model for dialect in unit.dialects()] == [None]


def test_units_that_change_while_a_start_is_read_lose_no_start(journal_of: Path) -> None:
    journal = Journal()
    unit = unit_of(journal)
    journal.set_units(frozenset({UNIT, "other.service"}))
    assert follow(journal, unit) == 5
    assert [dialect.model for dialect in unit.dialects()] == ["tiny.gguf"]
