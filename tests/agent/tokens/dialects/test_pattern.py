"""Log formats of the operator's own: what they count, and what is refused at the start."""

from datetime import datetime
from typing import Any

import pytest

from tokenyield_agent.tokens.dialects.pattern import PatternDialect, PatternSettings

ARRIVAL_S = datetime(2026, 11, 23, 13, 0).timestamp()


def settings(**changes: Any) -> PatternSettings:
    known: dict[str, Any] = {"name": "mine", "contains": "done", "pattern": r"done out=(?P<completion>[\d.,]+)"}
    return PatternSettings(**{**known, **changes})


def test_counts_with_time_span_model_and_caller() -> None:
    dialect = PatternDialect(
        settings(
            pattern=r"^(?P<time>\S+ \S+) done (?P<model>\S+) for (?P<team>\S+) in=(?P<prompt>\d+) "
            r"out=(?P<completion>[\d,]+) took=(?P<took>[\d.]+)ms",
            units={"took": "ms", "completion": "tokens"},
        )
    )
    (counts,) = dialect.feed(b"2026-11-23 12:00:00 done chat for search in=10 out=1,234 took=2500.5ms\n", ARRIVAL_S)
    assert (counts.method, counts.prompt_unsplit, counts.completion, counts.span_ms) == ("count", 10, 1234, 2500)
    assert counts.at_s == datetime(2026, 11, 23, 12, 0).timestamp()
    assert counts.caller is not None
    assert (counts.caller.model, counts.caller.labels, dialect.model) == ("chat", (("team", "search"),), "chat")


def test_rates_take_the_interval_of_their_engine() -> None:
    dialect = PatternDialect(
        settings(
            pattern=r"^(?P<time>\S+ \S+) e(?P<engine>\d) done (?P<completion>[\d.]+) tok/s",
            units={"completion": "tokens/s"},
            interval_s=5,
        )
    )
    lines = b"".join(
        b"2026-11-23 12:00:%02d e%d done 10.5 tok/s\n" % (second, engine) for second in (0, 5, 10) for engine in (0, 1)
    )
    assert [counts.completion for counts in dialect.feed(lines, ARRIVAL_S)] == [52, 52, 53, 53, 52, 52]


@pytest.mark.parametrize("value", ["nan", "inf", "-3", "1e9", "", "9" * 40])
def test_what_is_not_a_number_counts_nothing(value: str) -> None:
    dialect = PatternDialect(settings(pattern=r"done out=(?P<completion>\S*)"))
    assert dialect.feed(f"done out={value}\n".encode(), ARRIVAL_S) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pattern": "("}, "expected a regular expression, found '('"),
        ({"pattern": r"(?P<tokens>\d+)"}, "expected groups of prompt"),
        ({"pattern": r"done (?P<status>\d+) (?P<requests>\d+)"}, "expected status or requests, found both"),
        ({"pattern": r"done (?P<time>\d+)"}, "expected a group that counts, found none"),
        ({"units": {"completion": "tokns"}}, "expected one of tokens, kilotokens, tokens/s, requests; found 'tokns'"),
        ({"units": {"prompt": "tokens"}}, "expected a group of the pattern"),
        ({"contains": "x"}, "expected 3 characters or more"),
        ({"name": "My Server"}, "expected small letters, digits and -"),
        ({"interval_s": 0}, "expected 0.1 to 3600, found 0"),
    ],
)
def test_faults_name_the_fix(changes: dict[str, Any], said: str) -> None:
    assert any(said in fault for fault in settings(**changes).faults("dialects[0]"))


def test_a_sound_pattern_has_no_faults() -> None:
    assert list(settings().faults("dialects[0]")) == []


def test_a_status_says_how_the_request_ended_and_what_it_used_is_counted() -> None:
    dialect = PatternDialect(settings(pattern=r"done (?P<status>\S+) out=(?P<completion>\S+)"))
    lines = b"".join(b"done %b out=%d\n" % (status, n) for n, status in enumerate((b"200", b"499", b"500", b"ok"), 1))
    events = dialect.feed(lines + b"done 503 out=-\n", ARRIVAL_S)
    assert [counts.kinds() for counts in events] == [
        {"completion": 1, "requests": 1}, {"completion": 2, "requests_aborted": 1}, {"completion": 3, "requests_failed": 1},
        {"completion": 4, "requests": 1}, {"requests_failed": 1},
    ]  # fmt: skip


def test_a_line_that_comes_again_with_its_id_counts_once_and_over_a_restart() -> None:
    mine = settings(pattern=r"done (?P<id>\S+) out=(?P<completion>\d+)")
    dialect, again = PatternDialect(mine), PatternDialect(mine)
    assert len(dialect.feed(b"done a out=5\ngw-1  | done a out=5\ndone b out=5\ndone a out=6\n", ARRIVAL_S)) == 3
    state = dialect.state()
    again.restore(state)
    assert again.feed(b"done b out=5\n", ARRIVAL_S) == []
    again.restore({name: value for name, value in state.items() if name != "seen"})  # of an older agent


@pytest.mark.parametrize(
    ("line", "kinds"),
    [
        (b"done in=10 cached=4", {"prompt_computed": 6, "prompt_cached": 4}),
        (b"done in=10 cached=11", {"prompt_unsplit": 10}),
        (b"done in=10 cached=-", {"prompt_unsplit": 10}),
    ],
)
def test_a_whole_prompt_beside_its_cached_part_counts_once(line: bytes, kinds: dict[str, int]) -> None:
    dialect = PatternDialect(settings(pattern=r"in=(?P<prompt>\S+) cached=(?P<prompt_cached>\S+)"))
    assert [counts.kinds() for counts in dialect.feed(line + b"\n", ARRIVAL_S)] == [kinds]
