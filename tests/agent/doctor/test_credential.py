"""What doctor finds of the token that this node sends."""

import ssl
from pathlib import Path
from typing import Any

import pytest

from certificates import make_certificates
from tokenyield_agent.config import Settings
from tokenyield_agent.doctor.credential import findings_of_credential
from tokenyield_agent.doctor.host import findings_of_collector
from tokenyield_agent.shipping.enrolment import NS_PER_S, EnrolledToken, store

NOW_S, DAY_S = 1_000_000, 86_400


def found(folder: Path, **more: Any) -> list[tuple[str, str]]:
    given = {"collector_url": "https://c:9464", "state_dir": str(folder), "cluster": "dc1", "node": "gpu-1", **more}
    return [(one.level, one.text) for one in findings_of_credential(Settings(**given), NOW_S * NS_PER_S)]


def secret_in(folder: Path, mode: int = 0o600, text: str = "tyb_secret") -> str:
    path = folder / "secret"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("node", "expires_in_s", "level", "text"),
    [
        ("gpu-1", 10 * DAY_S, "ok", "enrolled as cluster dc1, node gpu-1, valid for 10 days"),
        ("gpu-1", 3600, "ok", "valid for 60 minutes"),
        ("gpu-1", 0, "fault", "has ended: enrol this node: tokenyield-agent enrol"),
        ("gpu-9", DAY_S, "fault", "it is of cluster dc1, node gpu-9, and this is cluster dc1, node gpu-1: enrol"),
    ],
)
def test_a_token_of_this_node(node: str, expires_in_s: int, level: str, text: str, tmp_path: Path) -> None:
    store(tmp_path, EnrolledToken("tyn_x", "dc1", node, NOW_S, expires_in_s))
    ((found_level, found_text),) = found(tmp_path)
    assert found_level == level
    assert text in found_text
    assert "tyn_x" not in found_text


def test_a_node_that_enrols_by_itself_needs_nobody(tmp_path: Path) -> None:
    levels = [level for level, _ in found(tmp_path, enrol_token_file=secret_in(tmp_path))]
    assert levels == ["ok", "ok"]
    store(tmp_path, EnrolledToken("tyn_x", "dc1", "gpu-1", NOW_S, 0))
    assert ("note", "that of cluster dc1, node gpu-1 has ended: it enrols again") in found(
        tmp_path, enrol_token_file=secret_in(tmp_path)
    )


@pytest.mark.parametrize("setting", ["collector_token_file", "enrol_token_file"])
def test_a_file_that_tenants_can_read_or_nobody_can_use_is_a_fault(setting: str, tmp_path: Path) -> None:
    open_to_all = found(tmp_path, **{setting: secret_in(tmp_path, 0o644)})
    assert open_to_all[0][0] == "fault"
    assert "chmod o=" in open_to_all[0][1]
    assert found(tmp_path, **{setting: secret_in(tmp_path, text="two words")})[0][0] == "fault"
    assert found(tmp_path, **{setting: str(tmp_path / "none")})[0][0] == "fault"


def test_what_crosses_the_network_unencrypted_is_noted(tmp_path: Path) -> None:
    url = "http://collector.example.com:9464"
    assert "enrol this node" in found(tmp_path, collector_url=url)[0][1]
    store(tmp_path, EnrolledToken("tyn_x", "dc1", "gpu-1", NOW_S, DAY_S * 9))
    assert [level for level, text in found(tmp_path, collector_url=url) if "unencrypted" in text] == ["note"]
    assert not [text for _, text in found(tmp_path, collector_url="http://127.0.0.1:9464") if "unencrypted" in text]
    assert found(tmp_path / "other", collector_url="http://localhost:9464") == []


def test_the_collector_is_asked_with_the_ca_of_the_settings(tmp_path: Path) -> None:
    """An agent that trusts a CA of its own reached its collector, and doctor said that it does not answer."""
    import http.server
    import threading

    make_certificates(tmp_path)

    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ready)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"https://127.0.0.1:{server.server_address[1]}"
        (trusted,) = findings_of_collector(Settings(collector_url=url, collector_ca_file=str(tmp_path / "ca.crt")))
        assert trusted.level == "ok", trusted.text
        (other,) = findings_of_collector(Settings(collector_url=url, collector_ca_file=str(tmp_path / "other-ca.crt")))
        assert other.level == "fault"
        (none,) = findings_of_collector(Settings(collector_url=url, collector_ca_file=str(tmp_path / "none")))
        assert "collector_ca_file" in none.text
    finally:
        server.shutdown()
        server.server_close()
