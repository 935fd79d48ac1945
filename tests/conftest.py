"""Fixtures that several folders of tests share."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import machine
from nvml.stand_in import Scenario, build
from real.clickhouse_server import chdb, chdb_process, clickhouse, clickhouse_servers, clickhouse_two_shards

machine.forget_settings()
machine.watch()
# What one example took says how busy the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

__all__ = ["chdb", "chdb_process", "clickhouse", "clickhouse_servers", "clickhouse_two_shards"]


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    """A command run in this process sets the level of all logs (tokenyield_settings/logs.py); the next test has its own."""
    root = logging.getLogger()
    level, disabled = root.level, logging.root.manager.disable
    yield
    root.setLevel(level)
    logging.disable(disabled)


@pytest.fixture(autouse=True)
def _nothing_installed_is_touched(request: pytest.FixtureRequest) -> Iterator[None]:
    machine.touched.clear()
    yield
    if request.node.get_closest_marker("real") is not None:  # those try what is installed
        return
    assert machine.touched == [], (
        "files of programs that may be installed on this machine: settings of the test lack a path"
    )


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
