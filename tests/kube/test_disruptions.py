"""What happens to pods on a real node; after each, the ledger has each token once."""

import pytest

from harness import wait_until
from kube.chat import Chat
from kube.cluster import AGENT, COLLECTOR, NAMESPACE, Cluster, uid

pytestmark = pytest.mark.real


def test_the_kubelet_rotates_a_server_s_log(cluster: Cluster, chat: Chat) -> None:
    logs = cluster.node.machine.path("/var/log/pods")
    pod = chat.pod()["metadata"]

    def rotated() -> bool:
        return bool(list(logs.glob(f"search_{pod['name']}_{pod['uid']}/server/0.log.*")))

    with chat.under_load():
        wait_until(rotated, what="the kubelet rotates the log")
    chat.assert_all_is_counted()


def kill_under_load(cluster: Cluster, chat: Chat, labels: str) -> None:
    before = cluster.ready_pod(labels)
    with chat.under_load():
        cluster.node.kubectl("delete", "pod", before["metadata"]["name"], "--namespace", NAMESPACE, "--force",
                             "--grace-period", "0")  # fmt: skip
        cluster.ready_pod(labels, unlike=uid(before))
    chat.assert_all_is_counted()


def test_an_agent_s_pod_is_killed(cluster: Cluster, chat: Chat) -> None:
    kill_under_load(cluster, chat, AGENT)


def test_the_collector_s_pod_is_killed_and_comes_back_on_its_volume(cluster: Cluster, chat: Chat) -> None:
    kill_under_load(cluster, chat, COLLECTOR)


def test_a_node_is_drained_and_uncordoned(cluster: Cluster, chat: Chat) -> None:
    """Its one collector may be evicted; the new pods of the Deployment are a workload of their own."""
    chat.ask(5, seed=1)
    chat.assert_all_is_counted()
    server, collector = chat.pod(), cluster.ready_pod(COLLECTOR)
    agent = uid(cluster.ready_pod(AGENT))
    name = cluster.node.name
    cluster.shell(f"kubectl drain {name} --ignore-daemonsets --delete-emptydir-data --force --timeout 120s")
    assert uid(cluster.ready_pod(AGENT)) == agent, "a DaemonSet's pods stay"
    assert not cluster.pods(COLLECTOR) or "nodeName" not in cluster.pods(COLLECTOR)[0]["spec"]
    cluster.node.kubectl("uncordon", name)
    cluster.ready_pod(COLLECTOR, unlike=uid(collector))
    new = chat.pod(unlike=uid(server))["metadata"]["name"]
    chat.ask(5, seed=2)
    chat.assert_all_is_counted()
    rows = cluster.ledger("SELECT DISTINCT workload FROM token_windows WHERE completion > 0")
    assert sorted(rows) == sorted((f"search/{one}/server",) for one in (server["metadata"]["name"], new))
