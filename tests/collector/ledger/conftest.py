"""Ledgers for what every engine must keep: DuckDB here, ClickHouse (a server, two shards, today's dialect) with `make test-real`."""

import pytest

from collector.ledger.engines import NewPlace, Open
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger


@pytest.fixture(
    params=[
        "duckdb",
        *(pytest.param(name, marks=pytest.mark.real) for name in ("clickhouse", "clickhouse_two_shards", "chdb")),
    ]
)
def new_place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NewPlace:
    if request.param != "duckdb":
        place: NewPlace = request.getfixturevalue(request.param)
        return place

    def make() -> Open:
        path = tmp_path_factory.mktemp("ledger") / "ledger.duckdb"
        return lambda: DuckDbLedger(path)

    return make


@pytest.fixture
def open_ledger(new_place: NewPlace) -> Open:
    return new_place()
