"""The life of a release: other prices, back, its test, and its end. The last test uninstalls: it is the last of this folder."""

import shutil

import pytest

from harness import wait_until
from kube.chat import Chat
from kube.cluster import AGENT, COLLECTOR, COUNTED, NAMESPACE, Cluster, counted, query, readme_script, uid

pytestmark = pytest.mark.real


def price_book(cluster: Cluster) -> str:
    try:
        return str(cluster.summary()["price_book"])
    except OSError:
        return ""


def left(cluster: Cluster) -> set[str]:
    """What is in the namespace, but for what each namespace has."""
    kinds = "pods,services,configmaps,secrets,serviceaccounts,daemonsets,statefulsets,persistentvolumeclaims"
    kinds += ",networkpolicies,poddisruptionbudgets"
    names = cluster.node.kubectl("get", kinds, "--namespace", NAMESPACE, "--output", "name").split()
    return set(names) - {"configmap/kube-root-ca.crt", "serviceaccount/default"}


def test_changed_prices_are_taken_up_without_a_restart(cluster: Cluster) -> None:
    pods = [uid(cluster.ready_pod(selector)) for selector in (AGENT, COLLECTOR)]
    book = price_book(cluster)
    cluster.shell(
        "sed 's/per_gpu_hour: 2.20/per_gpu_hour: 2.30/' prices.yaml > dearer.yaml && ! cmp -s prices.yaml dearer.yaml\n"
        "helm upgrade tokenyield helm/tokenyield --namespace tokenyield --reuse-values "
        "--set-file collector.prices=dearer.yaml --wait"
    )
    wait_until(lambda: price_book(cluster) not in ("", book), what="the collector uses the new prices")
    cluster.helm("rollback", "tokenyield", "--wait")
    wait_until(lambda: price_book(cluster) == book, what="the collector uses the former prices")
    assert [uid(cluster.ready_pod(selector)) for selector in (AGENT, COLLECTOR)] == pods
    for selector in (AGENT, COLLECTOR):
        assert cluster.ready_pod(selector)["status"]["containerStatuses"][0]["restartCount"] == 0


def test_helm_test(cluster: Cluster) -> None:
    assert "Phase:          Succeeded" in cluster.helm("test", "tokenyield")


def test_uninstall_leaves_what_the_readme_says(cluster: Cluster, chat: Chat) -> None:
    chat.assert_all_is_counted()
    cluster.shell(readme_script("Uninstall"))
    stays = {"secret/tokenyield-tokens", "persistentvolumeclaim/state-tokenyield-collector-0"}
    wait_until(lambda: left(cluster) == stays, what="the pods have ended, and nothing of the chart stays but this")
    cluster_wide = cluster.node.kubectl("get", "clusterroles,clusterrolebindings", "--output", "name")
    assert "tokenyield" not in cluster_wide
    state = cluster.node.machine.path("/var/lib/tokenyield-agent")
    assert (state / "agent_id").exists(), "an agent that is installed again goes on where it was"
    ledger = cluster.folder / "ledger"
    shutil.copytree(cluster.volume, ledger)
    assert counted(query(ledger / "ledger.duckdb", COUNTED)[0]) == chat.usage
    cluster.shell(readme_script("What stays"))
    wait_until(lambda: NAMESPACE not in cluster.node.kubectl("get", "namespaces", "--output", "name"))
    assert cluster.node.get("persistentvolume", "ledger")["status"]["phase"] == "Released"
