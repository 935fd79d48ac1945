"""What was counted before counts once, within bounds, and over a restart."""

import json

from tokenyield_agent.tokens.parsing.seen import JOBS_MAX, LINES_KEPT, LINES_MAX, CountedJobs, SeenLines


def test_a_line_is_new_once_and_over_a_restart() -> None:
    seen = SeenLines()
    assert seen.is_new(b"a")
    assert not seen.is_new(b"a")
    again = SeenLines()
    again.restore(json.loads(json.dumps(seen.state())))
    assert not again.is_new(b"a")
    assert again.is_new(b"b")


def test_the_newest_lines_are_remembered() -> None:
    seen = SeenLines()
    for number in range(LINES_MAX + 1):
        assert seen.is_new(b"%d" % number)
    assert not seen.is_new(b"%d" % LINES_MAX)
    assert not seen.is_new(b"1")
    assert seen.is_new(b"0"), "the oldest is forgotten"
    assert len(seen.state()) == LINES_KEPT * 8


def test_a_polled_job_counts_what_grew() -> None:
    jobs = CountedJobs()
    assert jobs.growth(b"a", {"requests": 1, "prompt_unsplit": 5, "completion": 0}) == {
        "requests": 1, "prompt_unsplit": 5, "completion": 0,
    }  # fmt: skip
    again = CountedJobs()
    again.restore(json.loads(json.dumps(jobs.state())))
    assert again.growth(b"a", {"requests": 1, "prompt_unsplit": 5, "completion": 0}) == {}
    assert again.growth(b"a", {"requests": 1, "prompt_unsplit": 4, "completion": 9}) == {
        "requests": 0, "prompt_unsplit": 0, "completion": 9,
    }  # fmt: skip
    assert again.growth(b"a", {"requests": 1, "prompt_computed": 3, "prompt_cached": 2, "completion": 9}) == {}


def test_the_newest_jobs_are_remembered() -> None:
    jobs = CountedJobs()
    for number in range(JOBS_MAX + 1):
        assert jobs.growth(b"%d" % number, {"completion": 1})
    assert len(jobs.state()) == JOBS_MAX
    assert jobs.growth(b"1", {"completion": 1}) == {}
