"""The window builder: time, energy and tokens in equal time, energy and tokens out."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenyield_agent.gpu.reading import GpuReading
from tokenyield_agent.tokens.event import Caller, TokenCounts, TokenEvent
from tokenyield_agent.windows.bounds import (
    CALLERS_ALL_MAX,
    CALLERS_MAX,
    COUNTED_MAX,
    EVENT_KINDS_MAX,
    HOLDINGS_MAX,
    OTHER_WORKLOAD,
)
from tokenyield_agent.windows.builder import BuilderState, WindowBuilder
from tokenyield_agent.windows.energy import Energy
from tokenyield_agent.windows.span import GpuSpan, unread
from tokenyield_agent.workloads.binding import UNTIED, Holding
from tokenyield_wire.codec import decode_shipment, encode_shipment
from tokenyield_wire.latency import LATENCY_BUCKETS, OBSERVATIONS_MAX, LatencyCount, LatencyKind
from tokenyield_wire.window import COUNT_MAX, DEMAND_MAX, Batch, Shipment, faults_of_batch

LENGTH_MS, SETTLE_MS = 15_000, 12_000
START_MS = 1_795_435_320_000


def builder(state: BuilderState | None = None) -> WindowBuilder:
    return WindowBuilder(length_ms=LENGTH_MS, settle_ms=SETTLE_MS, state=state)


def span(uuid: str = "G", state: str = "active", energy_mj: int | None = 0, holding: Holding | None = None) -> GpuSpan:
    held = holding or Holding(held=True, weights={"chat": 1})
    energy = None if energy_mj is None else Energy(energy_mj, "counter")
    return GpuSpan(uuid=uuid, state=state, energy=energy, holding=held, unknown_reason="gpu_lost")


def tokens(start_ms: int, end_ms: int, completion: int, **kinds: Any) -> TokenEvent:
    counted = TokenCounts(method=kinds.pop("method", "count"), completion=completion, **kinds)
    return TokenEvent(workload="chat", start_ms=start_ms, end_ms=end_ms, counts=counted)


def taken(of: WindowBuilder, *, flush: bool = False) -> list[Batch]:
    count = of.ready(flush=flush)
    batches = of.batches(count, {}, 1)
    of.discard(count)
    return batches


def waits(at_ms: int, *counts: int, workload: str = "chat") -> TokenEvent:
    latency: dict[LatencyKind, list[int]] = {
        "first_token": [sum(counts), *counts, *[0] * (LATENCY_BUCKETS - len(counts))]
    }
    nothing = TokenCounts(method="counter")
    return TokenEvent(workload=workload, start_ms=at_ms, end_ms=at_ms, counts=nothing, latency=latency)


def test_waits_are_added_up_in_the_window_in_which_they_were_read_and_outlive_the_agent() -> None:
    windows = builder()
    windows.jump(START_MS)
    windows.extend(START_MS + 10_000, [span()])
    windows.add(waits(START_MS + 5_000, 1, 2))
    windows = builder(msgspec.json.decode(msgspec.json.encode(windows.state()), type=BuilderState))
    windows.add(waits(START_MS + 10_000, 0, 1, 4))
    windows.extend(START_MS + 60_000, [span()])
    windows.add(waits(START_MS + 16_000, 7))
    first, second, *_ = taken(windows)
    (of_first,), (of_second,) = first.workloads, second.workloads
    assert of_first.latency == (LatencyCount(kind="first_token", sum_ms=8, counts=(1, 3, 4)),)
    assert of_second.latency == (LatencyCount(kind="first_token", sum_ms=7, counts=(7,)),)
    assert of_first.tokens == ()
    assert not [*faults_of_batch(first, "first"), *faults_of_batch(second, "second")]


def test_waits_of_more_workloads_than_a_window_holds_keep_the_batch_sound() -> None:
    windows = builder()
    windows.jump(START_MS)
    windows.extend(START_MS + 15_000, [span()])
    for i in range(COUNTED_MAX + 5):
        windows.add(waits(START_MS, OBSERVATIONS_MAX, workload=f"w{i}"))
    (batch,) = taken(windows, flush=True)
    assert not list(faults_of_batch(batch, "b"))
    assert sum(bool(workload.latency) for workload in batch.workloads) == COUNTED_MAX + 1
    assert decode_shipment(
        encode_shipment(Shipment(schema=1, agent_id="a", epoch="e", cluster="c", node="n", batches=(batch,)))
    ).batches == (batch,)


def completions(batches: list[Batch]) -> list[int]:
    return [sum(c.completion or 0 for w in batch.workloads for c in w.tokens) for batch in batches]


def test_windows_are_aligned_and_close_after_they_have_settled() -> None:
    windows = builder()
    windows.jump(START_MS + 4_000)
    windows.extend(START_MS + LENGTH_MS + SETTLE_MS - 1, [span()])
    assert taken(windows) == []
    windows.extend(START_MS + LENGTH_MS + SETTLE_MS, [span()])
    (batch,) = taken(windows)
    assert (batch.start_ms, batch.end_ms) == (START_MS + 4_000, START_MS + LENGTH_MS)
    assert batch.gpus[0].active_ms == 11_000


def test_a_rate_at_the_end_of_its_interval_is_laid_over_its_seconds() -> None:
    windows = builder()
    windows.jump(START_MS)
    windows.extend(START_MS + 20_000, [span()])
    windows.add(tokens(START_MS + 10_000, START_MS + 20_000, 101, method="rate"))
    assert completions(taken(windows, flush=True)) == [51, 50]


def test_what_is_older_than_the_oldest_window_goes_into_it() -> None:
    windows = builder()
    windows.jump(START_MS)
    windows.extend(START_MS + 5_000, [span()])
    windows.add(tokens(START_MS - 60_000, START_MS - 50_000, 7))
    windows.add(tokens(START_MS + 90_000, START_MS + 91_000, 8))
    windows.add(tokens(START_MS + 1_000, START_MS + 1_000, 9))
    assert completions(taken(windows, flush=True)) == [24]


def test_a_gpu_that_appears_or_goes_leaves_no_hole() -> None:
    windows = builder()
    windows.jump(START_MS)
    windows.extend(START_MS + 5_000, [span("A")])
    windows.extend(START_MS + 9_000, [span("A"), span("B")])
    windows.extend(START_MS + 15_000, [span("B")])
    (batch,) = taken(windows, flush=True)
    a, b = batch.gpus
    assert (a.active_ms, a.unknown_ms, a.unknown_reason_ms) == (9_000, 6_000, {"not_seen": 6_000})
    assert (b.active_ms, b.unknown_ms, b.unknown_reason_ms) == (10_000, 5_000, {"not_seen": 5_000})


def test_a_lost_gpu_keeps_its_model_and_reports_why() -> None:
    windows = builder()
    windows.jump(START_MS)
    windows.extend(START_MS + 15_000, [unread("A", "H100", "gpu_lost")])
    ((gpu,),) = (batch.gpus for batch in taken(windows, flush=True))
    assert (gpu.model, gpu.unknown_reason_ms, gpu.energy_missing_ms) == ("H100", {"gpu_lost": 15_000}, 15_000)
    assert gpu.utilization_ms is None, "unknown is not zero"


def test_readings_become_integrals_and_maxima() -> None:
    reading = GpuReading(
        uuid="G", index=3, model="H100", power_mw=650_000, utilization_percent=50, memory_used_mib=1000,
        memory_total_mib=81_559, temperature_c=71, throttle_reasons=("sw_power_cap",),
    )  # fmt: skip
    windows = builder()
    windows.jump(START_MS)
    for second in range(15):
        active = GpuSpan(uuid="G", state="active", model="H100", energy=Energy(650_000, "counter"), reading=reading)
        windows.extend(START_MS + (second + 1) * 1000, [active])
    ((gpu,),) = (batch.gpus for batch in taken(windows, flush=True))
    assert (gpu.utilization_ms, gpu.memory_used_mib_seconds) == (7_500, 15_000)
    assert (gpu.power_mw_max, gpu.temperature_c_max, gpu.index) == (650_000, 71, 3)
    assert gpu.throttled_ms == {"sw_power_cap": 15_000}
    assert gpu.energy_mj.active == 15 * 650_000


def test_untied_processes_leave_their_part_of_the_gpu_unshared() -> None:
    windows = builder()
    windows.jump(START_MS)
    half = Holding(held=True, split="memory", weights={"chat": 1, UNTIED: 1})
    windows.extend(START_MS + 15_000, [span(energy_mj=1001, holding=half)])
    ((share,),) = (batch.shares for batch in taken(windows, flush=True))
    assert (share.workload, share.active_ms, share.active_mj, share.split) == ("chat", 7_500, 501, "memory")


@pytest.mark.parametrize("step_ms", [3_600_000, -3_600_000, -5_000, 700])
def test_clock_steps_neither_lose_nor_double_time(step_ms: int) -> None:
    windows = builder()
    windows.jump(START_MS)
    windows.extend(START_MS + 7_000, [span(energy_mj=70)])
    windows.jump(START_MS + 7_000 + step_ms)
    windows.add(tokens(START_MS, START_MS + 7_000, 11))
    windows.extend(START_MS + 16_000 + step_ms, [span(energy_mj=90)])
    windows.add(tokens(START_MS + 15_000 + step_ms, START_MS + 16_000 + step_ms, 5))
    batches = taken(windows, flush=True)
    assert sum(batch.end_ms - batch.start_ms for batch in batches) == 16_000
    assert sum(gpu.energy_mj.total() for batch in batches for gpu in batch.gpus) == 160
    assert sum(completions(batches)) == 16
    assert not [fault for batch in batches for fault in faults_of_batch(batch, "")]


def test_tokens_without_any_time_stay_for_the_next_run() -> None:
    windows = builder()
    windows.jump(START_MS)
    windows.add(tokens(START_MS, START_MS, 3))
    assert taken(windows, flush=True) == []
    windows.jump(START_MS + 1_000_000)
    windows.extend(START_MS + 1_001_000, [])
    assert completions(taken(windows, flush=True)) == [3]


def test_memory_is_bounded_when_windows_cannot_be_taken() -> None:
    windows = builder()
    windows.jump(START_MS)
    windows.extend(START_MS + 600 * LENGTH_MS, [span()])
    assert (windows.dropped, windows.ready(flush=True)) == (120, 480)


STATES = st.sampled_from(["active", "idle", "unallocated", "unknown"])
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("extend"), st.integers(1, 40_000), st.lists(st.tuples(STATES, st.integers(0, 10**6)), max_size=3)
        ),
        st.tuples(st.just("jump"), st.integers(-4_000_000, 4_000_000), st.just([])),
        st.tuples(st.just("tokens"), st.integers(-70_000, 20_000), st.integers(0, 30_000)),
        st.tuples(st.just("take"), st.just(0), st.just([])),
        st.tuples(st.just("restart"), st.just(0), st.just([])),
    ),
    max_size=40,
)


@given(STEPS, st.integers(0, 3_600_000))
@settings(max_examples=200, deadline=None)
def test_books_balance_through_any_history(steps: list[tuple[str, int, Any]], offset_ms: int) -> None:
    """Time, energy and tokens in = out; every batch is sound; through jumps, takes and restarts."""
    windows = builder()
    windows.jump(START_MS + offset_ms)
    time_ms = energy_mj = token_count = 0
    batches: list[Batch] = []
    for step, number, extra in steps:
        end_ms = windows.end_ms or 0
        if step == "extend":
            spans = []
            for i, (state, energy) in enumerate(extra):
                spans.append(span(f"GPU-{i}", state, energy))
                energy_mj += energy
            windows.extend(end_ms + number, spans)
            time_ms += number
        elif step == "jump":
            windows.jump(end_ms + number)
        elif step == "tokens":
            windows.add(tokens(end_ms + number, end_ms + number + extra, 17, prompt_computed=5))
            token_count += 17
        elif step == "take":
            batches += taken(windows)
        else:
            raw = msgspec.json.encode(windows.state())
            windows = builder(msgspec.json.decode(raw, type=BuilderState))
    windows.extend((windows.end_ms or 0) + 1, [])
    batches += taken(windows, flush=True)
    assert sum(batch.end_ms - batch.start_ms for batch in batches) == time_ms + 1
    assert sum(gpu.energy_mj.total() for batch in batches for gpu in batch.gpus) == energy_mj
    assert sum(completions(batches)) == token_count
    assert not [fault for batch in batches for fault in faults_of_batch(batch, "")]


def sound(batches: list[Batch]) -> Batch:
    """The one batch, as a collector takes it."""
    (one,) = batches
    shipped = Shipment(schema=1, agent_id="a", epoch="e", cluster="c", node="n", batches=(one,))
    return decode_shipment(encode_shipment(shipped)).batches[0]


def test_workloads_under_ever_new_names_share_one_and_lose_nothing() -> None:
    """A tenant who starts processes under new names all the time does not cost the node its batch."""
    windows = builder()
    windows.jump(START_MS)
    for i in range(150):
        names = {f"process-{i}-{j}": 1 for j in range(40)}
        holding = Holding(held=True, weights=names, split="sm")
        windows.extend(START_MS + (i + 1) * 100, [span(uuid, energy_mj=1000, holding=holding) for uuid in ("G", "H")])
    batch = sound(taken(windows, flush=True))
    held = {share.workload: share for share in batch.shares if share.gpu_uuid == "G"}
    assert sum(share.active_ms for share in held.values()) == batch.gpus[0].active_ms == LENGTH_MS
    assert sum(share.active_mj for share in held.values()) == batch.gpus[0].energy_mj.active == 150_000
    assert held[OTHER_WORKLOAD].active_ms > LENGTH_MS // 2
    assert len(batch.shares) == HOLDINGS_MAX + 2
    assert windows.folded["workload"] == 150 * 40 * 2 - HOLDINGS_MAX


def test_tokens_and_callers_under_ever_new_names_share_one_and_lose_nothing() -> None:
    windows = builder()
    windows.jump(START_MS)
    windows.extend(START_MS + LENGTH_MS, [span()])
    at_ms = START_MS + 5
    for i in range(COUNTED_MAX + 500):
        event = tokens(at_ms, at_ms, 7)
        windows.add(replace(event, workload=f"server-{i}"))
    for gateway in range(20):
        for i in range(CALLERS_MAX + 10):
            counts = TokenCounts(method="count", completion=3, caller=Caller(labels=(("user", f"u{i}"),)))
            windows.add(TokenEvent(workload=f"gateway-{gateway}", start_ms=at_ms, end_ms=at_ms, counts=counts))
    batch = sound(taken(windows, flush=True))
    made = {workload.key: sum(count.completion or 0 for count in workload.tokens) for workload in batch.workloads}
    assert sum(made.values()) == (COUNTED_MAX + 500) * 7
    assert made[OTHER_WORKLOAD] == 500 * 7
    assert sum(demand.completion or 0 for demand in batch.demand) == 20 * (CALLERS_MAX + 10) * 3
    assert len(batch.demand) <= DEMAND_MAX
    assert windows.folded == {"workload": 500, "caller": 20 * (CALLERS_MAX + 10) - CALLERS_ALL_MAX + 11, "event": 0}


def test_servers_that_lie_are_cut_and_not_those_beside_them() -> None:
    windows = builder()
    windows.jump(START_MS)
    windows.extend(START_MS + LENGTH_MS, [span()])
    for name, completion in (("a", 900), ("liar", COUNT_MAX), ("liar too", COUNT_MAX - 5), ("z", 50)):
        event = tokens(START_MS, START_MS, completion, requests=completion)
        windows.add(replace(event, workload=name))
    batch = sound(taken(windows, flush=True))
    made = {workload.key: workload.tokens[0].completion for workload in batch.workloads if workload.tokens}
    assert made == {"a": 900, "liar": COUNT_MAX // 4, "liar too": COUNT_MAX // 4, "z": 50}


def test_events_of_ever_new_kinds_share_one() -> None:
    windows = builder()
    windows.jump(START_MS)
    for i in range(400):
        one = replace(span(), events={f"xid_{i}": 2})
        windows.extend(START_MS + (i + 1) * 10, [one])
    events = sound(taken(windows, flush=True)).gpus[0].events
    assert (len(events), sum(events.values()), windows.folded["event"]) == (EVENT_KINDS_MAX + 1, 800, 200)
