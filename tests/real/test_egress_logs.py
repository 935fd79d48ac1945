"""Logs that a real dnsmasq and a real Squid write are read as docs/spend.md says."""

import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from harness import free_port, wait_until
from tokenyield_collector.ingest.spend_import import SpendImport, read_spend_files
from tokenyield_collector.spend.people import people_filter

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
HOST = "api.openai.com"
ANSWER = b"answer" * 1000
PATHS = ":/usr/sbin:/sbin"


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that the user of a server may write into."""
    made = Path(tempfile.mkdtemp(prefix="egress-"))
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    program = shutil.which(command[0], path=os.environ["PATH"] + PATHS)
    assert program, f"{command[0]} is missing; make test-real installs it"
    with subprocess.Popen([program, *command[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(120)


def imported(log: Path) -> SpendImport:
    now_ms = time.time_ns() // 10**6
    return read_spend_files("egress", [log], now_ms=now_ms, people=people_filter("name", {}))


def counts(read: SpendImport) -> dict[tuple[str, str], int]:
    assert not read.refused, read.refusals
    return {(line.fields.service, line.fields.person): line.amounts.requests or 0
            for one in read.slices for line in one.lines if line.fields.product == HOST}  # fmt: skip


def is_asked(port: int) -> bool:
    """A question for the address of `HOST`, by UDP."""
    name = b"".join(bytes([len(part)]) + part for part in HOST.encode().split(b".")) + b"\0"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        client.connect(("127.0.0.1", port))
        try:
            client.send(struct.pack(">6H", 4711, 0x0100, 1, 0, 0, 0) + name + struct.pack(">2H", 1, 1))
            return bool(client.recv(512))
        except OSError:
            return False


@pytest.mark.parametrize("queries", ["--log-queries", "--log-queries=extra"])
def test_queries_of_dnsmasq(folder: Path, queries: str) -> None:
    port, log = free_port(), folder / "dnsmasq.log"
    with running("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", f"--port={port}", "--bind-interfaces",
                 "--listen-address=127.0.0.1", "--no-resolv", "--no-hosts", f"--address=/{HOST}/127.0.0.2", queries,
                 f"--log-facility={log}", "--pid-file=", "--user=root"):  # fmt: skip
        wait_until(lambda: is_asked(port))
    asked = log.read_text().count(f"query[A] {HOST} from 127.0.0.1")
    assert asked >= 1
    assert counts(imported(log)) == {("lookups", "127.0.0.1"): asked}


def answering(listener: socket.socket) -> None:
    """Each connection gets `ANSWER`, until the listener is closed."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.sendall(ANSWER)


def connected(port: int, target: int) -> bytes:
    """All that a tunnel through the proxy gives."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as client:
        client.sendall(
            f"CONNECT {HOST}:{target} HTTP/1.1\r\nHost: {HOST}:{target}\r\nConnection: close\r\n\r\n".encode()
        )
        got = b""
        while part := client.recv(65536):
            got += part
        return got


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_tunnels_of_squid_and_what_it_denies(folder: Path) -> None:
    port, log, hosts = free_port(), folder / "access.log", folder / "hosts"
    hosts.write_text(f"127.0.0.1 {HOST}\n")
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        target = listener.getsockname()[1]
        threading.Thread(target=answering, args=(listener,), daemon=True).start()
        (folder / "squid.conf").write_text(
            f"http_port 127.0.0.1:{port}\nhosts_file {hosts}\npid_filename none\ncache deny all\nshutdown_lifetime 0\n"
            f"acl open port {target}\nhttp_access allow open\nhttp_access deny all\n"
            f"access_log stdio:{log} squid\ncache_log {folder}/cache.log\ncoredump_dir {folder}\n"
            "netdb_filename none\npinger_enable off\n"
        )
        with running("squid", "-N", "-f", str(folder / "squid.conf")):
            wait_until(lambda: is_open(port))
            assert connected(port, target).endswith(ANSWER)
            assert b" 403 " in connected(port, 9)
    found = counts(imported(log))
    assert (found["connections", "127.0.0.1"], found["attempts", "127.0.0.1"]) == (1, 1)
    assert found["bytes received", "127.0.0.1"] >= len(ANSWER)
