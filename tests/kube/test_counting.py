"""What pods use, from the kubelet and the pods' own answers to the ledger, the summary and the metrics."""

import re
from typing import Any

import pytest

from harness import wait_until
from kube.chat import IDLE_TEAM, TEAM, Chat
from kube.cluster import NAMESPACE, Cluster
from kube.gpus import UUIDS

pytestmark = pytest.mark.real


def workload(cluster: Cluster, name: str) -> dict[str, Any]:
    """The workload whose name begins so, once the live view has it."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found[:] = [one for one in cluster.summary()["workloads"] if one["workload"].startswith(name)]
        return bool(found)

    wait_until(is_there, what=f"{name} is in the summary")
    (one,) = found
    return one


def test_the_ledger_has_the_tokens_that_the_answers_tell(cluster: Cluster, chat: Chat) -> None:
    with chat.under_load():
        chat.ask(20)
    assert chat.usage["prompt_cached"] > 0
    chat.assert_all_is_counted()


def test_a_workload_is_known_by_its_deployment_team_and_gpu(cluster: Cluster, chat: Chat) -> None:
    pod = chat.pod()["metadata"]["name"]
    labels = {"namespace": "search", "pod": pod, "container": "server", "owner": "Deployment/chat", "team": TEAM}
    with chat.under_load():
        wait_until(lambda: workload(cluster, "search/chat-")["tokens"]["completion"] is not None)
        wanted = {"labels": labels, "server": "llamacpp", "model": "tiny.gguf"}
        # The live view has windows of before the upgrade that set pod_labels, too.
        wait_until(lambda: workload(cluster, "search/chat-").items() >= wanted.items(), what=f"it has {wanted}")
        one = workload(cluster, "search/chat-")
        assert one["workload"] == f"search/{pod}/server"
        assert one["gpu_seconds"]["active"] > 0
        assert one["energy_joules"] > 0
        assert float(one["cost"]["direct"]) > 0
        series = f'tokenyield_tokens_total{{cluster="my-cluster",kind="completion",method="counter",model="tiny.gguf",workload="search/{pod}/server"}}'
        wait_until(lambda: series in cluster.ask("/metrics").decode(), what=series)
    chat.assert_all_is_counted()


def test_a_gpu_of_a_pod_that_runs_nothing_is_idle_and_its_team_s(cluster: Cluster) -> None:
    wait_until(lambda: workload(cluster, "search/notebook")["gpu_seconds"]["idle"] > 0)
    labels = {"namespace": "search", "pod": "notebook", "container": "shell", "team": IDLE_TEAM}
    wait_until(lambda: workload(cluster, "search/notebook")["labels"] == labels, what=f"it has the labels {labels}")
    one = workload(cluster, "search/notebook")
    assert one["gpu_seconds"]["active"] == 0
    assert one["tokens"]["completion"] is None
    assert float(one["cost"]["allocated"]) > 0


def test_the_gpu_is_the_one_that_the_kubelet_gave_to_the_pod(cluster: Cluster, chat: Chat) -> None:
    name = f"search/{chat.pod()['metadata']['name']}/server"
    (pid,) = cluster.node.machine.processes(["/llama-server"])
    environment = cluster.node.machine.path(f"/proc/{pid}/environ").read_bytes().decode()
    uuid = environment.partition("NVIDIA_VISIBLE_DEVICES=")[2].partition("\0")[0]
    assert uuid in UUIDS
    held = cluster.ledger("SELECT DISTINCT workload, gpu_uuid FROM share_windows WHERE workload LIKE 'search/%'")
    (other,) = set(UUIDS) - {uuid}
    assert sorted(held) == [(name, uuid), ("search/notebook/shell", other)]


def test_doctor_in_the_agent_s_pod(cluster: Cluster, chat: Chat) -> None:
    pod = chat.pod()["metadata"]["name"]
    said = cluster.node.kubectl("exec", "daemonset/tokenyield-agent", "--namespace", NAMESPACE, "--", "tokenyield-agent",
                                "doctor", "--config", "/etc/tokenyield/agent.yaml")  # fmt: skip
    assert re.search(
        rf"search/{pod}/server +its processes; container log +llamacpp counters, http://\S+:8080/metrics +exact", said
    )
    assert re.search(r"search/notebook/shell +the kubelet's allocation +- +no tokens", said)
    assert said.endswith("\n0 faults\n")
