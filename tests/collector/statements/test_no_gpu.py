"""Tokens made on no GPU that is known are those whose server held none, at every grain."""

from pathlib import Path

import pytest

from collector.fleet import Fleet, Gpu, Held, Server, prices
from tokenyield_wire.window import Demand


@pytest.mark.parametrize("by", [["pool"], ["team"], ["hour", "team"], ["node", "model"]])
def test_a_caller_of_less_than_a_millisecond_used_the_gpu(tmp_path: Path, by: list[str]) -> None:
    """One GPU without a price made 4 million tokens in a minute, of which a caller asked for 40: 0.6 ms and
    0.02 mJ of it. Another server held no GPU: its million tokens took no joule that is known."""
    fleet = Fleet()
    labels = {"team": "search"}
    servers = [
        Server(key="a", labels=labels, completion=4_000_000),
        Server(key="b", labels=labels, model="other", completion=1_000_000),
    ]
    demand = [Demand(gateway="g", model="llama", caller={"team": "tiny"}, completion=40, requests=1)]
    gpu = Gpu(held=[Held(workload="a", active_min=1, active_j=2)])
    fleet.hour("2026-10-05T07:00", [gpu], servers, demand)
    book = prices(tmp_path, "pools: [{name: p, match: {gpu: '*L4*'}, rented: {per_gpu_hour: 2}}]")
    report = fleet.maker(book).report("2026-10-05", by)
    assert report.total.figures["tokens"] == 5_000_000
    assert report.total.figures["tokens_per_joule_gpu"] == 4_000_000 / 2
