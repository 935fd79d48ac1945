"""TLS, client certificates and passwords: the web config file of Prometheus, as the collector takes it."""

import contextlib
import http.client
import os
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from collector.access.client import DC1, READER, TOKENS, basic, bearer, call, now_ms
from collector.samples import batch, shipment
from harness import Stack, wait_until
from tokenyield_collector.cli import main
from tokenyield_settings.passwords import Passwords
from tokenyield_settings.web_config import WebConfig, read_web_config
from tokenyield_wire.codec import encode_shipment


def trusting(folder: Path, client: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    if client:
        context.load_cert_chain(folder / f"{client}.crt", folder / f"{client}.key")
    return context


def https(running: Stack, path: str, context: ssl.SSLContext, **more: Any) -> int:
    return call(running.url.replace("http:", "https:"), path, context=context, **more)[0]


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
            call(running.url, "/healthz")  # without TLS
        _, headers, _ = call(running.url, "/healthz", context=trusting(certificates))
        assert headers["strict-transport-security"].startswith("max-age=")
    finally:
        running.kill_all()


def test_the_certificate_of_the_example_is_accepted(tmp_path: Path) -> None:
    """The command of docs/access.md makes one for that name, which who has it as its CA accepts."""
    text = (Path(__file__).parents[3] / "docs" / "access.md").read_text()
    command = text[text.index("openssl req") :].partition("```")[0]
    subprocess.run(["sh", "-ec", command], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "web.yaml").write_text("tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n")
    serving = read_web_config(str(tmp_path / "web.yaml")).server_context()
    assert serving is not None
    client = ssl.create_default_context(cafile=str(tmp_path / "tls.crt"))
    near, far = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(near, far, server_hostname="collector.example.com")
    answering = serving.wrap_bio(far, near, server_side=True)
    for _ in range(2):
        for side in (asking, answering):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    assert asking.getpeercert()["subjectAltName"] == (("DNS", "collector.example.com"),)  # type: ignore[index]


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
        wait_until(lambda: "audit: event=changed what=credentials" in running.collector.said(), what="it is audited")
        (certificates / "live.key").write_text("no key")
        wait_until(lambda: "the web config before it stays" in running.collector.said(), what="it is logged")
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
            status, headers, _ = call(running.url, path)
            assert status == 401
            assert "Basic" in headers["www-authenticate"]
            assert headers["x-frame-options"] == "SAMEORIGIN"
            assert call(running.url, path, **basic("alice", "right horse"))[0] == 200
            assert call(running.url, path, **basic("alice", "wrong horse"))[0] == 401
            assert call(running.url, path, **basic("bob", "right horse"))[0] == 401
        assert call(running.url, "/v1/batches", "POST", b"{}", **basic("alice", "right horse"))[0] == 403
        assert call(running.url, "/metrics", **bearer(READER))[0] == 200
        assert call(running.url, "/healthz")[0] == 200
        assert "horse" not in running.collector.said()
    finally:
        running.kill_all()


def test_a_password_that_fits_is_remembered_and_another_is_not() -> None:
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


def test_an_empty_web_config_requires_nothing(tmp_path: Path) -> None:
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
    errors = capsys.readouterr().err
    assert f"{certificates / 'bad.yaml'}" in errors
    assert fault in errors
    assert "hunter2" not in errors


def test_check_names_what_cannot_be_set(certificates: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        "tls_server_config: {cert_file: server.crt, key_file: server.key, curve_preferences: [CurveP256, CurveP384]}\n"
    )
    (certificates / "curves.yaml").write_text(text)
    ledger = f"ledger_path={certificates / 'ledger.duckdb'}"
    main(["check", "--set", ledger, "--set", f"web_config_file={certificates / 'curves.yaml'}"])
    shown = capsys.readouterr()
    assert "curve_preferences: OpenSSL's own are used" in " ".join((shown.out + shown.err).split())


def test_passwords_alone_are_refused_because_no_agent_could_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hashed = bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yaml").write_text(f"basic_auth_users: {{alice: '{hashed}'}}\n")
    assert main(["check", "--set", f"web_config_file={tmp_path / 'web.yaml'}"]) == 2
    assert "name a token_file" in capsys.readouterr().err
