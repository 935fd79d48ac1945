"""The agent's own /metrics and health: who may read them, over which TLS, and that nobody takes all connections."""

import base64
import http.client
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bcrypt
import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_of_text

from certificates import make_certificates
from tokenyield_agent.config import Settings
from tokenyield_agent.errors import SetUpError
from tokenyield_agent.status import server as status_server
from tokenyield_agent.status.server import CONNECTIONS_MAX, StatusServer
from tokenyield_agent.status.snapshot import Status

PASSWORD = "prometheus-password"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
TLS = "tls_server_config: {cert_file: server.crt, key_file: server.key"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("status")
    make_certificates(made)
    return made


@contextmanager
def serving(folder: Path, web_config: str | None = None, status: Callable[[], Status] | None = None,
            **settings: Any) -> Iterator[StatusServer]:  # fmt: skip
    if web_config is not None:
        (folder / "web.yaml").write_text(web_config)
        settings["web_config_file"] = str(folder / "web.yaml")
    server = StatusServer(
        Settings(**{"status_listen": "127.0.0.1:0", **settings}), status or (lambda: Status(version="1", polls=1))
    )
    server.start()
    try:
        yield server
    finally:
        server.stop()


def asked(server: StatusServer, path: str, context: ssl.SSLContext | None = None, user: str | None = None,
          password: str = PASSWORD) -> tuple[int, dict[str, str], bytes]:  # fmt: skip
    connection = (
        http.client.HTTPSConnection("localhost", server.port, timeout=20, context=context)
        if context
        else http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    )
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    try:
        connection.request("GET", path, headers={"Authorization": f"Basic {pair}"} if user else {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def trusting(folder: Path, client: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    if client:
        context.load_cert_chain(folder / f"{client}.crt", folder / f"{client}.key")
    return context


def test_health_and_metrics_on_loopback(folder: Path) -> None:
    present = Status(version="1", polls=1)
    with serving(folder, status=lambda: present) as server:
        assert asked(server, "/healthz")[::2] == (200, b"ok\n")
        assert b"tokenyield_agent_polls_total 1.0" in asked(server, "/metrics")[2]
        assert asked(server, "/../etc/passwd")[0] == 404
        assert asked(server, "/metrics")[1]["X-Content-Type-Options"] == "nosniff"
        present = Status(version="1", polls=1, last_poll_age_s=60, ship_problem="the collector refuses")
        assert asked(server, "/healthz")[::2] == (
            503,
            b"the last poll was 60 s ago\nbatches are kept in the spool: the collector refuses\n",
        )
        assert asked(server, "/readyz")[::2] == (503, b"the collector refuses\n")


def test_passwords_and_tls_of_a_web_config(folder: Path) -> None:
    web = f"{TLS}}}\nbasic_auth_users: {{prometheus: {HASH}}}\nhttp_server_config: {{headers: {{X-Frame-Options: deny}}}}\n"
    with serving(folder, web) as server:
        trusts = trusting(folder)
        status, headers, body = asked(server, "/metrics", trusts)
        assert (status, headers["WWW-Authenticate"]) == (401, 'Basic realm="tokenyield"')
        assert b"tokenyield_" not in body
        status, headers, body = asked(server, "/metrics", trusts, "prometheus")
        assert (status, headers["X-Frame-Options"]) == (200, "deny")
        assert b"tokenyield_agent_polls_total" in body
        assert asked(server, "/metrics", trusts, "prometheus", "wrong")[0] == 401
        assert asked(server, "/healthz", trusts)[0] == 200  # the kubelet has no password
        with pytest.raises((OSError, http.client.HTTPException)):
            asked(server, "/metrics")  # without TLS


def test_guessing_passwords_is_slow_and_keeps_nobody_out_who_was_in(folder: Path) -> None:
    with serving(folder, f"basic_auth_users: {{prometheus: {HASH}}}\n") as server:
        assert asked(server, "/metrics", user="prometheus")[0] == 200
        answers = [asked(server, "/metrics", user="prometheus", password=f"guess {i}") for i in range(30)]
        assert [status for status, _, _ in answers].count(429) >= 15
        assert all(int(headers["Retry-After"]) >= 1 for status, headers, _ in answers if status == 429)
        assert asked(server, "/metrics", user="prometheus")[0] == 200


def test_client_certificates(folder: Path) -> None:
    web = f"{TLS}, client_ca_file: ca.crt, client_auth_type: RequireAndVerifyClientCert%s}}\n"
    with serving(folder, web % "") as server:
        assert asked(server, "/metrics", trusting(folder, "gpu-7"))[0] == 200
        for client in (None, "stranger"):
            with pytest.raises((OSError, http.client.HTTPException)):
                asked(server, "/metrics", trusting(folder, client))
    with serving(folder, web % ", client_allowed_sans: [prometheus.example.com]") as server:
        assert asked(server, "/metrics", trusting(folder, "gpu-7"))[0] == 403
    with serving(folder, web % ", client_allowed_sans: [gpu-7.gpu.example.com]") as server:
        assert asked(server, "/metrics", trusting(folder, "gpu-7"))[0] == 200


def test_a_rate_limit(folder: Path) -> None:
    with serving(folder, "rate_limit: {interval: 1h, burst: 2}\n") as server:
        assert [asked(server, "/metrics")[0] for _ in range(3)] == [200, 200, 429]
        assert asked(server, "/healthz")[0] == 200


def test_a_web_config_is_taken_up_when_it_changes(folder: Path) -> None:
    with serving(folder, "{}\n") as server:
        assert asked(server, "/metrics")[0] == 200
        (folder / "web.yaml").write_text(f"basic_auth_users: {{prometheus: {HASH}}}\n")
        assert asked(server, "/metrics")[0] == 401
        (folder / "web.yaml").write_text("basic_auth_users: {prometheus: no-hash}\n")
        assert asked(server, "/metrics")[0] == 401  # the one before it stays


def test_listening_to_other_hosts_needs_authentication(folder: Path) -> None:
    with (
        pytest.raises(SetUpError, match="web_config_file: expected basic_auth_users"),
        serving(folder, "{}\n", status_listen="0.0.0.0:0"),
    ):
        pass
    with serving(folder, "{}\n", status_listen="0.0.0.0:0", insecure=True) as server:
        assert asked(server, "/metrics")[0] == 200


def test_who_holds_all_connections_makes_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_server, "REQUEST_TIMEOUT_S", 60.0)
    monkeypatch.setattr(status_server, "SLOW_S", 0.2)
    with serving(folder) as server:
        silent = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(CONNECTIONS_MAX)]
        try:
            assert _closed_at_once(server)
            deadline_s = time.monotonic() + 20
            while time.monotonic() < deadline_s:
                if not _closed_at_once(server):
                    break
            else:
                pytest.fail("those that say nothing are never hung up")
        finally:
            for each in silent:
                each.close()


def _closed_at_once(server: StatusServer) -> bool:
    try:
        return asked(server, "/healthz")[0] != 200
    except (OSError, http.client.HTTPException):
        return True


def _answer_to(server: StatusServer, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        sock.sendall(sent)
        return b"".join(iter(lambda: sock.recv(1 << 16), b""))


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET /healthz?verbose HTTP/1.0\n\n", 200),
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /healthz\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n", 400),  # TLS to a server without
        (b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nX : y\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
    ],
)
def test_requests_that_are_not_ours_are_refused(folder: Path, sent: bytes, status: int) -> None:
    with serving(folder) as server:
        assert int(_answer_to(server, sent).split()[1]) == status
        assert asked(server, "/healthz")[0] == 200


def test_head_has_no_body_and_the_format_is_the_one_asked_for(folder: Path) -> None:
    with serving(folder) as server:
        head, _, body = _answer_to(server, b"HEAD /metrics HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")
        assert body == b""
        assert b"Content-Type: text/plain; version=0.0.4" in head
        asks = b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n\r\n"
        head, _, body = _answer_to(server, asks).partition(b"\r\n\r\n")
        assert b"Content-Type: application/openmetrics-text; version=1.0.0" in head
        families = {family.name: family for family in openmetrics_of_text(body.decode())}  # type: ignore[no-untyped-call]
        assert families["tokenyield_agent_polls"].type == "counter"
        assert families["process_resident_memory_bytes"].samples[0].value > 1e6
        assert families["process_open_fds"].samples[0].value > 3
        assert abs(families["process_start_time_seconds"].samples[0].value - psutil.Process().create_time()) < 2
