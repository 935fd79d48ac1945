"""Latency histograms of every server's page: what they become, and that nothing is made of pages that lack lines."""

import random
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordings import RUNS
from tokenyield_agent.tokens.dialects import vllm
from tokenyield_agent.tokens.dialects.registry import COUNTERS
from tokenyield_agent.tokens.endpoint import read
from tokenyield_agent.tokens.latency import LatencyNames, LatencyReading, LatencyState, latency_between, read_latency
from tokenyield_agent.tokens.scrape import ScrapeResult
from tokenyield_agent.tokens.workload_tokens import TokensMark, WorkloadTokens
from tokenyield_wire.latency import LATENCY_EDGES_MS, LATENCY_KINDS

NAMES = LatencyNames(first_token=("s:ttft",), inter_token=("s:itl", "s:tpot"), end_to_end=("s:e2e",))
EDGES_S = (0.001, 0.01, 0.06, 0.1, 0.25, 0.3, 1.0, 7.5, 160.0, 2560.0)


def page(
    name: str, waits_s: Sequence[float], *, edges_s: Sequence[float] = EDGES_S, labels: str = 'engine="0"'
) -> bytes:
    """A histogram as a client library shows it."""
    head = f"{labels}," if labels else ""
    lines = [f"# TYPE {name} histogram"]
    lines += [
        f'{name}_bucket{{{head}le="{edge}"}} {float(sum(w <= edge for w in waits_s))}' for edge in sorted(edges_s)
    ]
    lines += [f'{name}_bucket{{{head}le="+Inf"}} {float(len(waits_s))}']
    lines += [f"{name}_count{{{labels}}} {float(len(waits_s))}", f"{name}_sum{{{labels}}} {sum(waits_s)}"]
    return "\n".join(lines).encode() + b"\n"


def observed(reading: LatencyReading) -> dict[str, int]:
    """Kind -> how many observations a page shows, over all series."""
    counts: dict[str, int] = {}
    for key, sums in reading.series.items():
        kind = key.partition("\t")[0]
        counts[kind] = counts.get(kind, 0) + sum(sums[1:])
    return counts


def test_a_recorded_vllm_run_gives_a_wait_for_every_request_and_token() -> None:
    before, after = (
        read_latency((RUNS["vllm"] / f"metrics.{when}.prom").read_bytes(), vllm.COUNTERS.latency)
        for when in ("before", "after")
    )
    state, nothing = latency_between(LatencyState(), before)
    _, waits = latency_between(state, after)
    assert nothing == {}
    assert {kind: sum(sums[1:]) for kind, sums in waits.items()} == {
        "first_token": 726,
        "inter_token": 75_032 - 726,
        "end_to_end": 726,
    }
    assert [sums[0] for sums in waits.values()] == [7_242, 221_302, 228_461]
    at_most = dict(zip(LATENCY_EDGES_MS["end_to_end"], waits["end_to_end"][1:], strict=False))
    assert {edge: count for edge, count in at_most.items() if count} == {
        300: 366, 500: 245, 800: 105, 1_000: 9, 1_500: 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("server", "names"),
    [
        ("vllm", ("vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds", "vllm:e2e_request_latency_seconds")),
        ("vllm", ("ray_vllm_time_to_first_token_seconds", "ray_vllm_time_per_output_token_seconds", "ray_vllm_e2e_request_latency_seconds")),
        ("sglang", ("sglang:time_to_first_token_seconds", "sglang:inter_token_latency_seconds", "sglang:e2e_request_latency_seconds")),
        ("sglang", ("sglang:time_to_first_token_seconds", "sglang:time_per_output_token_seconds", "sglang:e2e_request_latency_seconds")),
        ("sglang", ("sglang_time_to_first_token_seconds", "sglang_inter_token_latency_seconds", "sglang_e2e_request_latency_seconds")),
        ("trtllm", ("time_to_first_token_seconds", "time_per_output_token_seconds", "e2e_request_latency_seconds")),
        ("tgi", ("", "tgi_request_mean_time_per_token_duration", "tgi_request_duration")),
        ("dynamo", ("dynamo_frontend_time_to_first_token_seconds", "dynamo_frontend_inter_token_latency_seconds", "dynamo_frontend_request_duration_seconds")),
        ("trtllm", ("trtllm_time_to_first_token_seconds", "trtllm_time_per_output_token_seconds", "trtllm_e2e_request_latency_seconds")),
        ("trtllm", ("trtllm:time_to_first_token_seconds", "trtllm:time_per_output_token_seconds", "trtllm:e2e_request_latency_seconds")),
        ("lmdeploy", ("lmdeploy:time_to_first_token_seconds", "lmdeploy:iter_token_latency", "lmdeploy:e2e_request_latency_seconds")),
        ("nim", ("time_to_first_token_seconds", "time_per_output_token_seconds", "e2e_request_latency_seconds")),
    ],
)  # fmt: skip
def test_names_of_every_server_and_version(server: str, names: tuple[str, ...]) -> None:
    body = b"".join(page(name, [0.02, 0.2]) for name in names if name)
    expected = {kind: 2 for kind, name in zip(LATENCY_KINDS, names, strict=True) if name}
    assert observed(read_latency(body, COUNTERS[server].latency)) == expected


def test_the_newest_name_on_a_page_is_read_and_not_both() -> None:
    assert observed(read_latency(page("s:tpot", [1.0]) + page("s:itl", [0.1] * 3), NAMES)) == {"inter_token": 3}


def test_engines_and_models_add_up_whatever_stands_in_their_labels() -> None:
    names = ('engine="0",model_name="a,b}"', 'engine="1",model_name="a \\"x\\" b"', "")
    body = b"".join(page("s:ttft", [0.02], labels=labels) for labels in names)
    assert observed(read_latency(body, NAMES)) == {"first_token": 3}


@pytest.mark.parametrize(
    ("good", "broken"),
    [
        (b'le="+Inf"} 2.0', b'le="+Inf"} NaN'),
        (b'le="+Inf"} 2.0', b'le="+Inf"} 1.0'),
        (b'le="0.1"} 1.0', b'le="0.1"} 5'),
        (b'le="0.1"} 1.0', b'le="0.1"} 1e400'),
        (b"_sum{", b"_summe{"),
        (b'_sum{engine="0"} 0.25', b'_sum{engine="0"} 1e400'),
    ],
)  # fmt: skip
def test_a_histogram_that_is_not_whole_is_not_read(good: bytes, broken: bytes) -> None:
    body = page("s:ttft", [0.02, 0.23])
    assert good in body
    assert read_latency(body.replace(good, broken), NAMES).series == {}


def test_the_first_page_is_only_a_beginning() -> None:
    reading = read_latency(page("s:ttft", [0.02] * 1000), NAMES)
    state, waits = latency_between(LatencyState(), reading)
    assert waits == {}
    assert latency_between(LatencyState(), reading, is_new=True)[1]["first_token"][1:4] == [0, 0, 0]
    assert sum(latency_between(LatencyState(), reading, is_new=True)[1]["first_token"][1:]) == 1000
    assert latency_between(state, reading)[1] == {}


def test_a_histogram_that_appears_later_counts_from_0_only_where_the_server_had_made_nothing() -> None:
    shown = read_latency(page("s:ttft", [0.02] * 7), NAMES)
    asked_early, _ = latency_between(LatencyState(), LatencyReading(), has_made_nothing=True)
    assert sum(latency_between(asked_early, shown)[1]["first_token"][1:]) == 7
    half_served, _ = latency_between(LatencyState(), LatencyReading())
    state, waits = latency_between(half_served, shown)
    assert waits == {}
    more = read_latency(page("s:ttft", [0.02] * 9), NAMES)
    assert sum(latency_between(state, more)[1]["first_token"][1:]) == 2


def test_a_series_that_vanishes_goes_on_and_one_that_goes_down_begins_again_alone() -> None:
    def both(one: int, other: int) -> LatencyReading:
        parts = [page("s:ttft", [0.02] * n, labels=f'engine="{i}"') for i, n in ((0, one), (1, other)) if n]
        return read_latency(b"".join(parts), NAMES)

    state, _ = latency_between(LatencyState(), both(1_000_000, 1_000))
    counted = []
    for one, other in ((1_000_050, 0), (1_000_060, 1_030), (1_000_060, 20), (0, 25)):
        state, waits = latency_between(state, both(one, other))
        counted.append(sum(sum(sums[1:]) for sums in waits.values()))
    assert counted == [50, 10 + 30, 0, 25]


def test_an_old_page_between_two_others_counts_nothing_twice() -> None:
    state, _ = latency_between(LatencyState(), read_latency(page("s:ttft", [0.02] * 1000), NAMES))
    counted = []
    for shown in (1010, 990, 1015, 3, 2, 4):
        state, waits = latency_between(state, read_latency(page("s:ttft", [0.02] * shown), NAMES))
        counted.append(sum(sum(sums[1:]) for sums in waits.values()))
    assert counted == [10, 0, 5, 0, 0, 4]


def test_two_servers_behind_one_port_give_nothing_of_what_each_had_before() -> None:
    state, at_ms = LatencyState(), 10_000_000
    counted = []
    for shown, started_s in (
        (1000, 100.0),
        (700, 200.0),
        (1003, 100.0),
        (704, 200.0),
        (9, at_ms / 1000),
        (12, at_ms / 1000),
    ):
        at_ms += 5_000
        reading = read_latency(page("s:ttft", [0.02] * shown), NAMES)
        state, waits = latency_between(state, reading, at_ms=at_ms, started_s=started_s)
        counted.append(sum(sum(sums[1:]) for sums in waits.values()))
    assert counted == [0, 0, 0, 0, 9, 3]


def test_another_start_of_the_server_begins_again_whatever_the_counts_are() -> None:
    state, _ = latency_between(LatencyState(), read_latency(page("s:ttft", [0.02] * 5), NAMES), started_s=100.0)
    _, waits = latency_between(state, read_latency(page("s:ttft", [0.02] * 8), NAMES), started_s=200.0)
    assert sum(waits["first_token"][1:]) == 8


WAITS = st.lists(st.floats(min_value=0.0001, max_value=5000, allow_nan=False), min_size=1, max_size=40)
EDGES = st.lists(st.sampled_from([0.0022, 0.01, 0.035, 0.06, 0.1, 0.22, 0.3, 1, 2.5, 7, 48, 480, 2560]), unique=True)


@given(WAITS, EDGES, st.sampled_from(LATENCY_KINDS))
def test_no_wait_is_lost_and_none_is_shown_shorter_or_a_bucket_longer(
    waits_s: list[float], edges_s: list[float], kind: str
) -> None:
    names = LatencyNames(**{kind: ("x",)})
    ((_, sums),) = read_latency(page("x", waits_s, edges_s=edges_s), names).series.items()
    assert sum(sums[1:]) == len(waits_s)
    assert abs(sums[0] - sum(waits_s) * 1000) <= 1
    ours_ms: tuple[float, ...] = (*LATENCY_EDGES_MS[kind], float("inf"))  # type: ignore[index]
    shown_ms = [edge for edge, count in zip(ours_ms, sums[1:], strict=True) for _ in range(count)]
    servers_ms = [round(min([e for e in edges_s if e >= wait], default=float("inf")) * 1000, 6) for wait in waits_s]
    for shown, server, wait in zip(shown_ms, sorted(servers_ms), sorted(waits_s), strict=True):
        assert shown >= server >= wait * 1000
        assert shown == next(edge for edge in ours_ms if edge >= server)


@given(WAITS, WAITS, EDGES)
def test_what_was_observed_between_pages_adds_up(one: list[float], other: list[float], edges_s: list[float]) -> None:
    state, all_waits = LatencyState(), [0] * 22
    for waits_s in ([], one, [*one, *other]):
        reading = read_latency(page("s:e2e", waits_s, edges_s=edges_s), NAMES)
        state, waits = latency_between(state, reading, has_made_nothing=not waits_s)
        for sums in waits.values():
            all_waits = [a + b for a, b in zip(all_waits, sums, strict=True)]
    (whole,) = read_latency(page("s:e2e", [*one, *other], edges_s=edges_s), NAMES).series.values()
    assert all_waits == whole


@given(st.integers(0, 2**32), st.booleans())
def test_dropped_and_repeated_lines_lost_pages_and_restarts_make_no_waits(seed: int, cuts: bool) -> None:
    chosen = random.Random(seed)
    waits: list[list[float]] = [[], []]
    state, started_s, made, counted = LatencyState(), 1e9, 0, 0
    for turn in range(12):
        for engine in waits:
            fresh = [chosen.choice([0.005, 0.05, 0.2, 3.0]) for _ in range(chosen.randrange(4) if turn else 0)]
            engine.extend(fresh)
            made += len(fresh)
        body = b"".join(page("s:ttft", engine, labels=f'engine="{i}"') for i, engine in enumerate(waits))
        lines = body.splitlines(keepends=True)
        if cuts and turn:
            lines = [line for line in lines for _ in range(chosen.choice([0, 1, 1, 1, 1, 2]))]
            lines = lines[: chosen.randrange(len(lines) + 1)] if chosen.random() < 0.2 else lines
        state = msgspec.json.decode(msgspec.json.encode(state), type=LatencyState)
        body = b"".join(lines)
        if cuts and turn and chosen.random() < 0.2:
            body = body[: chosen.randrange(len(body) + 1)]
        reading = read_latency(body, NAMES)
        state, shown = latency_between(state, reading, started_s=started_s, has_made_nothing=not turn)
        counted += sum(sum(sums[1:]) for sums in shown.values())
        if turn and chosen.random() < 0.1:
            waits, started_s = [[], []], started_s + 60
    assert counted <= made
    if not cuts:
        assert counted == made


def test_a_page_of_another_process_at_the_same_address_gives_and_changes_nothing() -> None:
    workload = WorkloadTokens("w", None, has_endpoint=True, mark=None)
    workload.from_endpoint(scraped(made(100, 10)), 1_000)
    workload.from_endpoint(scraped(page("vllm:time_to_first_token_seconds", [0.3] * 3)), 6_000)
    workload.from_endpoint(scraped(made(150, 13)), 11_000)
    (waits,) = workload.finish()
    assert waits.latency is not None
    assert sum(waits.latency["first_token"][1:]) == 3


def test_a_number_that_was_cut_is_not_read() -> None:
    whole = page("s:ttft", [0.02] * 1234)
    start = whole.index(b"s:ttft_sum")
    body = whole[start:] + whole[:start]
    cut = body[: body.index(b"1234.0", body.index(b"+Inf")) + 2]
    assert read_latency(body, NAMES).series
    assert read_latency(cut, NAMES).series == {}


def test_the_order_of_lines_that_are_there_twice_does_not_matter() -> None:
    one, other = page("s:ttft", [0.02] * 5), page("s:ttft", [0.02] * 9)
    assert read_latency(one + other, NAMES) == read_latency(other + one, NAMES) == read_latency(other, NAMES)


@given(st.binary(max_size=2000))
def test_no_page_breaks_the_reading(junk: bytes) -> None:
    body = b's:ttft_bucket{le="' + junk + b'"} 1\ns:ttft_sum ' + junk + b"\n" + junk + page("s:e2e", [1.0])
    for sums in read_latency(body, NAMES).series.values():
        assert min(sums) >= 0


def scraped(body: bytes) -> ScrapeResult:
    return ScrapeResult(
        target="w",
        scraped_mono_s=0.0,
        names=vllm.COUNTERS,
        reading=read(body, vllm.COUNTERS),
        latency=read_latency(body, vllm.COUNTERS.latency),
    )


def made(tokens: int, requests: int) -> bytes:
    return b"vllm:generation_tokens_total %d\n" % tokens + page("vllm:time_to_first_token_seconds", [0.3] * requests)


def test_a_workload_gives_its_waits_beside_its_tokens_and_goes_on_after_a_restart_of_the_agent() -> None:
    workload = WorkloadTokens("w", None, has_endpoint=True, mark=None)
    assert workload.from_endpoint(scraped(made(100, 10)), 1_000) == []
    (tokens,) = workload.from_endpoint(scraped(made(150, 13)), 6_000)
    assert (tokens.counts.completion, tokens.latency) == (50, None)
    mark = msgspec.json.decode(msgspec.json.encode(workload.mark()), type=TokensMark)
    again = WorkloadTokens("w", None, has_endpoint=True, mark=mark)
    (tokens,) = again.from_endpoint(scraped(made(170, 14)), 11_000)
    assert (tokens.counts.completion, tokens.latency) == (20, None)
    assert again.poll(59_999, 0.0) == []
    (waits,) = again.poll(60_000, 0.0)
    assert waits.latency is not None
    assert (sum(waits.latency["first_token"][1:]), waits.end_ms, waits.counts.kinds()) == (4, 11_000, {})
    assert again.poll(180_000, 0.0) == []
    assert again.finish() == []


def test_waits_that_are_gathered_are_given_when_a_minute_has_passed_or_the_workload_ends() -> None:
    workload = WorkloadTokens("w", None, has_endpoint=True, mark=None)
    workload.from_endpoint(scraped(made(100, 10)), 1_000)
    workload.from_endpoint(scraped(made(150, 13)), 59_000)
    tokens, waits = workload.from_endpoint(scraped(made(170, 14)), 61_000)
    assert (tokens.counts.completion, tokens.latency) == (20, None)
    assert waits.latency is not None
    assert (sum(waits.latency["first_token"][1:]), waits.end_ms) == (3, 59_000)
    (waits,) = workload.finish()
    assert waits.latency is not None
    assert (sum(waits.latency["first_token"][1:]), waits.end_ms) == (1, 61_000)


def test_a_mark_of_an_older_agent_begins_anew() -> None:
    workload = WorkloadTokens("w", None, has_endpoint=True, mark=None)
    workload.from_endpoint(scraped(made(100, 10)), 1_000)
    document = msgspec.to_builtins(workload.mark())
    del document["latency"]
    again = WorkloadTokens("w", None, has_endpoint=True, mark=msgspec.convert(document, TokensMark))
    (tokens,) = again.from_endpoint(scraped(made(150, 13)), 6_000)
    assert (tokens.counts.completion, tokens.latency) == (50, None)


def test_a_server_that_started_under_the_agents_eyes_is_counted_from_its_first_request() -> None:
    workload = WorkloadTokens("w", None, has_endpoint=True, is_new=True, mark=None)
    workload.from_endpoint(scraped(made(20, 2)), 1_000)
    (waits,) = workload.poll(61_000, 0.0)
    assert waits.latency is not None
    assert sum(waits.latency["first_token"][1:]) == 2
