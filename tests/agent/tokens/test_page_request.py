"""Asking an address for its page: tokens, certificates, queries, and what is said where it is refused."""

from pathlib import Path

import pytest

from certificates import make_certificates
from harness import free_port
from metrics_server import serving
from pages import get_page
from tokenyield_agent.tokens.page_request import EndpointAddress, ScrapeError


def refusal(address: EndpointAddress) -> ScrapeError:
    with pytest.raises(ScrapeError) as error:
        get_page(address, timeout_s=5)
    return error.value


def test_a_query_is_kept_and_a_path_is_added_only_where_there_is_none() -> None:
    with serving(b"x 1\n") as server:
        for url in (f"{server.url}/metrics?model=a", f"{server.url}?model=a", f"{server.url}/?model=a"):
            assert get_page(EndpointAddress(url=url).at("/metrics"), 5) == b"x 1\n"
    assert {path for path, _ in server.asked} == {"/metrics?model=a"}


def test_a_token_is_read_again_for_every_request(tmp_path: Path) -> None:
    token = tmp_path / "token"
    with serving(b"x 1\n") as server:
        address = EndpointAddress(url=f"{server.url}/metrics", token_file=str(token))
        for secret in ("first", "second"):
            token.write_text(f"{secret}\n")
            get_page(address, 5)
    assert [headers["Authorization"] for _, headers in server.asked] == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("content", [None, b"", b"two words", b"line\nline", b"\xff\xfe"])
def test_a_file_without_a_token_is_said_and_never_shown(content: bytes | None, tmp_path: Path) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_bytes(content)
    said = str(refusal(EndpointAddress(url="http://127.0.0.1:1/", token_file=str(token))))
    assert said.startswith("metrics_token_file: ")
    assert str(token) in said
    assert "words" not in said


def test_a_certificate_is_trusted_by_a_ca_file_that_may_change(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    ca = tmp_path / "used.crt"
    with serving(b"x 1\n", certificate=tmp_path / "server.crt") as server:
        address = EndpointAddress(url=f"{server.url}/metrics", ca_file=str(ca))
        assert "metrics_ca_file" in str(refusal(address)), "not there"
        ca.write_text("nothing")
        assert "expected certificates" in str(refusal(address))
        ca.write_bytes((tmp_path / "other-ca.crt").read_bytes())
        assert "is not trusted" in str(refusal(address))
        ca.write_bytes((tmp_path / "ca.crt").read_bytes())
        assert get_page(address, 5) == b"x 1\n"


@pytest.mark.parametrize(
    ("status", "fix"),
    [
        (400, "metrics?model=NAME"),
        (401, "metrics_token_file"),
        (403, "metrics_token_file"),
        (404, "name the path"),
        (501, "--metrics"),
        (302, "redirects are not followed"),
        (503, "answers 503"),
    ],
)
def test_an_answer_that_is_no_page_says_what_to_change(status: int, fix: str) -> None:
    with serving(status=status) as server:
        error = refusal(EndpointAddress(url=f"{server.url}/metrics"))
    assert f"/metrics answers {status}" in str(error)
    assert fix in str(error)
    assert error.reason != "foreign"


def test_a_token_that_is_refused_is_named_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    with serving(status=401) as server:
        said = str(refusal(EndpointAddress(url=f"{server.url}/metrics", token_file=str(tmp_path / "token"))))
    assert "renew it" in said
    assert "s3cret" not in said


def test_a_page_that_ends_early_is_no_page() -> None:
    with serving(b"x 1\n", says_length=1000) as server:
        assert "ends 996 bytes early" in str(refusal(EndpointAddress(url=f"{server.url}/metrics")))


def test_where_nothing_listens_is_told_from_where_nothing_answers() -> None:
    assert refusal(EndpointAddress(url=f"http://127.0.0.1:{free_port()}/metrics")).reason == "refused"


def test_what_may_be_secret_in_a_url_is_not_shown() -> None:
    shown = EndpointAddress(url="https://h/metrics?model=a&api_key=abc&x=1&Token=def").shown
    assert shown == "https://h/metrics?model=a&api_key=...&x=1&Token=..."
