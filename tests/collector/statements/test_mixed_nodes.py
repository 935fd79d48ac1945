"""A node may have GPUs of several models, all in one pool."""

from decimal import Decimal
from pathlib import Path

import pytest

from collector.fleet import Fleet, Gpu, Held, Server, prices

L4 = "NVIDIA L4"


@pytest.mark.parametrize("by", [["team"], ["node"], ["cluster"], ["node", "hour"]])
def test_gpus_of_two_models_in_one_node_cost_the_same_by_every_column(tmp_path: Path, by: list[str]) -> None:
    """Two GPUs at 6 an hour: one is held for 30 minutes, the other for 10: 3 + 1 in use, 8 unallocated, 0 untied."""
    fleet = Fleet()
    gpus = [
        Gpu(uuid="a", held=[Held(workload="w", active_min=30)]),
        Gpu(uuid="b", model=L4, held=[Held(workload="w", active_min=10)]),
    ]
    fleet.hour("2026-10-05T07:00", gpus, [Server(key="w")])
    maker = fleet.maker(prices(tmp_path, "pools: [{name: p, rented: {per_gpu_hour: 6}}]"))
    report = maker.report("2026-10-05", by)
    assert report.total.cost == 12
    assert report.waterfall["productive"] == 4
    assert report.waterfall["unallocated"] == 8
    assert all(row.cost >= Decimal(0) for row in report.rows)
    assert not any("(untied)" in row.by.values() for row in maker.report("2026-10-05", [*by, "model"]).rows)
