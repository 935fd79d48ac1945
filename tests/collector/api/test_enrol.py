"""`POST /v1/enrol` of a running collector, with the command that makes secrets, and what its tokens may do."""

import json
import re
import select
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from certificates import make_certificates
from collector.access.api_server import ApiServer, jwt
from collector.access.client import READER, bearer, call, now_ms
from collector.samples import batch, shipment
from harness import Stack, wait_until
from tokenyield_collector.api.enrol import WRONG_BURST
from tokenyield_collector.cli import main
from tokenyield_wire.codec import encode_shipment

CLAIM, STRANGER = "c" * 64, "s" * 64
SHARED = "shared-shared-shared"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    certificates = tmp_path_factory.mktemp("certificates")
    make_certificates(certificates)
    running = ApiServer(certificates, certificates)
    yield running
    running.close()


@pytest.fixture(scope="module")
def stack(server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("enrol")
    (folder / "tokens").write_text(f"{READER} name=grafana may=read\n{SHARED} name=all may=write\n")
    elsewhere = server.settings("elsewhere") | {"api_server": "https://127.0.0.1:1"}
    enrolment = {"enrol_dir": str(folder / "enrol"), "enrol_kubernetes": [elsewhere, server.settings("kube")]}
    running = Stack(folder, collector={"token_file": str(folder / "tokens"), "refresh_interval_s": 0.1, **enrolment})
    running.start_collector()
    yield running
    running.kill_all()


def command(folder: Path, action: str, *pairs: str) -> int:
    return main(["enrol", action, "--set", f"enrol_dir={folder / 'enrol'}", *pairs])


@pytest.fixture
def make_secret(stack: Stack, capsys: pytest.CaptureFixture[str]) -> Any:
    def make(*pairs: str) -> str:
        assert command(stack.folder, "secret", "cluster=dc1", *pairs) == 0
        return capsys.readouterr().out.strip()

    return make


def enrol(
    stack: Stack, proof: str, node: str, claim: str = CLAIM, cluster: str = "dc1", **more: str
) -> tuple[int, dict[str, Any]]:
    body = json.dumps({"cluster": cluster, "node": node, "claim": claim, **more}).encode()
    status, _, answer = call(stack.url, "/v1/enrol", "POST", body, **bearer(proof))
    return status, json.loads(answer)


def metrics(stack: Stack) -> str:
    return call(stack.url, "/metrics", **bearer(READER))[2].decode()


def shipped(seq: int, cluster: str, node: str, **more: Any) -> bytes:
    return encode_shipment(
        shipment(msgspec.structs.replace(batch(seq, now_ms()), **more), cluster=cluster, node=node, agent_id=node)
    )


def send(stack: Stack, token: str, seq: int, cluster: str = "dc1", node: str = "gpu-1") -> int:
    return call(stack.url, "/v1/batches", "POST", shipped(seq, cluster, node, demand=()), **bearer(token))[0]


def test_a_secret_gives_a_node_a_token_that_writes_for_it_alone(stack: Stack, make_secret: Any) -> None:
    status, given = enrol(stack, make_secret("nodes=gpu-*"), "gpu-1")
    assert (status, given["cluster"], given["node"], given["expires_in_s"]) == (200, "dc1", "gpu-1", 30 * 86_400)
    assert send(stack, given["token"], 1, node="gpu-1") == 200
    assert send(stack, given["token"], 2, node="gpu-2") == 403
    assert send(stack, given["token"], 2, cluster="dc2") == 403
    assert call(stack.url, "/v1/summary", **bearer(given["token"]))[0] == 403
    assert send(stack, given["token"][:-1] + "A", 2, node="gpu-1") == 401
    # Nothing on disk, in the log or on /metrics is a secret.
    kept = (stack.folder / "enrol" / "enrolments").read_text() + stack.collector.said()
    kept += metrics(stack)
    assert not re.search(r"ty[bn]_[\w-]{20}", kept)
    assert CLAIM not in kept
    assert 'event=enrolled peer=127.0.0.1 cluster=dc1 node=gpu-1 how="secret ' in kept


def test_a_stranger_with_the_secret_does_not_take_a_node_s_name(stack: Stack, make_secret: Any) -> None:
    secret = make_secret("uses=3")
    assert enrol(stack, secret, "gpu-11")[0] == 200
    status, refusal = enrol(stack, secret, "gpu-11", STRANGER)
    assert status == 409
    assert "tokenyield-collector enrol allow cluster=dc1 node=gpu-11" in refusal["detail"]
    # Nor that of a node which reports with a token of the token file, unless it has that token.
    assert send(stack, SHARED, 1, node="old-1") == 200
    assert enrol(stack, secret, "old-1", STRANGER)[0] == 409
    assert enrol(stack, secret, "old-1", current=READER)[0] == 409
    assert enrol(stack, secret, "old-1", current=SHARED)[0] == 200
    assert 'reason="taken"' in metrics(stack)
    wait_until(lambda: "taken: cluster 'dc1', node 'gpu-11'" in stack.collector.said(), what="it is in the audit log")


def test_a_node_that_was_installed_anew_enrols_once_an_operator_allows_it(stack: Stack, make_secret: Any) -> None:
    secret = make_secret("uses=2")
    _, before = enrol(stack, secret, "gpu-21")
    assert send(stack, before["token"], 1, node="gpu-21") == 200
    assert command(stack.folder, "allow", "cluster=dc1", "node=gpu-21") == 0
    status, after = enrol(stack, secret, "gpu-21", STRANGER)
    assert status == 200
    assert send(stack, after["token"], 2, node="gpu-21") == 200
    wait_until(
        lambda: send(stack, before["token"], 3, node="gpu-21") == 401, what="the token on the old disk has ended"
    )


def test_a_revoked_node_writes_and_enrols_no_more(stack: Stack, make_secret: Any) -> None:
    secret = make_secret("uses=2")
    _, given = enrol(stack, secret, "gpu-31")
    assert command(stack.folder, "revoke", "cluster=dc1", "node=gpu-31") == 0
    assert enrol(stack, secret, "gpu-31")[0] == 403
    wait_until(lambda: send(stack, given["token"], 1, node="gpu-31") == 401, what="its token has ended")
    assert enrol(stack, given["token"], "gpu-31")[0] == 401


def test_a_secret_ends_by_its_uses_and_when_it_is_revoked(stack: Stack, make_secret: Any) -> None:
    once = make_secret("name=once")
    assert enrol(stack, once, "gpu-41")[0] == 200
    assert enrol(stack, once, "gpu-41")[0] == 200  # the same installation, whose answer was lost
    assert enrol(stack, once, "gpu-42")[0] == 403
    many = make_secret("name=many", "uses=100")
    assert enrol(stack, many, "gpu-43")[0] == 200
    assert command(stack.folder, "revoke", "name=many") == 0
    assert enrol(stack, many, "gpu-44")[0] == 403


def test_a_token_is_renewed_by_itself_and_only_for_its_node(stack: Stack, make_secret: Any) -> None:
    _, given = enrol(stack, make_secret(), "gpu-51")
    status, renewed = enrol(stack, given["token"], "gpu-51")
    assert status == 200
    assert send(stack, renewed["token"], 1, node="gpu-51") == 200
    assert enrol(stack, given["token"], "gpu-52")[0] == 403


def test_a_gateway_s_secret_gives_that_right_too(stack: Stack, make_secret: Any) -> None:
    _, plain = enrol(stack, make_secret(), "gw-1")
    _, gateway = enrol(stack, make_secret("may=write,gateway"), "gw-2")
    assert call(stack.url, "/v1/batches", "POST", shipped(1, "dc1", "gw-1"), **bearer(plain["token"]))[0] == 403
    assert call(stack.url, "/v1/batches", "POST", shipped(1, "dc1", "gw-2"), **bearer(gateway["token"]))[0] == 200


def test_a_service_account_token_is_exchanged_for_a_token_of_its_node(stack: Stack, server: ApiServer) -> None:
    proof = server.accept(jwt(unique="gpu-1"), node="gpu-1", pod="agent-x")
    status, given = enrol(stack, proof, "gpu-1", cluster="kube")
    assert (status, given["expires_in_s"]) == (200, 3600)
    assert send(stack, given["token"], 1, cluster="kube", node="gpu-1") == 200
    assert send(stack, given["token"], 2, cluster="dc1", node="gpu-1") == 403
    assert enrol(stack, proof, "gpu-2", cluster="kube")[0] == 403
    assert enrol(stack, proof, "gpu-1", cluster="dc1")[0] == 401
    # Another cluster has an account of the same name, and its own API server, which is down.
    status, refusal = enrol(stack, proof, "gpu-1", cluster="elsewhere")
    assert (status, "API server cannot be used" in refusal["detail"]) == (503, True)
    assert enrol(stack, given["token"], "gpu-1", cluster="kube")[0] == 401, "its pod must prove the node each time"
    assert enrol(stack, proof, "gpu-1", "another pod of this node" * 2, cluster="kube")[0] == 200


def test_a_tenant_s_pod_does_not_enrol(stack: Stack, server: ApiServer) -> None:
    before = len(server.asked)
    own = jwt(sub="system:serviceaccount:tenant:default", aud=["https://kubernetes.default.svc"])
    assert enrol(stack, own, "gpu-1", cluster="kube")[0] == 401
    assert len(server.asked) == before, "what is not even said to be the agents' is not reviewed"
    forged = jwt(unique="forged")
    assert enrol(stack, forged, "gpu-1", cluster="kube")[0] == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"cluster":"dc1","node":"gpu-1"}', 400),
        (b'{"cluster":"dc1","node":"gpu-1","claim":"short"}', 422),
        (b'{"cluster":"dc1","node":"gpu-*","claim":"' + b"c" * 64 + b'"}', 422),
        (b'{"cluster":"dc1","node":"gpu 1","claim":"' + b"c" * 64 + b'"}', 422),
        (b"[" * 16_000, 400),
        (b" " * 20_000, 413),
    ],
)
def test_a_body_that_cannot_be_used(stack: Stack, make_secret: Any, body: bytes, status: int) -> None:
    assert call(stack.url, "/v1/enrol", "POST", body, **bearer(make_secret()))[0] == status


def test_a_page_of_another_site_cannot_enrol(stack: Stack, make_secret: Any) -> None:
    body = json.dumps({"cluster": "dc1", "node": "gpu-61", "claim": CLAIM}).encode()
    headers = bearer(make_secret()) | {"Origin": "http://evil.example.com"}
    assert call(stack.url, "/v1/enrol", "POST", body, **headers)[0] == 403


def test_bodies_that_do_not_come_hold_up_no_other_address(stack: Stack, make_secret: Any) -> None:
    head = f"POST /v1/enrol HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {make_secret()}\r\nContent-Length: 100\r\n\r\n"
    slow: list[socket.socket] = []

    def is_refused() -> bool:
        """One more that sends no body; whether any was refused at once."""
        slow.append(socket.create_connection(("127.0.0.1", stack.port), source_address=("127.0.0.2", 0)))
        slow[-1].sendall(head.encode())
        readable, _, _ = select.select(slow, [], [], 0)
        return any(one.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 503" for one in readable)

    try:
        while not is_refused():  # each is given up after some seconds, which takes longer than to open as many
            pass
        assert enrol(stack, make_secret(), "gpu-81")[0] == 200
        for one in slow:
            one.settimeout(30)
            assert one.recv(12) in (b"HTTP/1.1 503", b"HTTP/1.1 408")
    finally:
        for one in slow:
            one.close()


def test_wrong_proofs_are_checked_ever_more_rarely_and_the_right_secret_is_taken(
    stack: Stack, server: ApiServer, make_secret: Any
) -> None:
    """Last of this file: it uses up what one address may try."""
    statuses: list[int] = []
    with ThreadPoolExecutor(16) as many:
        while 429 not in statuses:  # faster than one a second, however slow the machine is
            asked = len(server.asked)
            tokens = [jwt(unique=str(len(statuses) + i)) for i in range(WRONG_BURST + 20)]
            statuses = list(many.map(lambda token: enrol(stack, token, "gpu-1", cluster="kube")[0], tokens))
    assert set(statuses) <= {401, 429, 503}
    assert len(server.asked) - asked < len(statuses)
    assert enrol(stack, make_secret(), "gpu-71")[0] == 200


def test_a_collector_without_enrol_dir_enrols_nobody(tmp_path: Path) -> None:
    running = Stack(tmp_path)
    running.start_collector()
    try:
        assert enrol(running, "tyb_secret", "gpu-1")[0] == 404
    finally:
        running.kill_all()


def _has_ended(stack: Stack, token: str) -> bool:
    return send(stack, token, 2, node="gpu-1") == 401


def test_two_collectors_with_one_folder_know_each_other_s_nodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Secrets, their uses, and revocations too."""
    shared = {"enrol_dir": str(tmp_path / "enrol"), "refresh_interval_s": 0.1}
    stacks = []
    for name in "ab":
        (tmp_path / name).mkdir()
        stacks.append(Stack(tmp_path / name, collector=shared))
    first, second = stacks
    try:
        first.start_collector()
        second.start_collector()
        assert command(tmp_path, "secret", "cluster=dc1") == 0
        secret = capsys.readouterr().out.strip()
        _, given = enrol(first, secret, "gpu-1")
        assert send(second, given["token"], 1, node="gpu-1") == 200
        assert enrol(second, secret, "gpu-2")[0] == 403, "its only use was at the other collector"
        assert command(tmp_path, "revoke", "cluster=dc1", "node=gpu-1") == 0
        for one in stacks:
            wait_until(partial(_has_ended, one, given["token"]), what="it ended at both")
    finally:
        first.kill_all()
        second.kill_all()
