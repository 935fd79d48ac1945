"""One node for all tests of this folder, with the chart installed as its README says, and pods of two teams on it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kube import images
from kube.build_kubernetes import build
from kube.chat import Chat, manifests
from kube.cluster import VOLUME, Cluster, readme_script
from real.build_llama_server import build as build_llama_server
from real.tiny_model import write_tiny_model

FAST = """
agent: {config: {window_length_s: 1, window_settle_s: 1, scrape_interval_s: 1, pod_labels: {team: team}}}
collector: {config: {live_lag_s: 8, live_grid_s: 1, live_window_s: 30, refresh_interval_s: 0.5}}
"""
"""Windows of a second, and teams by the pods' labels."""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cache = Path(os.environ["TOKENYIELD_CACHE"]).expanduser()
    folder = tmp_path_factory.mktemp("images")
    write_tiny_model(folder / "tiny.gguf")
    archives = [
        images.pause(folder),
        images.llama_server(folder, build_llama_server(cache), folder / "tiny.gguf"),
        *images.ours(folder, cache),
    ]
    cluster = Cluster(build(cache), cache, tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start(archives)
        _offer_a_volume(cluster)
        cluster.node.apply(*manifests())
        cluster.shell("tokenyield-collector example prices.yaml > prices.yaml\n" + readme_script("Install"))
        (cluster.folder / "fast.yaml").write_text(FAST)
        cluster.shell(
            "helm upgrade tokenyield helm/tokenyield --namespace tokenyield --reuse-values --values fast.yaml --wait"
        )
        yield cluster
    finally:
        cluster.stop()


def _offer_a_volume(cluster: Cluster) -> None:
    """For the collector's claim: there is no provisioner."""
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [cluster.node.name]}
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}}
    spec = {"capacity": {"storage": "50Gi"}, "accessModes": ["ReadWriteOnce"], "local": {"path": VOLUME},
            "persistentVolumeReclaimPolicy": "Retain", "nodeAffinity": affinity}  # fmt: skip
    cluster.node.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "ledger"}, "spec": spec})


@pytest.fixture(scope="session")
def chat(cluster: Cluster) -> Chat:
    chat = Chat(cluster)
    chat.pod()
    return chat
