"""Nodes that lie against a collector on ClickHouse: what fuzz_ledger.py plays, one seed; more by hand, with `--engine`.

PYTHONPATH=agent:collector:tests python -m fuzz_ledger --seconds 3600 --engine clickhouse
"""

import os

import pytest

import fuzz_ledger
from collector.ledger.engines import NewPlace
from kept_lies import LIES

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning"),
]


MORE = int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "0"))
"""On both engines; chdb takes three times as long."""


@pytest.mark.parametrize(
    ("engine", "seed"),
    [("clickhouse", 1), *((engine, seed) for engine in ("clickhouse", "chdb") for seed in range(3, 3 + MORE))],
)
def test_lies_bend_nobody_s_figures_on_clickhouse(engine: str, seed: int, request: pytest.FixtureRequest) -> None:
    """By commit, refresh, reports, /metrics, verify and its quarantine, as on DuckDB, to which it is compared."""
    new_place: NewPlace = request.getfixturevalue(engine)
    example = fuzz_ledger.ledger(seed, LIES if seed == 1 else (), new_place())
    assert example.statuses[200] >= 2
    assert bool(example.impossible) == bool(seed % 2)
