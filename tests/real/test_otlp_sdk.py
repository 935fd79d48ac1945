"""OpenTelemetry's Python SDK and exporters against a running collector: its books have what the SDK counted, over a kill."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from harness import Stack
from real.own_venv import python_of
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

TOKEN = "otlp-otlp-otlp-otlp-1"


def test_the_ledger_has_what_the_sdk_counted(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"{TOKEN} may=otlp\n")
    stack = Stack(tmp_path, collector={"token_file": str(tmp_path / "tokens")})
    python = python_of("opentelemetry", Path(os.environ.get("TOKENYIELD_CACHE", "~/.cache/tokenyield")).expanduser())
    counted = {"input": 0, "output": 0}
    try:
        for seed in range(2):
            stack.start_collector()
            call = [str(python), str(Path(__file__).with_name("otlp_sender.py")), f"{stack.url}/otlp", TOKEN, str(seed)]
            done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=300)
            assert (done.returncode, done.stderr) == (0, ""), done.stderr[-3000:]
            counted = {kind: count + json.loads(done.stdout)[kind] for kind, count in counted.items()}
            stack.collector.kill()
        stack.start_collector()
        assert stack.collector.terminate() == 0, stack.collector.said()[-3000:]
    finally:
        stack.kill_all()
    ledger = DuckDbLedger(stack.ledger_path)
    lines = [line for one in ledger.spend(0, 2**62) for line in one.lines]
    ledger.close()
    assert sum(line.amounts.fresh or 0 for line in lines) == counted["input"]
    assert sum(line.amounts.output or 0 for line in lines) == counted["output"]
    assert {(line.fields.vendor, line.fields.product) for line in lines} == {
        ("openai", "deltas"), ("openai", "totals"), ("openai", "counters"), ("anthropic", "traced"),
    }  # fmt: skip
    assert {line.fields.team for line in lines if line.fields.vendor == "openai"} == {"search"}
    assert {line.fields.session for line in lines if line.fields.vendor == "anthropic"} == {"c-1"}
    assert b"the-secret-prompt" not in stack.ledger_path.read_bytes()
