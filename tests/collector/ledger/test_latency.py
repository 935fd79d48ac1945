"""Histograms of waits add up, and a percentile is never below the truth nor more than a bucket above it."""

from hypothesis import given
from hypothesis import strategies as st

from tokenyield_collector.ledger.latency import PERCENTILES, LatencyHistogram, histograms
from tokenyield_collector.ledger.usage import WorkIdentity, WorkLatency
from tokenyield_wire.latency import LATENCY_BUCKETS, LATENCY_EDGES_MS, LATENCY_KINDS, LatencyKind, upper_bucket

KINDS = st.sampled_from(LATENCY_KINDS)
WAITS_MS = st.lists(st.integers(0, 3_000_000), min_size=1, max_size=60)


def histogram(kind: LatencyKind, waits_ms: list[int]) -> LatencyHistogram:
    counts = [0] * LATENCY_BUCKETS
    for wait_ms in waits_ms:
        counts[upper_bucket(kind, wait_ms)] += 1
    return LatencyHistogram(kind, sum(waits_ms), tuple(counts))


@given(KINDS, WAITS_MS)
def test_a_percentile_is_the_edge_above_the_true_one(kind: LatencyKind, waits_ms: list[int]) -> None:
    made, ordered = histogram(kind, waits_ms), sorted(waits_ms)
    for percentile in PERCENTILES:
        true_ms = ordered[-(-len(ordered) * percentile // 100) - 1]
        assert made.at_most_ms(percentile) == next((edge for edge in LATENCY_EDGES_MS[kind] if edge >= true_ms), None)


@given(KINDS, WAITS_MS, WAITS_MS)
def test_histograms_add_up(kind: LatencyKind, one: list[int], other: list[int]) -> None:
    assert histogram(kind, one) + histogram(kind, other) == histogram(kind, [*one, *other])


def test_what_nobody_observed_is_unknown_and_not_0() -> None:
    nothing = histogram("first_token", [])
    assert nothing.document() == {
        "observations": 0, "mean_ms": None, "p50_ms": None, "p95_ms": None, "p99_ms": None,
    }  # fmt: skip
    row = WorkLatency(WorkIdentity("c", "w", "m", "{}", "{}"), "first_token", 0, nothing.counts)
    assert histograms([row], lambda one: one.identity.model) == {}


def test_a_wait_above_the_last_edge_has_no_upper_bound() -> None:
    made = histogram("first_token", [90, 90, 90, 10_000_000])
    assert made.document() == {
        "observations": 4, "mean_ms": 2_500_067.5, "p50_ms": 100, "p95_ms": None, "p99_ms": None,
    }  # fmt: skip
