"""A recorded llama-server that was asked for n=3, replayed through its log and its counters by turns.

Its log repeats a prompt for each choice, so that it shows three times the prompts. Where the counters answer, the sum is
theirs, whatever the log says and wherever the run is cut.
"""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from recordings import FIXTURES
from tokenyield_agent.tokens.dialects import llamacpp
from tokenyield_agent.tokens.dialects.registry import new_dialect
from tokenyield_agent.tokens.endpoint import read
from tokenyield_agent.tokens.event import TokenEvent, sum_kinds
from tokenyield_agent.tokens.log_source import LogFiles
from tokenyield_agent.tokens.scrape import ScrapeResult
from tokenyield_agent.tokens.workload_tokens import TokensMark, WorkloadTokens

RUN = FIXTURES / "pages" / "llamacpp-three-choices"
MOVED: dict[str, int] = json.loads((RUN / "counters_moved.json").read_bytes())
LINES = gzip.decompress((RUN / "server.log.gz").read_bytes()).splitlines(keepends=True)
BEFORE, AFTER = ((RUN / name).read_bytes() for name in ("before.prom", "after.prom"))
NAMES = {
    "prompt_computed": b"llamacpp:prompt_tokens_total",
    "prompt_cached": b"llamacpp:prompt_tokens_cached_total",
    "completion": b"llamacpp:tokens_predicted_total",
}


class Replay:
    """One workload with a log that grows and an endpoint that answers when asked."""

    def __init__(self, folder: Path, *, is_new: bool = False) -> None:
        """`is_new`: the server was started while the agent watches, and its endpoint is not known yet."""
        self.path = folder / "server.log"
        self.path.write_bytes(b"")
        self.at_ms = 0
        self.sums: dict[str, int] = {}
        self._is_new = is_new
        self.tokens = self._open(None)

    def _open(self, mark: TokensMark | None) -> WorkloadTokens:
        log = LogFiles(
            workload="w",
            patterns=(str(self.path),),
            dialect_name="llamacpp",
            make_dialect=lambda: new_dialect("llamacpp"),
            from_end=False,
            marks=mark.logs if mark is not None else (),
        )
        return WorkloadTokens("w", log, has_endpoint=not self._is_new, is_new=self._is_new, mark=mark)

    def restart_agent(self) -> None:
        mark = msgspec.json.decode(msgspec.json.encode(self.tokens.mark()), type=TokensMark)
        self.tokens.close()
        self.tokens = self._open(mark)

    def write(self, lines: list[bytes]) -> None:
        with self.path.open("ab") as log:
            log.writelines(lines)
        self.at_ms += 1000
        self._add(self.tokens.poll(self.at_ms, self.at_ms / 1000))

    def answer(self, page: bytes) -> None:
        self.at_ms += 1000
        reading = read(page, llamacpp.COUNTERS)
        result = ScrapeResult(target="w", scraped_mono_s=0.0, names=llamacpp.COUNTERS, reading=reading)
        self._add(self.tokens.from_endpoint(result, self.at_ms))

    def refuse(self) -> None:
        self._add(self.tokens.from_endpoint(ScrapeResult(target="w", scraped_mono_s=0.0, refused=True), self.at_ms))

    def finish(self) -> dict[str, int]:
        self._add(self.tokens.finish())
        self.tokens.close()
        return {kind: self.sums.get(kind, 0) for kind in MOVED}

    def _add(self, events: list[TokenEvent]) -> None:
        for event in events:
            self.sums = sum_kinds(self.sums, event.counts.kinds())


def by_turns(parts: int) -> Iterator[tuple[list[bytes], bytes]]:
    """Lines, and the page after them: parents' prompts and all completions of the requests that have ended, and how many
    are in progress."""
    children: set[bytes] = set()
    begun, ended = set(), set()
    moved = dict.fromkeys(NAMES, 0)
    requests: dict[bytes, dict[str, int]] = {}
    step = -(-len(LINES) // parts)
    for i in range(0, len(LINES), step):
        for line in LINES[i : i + step]:
            task = re.search(rb"task (\d+) \|", line)
            if task is None:
                continue
            request = requests.setdefault(task[1], {})
            if b"launch_slot_" in line:
                begun.add(task[1])
                children.update([task[1]] if b"is_child = 1" in line else [])
            elif timing := re.search(rb"(prompt )? eval time = .* ms / +(\d+) tokens", line):
                request["prompt_computed" if b"prompt eval" in line else "completion"] = int(timing[2])
            elif length := re.search(rb"stop processing: n_tokens = (\d+)", line):
                ended.add(task[1])
                whole = int(length[1]) + 1
                request["prompt_cached"] = whole - request["prompt_computed"] - request["completion"]
                for kind in moved if task[1] not in children else ("completion",):
                    moved[kind] += request[kind]
        yield LINES[i : i + step], page(moved, len(begun - ended))


def page(moved: dict[str, int], running: int) -> bytes:
    text = BEFORE
    for kind, name in NAMES.items():
        start = int(re.search(rb"^" + name + rb" (\d+)$", BEFORE, re.MULTILINE)[1])  # type: ignore[index]
        text = re.sub(rb"(?m)^" + name + rb" \d+$", name + b" %d" % (start + moved[kind]), text)
    return re.sub(rb"(?m)^(llamacpp:requests_processing) \d+$", rb"\1 %d" % running, text)


def from_nothing(shown: bytes) -> bytes:
    """The page of a server that had counted nothing before the run."""
    for name in NAMES.values():
        counter = re.compile(rb"(?m)^" + name + rb" (\d+)$")
        start = int(counter.search(BEFORE)[1])  # type: ignore[index]
        shown = counter.sub(lambda line, name=name, start=start: name + b" %d" % (int(line[1]) - start), shown)  # type: ignore[misc]
    return shown


def test_the_recorded_pages_give_the_sum_though_the_log_shows_more(tmp_path: Path) -> None:
    replay = Replay(tmp_path)
    replay.answer(BEFORE)
    replay.write(LINES)
    replay.answer(AFTER)
    replay.refuse()
    assert replay.finish() == MOVED


@pytest.mark.parametrize("parts", [2, 7, 100])
@pytest.mark.parametrize("end", ["refuse", "finish", "time out", "agent restarts"])
def test_by_turns_the_sum_is_that_of_the_counters(parts: int, end: str, tmp_path: Path) -> None:
    replay = Replay(tmp_path)
    replay.answer(BEFORE)
    for lines, shown in by_turns(parts):
        replay.write(lines)
        if end == "agent restarts":
            replay.restart_agent()
        replay.answer(shown)
    replay.answer(AFTER)
    if end == "refuse":
        replay.refuse()
    for _ in range(4 if end == "time out" else 0):
        replay.tokens.from_endpoint(ScrapeResult(target="w", scraped_mono_s=0.0), replay.at_ms)
    assert replay.finish() == MOVED


@pytest.mark.parametrize("found_after", [0, 1, 5, 20, 50])
def test_a_new_server_s_endpoint_that_is_found_later_counts_nothing_again(found_after: int, tmp_path: Path) -> None:
    """A model is loaded before the server listens, and the agent looks at its sockets again some time after that. Only
    the completions, which this log shows once."""
    replay = Replay(tmp_path, is_new=True)
    for i, (lines, shown) in enumerate(by_turns(50)):
        replay.write(lines)
        if i >= found_after:
            replay.tokens.has_endpoint = True
            replay.answer(from_nothing(shown))
    replay.tokens.has_endpoint = True
    replay.answer(from_nothing(AFTER))
    assert replay.finish()["completion"] == MOVED["completion"]


def test_a_log_that_moves_is_said_though_nothing_of_it_is_counted(tmp_path: Path) -> None:
    """So that an endpoint that is left alone while idle is asked."""
    replay = Replay(tmp_path)
    replay.answer(BEFORE)
    for lines, moved in ((LINES[:60], True), ([], False)):
        replay.write(lines)
        assert (replay.tokens.log_moved, replay.sums.get("completion", 0)) == (moved, 0)


def test_what_the_log_adds_while_the_endpoint_is_away_is_subtracted_when_it_is_back(tmp_path: Path) -> None:
    replay = Replay(tmp_path)
    replay.answer(BEFORE)
    turns = list(by_turns(10))
    for i, (lines, shown) in enumerate(turns):
        replay.write(lines)
        if i in (4, 5):
            replay.refuse()
        else:
            replay.answer(shown)
    for _ in range(3):  # what was overcounted is subtracted from what comes; the rest is bounded by what the log showed
        replay.answer(AFTER)
    counted = replay.finish()
    assert counted["completion"] == MOVED["completion"]
    assert MOVED["prompt_computed"] <= counted["prompt_computed"] <= 1.5 * MOVED["prompt_computed"]


def test_a_server_that_is_killed_while_it_is_busy_is_over_by_no_more_than_its_log_showed_last(tmp_path: Path) -> None:
    replay = Replay(tmp_path)
    replay.answer(BEFORE)
    turns = list(by_turns(40))
    for lines, shown in turns[:-1]:
        replay.write(lines)
        replay.answer(re.sub(rb"(llamacpp:requests_processing) 0", rb"\1 1", shown))
    replay.write(turns[-1][0])
    replay.refuse()
    counted = replay.finish()
    assert MOVED["completion"] * 0.99 <= counted["completion"] <= MOVED["completion"]
    shown_last = sum(
        int(count) for count in re.findall(rb"prompt eval time = .* ms / +(\d+) tokens", b"".join(turns[-1][0]))
    )
    assert 0 <= counted["prompt_computed"] - MOVED["prompt_computed"] <= shown_last
