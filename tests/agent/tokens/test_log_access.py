"""What a tenant puts in the place of its log is followed only where it may be: by folder, link, owner, device and inode."""

import os
import time
from pathlib import Path

import pytest

from tokenyield_agent.tokens import tail as tails
from tokenyield_agent.tokens.containers import PARTS_MAX, Unwrapper
from tokenyield_agent.tokens.open_file import LINE_BYTES_MAX, FilePosition, ReadBudget
from tokenyield_agent.tokens.tail import Tail

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
TENANT, OTHER = 4001, 4002


def lines(tail: Tail, now_s: float = 1.0) -> list[bytes]:
    return [line for block in tail.poll(now_s) for line in block.splitlines()]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "secret.log").write_text("secret\n")
    (tmp_path / "own" / "server.log").touch()
    return tmp_path / "own" / "server.log"


def test_a_log_swapped_for_a_link_is_refused_and_named(log: Path, tmp_path: Path) -> None:
    tail = Tail(str(log))
    log.unlink()
    log.symlink_to(tmp_path / "other" / "secret.log")
    for n in range(3):
        assert lines(tail, float(n)) == []
    assert "is a link" in (tail.problem or "")
    assert tail.counts["rotations"] == 0
    log.unlink()
    log.write_text("its own again\n")
    assert lines(tail) == [b"its own again"]
    assert tail.problem is None


@needs_root
def test_a_link_is_followed_where_root_owns_it_and_it_leads_below_a_root(log: Path, tmp_path: Path) -> None:
    link, target = tmp_path / "own" / "0.log", tmp_path / "other" / "secret.log"
    link.symlink_to(target)
    tail = Tail(str(link), from_end=False, roots=[str(tmp_path / "other")])
    assert lines(tail) == [b"secret"]
    os.lchown(link, TENANT, TENANT)
    refused = Tail(str(link), from_end=False, roots=[str(tmp_path / "other")])
    assert lines(refused) == []
    assert "root does not own" in (refused.problem or "")
    elsewhere = Tail(str(link), from_end=False, roots=[str(tmp_path / "othe")])
    os.lchown(link, 0, 0)
    assert lines(elsewhere) == []
    assert "log_roots" in (elsewhere.problem or "")


def test_a_folder_swapped_for_a_link_is_refused_and_named(log: Path, tmp_path: Path) -> None:
    tail = Tail(str(log))
    (tmp_path / "other" / "server.log").write_text("secret\n")
    (tmp_path / "own").rename(tmp_path / "moved")
    (tmp_path / "own").symlink_to(tmp_path / "other")
    assert lines(tail) == []
    assert "leads to" in (tail.problem or "")
    (tmp_path / "own").unlink()
    (tmp_path / "moved").rename(tmp_path / "own")
    log.write_text("its own\n")
    assert lines(tail) == [b"its own"]


@needs_root
def test_a_folder_that_a_tenant_s_link_leads_to_is_refused(log: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "own")
    log.write_text("a\n")
    assert lines(Tail(str(tmp_path / "link" / "server.log"), from_end=False)) == [b"a"]
    os.lchown(tmp_path / "link", TENANT, TENANT)
    tail = Tail(str(tmp_path / "link" / "server.log"), from_end=False)
    assert lines(tail) == []
    assert "root does not own" in (tail.problem or "")


@needs_root
def test_a_file_of_another_owner_is_refused_in_a_tenant_s_folder(log: Path) -> None:
    os.chown(log, TENANT, TENANT)
    os.chown(log.parent, TENANT, TENANT)
    tail = Tail(str(log), owner=TENANT)
    log.rename(log.with_suffix(".1"))
    log.write_text("of another\n")
    os.chown(log, OTHER, OTHER)
    assert lines(tail) == []
    assert "another user" in (tail.problem or "")
    os.chown(log, TENANT, TENANT)
    assert lines(tail) == [b"of another"]


@needs_root
def test_root_may_give_a_log_to_another_user(log: Path) -> None:
    """logrotate's `create`, in a folder where nobody else can make files."""
    tail = Tail(str(log), owner=0)
    log.rename(log.with_suffix(".1"))
    log.write_text("a\n")
    os.chown(log, TENANT, TENANT)
    assert lines(tail) == [b"a"]


def test_nothing_that_is_no_file_holds_up_a_poll(log: Path) -> None:
    tail = Tail(str(log))
    for make in (os.mkfifo, os.mkdir):
        log.unlink()
        make(log)
        assert lines(tail) == []
        assert "regular file" in (tail.problem or "")
        os.rmdir(log) if log.is_dir() else log.unlink()
        log.touch()
        lines(tail)


def test_no_link_in_a_container_is_followed(log: Path, tmp_path: Path) -> None:
    """There root is the tenant, and what is absolute leads into the host."""
    inside = tmp_path / "proc" / "77" / "root"
    (inside / "logs").mkdir(parents=True)
    (inside / "logs" / "server.log").symlink_to(tmp_path / "other" / "secret.log")
    tail = Tail(str(inside / "logs" / "server.log"), from_end=False, roots=[str(tmp_path / "other")])
    assert lines(tail) == []
    assert "is a link" in (tail.problem or "")
    (inside / "other").symlink_to(tmp_path / "other")
    tail = Tail(str(inside / "other" / "secret.log"), from_end=False)
    assert lines(tail) == []
    assert "in a container" in (tail.problem or "")


CONTENTS = {
    "no newline": b"x" * LINE_BYTES_MAX,
    "zero bytes that are written": b"x\n" + bytes(LINE_BYTES_MAX),
    "one newline in each read": b"x" * (LINE_BYTES_MAX // 2) + b"\n",
    "zeros and letters": (bytes(1000) + b"x") * 200,
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_bytes_of_a_poll_are_bounded_whatever_they_are(content: bytes, log: Path) -> None:
    times = 2 * tails.POLL_BYTES_MAX // len(content) + 1
    with log.open("wb") as file:
        for _ in range(times):
            file.write(content)
    tail = Tail(str(log), from_end=False)
    budget = ReadBudget(1 << 20)
    for _ in tail.poll(1.0, budget):
        pass
    assert budget.bytes_left > -LINE_BYTES_MAX - 1
    (file_mark,) = tail.mark().files
    assert file_mark.offset <= (1 << 20) + LINE_BYTES_MAX


def test_what_a_budget_does_not_reach_of_a_copy_is_read_later(log: Path, tmp_path: Path) -> None:
    """copytruncate, with more behind the last poll than one poll reads."""
    tail = Tail(str(log), from_end=False)
    written = [b"line %07d" % n for n in range(200_000)]
    log.write_bytes(b"first\n")
    assert lines(tail) == [b"first"]
    with log.open("ab") as file:
        file.write(b"\n".join(written) + b"\n")
    (log.parent / "server.log.1").write_bytes(log.read_bytes())
    os.truncate(log, 0)
    with log.open("ab") as file:
        file.write(b"after\n")
    found: list[bytes] = []
    for n in range(30):
        for block in tail.poll(1.0 + n, ReadBudget(1 << 19)):
            found += block.splitlines()
    assert found == [*written, b"after"]


def test_a_line_of_many_parts_takes_no_time_from_others() -> None:
    """Each part copied the list of all before it: a line of 262,144 parts took minutes."""
    unwrapper = Unwrapper()
    part = b"2026-11-23T12:00:00Z stdout P x\n"
    began_s = time.thread_time()
    unwrapper.feed(part * 200_000, FilePosition(1, 2, 0))
    assert time.thread_time() - began_s < 5
    assert unwrapper.lines_too_long == 1
    assert sum(len(positions) for positions in unwrapper.state()["parts"].values()) <= PARTS_MAX


def test_streams_that_no_runtime_has_are_not_remembered() -> None:
    unwrapper = Unwrapper()
    for n in range(1000):
        unwrapper.feed(
            b'{"log":"x","stream":"stdout-%d","time":"t"}\n' % n if n else b'{"log":"x","stream":"stdout"}\n'
        )
    assert len(unwrapper.state()["parts"]) == 1
