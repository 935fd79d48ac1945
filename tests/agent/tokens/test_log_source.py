"""Followed logs: patterns, containers' files, rotation by the kubelet, and what is remembered."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import msgspec

from tokenyield_agent.tokens.dialects.registry import SERVER_DIALECTS, new_dialect
from tokenyield_agent.tokens.event import Caller, TokenCounts
from tokenyield_agent.tokens.log_source import JournalUnit, LogFiles, SourceMark, only_labels

LINE = "slot print_timing: id  0 | task {task} | prompt eval time =  1.0 ms / 3 tokens (\nslot print_timing: id  0 | task {task} |        eval time =  1.0 ms / {made} tokens (\nslot release: id  0 | task {task} | stop processing: n_tokens = {length}, truncated = 0\n"


def request(task: int, made: int) -> str:
    return LINE.format(task=task, made=made, length=2 + made)


def cri(text: str) -> str:
    return "".join(f"2026-11-23T12:00:00.1Z stderr F {line}\n" for line in text.splitlines())


def follow(pattern: Path | str, marks: list[SourceMark] | None = None, *, from_end: bool = True) -> LogFiles:
    return LogFiles(
        workload="w",
        patterns=(str(pattern),),
        dialect_name="auto",
        make_dialect=lambda: new_dialect("auto", among=SERVER_DIALECTS),
        from_end=from_end,
        marks=marks or (),
    )


def made(source: LogFiles, at_s: float) -> int:
    return sum(event.counts.completion or 0 for event in source.poll(int(at_s * 1000), at_s))


def remembered(source: LogFiles) -> list[SourceMark]:
    return msgspec.json.decode(msgspec.json.encode(source.marks()), type=list[SourceMark])


def test_a_pods_log_through_rotation_and_restarts(tmp_path: Path) -> None:
    """The kubelet renames 0.log, compresses older ones, and a restarted container writes 1.log."""
    folder = tmp_path / "prod_chat-0_uid" / "server"
    folder.mkdir(parents=True)
    current = folder / "0.log"
    current.write_text(cri(request(1, 5)))
    source = follow(folder / "*.log")
    assert made(source, 1) == 0, "before our time"
    with current.open("a") as log:
        log.write(cri(request(2, 7)))
    assert made(source, 2) == 7
    with current.open("a") as log:
        log.write(cri(request(3, 11)))
    current.rename(folder / "0.log.20261123-120000")
    current.write_text(cri(request(4, 13)))
    assert made(source, 3) == 24
    (folder / "0.log.20261123-110000.gz").write_bytes(gzip.compress(cri(request(9, 999)).encode()))
    (folder / "1.log").write_text(cri(request(1, 17)))
    assert made(source, 9) == 17, "a file that appears is read whole"
    marks = remembered(source)
    source.close()
    with (folder / "1.log").open("a") as log:
        log.write(cri(request(2, 19)))
    (folder / "2.log").write_text(cri(request(1, 23)))
    again = follow(folder / "*.log", marks)
    assert made(again, 20) == 42, "what was written while the agent was down, and a file that appeared then"
    again.close()


def test_a_line_cut_over_a_restart_is_whole(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_text(cri("hello"))
    source = follow(log)
    text = request(1, 5).splitlines()
    with log.open("a") as out:
        out.write(cri(text[0]) + f"2026-11-23T12:00:00.1Z stderr P {text[1][:20]}\n")
    assert made(source, 1) == 0
    marks = remembered(source)
    source.close()
    with log.open("a") as out:
        out.write(f"2026-11-23T12:00:00.1Z stderr F {text[1][20:]}\n" + cri(text[2]))
    again = follow(log, marks)
    assert made(again, 2) == 5
    again.close()


def test_dockers_file(tmp_path: Path) -> None:
    log = tmp_path / "x-json.log"
    source = follow(log, from_end=False)
    assert made(source, 0.5) == 0
    assert "No such file" in (source.problem or "")
    lines: list[dict[str, Any]] = [
        {"log": f"{line}\n", "stream": "stderr", "time": "2026-11-23T12:00:00Z"} for line in request(1, 6).splitlines()
    ]
    log.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    assert made(source, 1) == 6
    assert [dialect.name for dialect in source.dialects()] == ["llamacpp"]
    source.close()


def test_a_pattern_follows_a_bounded_number_of_files(tmp_path: Path) -> None:
    for i in range(100):
        (tmp_path / f"{i}.log").write_text("")
    source = follow(tmp_path / "*.log")
    assert len(source.files) == 64
    source.close()


def test_labels_that_may_not_leave_the_host_do_not() -> None:
    caller = Caller(model="m", labels=(("team", "search"), ("user", "someone")))
    (counts,) = only_labels([TokenCounts(method="count", requests=1, caller=caller)], frozenset({"team"}))
    assert counts.caller == Caller(model="m", labels=(("team", "search"),))


class BrokenDialect:
    """A dialect with a fault of ours: some line makes it raise."""

    name = "broken"
    model = None
    recognised = 1

    def feed(self, block: bytes | bytearray, arrival_s: float) -> list[TokenCounts]:
        if b"odd" in block:
            raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
        return [TokenCounts(method="count", completion=len(block.split()))]

    def finish(self) -> list[TokenCounts]:
        return []

    def forget_counts(self) -> None:
        pass

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        pass


def test_a_line_that_a_dialect_cannot_bear_costs_its_block_only(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_text("")
    source = LogFiles(
        workload="w", patterns=(str(path),), dialect_name="broken", make_dialect=BrokenDialect, from_end=True
    )
    unit = JournalUnit(workload="w", unit="server.service", dialect_name="broken", dialect=BrokenDialect())
    counted = []
    for at_s, text in enumerate(("one two\n", "odd one\n", "three\n"), 1):
        with path.open("a") as log:
            log.write(text)
        unit.add(text.encode())
        counted.append((made(source, at_s), sum(e.counts.completion or 0 for e in unit.poll(at_s * 1000, at_s))))
        if text.startswith("odd"):
            assert "the dialect broken failed with UnicodeEncodeError" in str(source.problem)
            assert "the dialect broken failed with UnicodeEncodeError" in str(unit.problem)
    assert counted == [(2, 2), (0, 0), (1, 1)]


def test_a_file_whose_name_is_no_utf8_is_followed_and_remembered(tmp_path: Path) -> None:
    """Whoever starts a server chooses its log's name, in bytes."""
    path = tmp_path / os.fsdecode(b"chat-\xff\n\x1b.log")
    path.write_text(request(1, 5))
    source = follow(path)
    assert made(source, 1) == 0
    with path.open("a") as log:
        log.write(request(2, 7))
    marks = remembered(source)
    again = follow(path, marks)
    assert made(again, 2) == 7, "from where the mark is"
