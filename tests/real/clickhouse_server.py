"""Real ClickHouse servers for the ledger's contract: Debian's 18.16 as one node and as two shards, and chdb for today's dialect.

In: nothing. Out: fixtures, each a function that gives another empty database with every call, and what opens a ledger in it.
"""

import itertools
import json
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from collector.ledger.engines import NewPlace, Open
from harness import free_port, wait_until
from real.own_venv import python_of
from tokenyield_collector.errors import LedgerError, UnstorableShipment
from tokenyield_collector.ledger.clickhouse.client import parse_address
from tokenyield_collector.ledger.clickhouse.ledger import ClickHouseLedger, connect

PASSWORD = "clickhouse-password"
_CONFIG = """<?xml version="1.0"?>
<yandex>
  <logger><level>warning</level><log>{folder}/log</log><errorlog>{folder}/errors</errorlog></logger>
  <tcp_port>{port}</tcp_port><listen_host>127.0.0.1</listen_host>
  <path>{folder}/data/</path><tmp_path>{folder}/tmp/</tmp_path><users_config>{folder}/users.xml</users_config>
  <default_profile>default</default_profile><default_database>default</default_database><timezone>UTC</timezone>
  <mark_cache_size>67108864</mark_cache_size>
  <remote_servers><fleet>{shards}</fleet></remote_servers>
</yandex>
"""
_SHARD = """<shard><internal_replication>true</internal_replication><replica><host>127.0.0.1</host><port>{port}</port>
<user>default</user><password>{password}</password></replica></shard>"""
_USERS = """<?xml version="1.0"?>
<yandex>
  <profiles><default><max_threads>2</max_threads></default></profiles><quotas><default/></quotas>
  <users><default><password>{password}</password><networks><ip>127.0.0.1</ip></networks>
    <profile>default</profile><quota>default</quota></default></users>
</yandex>
"""


class Server:
    """One clickhouse-server, which can be killed and started again."""

    def __init__(self, folder: Path, ports: Sequence[int], port: int) -> None:
        self.port, self.folder = port, folder
        folder.mkdir()
        shards = "".join(_SHARD.format(port=shard_port, password=PASSWORD) for shard_port in ports)
        (folder / "config.xml").write_text(_CONFIG.format(folder=folder, port=port, shards=shards))
        (folder / "users.xml").write_text(_USERS.format(password=PASSWORD))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "out").open("ab") as out:
            self.process = subprocess.Popen(
                ["clickhouse-server", f"--config-file={self.folder / 'config.xml'}"], stdout=out, stderr=out
            )
        wait_until(self._answers, what=f"clickhouse-server in {self.folder}")

    def _answers(self) -> bool:
        try:
            connect(self.address("default"), PASSWORD, "").close()
        except LedgerError:
            return False
        return True

    def address(self, database: str) -> Any:
        return parse_address(f"clickhouse://default@127.0.0.1:{self.port}/{database}")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def clickhouse_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Two servers that know each other as the cluster `fleet`."""
    folder = tmp_path_factory.mktemp("clickhouse")
    ports = [free_port(), free_port()]
    servers = [Server(folder / f"shard-{i}", ports, port) for i, port in enumerate(ports)]
    try:
        for server in servers:
            server.start()
        yield servers
    finally:
        for server in servers:
            if server.process is not None:
                server.kill()


_numbers = itertools.count(1)


def _open_one(server: Server) -> Open:
    address = server.address(f"one_{next(_numbers)}")
    return lambda: connect(address, PASSWORD, "")


@pytest.fixture
def clickhouse(clickhouse_servers: list[Server]) -> NewPlace:
    return lambda: _open_one(clickhouse_servers[0])


@pytest.fixture
def clickhouse_two_shards(clickhouse_servers: list[Server]) -> NewPlace:
    """Each opening goes by the other server."""
    turns = itertools.cycle(clickhouse_servers)

    def make() -> Open:
        database = f"two_{next(_numbers)}"
        return lambda: connect(next(turns).address(database), PASSWORD, "fleet")

    return make


def _fits(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_fits, value))
    return not isinstance(value, int) or -(2**63) <= value < 2**64


_ASKING = threading.Lock()
"""A collector asks from several threads."""


class ChdbClient:
    """`ClickHouseClient` over chdb in a process of its own (chdb_process.py)."""

    def __init__(self, process: "subprocess.Popen[str]", database: str) -> None:
        self._process, self._database = process, database

    def _ask(self, sql: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with _ASKING:
            self._process.stdin.write(json.dumps({"database": self._database, "sql": sql}) + "\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise LedgerError(answer["error"])
        return answer

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._ask(sql)["rows"]]

    def columns(self, sql: str) -> list[Sequence[Any]]:
        return list(zip(*self.rows(sql), strict=True))

    def run(self, sql: str) -> None:
        self._ask(sql)

    def insert(self, table: str, columns: Sequence[str], values: Sequence[Sequence[Any]]) -> None:
        named = ", ".join(f"`{column}`" for column in columns)
        if not all(map(_fits, values)):  # as text, a number wraps; the native protocol's driver refuses it
            raise UnstorableShipment(f"{table}: a number is beyond 64 bits")
        rows = "\n".join(json.dumps(row) for row in zip(*values, strict=True))
        self._ask(f"INSERT INTO {table} ({named}) FORMAT JSONCompactEachRow\n{rows}")

    def close(self) -> None: ...


@contextmanager
def _running_chdb(folder: Path) -> "Iterator[subprocess.Popen[str]]":
    call = [
        python_of("chdb", Path(os.environ["TOKENYIELD_CACHE"])),
        Path(__file__).with_name("chdb_process.py"),
        folder,
    ]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def _chdb_places(process: "subprocess.Popen[str]") -> NewPlace:
    def make() -> Open:
        name = f"today_{next(_numbers)}"
        ChdbClient(process, "default").run(f"CREATE DATABASE {name}")
        client = ChdbClient(process, name)
        return lambda: ClickHouseLedger(client, [client], "chdb")

    return make


@pytest.fixture(scope="session")
def chdb_process(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[subprocess.Popen[str]]":
    with _running_chdb(tmp_path_factory.mktemp("chdb")) as process:
        yield process


@pytest.fixture
def chdb(chdb_process: "subprocess.Popen[str]") -> NewPlace:
    return _chdb_places(chdb_process)


@contextmanager
def new_places(engine: str, folder: Path) -> Iterator[NewPlace]:
    """Without pytest: of `clickhouse` or `chdb`, which runs as long as this."""
    if engine == "chdb":
        with _running_chdb(folder / "chdb") as process:
            yield _chdb_places(process)
        return
    server = Server(folder / "server", [port := free_port()], port)
    try:
        server.start()
        yield lambda: _open_one(server)
    finally:
        server.kill()
