"""systemd's own journal, written by systemd-journal-remote and read by journalctl: by unit, resumed at its cursor."""

import fcntl
import shutil
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from harness import STATE_TIMEOUT_S, wait_until
from real.log_relays import JOURNAL_WRITER, journal_entry
from tokenyield_agent.doctor.logs import sample_of_journal
from tokenyield_agent.tokens import journal as journal_module
from tokenyield_agent.tokens.dialects.registry import new_dialect
from tokenyield_agent.tokens.journal import PIPE_BYTES, Journal
from tokenyield_agent.tokens.log_source import JournalUnit

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]


class Machine:
    """A journal that grows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._at_us = int(time.time_ns() // 1000)

    def log(self, unit: str, *messages: bytes, user_unit: str = "", invocation: str = "") -> None:
        entries = b""
        for message in messages:
            self._at_us += 1
            entries += journal_entry(
                message,
                at_us=self._at_us,
                mono_us=self._at_us,
                _SYSTEMD_UNIT=unit,
                _SYSTEMD_USER_UNIT=user_unit,
                _SYSTEMD_INVOCATION_ID=invocation,
            )
        target = f"--output={self.folder}/system.journal"
        subprocess.run([JOURNAL_WRITER, target, "-"], input=entries, check=True, capture_output=True)


def read(journal: Journal, wanted: int) -> list[tuple[str, bytes]]:
    """So many blocks; they come in the journal's order, so what should not come would be among them."""
    found: list[tuple[str, bytes]] = []

    def is_all() -> bool:
        found.extend(journal.poll(time.monotonic()))
        return len(found) >= wanted

    wait_until(is_all, what=f"{wanted} blocks, of which there are: {found}")
    return found


def follow(machine: Machine, *units: str) -> Journal:
    """A journal that knows where it begins: what was logged before is not ours."""
    journal = Journal(str(machine.folder))
    journal.set_units(frozenset(units))

    def is_following() -> bool:
        assert list(journal.poll(time.monotonic())) == []
        return journal.cursor is not None and journal._child is not None

    wait_until(is_following, what="the journal's end is known")
    return journal


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    assert shutil.which("journalctl"), "apt install systemd"
    assert Path(JOURNAL_WRITER).exists(), "apt install systemd-journal-remote"
    monkeypatch.setattr(journal_module, "LAST_CURSOR_S", STATE_TIMEOUT_S)
    return Machine(tmp_path / "journal")


def test_units_are_told_apart_and_reading_goes_on_at_the_cursor(machine: Machine) -> None:
    machine.log("vllm.service", b"before anybody watched")
    journal = follow(machine, "vllm.service", "llama.service")
    machine.log("vllm.service", b"one", b"two lines\nof text", "caf\u00e9".encode())
    machine.log("sshd.service", b"not ours")
    machine.log("llama.service", b"bytes \xff\xfe that are no text")
    assert read(journal, 4) == [
        ("vllm.service", b"one\n"),
        ("vllm.service", b"two lines\nof text\n"),
        ("vllm.service", "caf\u00e9\n".encode()),
        ("llama.service", b"bytes \xff\xfe that are no text\n"),
    ]
    cursor = journal.cursor
    journal.close()
    machine.log("vllm.service", b"while nobody watched")
    again = Journal(str(machine.folder), cursor)
    again.set_units(frozenset({"vllm.service"}))
    assert read(again, 1) == [("vllm.service", b"while nobody watched\n")]
    again.close()


def test_a_journalctl_that_dies_is_started_again_and_loses_nothing(machine: Machine) -> None:
    machine.log("init.scope", b"a journal is never empty")
    journal = follow(machine, "vllm.service")
    machine.log("vllm.service", b"one")
    assert read(journal, 1) == [("vllm.service", b"one\n")]
    assert journal._child is not None
    journal._child.kill()
    machine.log("vllm.service", b"two")
    assert read(journal, 1) == [("vllm.service", b"two\n")]
    assert journal.counts["restarts"] == 2
    journal.close()


def test_a_recorded_server_in_the_journal_counts_as_in_a_file(machine: Machine, fixtures: Path) -> None:
    machine.log("init.scope", b"a journal is never empty")
    lines = (fixtures / "servers" / "llamacpp" / "run" / "server.log").read_bytes().splitlines()
    journal = follow(machine, "llama.service")
    unit = JournalUnit(workload="w", unit="llama.service", dialect_name="auto", dialect=new_dialect("auto"))
    machine.log("llama.service", *lines)
    for _, block in read(journal, len(lines)):
        unit.add(block)
    events = unit.poll(1_000_000, 0.0)
    assert sum(event.counts.completion or 0 for event in events) == 20_941
    assert sum(event.counts.requests or 0 for event in events) == 203
    journal.close()


def test_what_a_unit_has_logged_is_seen_at_once(machine: Machine, fixtures: Path) -> None:
    """As `doctor` looks at it, while the agent itself reads from now on."""
    machine.log("init.scope", b"a journal is never empty")
    lines = (fixtures / "servers" / "llamacpp" / "run" / "server.log").read_bytes().splitlines()
    machine.log("llama.service", *lines)
    sample = sample_of_journal("llama.service", str(machine.folder), new_dialect("auto"))
    assert sample.dialect is not None
    assert sample.dialect.name == "llamacpp"
    assert sum(counts.completion or 0 for counts in sample.all_counts) == 20_941
    nothing = sample_of_journal("other.service", str(machine.folder), new_dialect("auto"))
    assert (nothing.size_bytes, nothing.dialect, nothing.problem) == (0, None, "")


def test_a_users_unit_is_read_as_its_own(machine: Machine, fixtures: Path) -> None:
    """Not as its manager's, to which journald assigns it too."""
    machine.log("init.scope", b"a journal is never empty")
    journal = follow(machine, "llama.service")
    machine.log("user@1000.service", b"of the user", user_unit="llama.service")
    machine.log("user@1000.service", b"of another", user_unit="other.service")
    machine.log("llama.service", b"of the system")
    assert read(journal, 2) == [("llama.service", b"of the user\n"), ("llama.service", b"of the system\n")]
    journal.close()
    sample = sample_of_journal("llama.service", str(machine.folder), new_dialect("auto"))
    assert sample.size_bytes == len(b"of the user\nof the system\n")


@pytest.mark.parametrize("invocation", ["0f" * 16, ""])
@pytest.mark.parametrize("user_unit", ["", "llama.service"])
def test_a_model_logged_before_the_agent_began_is_learned(machine: Machine, invocation: str, user_unit: str) -> None:
    unit = "user@1000.service" if user_unit else "llama.service"
    start = b"0.00.012.853 I srv    load_model: loading model '/srv/llm/%s.gguf'"
    machine.log(unit, start % b"older", user_unit=user_unit, invocation="0e" * 16 if invocation else "")
    machine.log(unit, start % b"tiny", *[b"filler"] * 100, user_unit=user_unit, invocation=invocation)
    machine.log("sshd.service", start % b"not-ours")
    journal = Journal(str(machine.folder))
    journal.set_units(frozenset({"llama.service"}))
    starts: dict[str, bytes] = {}

    def has_starts() -> bool:
        assert list(journal.poll(time.monotonic())) == []
        starts.update(journal.take_starts())
        return bool(starts)

    wait_until(has_starts, what="what the unit logged as it started is read")
    dialect = new_dialect("llamacpp")
    dialect.feed(starts["llama.service"], 0.0)
    assert dialect.model == "tiny.gguf"
    assert not invocation or user_unit or b"older" not in starts["llama.service"]
    journal.close()


def test_a_busy_unit_is_read_at_a_few_polls(machine: Machine) -> None:
    """What a router of three requests a poll logs in half a minute: a pipe of 64 KiB held a hundred lines of it."""
    machine.log("llama.service", b"before anybody watched")
    journal = follow(machine, "llama.service")
    lines = [b"slot print_timing: line %06d of many, as long as such lines are" % number for number in range(5_000)]
    machine.log("llama.service", *lines)
    assert journal._child is not None
    assert journal._child.stdout is not None
    pipe = journal._child.stdout.fileno()

    def waiting_bytes() -> int:
        return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)

    wait_until(lambda: waiting_bytes() > PIPE_BYTES * 3 // 4, what="journalctl has filled its pipe")
    found = list(journal.poll(time.monotonic()))
    assert len(found) > 1_000, "one poll a second keeps up with a thousand lines a second"
    found += read(journal, len(lines) - len(found)) if len(found) < len(lines) else []
    assert b"".join(block for _, block in found).splitlines() == lines
    journal.close()
