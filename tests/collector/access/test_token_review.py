"""Which node a ServiceAccount token is of, by the API server's word."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.access.api_server import ApiServer, jwt
from tokenyield_collector.access.enrolments import EnrolRefused
from tokenyield_collector.access.token_review import TokenReviewer
from tokenyield_collector.config import KubernetesEnrolment


@pytest.fixture
def server(tmp_path: Path, certificates: Path) -> Iterator[ApiServer]:
    running = ApiServer(tmp_path, certificates)
    yield running
    running.close()


def reviewer(server: ApiServer) -> TokenReviewer:
    return TokenReviewer(KubernetesEnrolment(**server.settings()))  # type: ignore[arg-type]


def node_of(server: ApiServer, token: str) -> str:
    return asyncio.run(reviewer(server).node_of(token.encode()))


def test_the_node_is_the_api_server_s_word(server: ApiServer) -> None:
    assert node_of(server, server.accept(jwt(), node="gpu-1", pod="agent-x")) == "gpu-1"
    assert len(server.asked) == 1


def test_before_1_30_the_pod_is_read(server: ApiServer) -> None:
    server.pods["agent-x"] = "gpu-1"
    assert node_of(server, server.accept(jwt(), pod="agent-x")) == "gpu-1"
    assert server.asked[-1] == "/api/v1/namespaces/tokenyield/pods/agent-x"


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        ({"authenticated": False}, "does not accept"),
        ({"audiences": []}, "not for the audience"),  # an API server that does not know audiences
        ({"audiences": ["https://kubernetes.default.svc"]}, "not for the audience"),
        ({"user": {"username": "system:serviceaccount:tenant:tokenyield-agent", "extra": {}}}, "another account"),
        (
            {"user": {"username": "system:serviceaccount:tokenyield:tokenyield-agent", "extra": {}}},
            "not bound to a pod",
        ),
    ],
)
def test_a_token_that_is_not_the_agents_is_refused(server: ApiServer, status: dict[str, Any], problem: str) -> None:
    server.accept(jwt(), node="gpu-1", **status)
    with pytest.raises(EnrolRefused, match=problem) as refused:
        node_of(server, jwt())
    assert refused.value.status == 401


def test_a_pod_s_name_leads_nowhere_else(server: ApiServer) -> None:
    server.accept(jwt(), pod="../../secrets")
    with pytest.raises(EnrolRefused, match="not bound to a pod"):
        node_of(server, jwt())
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [403, 500, 302])
def test_an_api_server_that_cannot_be_used_is_asked_again_later(server: ApiServer, status: int) -> None:
    server.status = status
    with pytest.raises(EnrolRefused, match=f"answers {status}") as refused:
        node_of(server, jwt())
    assert (refused.value.status, refused.value.reason) == (503, "api_server")


def test_what_claims_to_be_another_s_is_not_reviewed(server: ApiServer) -> None:
    """No API server is asked for what is not even said to be right."""
    one = reviewer(server)
    assert one.may_be(jwt().encode(), 0)
    assert one.may_be(jwt(aud="tokenyield-collector").encode(), 0)
    for token in (
        jwt(sub="system:serviceaccount:tenant:default"),
        jwt(aud=["https://kubernetes.default.svc"]),
        jwt(exp=5),
        "a.b.c",
        "a.b",
        "",
        "." * 10_000,
    ):
        assert not one.may_be(token.encode(), 10)
