"""A workload seen by its counters and by its log is counted once, whatever fails in between."""

import os

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenyield_agent.tokens.endpoint import MISSING_MAX, CounterReading, LoadGauges
from tokenyield_agent.tokens.event import TokenCounts, TokenEvent
from tokenyield_agent.tokens.handover import FAILURES_MAX, UNLIKE_MAX, Handover
from tokenyield_agent.tokens.handover_state import HandoverState


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


def test_of_a_rate_that_ends_while_the_log_counts_only_the_part_after_the_last_answer_is_counted() -> None:
    handover = Handover("w")
    handover.from_counters(reading(0), 0)
    assert completion(handover.from_counters(reading(700), 7_000)) == 700
    handover.endpoint_failed(refused=True)
    assert completion(handover.from_log(logged(1_000, 10_000, span_ms=10_000, method="rate"))) == 300
    assert completion(handover.from_counters(reading(1_200), 12_000)) == 200


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


def test_a_page_without_the_counters_changes_nothing_and_the_log_takes_over_if_it_stays_so() -> None:
    handover = Handover("w")
    handover.from_counters(reading(1_000_000), 0)
    assert completion(handover.from_counters(reading(1_000_050), 1)) == 50
    empty = CounterReading(values={})
    handover.from_log(logged(100, 2))
    assert handover.from_counters(empty, 3) == []
    assert completion(handover.from_counters(reading(1_000_100), 4)) == 50
    handover.from_log(logged(7, 5))
    assert [completion(handover.from_counters(empty, 6 + n)) for n in range(FAILURES_MAX)] == [0, 0, 7]
    assert completion(handover.from_counters(reading(1_000_109), 9)) == 2


def test_a_first_page_that_must_have_the_counters_and_lacks_them_is_no_beginning() -> None:
    handover = Handover("w")
    handover.from_counters(CounterReading(values={}, is_whole=False), 0)
    assert completion(handover.from_counters(reading(1_000_000), 1)) == 0
    assert completion(handover.from_counters(reading(1_000_001), 2)) == 1


def test_a_series_that_is_missing_goes_on_after_a_restart_of_the_agent() -> None:
    both = {"completion\tengine=0": 1000, "completion\tengine=1": 1000}
    handover = Handover("w")
    handover.from_counters(CounterReading(values=both), 0)
    assert completion(handover.from_counters(CounterReading(values={"completion\tengine=0": 1010}), 1)) == 10
    again = Handover("w", msgspec.json.decode(msgspec.json.encode(handover.state), type=HandoverState))
    both = {"completion\tengine=0": 1020, "completion\tengine=1": 1020}
    assert completion(again.from_counters(CounterReading(values=both), 2)) == 30


def test_of_more_missing_series_than_are_remembered_none_counts_from_nothing() -> None:
    many = {f"completion\tengine={n}": 1000 for n in range(MISSING_MAX + 1)}
    handover = Handover("w")
    handover.from_counters(CounterReading(values=many), 0)
    others = {"completion\tlora=0": 1}
    handover.from_counters(CounterReading(values=others), 1)
    assert handover.state.reading is not None
    assert len(handover.state.reading.values) == MISSING_MAX + 1
    back = {"completion\tengine=0": 1001, "completion\tengine=1": 1001}
    assert completion(handover.from_counters(CounterReading(values=others | back), 2)) == 1, "the second is remembered"


def test_an_engine_that_restarts_alone_costs_the_others_nothing() -> None:
    handover = Handover("w")
    handover.from_counters(CounterReading(values={"completion\te=0": 1000, "completion\te=1": 1000}, started_s=1.0), 0)
    after = CounterReading(values={"completion\te=0": 1100, "completion\te=1": 50}, started_s=1.0)
    assert [completion(handover.from_counters(after, n)) for n in (1, 2, 3)] == [0, 150, 0], "seen by the second answer"


def test_a_start_time_that_is_reported_late_does_not_count_again() -> None:
    """Of a server that does not show it: then its process is looked at, every few seconds."""
    handover = Handover("w")
    handover.from_counters(reading(1000, started_s=100.0), 200_000)
    counted = [completion(handover.from_counters(reading(n, started_s=100.0), 205_000)) for n in (50, 55)]
    assert (counted, completion(handover.from_counters(reading(60, started_s=203.0), 210_000))) == ([0, 55], 5)


def test_a_restarted_server_that_shows_its_counters_late_counts_from_nothing() -> None:
    handover = Handover("w")
    handover.from_counters(reading(100, started_s=1.0), 0)
    handover.from_counters(CounterReading(values={}, started_s=50.0, is_unused=True), 5000)
    assert completion(handover.from_counters(reading(120, started_s=50.0), 10_000)) == 120


def test_an_old_page_is_no_restart() -> None:
    handover = Handover("w")
    answers = (1_000_000, 1_000_050, 1_000_000, 1_000_100)
    assert [completion(handover.from_counters(reading(count), n)) for n, count in enumerate(answers)] == [0, 50, 0, 50]


def test_a_restart_that_only_the_last_answer_showed_is_counted_when_the_workload_is_left() -> None:
    for leave in (Handover.endpoint_removed, lambda handover: handover.endpoint_failed(refused=True)):
        handover = Handover("w")
        handover.from_counters(reading(100), 0)
        assert completion(handover.from_counters(reading(7), 1)) == 0
        assert completion(leave(handover)) == 7


def test_processes_that_answer_by_turns_each_go_on_from_their_last_values() -> None:
    handover = Handover("w")
    at_ms = 1_000_000
    answers = [(1000, 100.0), (500, 101.5), (1010, 100.0), (520, 101.5), (525, 101.5), (1011, 100.0)]
    counted = [
        completion(handover.from_counters(reading(made, started_s=started_s), at_ms + n))
        for n, (made, started_s) in enumerate(answers)
    ]
    assert counted == [0, 0, 10, 20, 5, 1]
    assert completion(handover.from_counters(reading(9, started_s=1100.0), at_ms + 200_000)) == 9, "a new one"


def test_another_server_at_the_address_begins_anew() -> None:
    def of(name: str, count: int) -> CounterReading:
        return CounterReading(values={"completion\t": count}, series={"completion": name})

    handover = Handover("w")
    handover.from_counters(of("a", 100), 0)
    for n in range(UNLIKE_MAX):
        assert completion(handover.from_counters(of("b", 1_000_000 + n), n)) == 0
    assert completion(handover.from_counters(of("b", 1_000_000 + UNLIKE_MAX), UNLIKE_MAX)) == 1


def test_an_older_agents_reading_may_be_of_other_series_and_is_only_a_beginning() -> None:
    handover = Handover("w", HandoverState(reading=CounterReading(values={"completion\t": 900})))
    later = CounterReading(values={"completion\t": 5000}, series={"completion": "sum"})
    assert completion(handover.from_counters(later, 1)) == 0
    assert completion(handover.from_counters(msgspec.structs.replace(later, values={"completion\t": 5001}), 2)) == 1


def test_what_the_counters_do_not_report_comes_from_the_log_alone() -> None:
    handover = Handover("w")
    handover.from_counters(CounterReading(values={"requests\t": 2}, series={"requests": "r"}), 0)
    (event,) = handover.from_log(logged(5, 1000, requests=1))
    assert (event.counts.requests, event.counts.completion) == (None, 5)
    (event,) = handover.from_counters(CounterReading(values={"requests\t": 3}, series={"requests": "r"}), 2000)
    assert (event.counts.requests, event.counts.completion) == (1, None)


def test_while_the_server_is_idle_its_log_does_not_lead() -> None:
    idle, busy = LoadGauges(running=0), LoadGauges(running=1)
    for gauges, left in ((idle, 0), (busy, 20)):
        handover = Handover("w")
        handover.from_counters(reading(0), 0)
        handover.from_log(logged(30, 1000))
        counted = completion(handover.from_counters(msgspec.structs.replace(reading(10), gauges=gauges), 5000))
        assert (counted, completion(handover.endpoint_failed(refused=True))) == (10, left)


def test_a_log_that_showed_too_much_when_all_was_counted_does_not_lead_while_the_server_is_busy_either() -> None:
    idle, busy = LoadGauges(running=0), LoadGauges(running=1)
    handover = Handover("w")
    handover.from_counters(reading(0), 0)
    handover.from_log(logged(30, 1000))
    for at_ms in (5000, 10_000):  # the second shows that nothing was in progress at the first
        handover.from_counters(msgspec.structs.replace(reading(10), gauges=idle), at_ms)
    handover.from_log(logged(30, 11_000))
    handover.from_counters(msgspec.structs.replace(reading(20), gauges=busy), 15_000)
    assert completion(handover.endpoint_failed(refused=True)) == 0


def test_a_log_that_leads_by_more_than_can_be_in_progress_shows_too_much() -> None:
    handover = Handover("w")
    handover.from_counters(reading(0), 0)
    for n in range(1, 41):
        handover.from_log(logged(30, 1000 * n))
        handover.from_counters(reading(10 * n), 1000 * n)
    assert completion(handover.endpoint_failed(refused=True)) == 0


def test_a_line_that_is_late_is_not_counted_when_the_workload_is_left() -> None:
    handover = Handover("w")
    handover.from_counters(reading(0), 0)
    handover.from_counters(reading(10), 5000)
    handover.from_log(logged(10, 5001))
    assert completion(handover.endpoint_removed()) == 0


def test_cached_tokens_never_exceed_the_prompts_that_are_counted() -> None:
    def of(prompt: int, cached: int, running: float) -> CounterReading:
        values = {"prompt\t": prompt, "prompt_cached\t": cached, "completion\t": 0}
        return CounterReading(values=values, gauges=LoadGauges(running=running))

    handover = Handover("w")
    handover.from_counters(of(0, 0, 0), 0)
    sums: list[tuple[int | None, int | None]] = []
    for answer in (of(0, 80, 1), of(100, 80, 1), of(200, 400, 0), of(300, 400, 0)):
        (event,) = handover.from_counters(answer, 1)
        sums.append((event.counts.prompt_computed, event.counts.prompt_cached))
    assert sums == [(0, 0), (20, 80), (0, 100), (100, 0)]


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
