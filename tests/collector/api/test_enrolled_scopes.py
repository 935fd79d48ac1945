"""Which nodes that Kubernetes vouched for share workloads, by `enrol_kubernetes` of a running collector (decision 0016)."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from certificates import make_certificates
from collector.access.api_server import USER, ApiServer, jwt
from collector.access.client import READER, bearer, call
from collector.api.test_batches import post
from collector.api.test_enrol import enrol
from collector.ledger.whole_hours import whole_hour
from collector.test_hostile_nodes import day_of, of_workload, yesterday_ms
from harness import Stack
from tokenyield_wire.codec import encode_shipment

TEAM_B, TEAM_B_ACCOUNT = "system:serviceaccount:team-b:agent", "team-b/agent"
HOST, HOST_TOKEN = "h1", "token-of-the-host-h1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    certificates = tmp_path_factory.mktemp("certificates")
    make_certificates(certificates)
    running = ApiServer(certificates, certificates)
    yield running
    running.close()


@pytest.fixture
def stack(server: ApiServer, tmp_path: Path) -> Iterator[Stack]:
    host = f"{HOST_TOKEN} may=write cluster=kube nodes={HOST} workloads=all"
    (tmp_path / "tokens").write_text(f"{READER} may=read\n{host}\n")
    of_kube = server.settings("kube")
    entries = [
        of_kube | {"nodes": ["team-a-*"]},
        of_kube | {"nodes": ["lone-*"], "workloads": "self"},
        of_kube | {"nodes": ["hybrid-*"], "workloads": "all"},
        of_kube,
        of_kube | {"service_account": TEAM_B_ACCOUNT, "nodes": ["team-b-*"], "workloads": "b"},
    ]
    enrolment = {"enrol_dir": str(tmp_path / "enrol"), "enrol_kubernetes": entries}
    running = Stack(tmp_path, collector={"token_file": str(tmp_path / "tokens"), **enrolment})
    running.start_collector()
    yield running
    running.kill_all()


def proof_of(server: ApiServer, node: str, user: str = USER) -> str:
    """A ServiceAccount token that the API server accepts, of a pod on that node."""
    extra = {"authentication.kubernetes.io/node-name": [node]}
    return server.accept(jwt(sub=user, unique=node), user={"username": user, "extra": extra})


def sends_chat(stack: Stack, token: str, node: str) -> None:
    sent = of_workload(whole_hour(yesterday_ms(), node, gpu=f"GPU-{node}"), "chat", "t")
    answer = post(stack.url, encode_shipment(structs.replace(sent, cluster="kube")), Authorization=f"Bearer {token}")
    assert answer.status == 200, answer.body


def nodes_by_workload(stack: Stack) -> dict[str, set[str]]:
    path = f"/v1/report?period={day_of(yesterday_ms())}&by=workload,node&format=json"
    status, _, body = call(stack.url, path, **bearer(READER))
    assert status == 200, body
    nodes: dict[str, set[str]] = defaultdict(set)
    for row in json.loads(body)["rows"]:
        nodes[row["workload"]].add(row["node"])
    return dict(nodes)


def test_nodes_of_a_cluster_share_workloads_unless_an_entry_says_otherwise(stack: Stack, server: ApiServer) -> None:
    """A Deployment's replicas run on any node. Beside them a team's pool, nodes each alone, hosts, another account."""
    accounts = {"team-b-1": TEAM_B}
    for node in ("gpu-1", "gpu-2", "team-a-1", "team-a-2", "lone-1", "lone-2", "hybrid-1", "team-b-1"):
        status, given = enrol(stack, proof_of(server, node, accounts.get(node, USER)), node, cluster="kube")
        assert status == 200, given
        sends_chat(stack, given["token"], node)
    sends_chat(stack, HOST_TOKEN, HOST)
    assert nodes_by_workload(stack) == {
        "chat": {"gpu-1", "gpu-2"},
        "chat (scope team-a-*)": {"team-a-1", "team-a-2"},
        "chat (node lone-1)": {"lone-1"},
        "chat (node lone-2)": {"lone-2"},
        "chat (scope all)": {"hybrid-1", HOST},
        "chat (scope b)": {"team-b-1"},
    }
    # Agents of the account of team b enrol for its nodes alone, and not by the name of a node that they are not on.
    status, refusal = enrol(stack, proof_of(server, "gpu-3", TEAM_B), "gpu-3", cluster="kube")
    assert (status, "no entry of enrol_kubernetes is for" in refusal["detail"]) == (403, True)
    assert enrol(stack, proof_of(server, "gpu-4", TEAM_B), "team-b-1", cluster="kube")[0] == 403
