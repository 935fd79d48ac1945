"""What a container wrote comes back, however its runtime cut it."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from tokenyield_agent.tokens.containers import PARTIAL_BYTES_MAX, Unwrapper
from tokenyield_agent.tokens.open_file import FilePosition

STAMP = "2026-11-23T12:00:00.123456789Z"


def cri(stream: str, tag: str, text: str) -> str:
    return f"{STAMP} {stream} {tag} {text}\n"


def test_cri_lines() -> None:
    block = cri("stdout", "F", "one P two") + cri("stderr", "F", "") + cri("stderr", "F:x", "three")
    unwrapper = Unwrapper()
    assert unwrapper.feed(block.encode()) == b"one P two\n\nthree\n"
    assert unwrapper.format == "cri"


def test_cri_parts_of_two_streams_interleave() -> None:
    block = cri("stdout", "P", "a") + cri("stderr", "P", "x") + cri("stdout", "F", "b") + cri("stderr", "F", "y")
    assert Unwrapper().feed(block.encode()) == b"ab\nxy\n"


def test_docker_lines_and_parts() -> None:
    lines = [{"log": "a", "stream": "stdout"}, {"log": "b\n", "stream": "stdout"}, {"log": "c\n", "stream": "stderr"}]
    unwrapper = Unwrapper()
    assert unwrapper.feed("".join(json.dumps(line) + "\n" for line in lines).encode() + b"{broken\n") == b"ab\nc\n"
    assert unwrapper.format == "docker"


def test_a_plain_log_is_handed_on() -> None:
    block = b'INFO 11-23 12:00:00 hello\n{"logger": 1}\n'
    assert Unwrapper().feed(block) is block


def test_a_line_beyond_the_bound_is_dropped_and_the_next_is_whole() -> None:
    unwrapper = Unwrapper()
    part = "x" * 16_000
    for _ in range(PARTIAL_BYTES_MAX // len(part) + 2):
        assert unwrapper.feed(cri("stdout", "P", part).encode()) == b""
    assert unwrapper.feed((cri("stdout", "F", "end") + cri("stdout", "F", "next")).encode()) == b"next\n"
    assert unwrapper.lines_too_long == 1


def test_a_part_is_kept_by_where_it_stands_and_not_by_what_it_says() -> None:
    unwrapper = Unwrapper()
    unwrapper.feed(cri("stdout", "P", "a prompt ").encode(), FilePosition(1, 2, 300))
    state = json.dumps(unwrapper.state())
    assert "prompt" not in state
    gone = Unwrapper()
    gone.restore(json.loads(state), lambda at, length: None)
    assert gone.feed((cri("stdout", "F", "end") + cri("stdout", "F", "next")).encode()) == b"next\n"
    assert gone.lines_too_long == 1


@example(lines=["\r00"], cuts=[2], is_docker=False, blocks=1)  # a carriage return ends no line
@example(lines=["\0more"], cuts=[1], is_docker=False, blocks=1)
@given(
    lines=st.lists(st.text(alphabet=st.characters(exclude_characters="\n", codec="utf-8"), max_size=40), max_size=6),
    cuts=st.lists(st.integers(0, 40), max_size=3),
    is_docker=st.booleans(),
    blocks=st.integers(1, 4),
)
def test_any_cutting_gives_the_same_lines(lines: list[str], cuts: list[int], is_docker: bool, blocks: int) -> None:
    written = []
    for line in lines:
        ends = [*sorted({min(cut, len(line)) for cut in cuts} - {0, len(line)}), len(line)]
        starts = [0, *ends[:-1]]
        for start, end in zip(starts, ends, strict=True):
            part, last = line[start:end], end == len(line)
            if is_docker:
                written.append(
                    json.dumps({"log": part + ("\n" if last else ""), "stream": "stdout", "time": STAMP}) + "\n"
                )
            else:
                written.append(cri("stdout", "F" if last else "P", part))
    unwrapper, unwrapped = Unwrapper(), b""
    size = len(written) // blocks + 1
    whole = "".join(written).encode()
    for start in range(0, len(written), size):
        at = FilePosition(1, 1, len("".join(written[:start]).encode()))
        unwrapped += unwrapper.feed("".join(written[start : start + size]).encode(), at)
        state = json.loads(json.dumps(unwrapper.state()))
        unwrapper = Unwrapper()
        unwrapper.restore(state, lambda at, length: whole[at.offset : at.offset + length])
    assert unwrapped == "".join(f"{line}\n" for line in lines).encode()
