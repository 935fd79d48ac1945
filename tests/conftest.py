"""Fixtures that several folders of tests share."""

from pathlib import Path

import pytest

from nvml.stand_in import Scenario, build
from real.clickhouse_server import chdb, chdb_process, clickhouse, clickhouse_servers, clickhouse_two_shards

__all__ = ["chdb", "chdb_process", "clickhouse", "clickhouse_servers", "clickhouse_two_shards"]


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C stand-in, built once."""
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    return Scenario(tmp_path / "scenario.txt")


@pytest.fixture
def fixtures() -> Path:
    return Path(__file__).parent / "fixtures"
