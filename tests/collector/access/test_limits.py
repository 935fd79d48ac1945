"""How often, how slowly and how much a client may send, and bytes that are not a request."""

import gzip
import re
import signal
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.access.client import DC1, READER, bearer, call, send
from harness import Stack, get, wait_until
from tokenyield_collector.access.token_file import new_token
from tokenyield_settings.buckets import Buckets


def test_one_node_cannot_take_all_of_the_collector(stack: Stack) -> None:
    statuses = [send(stack, DC1, 1000 + 30 * i, node="gpu-runaway", count=30) for i in range(4)]
    assert statuses[:2] == [200, 200]
    assert statuses[2:] == [429, 429]
    assert send(stack, DC1, 1, node="gpu-other") == 200


def test_many_reports_at_once(stack: Stack) -> None:
    head = f"Host: localhost\r\nAuthorization: Bearer {READER}\r\nConnection: close\r\n\r\n"
    assert stack.collector.process is not None
    stack.collector.process.send_signal(signal.SIGSTOP)  # so that all of them are there when it looks
    try:
        many = [socket.create_connection(("127.0.0.1", stack.port), timeout=20) for _ in range(30)]
        for connection in many:
            connection.sendall(f"GET /v1/report?period=2026-10 HTTP/1.1\r\n{head}".encode())
    finally:
        stack.collector.process.send_signal(signal.SIGCONT)
    answers = []
    for connection in many:
        with connection, connection.makefile("rb") as file:
            answers.append(file.read().decode())
    refused = [answer for answer in answers if answer.startswith("HTTP/1.1 503 ")]
    assert len(refused) >= 10
    assert all("\r\nRetry-After: 10\r\n" in answer for answer in refused)
    assert len([answer for answer in answers if answer.startswith("HTTP/1.1 200 ")]) == 30 - len(refused) >= 8
    assert call(stack.url, "/v1/report?period=2026-10", **bearer(READER))[0] == 200


def test_wrong_credentials_are_checked_ever_more_rarely(stack: Stack) -> None:
    answers = [call(stack.url, "/metrics", **bearer(new_token())) for _ in range(40)]
    assert [status for status, _, _ in answers].count(429) >= 10
    late = next(headers for status, headers, _ in answers if status == 429)
    assert int(late["retry-after"]) >= 1
    assert call(stack.url, "/metrics", **bearer(READER))[0] == 200  # the right one is not kept out
    lines = [line for line in stack.collector.said().splitlines() if "route=/metrics status=429" in line]
    assert len(lines) <= 6  # written a few times, then counted


def test_a_body_that_does_not_come(stack: Stack) -> None:
    with socket.create_connection(("127.0.0.1", int(stack.url.rsplit(":", 1)[1]))) as slow:
        slow.settimeout(20)
        head = f"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {DC1}\r\nContent-Length: 100\r\n\r\n"
        slow.sendall(head.encode() + b"{")
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")


def test_a_request_that_breaks_off_is_counted(tmp_path: Path) -> None:
    running = Stack(tmp_path)
    running.start_collector()
    try:
        with socket.create_connection(("127.0.0.1", running.port)) as broken:
            broken.sendall(b"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
        counted = b'refused_requests_total{reason="broken_off"} 1.0'
        wait_until(lambda: counted in get(f"{running.url}/metrics"), what="it is counted")
        assert running.collector.terminate() == 0
        assert "Traceback" not in running.collector.said()
    finally:
        running.kill_all()


def test_an_answer_that_is_not_read(tmp_path: Path) -> None:
    """The client asks for megabytes and reads nothing: the connection is ended, and what waited for it is let go."""
    running = Stack(tmp_path, collector={"body_wait_s": 1})
    running.start_collector()
    try:
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            slow.settimeout(30)
            slow.connect(("127.0.0.1", int(running.url.rsplit(":", 1)[1])))
            for _ in range(3000):
                try:
                    slow.sendall(b"GET /assets/vendor/uPlot.iife.min.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
                except OSError:
                    break
                time.sleep(0.001)
            else:
                pytest.fail("the collector went on taking requests of a client that reads nothing")
        assert call(running.url, "/healthz")[0] == 200
    finally:
        running.kill_all()


def test_more_connections_than_allowed_are_closed_at_once(stack: Stack) -> None:
    port = int(stack.url.rsplit(":", 1)[1])
    many = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
    try:
        closed = 0
        for connection in many:
            connection.settimeout(0.2)
            try:
                closed += connection.recv(1) == b""
            except ConnectionResetError:
                closed += 1
            except TimeoutError:
                pass
        assert closed >= 20
    finally:
        for connection in many:
            connection.close()
    wait_until(lambda: _answers(stack), what="there is room again")


def test_one_address_does_not_take_all_connections_and_probes_answer(tmp_path: Path) -> None:
    """Many connections that send half a head: of one address up to its bound, of many up to the bound of all; a probe
    from an address that has none is answered meanwhile."""
    running = Stack(tmp_path, collector={"connections_max": 12, "connections_per_address_max": 8})
    running.start_collector()
    held: list[socket.socket] = []

    def hold(address: str) -> None:
        connection = socket.create_connection(("127.0.0.1", running.port), source_address=(address, 0))
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-")
        held.append(connection)

    def refused() -> int:
        counts = re.findall(rb'refused_requests_total{reason="connections"} ([0-9]+)', get(f"{running.url}/metrics"))
        return int(counts[0]) if counts else 0

    try:
        before = refused()
        for _ in range(10):
            hold("127.0.0.2")
        wait_until(lambda: refused() - before == 2, what="two of the slow address are refused")
        for i in range(3, 9):
            hold(f"127.0.0.{i}")
            hold(f"127.0.0.{i}")
        assert call(running.url, "/healthz")[0] == 200  # 127.0.0.1 has no connection open
    finally:
        for connection in held:
            connection.close()
        running.kill_all()


def _answers(stack: Stack) -> bool:
    try:
        return call(stack.url, "/healthz")[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 10_000 + b"\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X%d: 1\r\n" % i for i in range(5000)) + b"\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
    ],
)
def test_bytes_that_are_not_a_request(stack: Stack, request_bytes: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", int(stack.url.rsplit(":", 1)[1]))) as raw:
        raw.settimeout(20)
        raw.sendall(request_bytes)
        answer = raw.recv(65536)
        assert answer.split(b" ")[1] == status
        assert b"aiohttp" not in answer
        assert b"Python" not in answer
    assert "Traceback" not in stack.collector.said()


def test_a_secret_in_a_header_too_long_is_not_logged(stack: Stack) -> None:
    secret = "canary-" + "s" * 9000
    assert call(stack.url, "/metrics", **bearer(secret))[0] == 400
    assert "canary" not in stack.collector.said()


def test_a_bomb_over_the_wire(stack: Stack) -> None:
    bomb = gzip.compress(b"0" * 100_000_000)
    assert len(bomb) < 200_000
    status, _, body = call(stack.url, "/v1/batches", "POST", bomb, **bearer(DC1), Content_Encoding="gzip")
    assert status == 413
    assert b"after decompression" in body


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 20)), max_size=40))
def test_a_bucket_never_gives_more_than_its_rate(steps: list[tuple[float, int]]) -> None:
    buckets, now_s, given_out = Buckets(2.0, 10.0), 0.0, 0.0
    for wait, amount in steps:
        now_s += wait
        wait_s = buckets.wait_s("one", now_s, amount)
        given_out += 0 if wait_s else min(amount, 10)
        assert given_out <= 10 + 2.0 * now_s + 1e-6
        if wait_s:
            assert buckets.wait_s("one", now_s + wait_s + 1e-6, amount) == 0
            given_out, now_s = given_out + min(amount, 10), now_s + wait_s + 1e-6


def test_buckets_forget_the_key_seen_longest_ago() -> None:
    buckets = Buckets(1.0, 1.0, keys_max=3)
    for key in "abcabd":
        buckets.wait_s(key, 0.0)
    assert len(buckets) == 3
    assert buckets.wait_s("d", 0.0) > 0
    assert buckets.wait_s("c", 0.0) == 0
