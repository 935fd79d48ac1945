"""Every line once, in order, whatever is done to the file."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenyield_agent.tokens.open_file import LINE_BYTES_MAX
from tokenyield_agent.tokens.tail import LINGER_S, Tail, TailMark


class Reader:
    """A tail whose process can be restarted: its mark goes through JSON, as through the spool."""

    def __init__(self, path: Path, *, from_end: bool = True) -> None:
        self.path = path
        self.tail = Tail(str(path), from_end=from_end)
        self.lines: list[bytes] = []
        self.now_s = 0.0

    def poll(self, after_s: float = 1.0) -> list[bytes]:
        self.now_s += after_s
        new = [line for block in self.tail.poll(self.now_s) for line in block.splitlines()]
        self.lines += new
        return new

    def restart(self) -> None:
        raw = msgspec.json.encode(self.tail.mark())
        self.tail.close()
        self.tail = Tail(str(self.path), mark=msgspec.convert(json.loads(raw), TailMark))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_a_file_that_is_there_is_read_from_its_end(log: Path) -> None:
    append(log, "old\n")
    reader = Reader(log)
    append(log, "new\n")
    assert reader.poll() == [b"new"]


def test_the_rest_of_a_line_that_began_before_is_not_a_line(log: Path) -> None:
    append(log, "old and ha")
    reader = Reader(log)
    append(log, "lf\nnew\n")
    assert reader.poll() == [b"new"]


def test_a_file_that_appears_late_is_read_whole(log: Path) -> None:
    reader = Reader(log)
    assert reader.poll() == []
    assert reader.tail.problem is not None
    append(log, "first\n")
    assert reader.poll() == [b"first"]
    assert reader.tail.problem is None


def test_a_file_that_appears_while_we_are_away_is_read_whole(log: Path) -> None:
    reader = Reader(log)
    append(log, "first\n")
    reader.restart()
    assert reader.poll() == [b"first"]


def test_a_half_written_line_waits(log: Path) -> None:
    reader = Reader(log)
    append(log, "one\ntw")
    assert reader.poll() == [b"one"]
    reader.restart()
    append(log, "o\n")
    assert reader.poll() == [b"two"]


def test_a_line_beyond_the_bound_is_dropped_and_counted(log: Path) -> None:
    reader = Reader(log)
    append(log, "a\n" + "x" * (3 * LINE_BYTES_MAX))
    assert reader.poll() == [b"a"]
    reader.restart()
    append(log, "y\nb\n")
    assert reader.poll() == [b"b"]
    append(log, "z" * LINE_BYTES_MAX + "\nc\n")
    assert reader.poll() == [b"c"]
    assert reader.tail.counts["lines_too_long"] == 1, "the one since the restart"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_said_once_and_holds_nothing_up(
    log: Path, make: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    make(log)
    reader = Reader(log)
    for _ in range(3):
        assert reader.poll() == []
    assert "is not a regular file" in (reader.tail.problem or "")
    assert len(caplog.messages) == 1


def test_invalid_utf8_passes_through(log: Path) -> None:
    reader = Reader(log)
    log.write_bytes(b"\xff\xfe\x00ok\n")
    assert reader.poll() == [b"\xff\xfe\x00ok"]


def test_rename_rotation(log: Path) -> None:
    reader = Reader(log)
    append(log, "1\n")
    reader.poll()
    append(log, "2\n")
    log.rename(log.with_suffix(".log.1"))
    append(log.with_suffix(".log.1"), "3\n")
    append(log, "4\n")
    reader.poll()
    append(log.with_suffix(".log.1"), "5 by a writer that has not reopened\n")
    reader.poll()
    assert reader.lines == [b"1", b"2", b"3", b"4", b"5 by a writer that has not reopened"]
    reader.poll(LINGER_S)
    assert len(reader.tail.mark().files) == 1


def test_a_writer_that_never_reopens_is_followed_for_ever(log: Path) -> None:
    reader = Reader(log)
    append(log, "1\n")
    reader.poll()
    old = log.with_suffix(".log.1")
    log.rename(old)
    log.touch()
    reader.poll()
    for n in range(3):
        reader.poll(10 * LINGER_S)
        append(old, f"late {n}\n")
    reader.restart()
    reader.poll()
    assert reader.lines == [b"1", b"late 0", b"late 1", b"late 2"]


def test_the_last_line_of_a_rotated_file_counts_without_its_newline(log: Path) -> None:
    reader = Reader(log)
    append(log, "1\nlast")
    reader.poll()
    log.rename(log.with_suffix(".log.1"))
    append(log, "2\n")
    reader.poll()
    reader.poll(LINGER_S)
    assert reader.lines == [b"1", b"2", b"last"]


def test_rotations_while_we_are_away(log: Path) -> None:
    reader = Reader(log)
    append(log, "1\n")
    reader.poll()
    append(log, "2\n")
    for n, text in ((1, "3\n"), (2, "4\n"), (3, "5\n")):
        for k in range(n, 0, -1):
            older = Path(f"{log}.{k}")
            if older.exists():
                older.rename(f"{log}.{k + 1}")
        log.rename(f"{log}.1")
        append(log, text)
        os.utime(log, ns=(n * 10**12 + 2 * 10**18, n * 10**12 + 2 * 10**18))
    reader.restart()
    reader.poll()
    assert reader.lines == [b"1", b"2", b"3", b"4", b"5"]


@pytest.mark.parametrize("while_away", [False, True])
@pytest.mark.parametrize("writer_appends", [True, False])
def test_copytruncate(log: Path, while_away: bool, writer_appends: bool) -> None:
    reader = Reader(log)
    with log.open("ab" if writer_appends else "wb", buffering=0) as writer:
        writer.write(b"1\n" * 3)
        reader.poll()
        writer.write(b"2 before the copy\n")
        shutil.copyfile(log, f"{log}.1")
        os.truncate(log, 0)
        if while_away:
            reader.restart()
        writer.write(b"3 after\n" * 9)
        reader.poll()
        writer.write(b"4\n")
        reader.poll()
    assert reader.lines == [b"1"] * 3 + [b"2 before the copy"] + [b"3 after"] * 9 + [b"4"]


def test_a_log_that_appeared_while_the_agent_was_down_may_be_rotated_before_the_first_poll(log: Path) -> None:
    reader = Reader(log)
    append(log, "1\n")
    reader.restart()
    log.rename(f"{log}.1")
    append(log, "2\n")
    reader.poll()
    assert reader.lines == [b"1", b"2"]


def test_copies_that_were_made_while_the_agent_was_down(log: Path) -> None:
    """As when an agent's last state is from before several of them."""
    reader = Reader(log)
    append(log, "1\n")
    reader.poll()
    for n in (2, 3, 4):
        append(log, f"{n} and more\n" * n)
        shutil.copyfile(log, f"{log}.{n}")
        os.utime(f"{log}.{n}", ns=(n * 10**17, n * 10**17))
        os.truncate(log, 0)
    append(log, "5\n")
    reader.restart()
    reader.poll()
    expected = [b"1", *[b"2 and more"] * 2, *[b"3 and more"] * 3, *[b"4 and more"] * 4, b"5"]
    assert reader.lines == expected


def test_truncation_without_a_copy(log: Path) -> None:
    reader = Reader(log)
    append(log, "a long first line\n")
    reader.poll()
    log.write_text("b\n")
    assert reader.poll() == [b"b"]
    assert reader.tail.counts["truncations"] == 1


def test_a_file_that_is_gone_for_good_is_said(log: Path) -> None:
    reader = Reader(log)
    append(log, "1\n")
    reader.poll()
    log.unlink()
    append(log, "2\n")
    other = log.with_name("keep-the-inode")
    append(other, "x")
    reader.restart()
    assert reader.poll() == [b"2"]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_line_once_in_order_through_any_history(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A writer that numbers its lines, and any mix of polls, restarts, rotations and copytruncates."""
    log = tmp_path_factory.mktemp("history") / "server.log"
    reader = Reader(log)
    written: list[bytes] = []
    rotations = 0
    steps = data.draw(
        st.lists(st.sampled_from(["write", "half", "poll", "restart", "rename", "copytruncate"]), max_size=40)
    )
    half = b""
    for n, step in enumerate(steps):
        if step == "write":
            lines = [b"line %d.%d of this history" % (n, k) for k in range(data.draw(st.integers(1, 3)))]
            with log.open("ab") as file:
                file.write(b"".join(line + b"\n" for line in lines))
            written += [half + lines[0], *lines[1:]]
            half = b""
        elif step == "half" and not half:
            with log.open("ab") as file:
                file.write(b"half ")
            half = b"half "
        elif step == "poll":
            reader.poll(data.draw(st.sampled_from([0.2, 1.0])))
        elif step == "restart":
            reader.restart()
        elif step in ("rename", "copytruncate") and log.exists() and not half:
            reader.poll()
            rotations += 1
            target = Path(f"{log}.{rotations}")
            if step == "rename":
                log.rename(target)
            else:
                shutil.copyfile(log, target)
                os.truncate(log, 0)
            os.utime(target, ns=(rotations * 10**9, rotations * 10**9))  # each is older than what came after it
    if half:
        with log.open("ab") as file:
            file.write(b"\n")
        written.append(b"half ")
    reader.poll()
    reader.poll(LINGER_S)
    assert reader.lines == written
