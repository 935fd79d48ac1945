"""Text from outside in a terminal, in the log and in labels: nothing in it acts, and no two texts become one."""

import io
import logging
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_of_text
from prometheus_client.parser import text_string_to_metric_families

from hostile import NAMES, acting, as_written
from tokenyield_agent.status.exposition import AgentFamily, metrics_page
from tokenyield_collector.metrics.labelled import CollectorFamily
from tokenyield_settings.logs import neutralize_warnings, set_up_logging
from tokenyield_settings.terminal import PADDED_CHARS_MAX, print_table, show, write_whatever_comes
from tokenyield_settings.visible import visible


@given(st.one_of(st.text(), st.text("\\nrtxuU0123456789abcdef\x1b\n\u202e")))
def test_a_visible_text_can_be_printed_and_read_back(text: str) -> None:
    written = visible(text)
    assert written.isprintable()
    assert not acting(written, but="")
    assert as_written(written) == text, "injective"


def test_plain_names_stay_as_they_are() -> None:
    for name in ("chat", "ns/pod-0", "DOMAIN\\sam", "\u6771\u4eac", "\U0001f600", "it's", "a b"):
        assert visible(name) == name


def test_a_line_of_a_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        show(f"ok    log        {name}: read")
        show(name, is_error=True)
    out, err = capsys.readouterr()
    assert len(out.split("\n")) == len(err.split("\n")) == len(NAMES) + 1
    assert not acting(out + err)


def test_a_table_keeps_its_rows_and_a_long_name_widens_no_column(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("held by", "tokens"), [(name, "5") for name in (*NAMES, "x" * 512)])
    out = capsys.readouterr().out
    lines = out.split("\n")
    assert len(lines) == len(NAMES) + 4
    assert not acting(out)
    assert max(len(line) for line in lines[:2]) <= PADDED_CHARS_MAX + 10


def test_a_name_that_the_terminal_has_no_character_for_ends_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))
    write_whatever_comes()
    show("\u6771\u4eac and a path that is no UTF-8: \udcff")
    sys.stdout.flush()
    assert written.getvalue() == b"\\u6771\\u4eac and a path that is no UTF-8: \\udcff\n"


def test_no_name_begins_a_line_of_the_log_or_acts_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:]
    try:
        set_up_logging("text", "info")
        log = logging.getLogger("test")
        for name in NAMES:
            log.warning("workload=%s has no tokens", name)
        try:
            raise ValueError("a\n2026-11-27T00:00:00+0000 INFO audit: event=read\x1b[31m")
        except ValueError:
            log.exception("failed")
    finally:
        logging.getLogger().handlers[:] = before
    err = capsys.readouterr().err
    assert not acting(err)
    begun = [line for line in err.rstrip("\n").split("\n") if not line.startswith("  ")]
    assert len(begun) == len(NAMES) + 1, "only tracebacks have more lines, and these are indented"
    assert not [line for line in begun if " audit: " in line]


def test_a_warning_of_a_command_that_set_up_no_logging_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    neutralize_warnings()
    assert logging.lastResort is not None
    record = logging.LogRecord("x", logging.WARNING, "f", 1, "workload=%s", ("a\n\x1b[31m",), None)
    assert logging.lastResort.format(record) == "workload=a\\n\\x1b[31m"


class _Shown:
    def __init__(self, family: CollectorFamily) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family.samples({(name,): number for number, name in enumerate(NAMES)})


@pytest.mark.parametrize("kind", ["counter", "gauge"])
def test_label_values_are_valid_and_keep_their_identity(kind: str) -> None:
    family = ("tokenyield_x_total" if kind == "counter" else "tokenyield_x", kind, "help", ("workload",))
    registry = CollectorRegistry()
    registry.register(_Shown(CollectorFamily(*family)))  # type: ignore[arg-type]
    agents = [AgentFamily(*family).samples({(name,): number for number, name in enumerate(NAMES)})]  # type: ignore[arg-type]
    for text, parse in (
        (generate_latest(registry).decode(), text_string_to_metric_families),
        (generate_openmetrics(registry).decode(), openmetrics_of_text),  # type: ignore[no-untyped-call]
        (metrics_page(agents)[0], text_string_to_metric_families),
        (metrics_page(agents, "application/openmetrics-text")[0], openmetrics_of_text),
    ):
        assert not acting(text)
        (parsed,) = parse(text)
        samples = [sample for sample in parsed.samples if not sample.name.endswith("_created")]
        found = {as_written(sample.labels["workload"]): sample.value for sample in samples}
        assert found == {name: number for number, name in enumerate(NAMES)}
