"""A workload seen by its counters and by its log is counted once, whatever fails in between."""

import os

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenyield_agent.tokens.endpoint import CounterReading
from tokenyield_agent.tokens.event import TokenCounts, TokenEvent
from tokenyield_agent.tokens.handover import FAILURES_MAX, Handover, HandoverState


def reading(completion: int, requests: int | None = None, started_s: float | None = None) -> CounterReading:
    values = {"completion\tengine=0": completion}
    if requests is not None:
        values["requests\t"] = requests
    return CounterReading(values=values, started_s=started_s)


def logged(
    completion: int | None, at_ms: int, *, span_ms: int = 0, method: str = "count", requests: int | None = None
) -> list[TokenEvent]:
    counts = TokenCounts(method=method, span_ms=span_ms, completion=completion, requests=requests)  # type: ignore[arg-type]
    return [TokenEvent(workload="w", start_ms=at_ms - span_ms, end_ms=at_ms, counts=counts)]


def completion(events: list[TokenEvent]) -> int:
    return sum(event.counts.completion or 0 for event in events)


def methods(events: list[TokenEvent]) -> set[str]:
    return {event.counts.method for event in events}


def test_the_first_answer_is_a_beginning_and_the_next_counts_what_came_since() -> None:
    handover = Handover("w")
    assert completion(handover.from_counters(reading(1000), 1000)) == 0
    assert handover.from_log(logged(7, 1500, requests=None)) == []
    (event,) = handover.from_counters(reading(1010), 6000)
    assert (event.counts.completion, event.counts.method, event.start_ms, event.end_ms) == (10, "counter", 1000, 6000)


def test_an_endpoint_refused_before_its_first_answer_is_read_from_nothing() -> None:
    handover = Handover("w")
    handover.endpoint_failed(refused=True)
    assert completion(handover.from_counters(reading(40), 9000)) == 40


def test_the_log_takes_over_from_the_last_answer_and_hands_back() -> None:
    handover = Handover("w")
    handover.from_counters(reading(100), 0)
    handover.from_log(logged(5, 1000))
    handover.from_counters(reading(105), 5000)
    assert handover.from_log(logged(3, 6000)) == []
    events: list[TokenEvent] = []
    for _ in range(FAILURES_MAX):
        events += handover.endpoint_failed(refused=False)
    assert (completion(events), methods(events)) == (3, {"count"})
    assert completion(handover.from_log(logged(4, 12_000))) == 4
    assert handover.log_counts
    assert completion(handover.from_counters(reading(105 + 3 + 4 + 2), 20_000)) == 2, "what the log had not shown yet"
    assert not handover.log_counts


def test_a_rate_that_was_too_high_is_subtracted_from_the_next_answers() -> None:
    handover = Handover("w")
    handover.from_counters(reading(0), 0)
    for _ in range(FAILURES_MAX):
        handover.endpoint_failed(refused=False)
    handover.from_log(logged(12, 10_000, span_ms=10_000, method="rate"))
    assert completion(handover.from_counters(reading(10), 11_000)) == 0
    assert completion(handover.from_counters(reading(15), 16_000)) == 3


def test_only_the_part_of_a_rate_after_the_last_answer_is_buffered() -> None:
    handover = Handover("w")
    handover.from_counters(reading(0), 9_000)
    handover.from_log(logged(100, 10_000, span_ms=10_000, method="rate"))
    assert completion(handover.endpoint_failed(refused=True)) == 10


def test_a_server_restarted_while_it_was_refused_keeps_both_lives() -> None:
    handover = Handover("w")
    handover.from_counters(reading(100), 0)
    handover.from_log(logged(6, 1000))  # the old server's last request
    assert completion(handover.endpoint_failed(refused=True)) == 6
    assert completion(handover.from_log(logged(2, 8000))) == 2, "the new server, not answering for its counters yet"
    assert completion(handover.from_counters(reading(5), 10_000)) == 3


def test_a_refusal_without_a_restart_does_not_double() -> None:
    handover = Handover("w")
    handover.from_counters(reading(100), 0)
    handover.from_log(logged(6, 1000))
    assert completion(handover.endpoint_failed(refused=True)) == 6
    assert completion(handover.from_counters(reading(110), 10_000)) == 4


def test_a_restart_that_was_not_noticed_takes_the_larger_of_log_and_counters() -> None:
    handover = Handover("w")
    handover.from_counters(reading(100, started_s=1.0), 0)
    handover.from_log(logged(30, 3000))
    assert completion(handover.from_counters(reading(20, started_s=50.0), 5000)) == 30
    alone = Handover("w")
    alone.from_counters(reading(100, started_s=1.0), 0)
    assert completion(alone.from_counters(reading(120, started_s=50.0), 5000)) == 120, "recognized by its start time"


def test_a_line_that_is_late_is_not_counted_again_at_the_handover() -> None:
    handover = Handover("w")
    handover.from_counters(reading(0), 0)
    handover.from_log(logged(50, 1000))
    handover.from_counters(reading(60), 5000)  # 10 of them are not written yet
    handover.from_log(logged(10, 5100))
    assert completion(handover.endpoint_failed(refused=True)) == 0
    assert completion(handover.from_log(logged(7, 6000))) == 7


def test_a_late_line_after_the_handover_is_not_counted_again_either() -> None:
    handover = Handover("w")
    handover.from_counters(reading(0), 0)
    handover.from_log(logged(50, 1000))
    handover.from_counters(reading(60), 5000)
    assert completion(handover.endpoint_failed(refused=True)) == 0
    assert completion(handover.from_log(logged(10, 5100))) == 0
    assert completion(handover.from_log(logged(7, 6000))) == 7


def test_a_log_that_lags_by_several_answers_does_not_lead_once_it_has_caught_up() -> None:
    """Prompts are counted when they are computed, and logged when their requests end."""
    handover = Handover("w")
    handover.from_counters(reading(0), 0)
    counted = sum(completion(handover.from_counters(reading(n), n)) for n in (300, 620, 940))
    handover.from_log(logged(940, 1000))
    counted += completion(handover.from_counters(reading(950), 2000))
    handover.from_log(logged(10, 2500))
    assert counted + completion(handover.endpoint_failed(refused=True)) == 950


def test_a_long_request_alone_is_not_counted_again() -> None:
    handover = Handover("w")
    handover.from_counters(reading(0), 0)
    counted = sum(completion(handover.from_counters(reading(66), n)) for n in range(1, 20))
    handover.from_log(logged(66, 20_000))
    counted += completion(handover.from_counters(reading(66), 21_000))
    assert counted + completion(handover.endpoint_failed(refused=True)) == 66


def test_a_log_that_misses_lines_costs_no_more_than_what_moved_recently() -> None:
    handover = Handover("w")
    handover.from_counters(reading(0), 0)
    for n in range(1, 1001):
        handover.from_counters(reading(10 * n), 5000 * n)
    handover.endpoint_failed(refused=True)
    assert sum(completion(handover.from_log(logged(10, 6_000_000 + n))) for n in range(100)) >= 900
    fresh = Handover("w")
    fresh.from_counters(reading(0), 0)
    fresh.from_counters(reading(10), 5000)
    for n in range(300):
        fresh.from_counters(reading(10), 10_000 + n)
    fresh.endpoint_failed(refused=True)
    assert completion(fresh.from_log(logged(10, 90_000))) == 10, "it fades where both stand still"


def test_a_line_that_came_before_its_counter_is_not_lost_at_the_handover() -> None:
    handover = Handover("w")
    handover.from_counters(reading(0), 0)
    handover.from_log(logged(50, 1000))
    handover.from_counters(reading(40), 5000)  # a request of 10 is logged and not counted yet
    assert completion(handover.endpoint_failed(refused=True)) == 10


def test_requests_come_from_the_log_where_the_counters_do_not_report_them() -> None:
    handover = Handover("w")
    handover.from_counters(reading(0), 0)
    (event,) = handover.from_log(logged(5, 1000, requests=1))
    assert (event.counts.requests, event.counts.completion) == (1, None)
    assert completion(handover.from_counters(reading(5), 5000)) == 5
    reported = Handover("w")
    reported.from_counters(reading(0, requests=0), 0)
    assert reported.from_log(logged(5, 1000, requests=1)) == []
    (event,) = reported.from_counters(reading(5, requests=1), 5000)
    assert (event.counts.requests, event.counts.completion) == (1, 5)


def test_a_log_that_cannot_split_a_prompt_is_subtracted_from_counters_that_can() -> None:
    handover = Handover("w")
    handover.from_counters(CounterReading(values={"prompt\t": 0, "prompt_cached\t": 0, "completion\t": 0}), 0)
    for _ in range(FAILURES_MAX):
        handover.endpoint_failed(refused=False)
    counts = TokenCounts(method="count", prompt_unsplit=10)
    handover.from_log([TokenEvent(workload="w", start_ms=1, end_ms=1, counts=counts)])
    (event,) = handover.from_counters(
        CounterReading(values={"prompt\t": 30, "prompt_cached\t": 12, "completion\t": 1}), 9000
    )
    assert (event.counts.prompt_computed or 0) + (event.counts.prompt_cached or 0) == 20


def test_a_state_of_an_older_spool_is_read() -> None:
    """Its fields have other names there."""
    stored = {
        "reading": {"values": {"completion\tengine=0": 100}},
        "at_ms": 5,
        "away": True,
        "held": {"rate": {"start_ms": 1, "end_ms": 2, "kinds": {"completion": 1}}},
        "lent": {"completion": 2},
        "lent_since_refusal": {"completion": 3},
        "owed": {"completion": 4},
        "heard": {"completion": 5},
        "heard_since_refusal": {"completion": 6},
        "ahead": {"completion": 7},
        "lately": {"completion": 8},
        "behind": {"completion": 9},
    }
    state = msgspec.convert(stored, HandoverState)
    assert state.log_counts
    assert state.buffered["rate"].kinds == {"completion": 1}
    assert [
        counts["completion"]
        for counts in (
            state.provisional,
            state.provisional_since_refusal,
            state.overcounted,
            state.observed,
            state.observed_since_refusal,
            state.lead,
            state.recent,
            state.lag,
        )
    ] == list(range(2, 10))
    assert msgspec.to_builtins(state).items() >= {key: stored[key] for key in stored if key != "reading"}.items()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("serve"), st.integers(0, 50)),
        st.tuples(st.just("scrape"), st.just(0)),
        st.tuples(st.just("late answer"), st.just(0)),
        st.tuples(st.just("timeout"), st.just(0)),
        st.tuples(st.just("crash"), st.integers(0, 3)),
        st.tuples(st.just("agent restart"), st.just(0)),
        st.tuples(st.just("write"), st.just(0)),
    ),
    max_size=60,
)


@given(steps=STEPS, shows_start=st.booleans())
@settings(max_examples=int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "400")), deadline=None)
def test_whatever_fails_the_sum_is_what_the_server_made(steps: list[tuple[str, int]], shows_start: bool) -> None:
    """A log that counts each request, written after the counters moved, at the latest before the second scrape from there and
    before a crash is seen as a refusal. A server that does not show its start time has made more in its first life than it can in the others."""
    handover = Handover("w")
    at_ms, counter, made, counts, lives = 0, 100_000, 0, 0, 0
    unread: list[TokenEvent] = []
    unwritten: list[TokenEvent] = []
    late: list[TokenEvent] = []

    def look() -> CounterReading:
        return reading(counter, started_s=100.0 * lives if shows_start else None)

    before, before_lives = look(), lives

    handover.from_counters(look(), at_ms)
    saved = msgspec.to_builtins(handover.state), counts
    for kind, number in [*steps, ("write", 0), ("scrape", 0)]:
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
        if kind == "crash" and not shows_start and lives:
            continue  # a second restart of a server with small counters cannot be recognized
        if kind == "agent restart":  # the windows and what was remembered are saved together
            saved_state, counts = saved
            handover = Handover("w", msgspec.convert(saved_state, HandoverState))
            continue
        counts += completion(handover.from_log(unread))
        unread = []
        if kind == "scrape":
            counts += completion(handover.from_counters(look(), at_ms))
        elif kind == "late answer":  # the log was read on meanwhile
            counts += completion(handover.from_counters(before, at_ms))
        elif kind == "timeout":
            counts += completion(handover.endpoint_failed(refused=False))
        elif kind == "crash":
            counts += completion(handover.endpoint_failed(refused=True))
            counter, lives = 0, lives + 1
        if kind in ("scrape", "late answer"):
            before, before_lives = look(), lives
        saved = msgspec.to_builtins(handover.state), counts
    assert counts == made
