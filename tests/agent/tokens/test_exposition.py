"""One line of a page, as prometheus_client reads it; and never in more time than a page is worth."""

import time

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from recordings import FIXTURES
from tokenyield_agent.tokens.exposition import SERIES_MAX, sample_in, samples

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\x85\u2028\u2029\v\f\x1c\x1d\x1e"))


@given(labels=st.dictionaries(st.sampled_from("abcde"), WORDS | st.sampled_from(['"', "\\", "\\n", "\n", "a,b}", "{"])),
       value=st.floats(0, 1e15) | st.integers(0, 2**50))  # fmt: skip
def test_a_line_is_read_as_it_was_written(labels: dict[str, str], value: float) -> None:
    registry = CollectorRegistry()
    gauge = Gauge("x_total_of", "y", list(labels), registry=registry)
    (gauge.labels(**labels) if labels else gauge).set(value)
    line = generate_latest(registry).rstrip(b"\n").rpartition(b"gauge\n")[2]
    sample = sample_in(line)
    assert sample is not None
    assert (sample.name, sample.labels, sample.value) == ("x_total_of", labels, float(value))


def test_every_recorded_page_is_read_as_prometheus_client_reads_it() -> None:
    pages, lines = list((FIXTURES / "pages").glob("*.prom")), 0
    for page in pages:
        for line in page.read_bytes().splitlines():
            if line.startswith(b"#") or not line.strip():
                continue
            ((expected,),) = [family.samples for family in text_string_to_metric_families(line.decode() + "\n")]
            sample = sample_in(line)
            lines += 1
            if expected.value != expected.value or expected.value in (float("inf"), float("-inf")):
                assert sample is None
                continue
            assert sample == (expected.name, expected.labels, expected.value), line
    assert lines > 200


def test_what_is_broken_is_left_out() -> None:
    for line in (
        b"", b"x", b"x 1_0", b"x{", b'x{a="b"', b'x{a="b} 1', b'x{a=b} 1', b'x{a="\xff"} 1', b"x NaN", b"x +Inf", b"x 1 2 3", b"x 0x10",
        b'x{a="b"}{c="d"} 1', b"9x 1",
    ):  # fmt: skip
        assert sample_in(line) is None, line
    assert sample_in(b'x{a="b",} 1') == ("x", {"a": "b"}, 1.0)
    assert sample_in(b"x 1e3 1700000000") == ("x", {}, 1000.0)


def test_a_page_of_the_hardest_lines_takes_no_time_from_others() -> None:
    """Processor time of this thread, which does not depend on what else the machine does. It was 23 s."""
    for count in (180, 60, 20):
        labels = b",".join(b'l%d="\\"xxxxxxxx"' % i for i in range(count))
        page = b"".join(b'c{%s,n="%d"} 1\n' % (labels, n) for n in range(SERIES_MAX))
        began_s = time.thread_time()
        samples(page, {"c"})
        assert time.thread_time() - began_s < 3, count
