"""What is counted of real servers equals what they made: the two of bench/truth.py that start fastest."""

import os
from pathlib import Path

import pytest
from truth import measure

from real.servers import SERVERS

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

LOAD_S = 5.0


@pytest.mark.parametrize("name", ["llama-server", "dynamo"])
def test_counts_equal_answers_and_the_servers_own_counters(name: str, tmp_path: Path) -> None:
    """By the counters, by the log, and by both while the endpoint goes away and comes back. Dynamo's log shows nothing."""
    server = SERVERS[name](tmp_path, Path(os.environ.get("TOKENYIELD_CACHE", "~/.cache/tokenyield")).expanduser())
    try:
        for load in ("streams", "choices"):
            for row in measure(server, load, LOAD_S, tmp_path / load):
                print(row)
                if name == "dynamo" and row["path"] not in ("counters", "both"):
                    continue
                counted, own, answers = row["counted"], row["own_counters"], row["answers"]
                assert {kind: counted[kind] for kind in own} == own, row
                if load != "choices":  # whose `usage` is of one choice
                    assert own["completion"] == answers["completion"], row
                    assert own["prompt"] == answers["prompt"], row
    finally:
        server.stop()
