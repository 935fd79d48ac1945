"""The API against its own description: schemathesis sends what fits and what does not, and every answer is as described."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from harness import Stack
from real.own_venv import PROGRAMS
from tokenyield_collector.api.openapi import openapi

pytestmark = pytest.mark.real

EXAMPLES = os.environ.get("TOKENYIELD_API_EXAMPLES", "60")


def test_every_answer_is_as_described(tmp_path: Path) -> None:
    token = "a-token-of-everybody"
    (tmp_path / "tokens").write_text(f"{token}\n")
    (tmp_path / "openapi.json").write_text(json.dumps(openapi()))
    settings = {
        "token_file": str(tmp_path / "tokens"),
        "agent_batches_per_s": 10_000,
        "enrol_dir": str(tmp_path / "enrol"),
    }
    stack = Stack(tmp_path, collector=settings)
    stack.start_collector()
    program = (
        Path(os.environ["TOKENYIELD_CACHE"]) / f"schemathesis-{PROGRAMS['schemathesis'][0]}" / "bin" / "schemathesis"
    )
    try:
        done = subprocess.run(
            [program, "run", tmp_path / "openapi.json", "--url", stack.url, "--header", f"Authorization: Bearer {token}",
             "--checks", "all", "--exclude-checks", "positive_data_acceptance", "--max-examples", EXAMPLES, "--seed", "7",
             "--no-color", "--suppress-health-check", "all", "--request-timeout", "20"],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert "Traceback" not in stack.collector.said()
    finally:
        stack.kill_all()
