"""Tokens: what a token may do, for which nodes, how it is made and replaced; and the format of the token file."""

import datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.access.client import DC1, GPU_7, READER, ROTATED, TOKENS, bearer, call, now_ms, send
from collector.samples import NOON_MS, batch, shipment
from harness import Stack, wait_until
from tokenyield_collector.access.token_file import parse_token_file
from tokenyield_collector.cli import main
from tokenyield_wire.codec import encode_shipment


def test_a_token_writes_for_its_cluster_and_nodes_only(stack: Stack) -> None:
    assert send(stack, DC1, 1) == 200
    assert send(stack, ROTATED, 2) == 200
    assert send(stack, DC1, 3, node="cpu-1") == 403
    assert send(stack, DC1, 3, cluster="dc2") == 403
    assert send(stack, READER, 3) == 403
    assert send(stack, GPU_7, 3) == 401
    assert send(stack, "wrong", 3) == 401


def test_only_a_gateway_s_token_reports_callers(tmp_path: Path) -> None:
    """Who asked moves cost between teams: a node's token does not say so, and nothing of its shipment is lost by it."""
    file = tmp_path / "tokens"
    file.write_text(f"{DC1} name=node may=write\n{ROTATED} name=proxy may=write,gateway nodes=gpu-*\n")
    running = Stack(tmp_path, collector={"token_file": str(file)})
    running.start_collector()
    try:
        asked = encode_shipment(shipment(batch(1, now_ms()), node="gpu-1"))
        plain = encode_shipment(shipment(msgspec.structs.replace(batch(1, now_ms()), demand=()), node="gpu-1"))
        status, _, body = call(running.url, "/v1/batches", "POST", asked, **bearer(DC1))
        assert status == 403
        assert b"may=write,gateway" in body
        assert call(running.url, "/v1/batches", "POST", plain, **bearer(DC1))[0] == 200
        assert call(running.url, "/v1/batches", "POST", asked, **bearer(ROTATED))[0] == 200
    finally:
        running.kill_all()


def test_a_token_reads_only_when_it_may(stack: Stack) -> None:
    for path in ("/metrics", "/v1/summary", "/v1/fleet", "/v1/rates"):
        assert call(stack.url, path, **bearer(READER))[0] == 200
        assert call(stack.url, path, **bearer(DC1))[0] == 403
        assert call(stack.url, path)[0] == 401


def test_tokens_are_rotated_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{DC1} name=before\n")
    running = Stack(tmp_path, collector={"token_file": str(file), "refresh_interval_s": 0.1})
    running.start_collector()
    try:
        assert send(running, DC1, 1) == 200
        file.write_text(f"{DC1} name=before\n{ROTATED} name=after\nshort\n")
        wait_until(lambda: send(running, ROTATED, 2) == 200, what="the new token is valid")
        assert send(running, DC1, 2) == 200  # both are valid while one is being replaced
        assert "tokens:3: a token of 5 characters can be guessed" in running.collector.said()
        file.write_text(f"{ROTATED} name=after\n")
        wait_until(lambda: send(running, DC1, 3) == 401, what="the old token is not valid any more")
        file.unlink()
        wait_until(lambda: send(running, ROTATED, 3) == 401, what="without its file no token is valid")
        log = running.collector.said()
        assert "audit: event=changed" in log
        assert DC1 not in log
        assert ROTATED not in log
    finally:
        running.kill_all()


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("short", "can be guessed"),
        (f"{DC1} may=delete", "may: expected read, write"),
        (f"{DC1} cluster=dc1", "add may=write"),
        (f"{DC1} may=write nodes=self", "begin with cert:"),
        (f"{DC1} nods=x", "did you mean 'nodes'"),
        (f"{DC1} until=tomorrow", "until: expected the last day"),
        (f"{DC1} {ROTATED}", "key=value"),
        ("sha256:abc name=x", "64 hexadecimal digits"),
        (f"{DC1} name=a\n{DC1} name=b", "found that of an earlier line"),
    ],
)
def test_a_line_that_cannot_be_used_is_reported_and_gives_no_access(line: str, fault: str, tmp_path: Path,
                                                                capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    (tmp_path / "tokens").write_text(f"{line}\n")
    assert main(["check", "--set", f"token_file={tmp_path / 'tokens'}"]) == 2
    errors = capsys.readouterr().err
    assert f"{tmp_path / 'tokens'}:{1 + line.count(chr(10))}: " in errors
    assert fault in errors
    assert DC1 not in errors
    assert ROTATED not in errors


def test_a_new_token_is_accepted_by_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "name=dc1", "may=write", "nodes=gpu-*,tpu-*"]) == 0
    lines = capsys.readouterr().out.splitlines()
    token, line = lines[1], lines[-1]
    grant = parse_token_file(line, "tokens").grant_of_token(token.encode(), NOON_MS)
    assert grant is not None
    assert grant.name == "dc1"
    assert grant.may_write_for("any", "tpu-1")
    assert not grant.may_write_for("any", "cpu-1")
    assert token not in line
    assert main(["token", "may=all"]) == 2


def test_a_line_is_added_to_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tokens"
    assert main(["token", "--add", str(file), "name=first"]) == 0
    assert file.stat().st_mode & 0o777 == 0o640
    file.write_text(file.read_text().rstrip())  # an editor that leaves no line break at the end
    assert main(["token", "--add", str(file), "name=second", "may=read"]) == 0
    tokens = capsys.readouterr().out.split()
    tokens_file = parse_token_file(file.read_text(), "tokens")
    grants = [tokens_file.grant_of_token(token.encode(), NOON_MS) for token in tokens]
    assert [grant.name for grant in grants if grant] == ["first", "second"]
    assert main(["token", "--add", str(tmp_path), "name=third"]) == 1
    assert "check that it is a file that you may write" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("words", "scope"),
    [
        ("may=write", "*"),
        ("may=write nodes=gpu-7", "gpu-7"),
        ("may=write nodes=gpu-*,gw-1", "gpu-*,gw-1"),
        ("may=write nodes=gw-1,gpu-*", "gpu-*,gw-1"),
        ("may=write nodes=gpu-7 workloads=fleet", "fleet"),
        ("may=write,gateway cluster=dc1 workloads=gpu-*", "gpu-*"),
    ],
)
def test_the_scope_of_a_token(words: str, scope: str) -> None:
    tokens = parse_token_file(f"0123456789abcdef {words}", "tokens")
    (grant,) = tokens.by_digest.values()
    assert (tokens.faults, grant.scope) == ((), scope)


def test_nodes_of_one_certificate_line_are_of_one_scope() -> None:
    tokens = parse_token_file("cert:*.gpu.example may=write nodes=self", "tokens")
    grants = [tokens.grant_of_certificate([f"{node}.gpu.example"], 0) for node in ("n1", "n2")]
    assert [grant.scope for grant in grants if grant] == ["self", "self"]


def test_a_scope_is_for_writers() -> None:
    tokens = parse_token_file("0123456789abcdef may=read workloads=fleet", "tokens")
    assert "workloads= limits writing" in tokens.faults[0]
