"""Who may do what, by a real API server: rights of both accounts, the tokens by which agents enrol, Pod Security, NetworkPolicies."""

import json
import urllib.error
import urllib.request

import pytest

from harness import wait_until
from kube.cluster import AGENT, COLLECTOR, NAMESPACE, Cluster

pytestmark = pytest.mark.real

RIGHTS = [
    ("agent", "list pods --all-namespaces", True),  # its node's pods, for their labels; RBAC cannot narrow that
    ("agent", "get pods --all-namespaces", False),
    ("agent", "watch pods --all-namespaces", False),
    ("agent", "delete pods --namespace tokenyield", False),
    ("agent", "create pods/exec --namespace tokenyield", False),
    ("agent", "get secrets --namespace tokenyield", False),
    ("agent", "list nodes", False),
    ("agent", "create tokenreviews.authentication.k8s.io", False),
    ("collector", "create tokenreviews.authentication.k8s.io", True),
    ("collector", "create subjectaccessreviews.authorization.k8s.io", False),
    ("collector", "list pods --namespace tokenyield", False),
    ("collector", "get secrets --namespace tokenyield", False),
    ("collector", "get configmaps --namespace tokenyield", False),
    ("collector", "list nodes", False),
]


def test_what_both_accounts_may_do(cluster: Cluster) -> None:
    wrong = []
    for part, action, allowed in RIGHTS:
        account = f"system:serviceaccount:{NAMESPACE}:tokenyield-{part}"
        said = cluster.shell(f"kubectl auth can-i {action} --as {account} 2>/dev/null || true").strip()
        if said != ("yes" if allowed else "no"):
            wrong.append((part, action, said))
    assert not wrong


def test_the_agent_has_a_token_of_its_node_by_the_api_server_s_review(cluster: Cluster) -> None:
    file = cluster.node.machine.path("/var/lib/tokenyield-agent/collector_token")
    wait_until(file.exists, what="the agent has enrolled")
    token = json.loads(file.read_text())
    assert (token["cluster"], token["node"], token["expires_in_s"]) == ("my-cluster", "gpu-1", 3600)
    wait_until(lambda: cluster.ledger("SELECT DISTINCT cluster, node FROM batches") == [("my-cluster", "gpu-1")])


def enrol(cluster: Cluster, proof: str, node: str) -> int:
    """The status of the answer to who presents this ServiceAccount token for that node."""
    asked = {"cluster": "my-cluster", "node": node, "claim": "0" * 64}
    request = urllib.request.Request(f"{cluster.url()}/v1/enrol", json.dumps(asked).encode(),
                                     {"Authorization": f"Bearer {proof}", "Content-Type": "application/json"})  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_other_service_account_tokens_enrol_nobody(cluster: Cluster) -> None:
    pod = cluster.ready_pod(AGENT)["metadata"]
    audience = "--audience tokenyield-collector"
    bound = f"--bound-object-kind Pod --bound-object-name {pod['name']} --bound-object-uid {pod['uid']}"

    def token(account: str, *flags: str) -> str:
        return cluster.shell(f"kubectl create token {account} --namespace {NAMESPACE} {' '.join(flags)}").strip()

    mine = token("tokenyield-agent", audience, bound)
    assert enrol(cluster, mine, "gpu-1") == 200, "as the kubelet projects it"
    assert enrol(cluster, mine, "gpu-2") == 403, "of another node"
    assert enrol(cluster, token("tokenyield-agent", audience), "gpu-1") in (401, 403), "of no pod"
    assert enrol(cluster, token("tokenyield-agent", bound), "gpu-1") in (401, 403), "for the API server"
    assert enrol(cluster, token("default", audience), "gpu-1") in (401, 403), "of another account"
    assert enrol(cluster, f"{mine[:-6]}AAAAAA", "gpu-1") in (401, 403), "not signed by this cluster"


def test_the_collector_keeps_to_pod_security_restricted_and_the_agent_to_none(cluster: Cluster) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    said = cluster.shell(f"kubectl label namespace {NAMESPACE} {label} --dry-run=server 2>&1")
    agent = cluster.ready_pod(AGENT)["metadata"]["name"]
    assert agent in said
    assert "tokenyield-collector" not in said


def test_the_network_policies_choose_these_pods(cluster: Cluster) -> None:
    chosen = {}
    for policy in cluster.node.get("networkpolicies", "--namespace", NAMESPACE)["items"]:
        labels = policy["spec"]["podSelector"]["matchLabels"]
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        chosen[policy["metadata"]["name"]] = [pod["metadata"]["name"] for pod in cluster.pods(selector)]
    assert chosen == {
        f"tokenyield-{part}": [pod["metadata"]["name"] for pod in cluster.pods(selector)]
        for part, selector in (("agent", AGENT), ("collector", COLLECTOR))
    }
    assert all(len(pods) == 1 for pods in chosen.values())
