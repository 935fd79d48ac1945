"""Nobody in who does not belong: each attack of docs/access.md against a running collector, and the files' formats."""

import base64
import datetime
import gzip
import http.client
import json
import os
import signal
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certificates import make_certificates
from collector.samples import NOON_MS, batch, shipment
from harness import Stack, get, wait_until
from tokenyield_collector.access.audit import Audit
from tokenyield_collector.access.token_file import new_token, parse_token_file, token_line
from tokenyield_collector.cli import main
from tokenyield_settings.buckets import Buckets
from tokenyield_settings.passwords import Passwords
from tokenyield_settings.web_config import WebConfig, read_web_config
from tokenyield_wire.codec import encode_shipment

READER, DC1, ROTATED = "reader-reader-reader", "dc1-dc1-dc1-dc1-dc1", "dc1-the-next-token"
GPU_7 = "gpu-7-gpu-7-gpu-7-gpu-7"
TOKENS = f"""# who may what
{READER}  name=grafana may=read
{DC1}     name=dc1 may=write cluster=dc1 nodes=gpu-*
{token_line(ROTATED, ["name=dc1-next", "may=write", "cluster=dc1", "nodes=gpu-*"])}
{GPU_7}   name=old may=write until=2026-01-01
cert:*.gpu.example.com  name=certified may=write cluster=dc1 nodes=self
"""


def asked(url: str, path: str, method: str = "GET", body: bytes | None = None, context: ssl.SSLContext | None = None,
          **headers: Any) -> tuple[int, dict[str, str], bytes]:  # fmt: skip
    host, port = url.rpartition("/")[2].rsplit(":", 1)
    connection = (
        http.client.HTTPSConnection(host, int(port), timeout=20, context=context)
        if context
        else http.client.HTTPConnection(host, int(port), timeout=20)
    )
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def bearer(token: str) -> dict[str, Any]:
    return {"Authorization": f"Bearer {token}"}


def basic(user: str, password: str) -> dict[str, Any]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def now_ms() -> int:
    return time.time_ns() // 1_000_000 // 15_000 * 15_000 - 60_000


def sent(
    stack: Stack, token: str, seq: int, cluster: str = "dc1", node: str = "gpu-1", count: int = 1, **more: Any
) -> int:
    batches = [batch(seq + i, now_ms() - i * 15_000) for i in range(count)]
    body = encode_shipment(shipment(*batches, cluster=cluster, node=node, agent_id=node))
    return asked(stack.url, "/v1/batches", "POST", body, **bearer(token), **more)[0]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("access")
    (folder / "tokens").write_text(TOKENS)
    running = Stack(folder, collector={"token_file": str(folder / "tokens"), "agent_batches_per_s": 1, "body_wait_s": 1,
                                       "connections_max": 40})  # fmt: skip
    running.start_collector()
    yield running
    running.kill_all()


# --- tokens: scope, rights, rotation -----------------------------------------------------------------------------


def test_a_token_writes_for_its_cluster_and_nodes_only(stack: Stack) -> None:
    assert sent(stack, DC1, 1) == 200
    assert sent(stack, ROTATED, 2) == 200
    assert sent(stack, DC1, 3, node="cpu-1") == 403
    assert sent(stack, DC1, 3, cluster="dc2") == 403
    assert sent(stack, READER, 3) == 403
    assert sent(stack, GPU_7, 3) == 401
    assert sent(stack, "wrong", 3) == 401


def test_a_token_reads_only_when_it_may(stack: Stack) -> None:
    for path in ("/metrics", "/v1/summary", "/v1/fleet", "/v1/rates"):
        assert asked(stack.url, path, **bearer(READER))[0] == 200
        assert asked(stack.url, path, **bearer(DC1))[0] == 403
        assert asked(stack.url, path)[0] == 401


def test_tokens_are_rotated_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{DC1} name=before\n")
    running = Stack(tmp_path, collector={"token_file": str(file), "refresh_interval_s": 0.1})
    running.start_collector()
    try:
        assert sent(running, DC1, 1) == 200
        file.write_text(f"{DC1} name=before\n{ROTATED} name=after\nshort\n")
        wait_until(lambda: sent(running, ROTATED, 2) == 200, what="the new token holds")
        assert sent(running, DC1, 2) == 200  # both hold while one is being replaced
        assert "tokens:3: a token of 5 characters can be guessed" in running.collector.said()
        file.write_text(f"{ROTATED} name=after\n")
        wait_until(lambda: sent(running, DC1, 3) == 401, what="the old token holds no more")
        file.unlink()
        wait_until(lambda: sent(running, ROTATED, 3) == 401, what="without its file nobody is let in")
        said = running.collector.said()
        assert "audit: event=changed" in said
        assert DC1 not in said
        assert ROTATED not in said
    finally:
        running.kill_all()


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("short", "can be guessed"),
        (f"{DC1} may=delete", "may: wants read, write"),
        (f"{DC1} cluster=dc1", "add may=write"),
        (f"{DC1} may=write nodes=self", "begin with cert:"),
        (f"{DC1} nods=x", "did you mean 'nodes'"),
        (f"{DC1} until=tomorrow", "until: wants the last day"),
        (f"{DC1} {ROTATED}", "key=value"),
        ("sha256:abc name=x", "64 hexadecimal digits"),
        (f"{DC1} name=a\n{DC1} name=b", "the same token"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_and_lets_nobody_in(line: str, fault: str, tmp_path: Path,
                                                                capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    (tmp_path / "tokens").write_text(f"{line}\n")
    assert main(["check", "--set", f"token_file={tmp_path / 'tokens'}"]) == 2
    told = capsys.readouterr().err
    assert f"{tmp_path / 'tokens'}:{1 + line.count(chr(10))}: " in told
    assert fault in told
    assert DC1 not in told
    assert ROTATED not in told


def test_a_token_is_made_and_its_line_lets_it_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "name=dc1", "may=write", "nodes=gpu-*,tpu-*"]) == 0
    lines = capsys.readouterr().out.splitlines()
    token, line = lines[1], lines[-1]
    found = parse_token_file(line, "tokens").grant_of_token(token.encode(), NOON_MS)
    assert found is not None
    assert found.name == "dc1"
    assert found.may_write_for("any", "tpu-1")
    assert not found.may_write_for("any", "cpu-1")
    assert token not in line
    assert main(["token", "may=all"]) == 2


def test_a_line_is_added_to_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tokens"
    assert main(["token", "--add", str(file), "name=first"]) == 0
    assert file.stat().st_mode & 0o777 == 0o640
    file.write_text(file.read_text().rstrip())  # an editor that leaves no line break at the end
    assert main(["token", "--add", str(file), "name=second", "may=read"]) == 0
    tokens = capsys.readouterr().out.split()
    found = parse_token_file(file.read_text(), "tokens")
    grants = [found.grant_of_token(token.encode(), NOON_MS) for token in tokens]
    assert [grant.name for grant in grants if grant] == ["first", "second"]
    assert main(["token", "--add", str(tmp_path), "name=third"]) == 1
    assert "is it a file that you may write?" in capsys.readouterr().err


def test_the_last_day_of_a_token() -> None:
    file = parse_token_file(f"{DC1} until=2026-11-24", "tokens")
    day = int(datetime.datetime(2026, 11, 25, tzinfo=datetime.UTC).timestamp() * 1000)
    assert file.grant_of_token(DC1.encode(), day - 1)
    assert file.grant_of_token(DC1.encode(), day) is None


@given(st.text())
def test_any_text_as_a_token_file_is_read(text: str) -> None:
    file = parse_token_file(text, "tokens")
    assert all(fault.startswith("tokens:") for fault in file.faults)


def test_a_certificate_writes_for_itself_only() -> None:
    file = parse_token_file(TOKENS, "tokens")
    grant = file.grant_of_certificate(["gpu-7.gpu.example.com"], NOON_MS)
    assert grant is not None
    assert grant.may_write_for("dc1", "gpu-7")
    assert grant.may_write_for("dc1", "gpu-7.gpu.example.com")
    assert not grant.may_write_for("dc1", "gpu-8")
    assert not grant.may_write_for("dc2", "gpu-7")
    assert file.grant_of_certificate(["gpu-7.evil.example.com"], NOON_MS) is None
    wild = file.grant_of_certificate(["*.gpu.example.com"], NOON_MS)
    assert wild is not None
    assert not wild.may_write_for("dc1", "gpu-8")


# --- how often, how slowly, how much -----------------------------------------------------------------------------


def test_one_node_cannot_take_all_of_the_collector(stack: Stack) -> None:
    statuses = [sent(stack, DC1, 1000 + 30 * i, node="gpu-runaway", count=30) for i in range(4)]
    assert statuses[:2] == [200, 200]
    assert statuses[2:] == [429, 429]
    assert sent(stack, DC1, 1, node="gpu-other") == 200


def test_many_reports_at_once(stack: Stack) -> None:
    head = f"Host: localhost\r\nAuthorization: Bearer {READER}\r\nConnection: close\r\n\r\n"
    assert stack.collector.process is not None
    stack.collector.process.send_signal(signal.SIGSTOP)  # so that all of them are there when it looks
    try:
        many = [socket.create_connection(("127.0.0.1", stack.port), timeout=20) for _ in range(30)]
        for each in many:
            each.sendall(f"GET /v1/report?period=2026-10 HTTP/1.1\r\n{head}".encode())
    finally:
        stack.collector.process.send_signal(signal.SIGCONT)
    answers = []
    for each in many:
        with each, each.makefile("rb") as file:
            answers.append(file.read().decode())
    refused = [answer for answer in answers if answer.startswith("HTTP/1.1 503 ")]
    assert len(refused) >= 10
    assert all("\r\nRetry-After: 10\r\n" in answer for answer in refused)
    assert len([answer for answer in answers if answer.startswith("HTTP/1.1 200 ")]) == 30 - len(refused) >= 8
    assert asked(stack.url, "/v1/report?period=2026-10", **bearer(READER))[0] == 200


def test_wrong_credentials_are_looked_at_ever_more_rarely(stack: Stack) -> None:
    answers = [asked(stack.url, "/metrics", **bearer(new_token())) for _ in range(40)]
    assert [status for status, _, _ in answers].count(429) >= 10
    late = next(headers for status, headers, _ in answers if status == 429)
    assert int(late["retry-after"]) >= 1
    assert asked(stack.url, "/metrics", **bearer(READER))[0] == 200  # who has the right one is not kept out
    lines = [line for line in stack.collector.said().splitlines() if "route=/metrics status=429" in line]
    assert len(lines) <= 6  # written a few times, then counted


def test_a_body_that_does_not_come(stack: Stack) -> None:
    with socket.create_connection(("127.0.0.1", int(stack.url.rsplit(":", 1)[1]))) as slow:
        slow.settimeout(20)
        head = f"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {DC1}\r\nContent-Length: 100\r\n\r\n"
        slow.sendall(head.encode() + b"{")
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")


def test_a_request_that_breaks_off_is_counted_and_no_trouble(tmp_path: Path) -> None:
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
                pytest.fail("the collector went on taking requests of who reads nothing")
        assert asked(running.url, "/healthz")[0] == 200
    finally:
        running.kill_all()


def test_more_connections_than_allowed_are_closed_at_once(stack: Stack) -> None:
    port = int(stack.url.rsplit(":", 1)[1])
    many = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
    try:
        closed = 0
        for each in many:
            each.settimeout(0.2)
            try:
                closed += each.recv(1) == b""
            except ConnectionResetError:
                closed += 1
            except TimeoutError:
                pass
        assert closed >= 20
    finally:
        for each in many:
            each.close()
    wait_until(lambda: _answers(stack), what="there is room again")


def _answers(stack: Stack) -> bool:
    try:
        return asked(stack.url, "/healthz")[0] == 200
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
    ],
)
def test_requests_that_are_none(stack: Stack, request_bytes: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", int(stack.url.rsplit(":", 1)[1]))) as raw:
        raw.settimeout(20)
        raw.sendall(request_bytes)
        said = raw.recv(65536)
        assert said.split(b" ")[1] == status
        assert b"aiohttp" not in said
        assert b"Python" not in said
    assert "Traceback" not in stack.collector.said()


def test_a_secret_in_a_header_too_long_is_not_logged(stack: Stack) -> None:
    secret = "canary-" + "s" * 9000
    assert asked(stack.url, "/metrics", **bearer(secret))[0] == 400
    assert "canary" not in stack.collector.said()


def test_a_bomb_over_the_wire(stack: Stack) -> None:
    bomb = gzip.compress(b"0" * 100_000_000)
    assert len(bomb) < 200_000
    status, _, body = asked(stack.url, "/v1/batches", "POST", bomb, **bearer(DC1), Content_Encoding="gzip")
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


def test_buckets_forget_whom_they_saw_longest_ago() -> None:
    buckets = Buckets(1.0, 1.0, keys_max=3)
    for key in "abcabd":
        buckets.wait_s(key, 0.0)
    assert len(buckets) == 3
    assert buckets.wait_s("d", 0.0) > 0
    assert buckets.wait_s("c", 0.0) == 0


# --- browsers ----------------------------------------------------------------------------------------------------


def test_every_answer_tells_browsers_to_keep_it_to_themselves(stack: Stack) -> None:
    for path, headers in (("/", {}), ("/metrics", {}), ("/nowhere", bearer(READER)), ("/v1/summary", bearer(READER))):
        _, told, _ = asked(stack.url, path, **headers)
        assert "default-src 'none'" in told["content-security-policy"]
        assert "frame-ancestors 'none'" in told["content-security-policy"]
        assert told["x-content-type-options"] == "nosniff"
        assert told["x-frame-options"] == "DENY"
        assert told["referrer-policy"] == "no-referrer"
        assert told["cross-origin-resource-policy"] == "same-origin"
        assert told["server"] == "tokenyield"
        assert "access-control-allow-origin" not in told


def test_a_page_of_another_site_cannot_write(stack: Stack) -> None:
    assert sent(stack, DC1, 9, Sec_Fetch_Site="cross-site") == 403
    assert sent(stack, DC1, 9, Sec_Fetch_Site="same-site") == 403
    assert sent(stack, DC1, 9, Sec_Fetch_Site="same-origin") == 200


def test_without_authentication_only_localhost_is_answered(tmp_path: Path) -> None:
    running = Stack(tmp_path)
    running.start_collector()
    try:
        assert asked(running.url, "/v1/summary")[0] == 200
        assert asked(running.url, "/v1/summary", Host="localhost:9464")[0] == 200
        assert asked(running.url, "/v1/summary", Host="[::1]:9464")[0] == 200
        for host in (
            "evil.example.com",
            "127.0.0.1.evil.example.com",
            "localhost.evil.example.com",
            "10.0.0.1",
            "[::2]",
        ):
            assert asked(running.url, "/v1/summary", Host=host)[0] == 403
            assert asked(running.url, "/", Host=host)[0] == 403
    finally:
        running.kill_all()


# --- the web config ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


def trusting(folder: Path, client: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    if client:
        context.load_cert_chain(folder / f"{client}.crt", folder / f"{client}.key")
    return context


def https(running: Stack, path: str, context: ssl.SSLContext, **more: Any) -> int:
    return asked(running.url.replace("http:", "https:"), path, context=context, **more)[0]


def serving(folder: Path, web_config: str, certificates: Path, **settings: Any) -> Stack:
    (certificates / f"{folder.name}.yaml").write_text(web_config)
    running = Stack(folder, collector={"web_config_file": str(certificates / f"{folder.name}.yaml"),
                                       "refresh_interval_s": 0.1, **settings})  # fmt: skip
    running.collector.start_without_waiting()
    context = trusting(certificates, "gpu-7")
    port = int(running.url.rsplit(":", 1)[1])

    def listens() -> bool:
        try:
            with (
                socket.create_connection(("127.0.0.1", port)) as raw,
                context.wrap_socket(raw, server_hostname="localhost"),
            ):
                return True
        except OSError:
            return False

    wait_until(listens, what=running.collector.said())
    return running


def test_a_client_certificate_gives_what_its_line_gives(tmp_path: Path, certificates: Path) -> None:
    (tmp_path / "tokens").write_text(TOKENS)
    running = serving(
        tmp_path,
        "tls_server_config: {cert_file: server.crt, key_file: server.key, client_ca_file: ca.crt, "
        "client_auth_type: VerifyClientCertIfGiven}",
        certificates,
        token_file=str(tmp_path / "tokens"),
    )

    def written(node: str, client: str | None, **headers: str) -> int:
        body = encode_shipment(shipment(batch(1, now_ms()), cluster="dc1", node=node, agent_id=node))
        return https(running, "/v1/batches", trusting(certificates, client), method="POST", body=body, **headers)

    try:
        assert written("gpu-7", "gpu-7") == 200
        assert written("gpu-8", "gpu-7") == 403
        assert written("gpu-8", None) == 401
        assert written("gpu-8", None, **bearer(DC1)) == 200
        assert https(running, "/metrics", trusting(certificates, "gpu-7")) == 403
        with pytest.raises((ssl.SSLError, OSError, http.client.HTTPException)):
            written("gpu-7", "stranger")
        with pytest.raises((OSError, http.client.HTTPException)):
            asked(running.url, "/healthz")  # without TLS
        _, told, _ = asked(running.url, "/healthz", context=trusting(certificates))
        assert told["strict-transport-security"].startswith("max-age=")
    finally:
        running.kill_all()


def test_mutual_tls_alone(tmp_path: Path, certificates: Path) -> None:
    running = serving(
        tmp_path,
        "tls_server_config: {cert_file: server.crt, key_file: server.key, client_ca_file: ca.crt, "
        "client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: [gpu-7.gpu.example.com], min_version: TLS13}",
        certificates,
    )
    try:
        assert https(running, "/metrics", trusting(certificates, "gpu-7")) == 200
        for client in (None, "stranger"):
            with pytest.raises((ssl.SSLError, OSError, http.client.HTTPException)):
                https(running, "/metrics", trusting(certificates, client))
        old = trusting(certificates, "gpu-7")
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, OSError)):
            https(running, "/metrics", old)
    finally:
        running.kill_all()


def test_certificates_are_replaced_without_a_gap(tmp_path: Path, certificates: Path) -> None:
    for kind in ("crt", "key"):
        (certificates / f"live.{kind}").write_bytes((certificates / f"server.{kind}").read_bytes())
    running = serving(tmp_path, "tls_server_config: {cert_file: live.crt, key_file: live.key}", certificates)
    context, port = trusting(certificates), int(running.url.rsplit(":", 1)[1])

    def serial() -> str:
        with (
            socket.create_connection(("127.0.0.1", port)) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            return str((tls.getpeercert() or {})["serialNumber"])

    try:
        before = serial()
        for kind in ("crt", "key"):
            os.replace(certificates / f"server2.{kind}", certificates / f"live.{kind}")
        wait_until(lambda: serial() != before, what="the new certificate is shown")
        assert https(running, "/v1/summary", context) == 200
        (certificates / "live.key").write_text("no key")
        wait_until(lambda: "the web config before it stays" in running.collector.said(), what="it is told")
        assert https(running, "/v1/summary", context) == 200
    finally:
        running.kill_all()


def test_passwords_are_for_reading(tmp_path: Path, certificates: Path) -> None:
    hashed = bcrypt.hashpw(b"right horse", bcrypt.gensalt(4)).decode()
    (certificates / "auth.yaml").write_text(
        f"basic_auth_users: {{alice: '{hashed}'}}\nhttp_server_config: {{headers: {{X-Frame-Options: SAMEORIGIN}}}}\n"
    )
    (tmp_path / "tokens").write_text(TOKENS)
    running = Stack(tmp_path, collector={"token_file": str(tmp_path / "tokens"),
                                         "web_config_file": str(certificates / "auth.yaml")})  # fmt: skip
    running.start_collector()
    try:
        for path in ("/", "/metrics", "/v1/summary"):
            status, told, _ = asked(running.url, path)
            assert status == 401
            assert "Basic" in told["www-authenticate"]
            assert told["x-frame-options"] == "SAMEORIGIN"
            assert asked(running.url, path, **basic("alice", "right horse"))[0] == 200
            assert asked(running.url, path, **basic("alice", "wrong horse"))[0] == 401
            assert asked(running.url, path, **basic("bob", "right horse"))[0] == 401
        assert asked(running.url, "/v1/batches", "POST", b"{}", **basic("alice", "right horse"))[0] == 403
        assert asked(running.url, "/metrics", **bearer(READER))[0] == 200
        assert asked(running.url, "/healthz")[0] == 200
        assert "horse" not in running.collector.said()
    finally:
        running.kill_all()


def test_a_password_that_fitted_is_known_and_another_is_not() -> None:
    passwords = Passwords({"alice": bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()})
    right, wrong = basic("alice", "right")["Authorization"], basic("alice", "wrong")["Authorization"]
    assert passwords.remembered(right) is None
    assert passwords.check(right) == "alice"
    assert passwords.remembered(right) == "alice"
    assert passwords.check(wrong) is None
    assert passwords.remembered(wrong) is None
    assert passwords.check(basic("", "")["Authorization"]) is None
    assert passwords.check("Basic not base64") is None
    assert passwords.check(basic("alice", "r" * 200)["Authorization"]) is None


def test_the_example_of_prometheus_itself(certificates: Path) -> None:
    """https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-config.yml, with files that exist here."""
    (certificates / "prometheus.yml").write_text(
        "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\nbasic_auth_users:\n"
        "  alice: $2y$10$mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze\nrate_limit:\n  interval: '1s'\n  burst: 20\n"
    )
    config = read_web_config(str(certificates / "prometheus.yml"))
    assert config.server_context() is not None
    assert config.rate_limit.interval_s == 1
    assert list(config.basic_auth_users) == ["alice"]


def test_pem_within_the_file(certificates: Path) -> None:
    def indented(name: str) -> str:
        return (certificates / name).read_text().replace("\n", "\n    ")

    (certificates / "inline.yaml").write_text(
        f"tls_server_config:\n  cert: |\n    {indented('gpu-7.crt')}\n  key: |\n    {indented('gpu-7.key')}\n"
        f"  client_ca: |\n    {indented('ca.crt')}\n  client_auth_type: RequireAndVerifyClientCert\n"
    )
    assert read_web_config(str(certificates / "inline.yaml")).server_context() is not None


def test_an_empty_web_config_asks_nothing(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text("")
    assert read_web_config(str(tmp_path / "web.yaml")).server_context() is None
    assert read_web_config(None) == WebConfig()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("tls_server_config: {cert_file: a.crt}", "key_file: expected a file, found none"),
        ("tls_server_config: {cert_file: none.crt, key_file: none.key}", "No such file"),
        ("tls_server_config: {cert_file: server.crt, key_file: gpu-7.key}", "check the PEM files"),
        ("tls_server_config: {cert_file: server.crt, key_file: server.key, client_auth_type: RequireAnyClientCert}",
         "use RequireAndVerifyClientCert"),
        ("tls_server_config: {cert_file: server.crt, key_file: server.key, client_auth_type: Maybe}", "Invalid enum"),
        ("tls_server_config: {cert_file: server.crt, key_file: server.key, cipher_suites: [NONE]}", "expected Go's names"),
        ("tls_server_config: {cert_file: server.crt, key_file: server.key, min_version: TLS13, max_version: TLS12}",
         "expected at most max_version TLS12, found TLS13"),
        ("tls_server_config: {cert_file: server.crt, key_file: server.key, client_ca_file: ca.crt}", "has no effect"),
        ("basic_auth_users: {alice: hunter2-hunter2}", "expected a bcrypt hash"),
        ("http_server_config: {headers: {X-Other: a}}", "found 'X-Other'"),
        ("rate_limit: {interval: soon, burst: 1}", "expected a duration, found 'soon'"),
        ("rate_limit: {interval: 1s}", "burst: expected 1 or more, found 0"),
        ("tls: {}", "unknown field"),
        ("[", "expected valid YAML"),
    ],
)  # fmt: skip
def test_a_web_config_that_cannot_be_used(text: str, fault: str, certificates: Path,
                                          capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    (certificates / "bad.yaml").write_text(text)
    assert main(["check", "--set", f"web_config_file={certificates / 'bad.yaml'}"]) == 2
    told = capsys.readouterr().err
    assert f"{certificates / 'bad.yaml'}" in told
    assert fault in told
    assert "hunter2" not in told


def test_passwords_alone_would_let_no_agent_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hashed = bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yaml").write_text(f"basic_auth_users: {{alice: '{hashed}'}}\n")
    assert main(["check", "--set", f"web_config_file={tmp_path / 'web.yaml'}"]) == 2
    assert "name a token_file" in capsys.readouterr().err


# --- what is written down ----------------------------------------------------------------------------------------


def test_nobody_writes_lines_of_their_own_into_the_audit_log(caplog: pytest.LogCaptureFixture) -> None:
    audit = Audit()
    with caplog.at_level("INFO", "audit"):
        audit.refused(peer="::1", caller="a\nevent=changed", method="GET", route="/x\r\n\x1b[31m", status=401,
                      why='a "b" = c', now_s=0.0)  # fmt: skip
    (line,) = [record.getMessage() for record in caplog.records]
    assert "\n" not in line
    assert "\x1b" not in line
    assert 'caller="a?event=changed"' in line
    assert 'why="a ?b? = c"' in line


def test_reports_that_were_taken_out_are_written_down(stack: Stack) -> None:
    asked(stack.url, "/v1/report?period=2026-10&team=somebody", **bearer(READER))
    line = next(line for line in stack.collector.said().splitlines() if "event=read" in line)
    assert "caller=grafana" in line
    assert "period=2026-10" in line
    assert "somebody" not in line


def test_json_has_the_facts_apart(tmp_path: Path) -> None:
    running = Stack(tmp_path, collector={"log_format": "json"})
    running.start_collector()
    try:
        asked(running.url, "/nowhere")
        told = [json.loads(line) for line in running.collector.said().splitlines() if line.startswith("{")]
        facts = next(line for line in told if line["logger"] == "audit")
        assert facts["event"] == "refused"
        assert facts["status"] == "404"
    finally:
        running.kill_all()
