"""The policy's `token_weights` are what every split uses: how models of one workload share its GPU time too."""

from decimal import Decimal
from pathlib import Path

import pytest

from collector.fleet import Fleet, Gpu, Held, Server, prices

BOOK = "{pools: [{name: h100, rented: {per_gpu_hour: 10}}], token_weights: {prompt: %s, cached: %s, completion: %s}}"
HOUR = "2026-10-05T10:00"


@pytest.mark.parametrize(
    ("weights", "costs"),
    [
        ((1, 1, 1), {"A": 10, "B": 10}),
        ((1, "0.1", 4), {"A": 4, "B": 16}),
        ((3, 1, 1), {"A": 15, "B": 5}),
    ],
)
def test_models_share_a_workloads_time_by_the_policys_weights(
    tmp_path: Path, weights: tuple[object, ...], costs: dict[str, int]
) -> None:
    """One workload on two nodes, one GPU-hour each; model A read a million tokens, model B made a million."""
    fleet = Fleet()
    for node, server in (
        ("n1", Server(key="w", model="A", prompt_computed=1_000_000)),
        ("n2", Server(key="w", model="B", completion=1_000_000)),
    ):
        fleet.hour(HOUR, [Gpu(uuid=node, held=[Held(workload="w", active_min=60)])], [server], node=node)
    report = fleet.maker(prices(tmp_path, BOOK % weights)).report("2026-10-05", ["model"])
    assert {row.by["model"]: row.cost for row in report.rows} == {name: Decimal(cost) for name, cost in costs.items()}
    again = fleet.maker(prices(tmp_path, BOOK % (1, 1, 1))).report("2026-10-05", ["model"])
    assert {row.cost for row in again.rows} == {Decimal(10)}, "other weights need no new roll-up"
