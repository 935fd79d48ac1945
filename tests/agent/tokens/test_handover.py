"""A workload seen by its counters and by its log is counted once, whatever fails in between."""

import os

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenyield_agent.tokens.endpoint import Reading
from tokenyield_agent.tokens.event import Counted, TokenEvent
from tokenyield_agent.tokens.handover import FAILURES_MAX, Standing, TakeOver


def reading(completion: int, requests: int | None = None, started_s: float | None = None) -> Reading:
    values = {"completion\tengine=0": completion}
    if requests is not None:
        values["requests\t"] = requests
    return Reading(values=values, started_s=started_s)


def logged(
    completion: int | None, at_ms: int, *, span_ms: int = 0, method: str = "count", requests: int | None = None
) -> list[TokenEvent]:
    counted = Counted(method=method, span_ms=span_ms, completion=completion, requests=requests)  # type: ignore[arg-type]
    return [TokenEvent(workload="w", start_ms=at_ms - span_ms, end_ms=at_ms, counted=counted)]


def completion(events: list[TokenEvent]) -> int:
    return sum(event.counted.completion or 0 for event in events)


def methods(events: list[TokenEvent]) -> set[str]:
    return {event.counted.method for event in events}


def test_the_first_answer_is_a_beginning_and_the_next_counts_what_came_since() -> None:
    both = TakeOver("w")
    assert completion(both.answered(reading(1000), 1000)) == 0
    assert both.from_log(logged(7, 1500, requests=None)) == []
    (event,) = both.answered(reading(1010), 6000)
    assert (event.counted.completion, event.counted.method, event.start_ms, event.end_ms) == (10, "counter", 1000, 6000)


def test_an_endpoint_refused_before_its_first_answer_is_read_from_nothing() -> None:
    both = TakeOver("w")
    both.failed(refused=True)
    assert completion(both.answered(reading(40), 9000)) == 40


def test_the_log_takes_over_from_the_last_answer_and_back() -> None:
    both = TakeOver("w")
    both.answered(reading(100), 0)
    both.from_log(logged(5, 1000))
    both.answered(reading(105), 5000)
    assert both.from_log(logged(3, 6000)) == []
    found: list[TokenEvent] = []
    for _ in range(FAILURES_MAX):
        found += both.failed(refused=False)
    assert (completion(found), methods(found)) == (3, {"count"})
    assert completion(both.from_log(logged(4, 12_000))) == 4
    assert both.log_counts
    assert completion(both.answered(reading(105 + 3 + 4 + 2), 20_000)) == 2, "what the log had not told yet"
    assert not both.log_counts


def test_a_rate_that_was_too_high_is_owed_by_the_next_answers() -> None:
    both = TakeOver("w")
    both.answered(reading(0), 0)
    for _ in range(FAILURES_MAX):
        both.failed(refused=False)
    both.from_log(logged(12, 10_000, span_ms=10_000, method="rate"))
    assert completion(both.answered(reading(10), 11_000)) == 0
    assert completion(both.answered(reading(15), 16_000)) == 3


def test_only_the_part_of_a_rate_after_the_last_answer_is_held() -> None:
    both = TakeOver("w")
    both.answered(reading(0), 9_000)
    both.from_log(logged(100, 10_000, span_ms=10_000, method="rate"))
    assert completion(both.failed(refused=True)) == 10


def test_a_server_restarted_while_it_was_refused_keeps_both_lives() -> None:
    both = TakeOver("w")
    both.answered(reading(100), 0)
    both.from_log(logged(6, 1000))  # the old server's last request
    assert completion(both.failed(refused=True)) == 6
    assert completion(both.from_log(logged(2, 8000))) == 2, "the new server, not answering for its counters yet"
    assert completion(both.answered(reading(5), 10_000)) == 3


def test_a_refusal_without_a_restart_does_not_double() -> None:
    both = TakeOver("w")
    both.answered(reading(100), 0)
    both.from_log(logged(6, 1000))
    assert completion(both.failed(refused=True)) == 6
    assert completion(both.answered(reading(110), 10_000)) == 4


def test_a_restart_that_nobody_noticed_takes_the_larger_of_log_and_counters() -> None:
    both = TakeOver("w")
    both.answered(reading(100, started_s=1.0), 0)
    both.from_log(logged(30, 3000))
    assert completion(both.answered(reading(20, started_s=50.0), 5000)) == 30
    alone = TakeOver("w")
    alone.answered(reading(100, started_s=1.0), 0)
    assert completion(alone.answered(reading(120, started_s=50.0), 5000)) == 120, "a start time tells it"


def test_a_line_that_is_late_is_not_counted_again_at_the_handover() -> None:
    both = TakeOver("w")
    both.answered(reading(0), 0)
    both.from_log(logged(50, 1000))
    both.answered(reading(60), 5000)  # 10 of them are not written yet
    both.from_log(logged(10, 5100))
    assert completion(both.failed(refused=True)) == 0
    assert completion(both.from_log(logged(7, 6000))) == 7


def test_a_late_line_after_the_handover_is_not_counted_again_either() -> None:
    both = TakeOver("w")
    both.answered(reading(0), 0)
    both.from_log(logged(50, 1000))
    both.answered(reading(60), 5000)
    assert completion(both.failed(refused=True)) == 0
    assert completion(both.from_log(logged(10, 5100))) == 0
    assert completion(both.from_log(logged(7, 6000))) == 7


def test_a_log_several_answers_behind_is_not_taken_to_be_ahead_once_it_has_caught_up() -> None:
    """Prompts are counted when they are computed, and logged when their requests end."""
    both = TakeOver("w")
    both.answered(reading(0), 0)
    made = sum(completion(both.answered(reading(n), n)) for n in (300, 620, 940))
    both.from_log(logged(940, 1000))
    made += completion(both.answered(reading(950), 2000))
    both.from_log(logged(10, 2500))
    assert made + completion(both.failed(refused=True)) == 950


def test_a_long_request_alone_is_not_handed_out_again() -> None:
    both = TakeOver("w")
    both.answered(reading(0), 0)
    made = sum(completion(both.answered(reading(66), n)) for n in range(1, 20))
    both.from_log(logged(66, 20_000))
    made += completion(both.answered(reading(66), 21_000))
    assert made + completion(both.failed(refused=True)) == 66


def test_a_log_that_misses_lines_costs_no_more_than_what_moved_lately() -> None:
    both = TakeOver("w")
    both.answered(reading(0), 0)
    for n in range(1, 1001):
        both.answered(reading(10 * n), 5000 * n)
    both.failed(refused=True)
    assert sum(completion(both.from_log(logged(10, 6_000_000 + n))) for n in range(100)) >= 900
    fresh = TakeOver("w")
    fresh.answered(reading(0), 0)
    fresh.answered(reading(10), 5000)
    for n in range(300):
        fresh.answered(reading(10), 10_000 + n)
    fresh.failed(refused=True)
    assert completion(fresh.from_log(logged(10, 90_000))) == 10, "it fades where both stand still"


def test_a_line_that_came_before_its_counter_is_not_lost_at_the_handover() -> None:
    both = TakeOver("w")
    both.answered(reading(0), 0)
    both.from_log(logged(50, 1000))
    both.answered(reading(40), 5000)  # a request of 10 is logged and not counted yet
    assert completion(both.failed(refused=True)) == 10


def test_requests_come_from_the_log_where_the_counters_do_not_tell_them() -> None:
    both = TakeOver("w")
    both.answered(reading(0), 0)
    (event,) = both.from_log(logged(5, 1000, requests=1))
    assert (event.counted.requests, event.counted.completion) == (1, None)
    assert completion(both.answered(reading(5), 5000)) == 5
    told = TakeOver("w")
    told.answered(reading(0, requests=0), 0)
    assert told.from_log(logged(5, 1000, requests=1)) == []
    (event,) = told.answered(reading(5, requests=1), 5000)
    assert (event.counted.requests, event.counted.completion) == (1, 5)


def test_a_log_that_cannot_split_a_prompt_is_taken_off_counters_that_can() -> None:
    both = TakeOver("w")
    both.answered(Reading(values={"prompt\t": 0, "prompt_cached\t": 0, "completion\t": 0}), 0)
    for _ in range(FAILURES_MAX):
        both.failed(refused=False)
    counted = Counted(method="count", prompt_unsplit=10)
    both.from_log([TokenEvent(workload="w", start_ms=1, end_ms=1, counted=counted)])
    (event,) = both.answered(Reading(values={"prompt\t": 30, "prompt_cached\t": 12, "completion\t": 1}), 9000)
    assert (event.counted.prompt_computed or 0) + (event.counted.prompt_cached or 0) == 20


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("serve"), st.integers(0, 50)),
        st.tuples(st.just("ask"), st.just(0)),
        st.tuples(st.just("late answer"), st.just(0)),
        st.tuples(st.just("timeout"), st.just(0)),
        st.tuples(st.just("crash"), st.integers(0, 3)),
        st.tuples(st.just("agent restart"), st.just(0)),
        st.tuples(st.just("write"), st.just(0)),
    ),
    max_size=60,
)


@given(steps=STEPS, tells_start=st.booleans())
@settings(max_examples=int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "400")), deadline=None)
def test_whatever_fails_the_sum_is_what_the_server_made(steps: list[tuple[str, int]], tells_start: bool) -> None:
    """A log that counts each request, written after the counters moved, at the latest before the second look from there and
    before a crash is seen as a refusal. A server that does not tell its start has made more in its first life than it can in the others."""
    both = TakeOver("w")
    at_ms, counter, made, counted, lives = 0, 100_000, 0, 0, 0
    unread: list[TokenEvent] = []
    unwritten: list[TokenEvent] = []
    late: list[TokenEvent] = []

    def look() -> Reading:
        return reading(counter, started_s=100.0 * lives if tells_start else None)

    before, before_lives = look(), lives

    both.answered(look(), at_ms)
    saved = msgspec.to_builtins(both.standing), counted
    for kind, number in [*steps, ("write", 0), ("ask", 0)]:
        at_ms += 1000
        if kind == "serve":
            counter += number
            made += number
            unwritten += logged(number, at_ms)
            continue
        if kind == "late answer" and not (before.started_s in (None, look().started_s) and lives == before_lives):
            continue  # of a server that is gone
        unread, late, unwritten = unread + late, unwritten, []
        if kind in ("write", "crash", "agent restart"):
            unread, late = unread + late, []
        if kind == "write":
            continue
        if kind == "crash" and not tells_start and lives:
            continue  # a second restart of a server with small counters cannot be told
        if kind == "agent restart":  # the books and what was remembered are saved together
            state, counted = saved
            both = TakeOver("w", msgspec.convert(state, Standing))
            continue
        counted += completion(both.from_log(unread))
        unread = []
        if kind == "ask":
            counted += completion(both.answered(look(), at_ms))
        elif kind == "late answer":  # the log was read on meanwhile
            counted += completion(both.answered(before, at_ms))
        elif kind == "timeout":
            counted += completion(both.failed(refused=False))
        elif kind == "crash":
            counted += completion(both.failed(refused=True))
            counter, lives = 0, lives + 1
        if kind in ("ask", "late answer"):
            before, before_lives = look(), lives
        saved = msgspec.to_builtins(both.standing), counted
    assert counted == made
