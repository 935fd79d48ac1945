"""What a browser must not be made to do, and the headers that forbid it."""

from pathlib import Path
from typing import Any

from collector.access.client import DC1, READER, bearer, call, send
from harness import Stack


def test_every_answer_has_the_security_headers(stack: Stack) -> None:
    for path, headers in (("/", {}), ("/metrics", {}), ("/nowhere", bearer(READER)), ("/v1/summary", bearer(READER))):
        _, answered, _ = call(stack.url, path, **headers)
        assert "default-src 'none'" in answered["content-security-policy"]
        assert "frame-ancestors 'none'" in answered["content-security-policy"]
        assert answered["x-content-type-options"] == "nosniff"
        assert answered["x-frame-options"] == "DENY"
        assert answered["referrer-policy"] == "no-referrer"
        assert answered["cross-origin-resource-policy"] == "same-origin"
        assert answered["server"] == "tokenyield"
        assert "access-control-allow-origin" not in answered


def test_a_page_of_another_site_cannot_write(stack: Stack) -> None:
    assert send(stack, DC1, 9, Sec_Fetch_Site="cross-site") == 403
    assert send(stack, DC1, 9, Sec_Fetch_Site="same-site") == 403
    assert send(stack, DC1, 9, Sec_Fetch_Site="same-origin") == 200
    assert send(stack, DC1, 9, Origin="https://evil.example.com") == 403  # a browser of before 2023
    assert send(stack, DC1, 9, Origin="null") == 403
    assert send(stack, DC1, 9, Origin=stack.url, Host=stack.url.removeprefix("http://")) == 200


def test_a_page_of_another_site_cannot_have_a_backup_made(stack: Stack) -> None:
    others: list[dict[str, Any]] = [{"Sec_Fetch_Site": "cross-site"}, {"Origin": "https://evil.example.com"}]
    for headers in others:
        assert call(stack.url, "/v1/backup", **bearer(READER), **headers)[0] == 403
    assert call(stack.url, "/v1/backup", **bearer(READER), Sec_Fetch_Site="same-origin")[0] == 200


def test_without_authentication_only_localhost_is_answered(tmp_path: Path) -> None:
    running = Stack(tmp_path)
    running.start_collector()
    try:
        assert call(running.url, "/v1/summary")[0] == 200
        assert call(running.url, "/v1/summary", Host="localhost:9464")[0] == 200
        assert call(running.url, "/v1/summary", Host="[::1]:9464")[0] == 200
        for host in (
            "evil.example.com",
            "127.0.0.1.evil.example.com",
            "localhost.evil.example.com",
            "10.0.0.1",
            "[::2]",
        ):
            assert call(running.url, "/v1/summary", Host=host)[0] == 403
            assert call(running.url, "/", Host=host)[0] == 403
    finally:
        running.kill_all()
