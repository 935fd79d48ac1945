"""Values of `platform` on the node, with the driver, the runtime and the kubelet where such nodes have them."""

import json
import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from harness import wait_until
from kube.chat import Chat
from kube.cluster import AGENT, NAMESPACE, Cluster

pytestmark = pytest.mark.real


def without_a_runtime(cluster: Cluster) -> dict[str, Any]:
    """GKE: no runtime shows a container the driver; it lies in a folder of the host."""
    machine, ours = cluster.node.machine, cluster.folder / "driver"
    libraries = machine.path("/home/kubernetes/bin/nvidia/lib64")
    libraries.mkdir(parents=True, exist_ok=True)
    shutil.copy(ours / "libnvidia-ml.so.1", libraries)
    return {
        "runtimeClassName": "plain",
        "extraVolumes": [{"name": "scenario", "hostPath": {"path": str(ours / "scenario"), "type": "Directory"}}],
        "extraVolumeMounts": [{"name": "scenario", "mountPath": "/run/nvml-stand-in", "readOnly": True}],
    }


def with_its_own_kubelet(cluster: Cluster) -> dict[str, Any]:
    """k0s: the NVIDIA runtime by its class, and another kubelet's root."""
    root = cluster.node.machine.path("/var/lib/k0s")
    root.mkdir(exist_ok=True)
    if not (root / "kubelet").is_symlink():
        (root / "kubelet").symlink_to("/var/lib/kubelet")
    return {}


def runtime_class(name: str, handler: str) -> dict[str, Any]:
    return {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": handler}


def upgrade(cluster: Cluster, values: dict[str, Any]) -> None:
    (cluster.folder / "platform.json").write_text(json.dumps(values))
    cluster.shell(
        "helm upgrade tokenyield helm/tokenyield --namespace tokenyield --reuse-values --values platform.json --wait"
    )


@pytest.mark.parametrize(("platform", "given"), [("gke", without_a_runtime), ("k0s", with_its_own_kubelet)])
def test_the_agent_reads_gpus_where_the_platform_has_them(
    cluster: Cluster, chat: Chat, platform: str, given: Callable[[Cluster], dict[str, Any]]
) -> None:
    cluster.node.apply(runtime_class("plain", "runc"), runtime_class("nvidia", "nvidia"))
    upgrade(cluster, {"platform": platform, "agent": given(cluster)})
    try:
        spec = cluster.node.get("daemonset", "tokenyield-agent", "--namespace", NAMESPACE)["spec"]["template"]["spec"]
        assert spec["runtimeClassName"] == ("plain" if platform == "gke" else "nvidia")
        said = ""

        def is_well() -> bool:
            nonlocal said
            pod = cluster.ready_pod(AGENT)["metadata"]["name"]
            said = cluster.node.kubectl("exec", pod, "--namespace", NAMESPACE, "--", "tokenyield-agent", "doctor",
                                        "--config", "/etc/tokenyield/agent.yaml")  # fmt: skip
            return re.search(r"the kubelet gave GPUs to [12] container", said) is not None

        wait_until(is_well, what="doctor in the new pod sees the kubelet")
        assert said.count("ok    gpu") == 2, said
        assert said.endswith("\n0 faults\n"), said
        with chat.under_load():
            chat.ask(5)
        chat.assert_all_is_counted()
    finally:
        plain = {"runtimeClassName": "", "extraVolumes": [], "extraVolumeMounts": []}
        upgrade(cluster, {"platform": "generic", "agent": plain})
