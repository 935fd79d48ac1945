"""From a bootstrap secret to a node's windows in the ledger, with both programs as they run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import Stack, wait_until
from tokenyield_collector.cli import main


def test_a_node_enrols_by_itself_and_again_once_it_is_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enrol_dir = f"enrol_dir={tmp_path / 'enrol'}"
    assert main(["enrol", "secret", "--set", enrol_dir, "cluster=dc1", "nodes=gpu-1", "uses=2"]) == 0
    secret = capsys.readouterr().out.strip()
    (tmp_path / "secret").write_text(f"{secret}\n")
    agent = {"cluster": "dc1", "node": "gpu-1", "gpu_reader": "none", "enrol_token_file": str(tmp_path / "secret"),
             "window_settle_s": 0, "window_length_s": 1}  # fmt: skip
    stack = Stack(tmp_path, agent=agent, collector={"enrol_dir": str(tmp_path / "enrol"), "refresh_interval_s": 0.1})
    stack.start_collector()
    try:
        stack.start_agent()
        wait_until(lambda: "event=enrolled" in stack.collector.said(), what="the node enrolled")
        assert main(["enrol", "revoke", "--set", enrol_dir, "cluster=dc1", "node=gpu-1"]) == 0
        wait_until(lambda: "batches are kept in the spool" in stack.agent.said(), what="its token ended")
        assert main(["enrol", "allow", "--set", enrol_dir, "cluster=dc1", "node=gpu-1"]) == 0
        wait_until(lambda: "the collector takes batches again" in stack.agent.said(), what="it enrolled again")
        wait_until(lambda: stack.spool_batches() == 0, what="its windows have receipts")
        for text in (stack.agent.said(), stack.collector.said()):
            assert secret not in text
            assert "tyn_" not in text
        stack.stop()
        assert stack.query("SELECT DISTINCT cluster, node FROM batches") == [("dc1", "gpu-1")]
    finally:
        stack.kill_all()


def test_the_command_enrols_for_the_agent_that_starts_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack = Stack(tmp_path, collector={"enrol_dir": str(tmp_path / "enrol")})
    stack.start_collector()
    try:
        assert main(["enrol", "secret", "--set", f"enrol_dir={tmp_path / 'enrol'}", "cluster=dc1", "uses=2"]) == 0
        secret = capsys.readouterr().out.strip()

        def enrol(state: str, text: str) -> subprocess.CompletedProcess[str]:
            call = [sys.executable, "-m", "tokenyield_agent.cli", "enrol", "--set", f"collector_url={stack.url}", "--set",
                    "cluster=dc1", "--set", "node=gpu-1", "--set", f"state_dir={tmp_path / state}"]  # fmt: skip
            return subprocess.run(call, input=text, capture_output=True, text=True, check=False, env=dict(os.environ))

        done = enrol("agent", f"{secret}\n")
        assert (done.returncode, done.stdout) == (0, "cluster dc1, node gpu-1: enrolled for 30 days\n")
        stranger = enrol("stranger", secret)
        assert stranger.returncode == 1
        assert "409" in stranger.stderr
        assert secret not in stranger.stderr
        assert enrol("agent", "").returncode == 2
        assert enrol("agent", "tyb_wrong").returncode == 1
    finally:
        stack.kill_all()
