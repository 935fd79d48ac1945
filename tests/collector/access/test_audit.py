"""The audit log: refused requests and reports that were read, without secrets or lines of a caller."""

import json
from pathlib import Path

import pytest

from collector.access.client import READER, bearer, call
from harness import Stack
from tokenyield_collector.access.audit import Audit


def test_no_caller_writes_lines_into_the_audit_log(caplog: pytest.LogCaptureFixture) -> None:
    audit = Audit()
    with caplog.at_level("INFO", "audit"):
        audit.refused(peer="::1", caller="a\nevent=changed", method="GET", route="/x\r\n\x1b[31m", status=401,
                      why='a "b" = c', now_s=0.0)  # fmt: skip
    (line,) = [record.getMessage() for record in caplog.records]
    assert "\n" not in line
    assert "\x1b" not in line
    assert 'caller="a?event=changed"' in line
    assert 'why="a ?b? = c"' in line


def test_reports_that_were_read_are_logged(stack: Stack) -> None:
    call(stack.url, "/v1/report?period=2026-10&team=somebody", **bearer(READER))
    line = next(line for line in stack.collector.said().splitlines() if "event=read" in line)
    assert "caller=grafana" in line
    assert "period=2026-10" in line
    assert "somebody" not in line
    call(stack.url, "/v1/backup", **bearer(READER))
    assert "caller=grafana route=/v1/backup what=backup" in stack.collector.said()


def test_the_json_log_has_the_facts_as_fields(tmp_path: Path) -> None:
    running = Stack(tmp_path, collector={"log_format": "json"})
    running.start_collector()
    try:
        call(running.url, "/nowhere")
        lines = [json.loads(line) for line in running.collector.said().splitlines() if line.startswith("{")]
        facts = next(line for line in lines if line["logger"] == "audit")
        assert facts["event"] == "refused"
        assert facts["status"] == "404"
    finally:
        running.kill_all()


def test_a_client_refused_again_and_again_is_written_ever_more_rarely(caplog: pytest.LogCaptureFixture) -> None:
    """Five lines at once, then one a minute with the number left out; another client's lines are not among them."""
    audit = Audit()

    def refuse(peer: str, now_s: float) -> None:
        audit.refused(peer=peer, caller="", method="GET", route="/x", status=401, why="no", now_s=now_s)

    with caplog.at_level("WARNING", "audit"):
        for second in range(120):
            refuse("::1", float(second))
        refuse("::2", 120.0)
    lines = [record.getMessage() for record in caplog.records]
    of_the_first = [line for line in lines if "peer=::1" in line]
    assert not [line for line in of_the_first[:5] if "suppressed_before" in line]
    left_out = [int(line.partition("suppressed_before=")[2]) for line in of_the_first[5:]]
    assert left_out == [55]
    assert len(lines) - len(of_the_first) == 1
