"""A disk that takes nothing more: the collector says so to probes and agents, loses nothing, and is ready again by itself."""

import os
import resource
import stat
import urllib.error
import urllib.request
from pathlib import Path

import duckdb

from collector.api.test_batches import post, sound
from harness import Stack, get, wait_until
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger


def ready(stack: Stack) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{stack.url}/readyz", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def fill_the_disk(stack: Stack) -> None:
    """No file of the collector can grow: what the kernel answers then is an error of the same kind as a full disk."""
    assert stack.collector.process is not None
    resource.prlimit(stack.collector.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))


def empty_the_disk(stack: Stack) -> None:
    assert stack.collector.process is not None
    no_limit = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(stack.collector.process.pid, resource.RLIMIT_FSIZE, no_limit)


def test_a_full_disk_makes_the_collector_unready_until_there_is_room(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    stack.start_collector()
    try:
        assert post(stack.url, sound(1)).status == 200
        fill_the_disk(stack)
        refused = post(stack.url, sound(2))
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        status, why = ready(stack)
        assert status == 503
        assert str(stack.ledger_path) in why
        assert get(f"{stack.url}/healthz") == b"ok\n"
        empty_the_disk(stack)
        wait_until(lambda: ready(stack) == (200, "ok\n"), what="it is ready without another shipment")
        assert post(stack.url, sound(2)).body["accepted"] == 1
        assert post(stack.url, sound(1)).body["duplicates"] == 1
        assert stack.collector.terminate() == 0
    finally:
        stack.kill_all()


def test_what_is_kept_is_for_nobody_else(tmp_path: Path) -> None:
    before = os.umask(0o077)
    stack = Stack(tmp_path)
    DuckDbLedger(stack.ledger_path).close()
    with duckdb.connect(str(stack.ledger_path)) as ledger:  # more than a connection holds, so that the copy is there
        ledger.execute("CREATE TABLE padding AS SELECT random() AS number FROM range(6_000_000)")
    os.umask(0o022)
    stack.start_collector()
    try:
        assert post(stack.url, sound(1)).status == 200
        with urllib.request.urlopen(f"{stack.url}/v1/backup", timeout=30) as answer:
            kept = [path for path in tmp_path.iterdir() if path.name.startswith("ledger.duckdb")]
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in kept}
            answer.read()
        assert {"ledger.duckdb", "ledger.duckdb.backup"} <= modes.keys()
        assert set(modes.values()) == {0o600}
    finally:
        stack.kill_all()
        os.umask(before)


def test_trying_to_write_changes_nothing(tmp_path: Path) -> None:
    ledger = DuckDbLedger(tmp_path / "ledger.duckdb")
    for _ in range(3):
        ledger.try_writing()
    ledger.close()
    again = DuckDbLedger(tmp_path / "ledger.duckdb")
    assert again.hours() == []
    again.close()
