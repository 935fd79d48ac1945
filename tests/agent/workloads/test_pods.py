"""What Kubernetes reports: allocations from a gRPC server on the published proto, labels from an HTTPS API server."""

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness import wait_until
from kubelet import Kubelet, gpus_given
from tokenyield_agent.config import Settings
from tokenyield_agent.gpu.reading import GpuReading
from tokenyield_agent.workloads.binding import bind
from tokenyield_agent.workloads.pod_resources import GpuAllocation, KubeletError, list_gpus
from tokenyield_agent.workloads.pods import GONE_KEEP_S, GONE_MAX, Pods
from tokenyield_agent.workloads.roster import Roster

POD = {
    "name": "chat-7c9",
    "namespace": "prod",
    "labels": {"team": "search"},
    "annotations": {"acme/product": "answers"},
}


def owned(kind: str, name: str, labels: dict[str, str], controller: bool = True) -> dict[str, Any]:
    references = [{"kind": kind, "name": name, "controller": controller, "uid": "u", "apiVersion": "apps/v1"}]
    return {"name": "chat-7c9", "namespace": "prod", "labels": labels, "ownerReferences": references}


@pytest.fixture
def socket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("k") / "kubelet.sock"


def test_gpus_that_the_kubelet_gave(socket: Path) -> None:
    kubelet = Kubelet(socket, gpus_given(pods=2000))
    try:
        given = list_gpus(str(socket), 5.0)
    finally:
        kubelet.stop()
    assert len(given) == 2000, "larger than one HTTP/2 window"
    assert given[0] == GpuAllocation(
        namespace="prod", pod="chat-0", container="server", device_ids=("GPU-0", "GPU-1::3", "MIG-7")
    )


def test_a_kubelet_that_refuses_or_is_not_there_says_so(socket: Path) -> None:
    with pytest.raises(KubeletError, match="check that the socket is mounted"):
        list_gpus(str(socket), 1.0)
    kubelet = Kubelet(socket, None)
    try:
        with pytest.raises(KubeletError, match="gRPC status 7: not for you"):
            list_gpus(str(socket), 5.0)
    finally:
        kubelet.stop()


def test_a_gpu_given_to_a_pod_that_runs_nothing_is_held_by_it(socket: Path) -> None:
    kubelet = Kubelet(socket, gpus_given())
    roster = Roster(replace(Settings(), pod_resources_socket=str(socket), slurm_jobs_dir=""), marks={})
    gpus = tuple(GpuReading(uuid=f"GPU-{i}", index=i, processes=()) for i in range(3))
    try:
        wait_until(lambda: bool(roster.pods.allocations()))
        held = {uuid: dict(holding.weights) for uuid, holding in roster.holdings(gpus, 0.0).items()}
        assert held == {"GPU-0": {"prod/chat-0/server": 1}, "GPU-1": {"prod/chat-0/server": 1}, "GPU-2": {}}
        name = roster.names()["prod/chat-0/server"]
        assert (name.place, name.labels["pod"]) == ("prod/chat-0/server", "chat-0")
        assert bind(gpus, [], {})["GPU-0"].held is False
    finally:
        roster.close()
        kubelet.stop()


class ApiServer:
    """Answers /api/v1/pods over TLS to the right token."""

    def __init__(self, folder: Path, token: str, body: bytes) -> None:
        self.asked: list[str] = []
        asked = self.asked
        self.body = body
        api = self
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "key.pem", "-out", folder / "ca.crt"],
            check=True, capture_output=True,
        )  # fmt: skip

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                good = self.headers["Authorization"] == f"Bearer {token}"
                self.send_response(200 if good else 403)
                self.end_headers()
                self.wfile.write(api.body if good else b"{}")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("localhost", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "ca.crt", folder / "key.pem")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    items = {
        "items": [{"metadata": POD, "spec": {"nodeName": "n1"}}, {"metadata": {**POD, "name": "other", "labels": {}}}]
    }
    started = ApiServer(tmp_path, "secret", json.dumps(items).encode())
    (tmp_path / "token").write_text("secret\n")
    yield started
    started.stop()


def test_labels_that_the_settings_name_and_no_others(api: ApiServer, tmp_path: Path) -> None:
    settings = replace(Settings(), node="n1", pod_labels={"team": "team", "product": "acme/product", "none": "none"})
    environ = {"KUBERNETES_SERVICE_HOST": "localhost", "KUBERNETES_SERVICE_PORT": str(api.port)}
    pods = Pods(replace(settings, pod_resources_socket=""), account=tmp_path, environ=environ)
    try:
        wait_until(lambda: bool(pods.labels("prod", "chat-7c9")))
        assert pods.labels("prod", "chat-7c9") == {"team": "search", "product": "answers"}
        assert pods.labels("prod", "other") == {"product": "answers"}
        assert pods.labels("prod", "gone") == {}
        assert api.asked[0] == "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1"
    finally:
        pods.stop()


@pytest.mark.parametrize(
    ("metadata", "labels"),
    [
        (owned("ReplicaSet", "chat-7c9", {"pod-template-hash": "7c9"}), {"owner": "Deployment/chat"}),
        (owned("ReplicaSet", "by-hand", {}), {"owner": "ReplicaSet/by-hand"}),
        (owned("ReplicaSet", "chat-7c9", {"pod-template-hash": "other"}), {"owner": "ReplicaSet/chat-7c9"}),
        (owned("StatefulSet", "chat", {}), {"owner": "StatefulSet/chat"}),
        (owned("Job", "train", {"team": "search"}), {"owner": "Job/train", "team": "search"}),
        (owned("Job", "train", {}, controller=False), {}),
        (owned("Node", "n1", {}), {}),
        (POD, {"team": "search"}),
    ],
    ids=["deployment", "replica set", "another's hash", "stateful set", "job", "no controller", "static pod", "none"],
)
def test_the_owner_of_a_pod(tmp_path: Path, metadata: dict[str, Any], labels: dict[str, str]) -> None:
    api = ApiServer(tmp_path, "secret", json.dumps({"items": [{"metadata": metadata}]}).encode())
    (tmp_path / "token").write_text("secret\n")
    environ = {"KUBERNETES_SERVICE_HOST": "localhost", "KUBERNETES_SERVICE_PORT": str(api.port)}
    pods = Pods(replace(Settings(), pod_labels={"team": "team"}, pod_resources_socket="/none"), tmp_path, environ)
    try:
        wait_until(lambda: len(api.asked) > 1 or ("prod", "chat-7c9") in pods._labels)
        assert pods.labels("prod", "chat-7c9") == labels
    finally:
        pods.stop()
        api.stop()


def test_a_pod_that_is_asked_for_and_not_known_is_looked_up_at_once(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenyield_agent.workloads.pods.REFRESH_S", 1e6)
    environ = {"KUBERNETES_SERVICE_HOST": "localhost", "KUBERNETES_SERVICE_PORT": str(api.port)}
    pods = Pods(replace(Settings(), pod_labels={"team": "team"}, pod_resources_socket="/none"), tmp_path, environ)
    try:
        wait_until(lambda: bool(pods.labels("prod", "chat-7c9")))
        api.body = json.dumps({"items": [{"metadata": {**POD, "name": "new"}}]}).encode()
        wait_until(lambda: bool(pods.labels("prod", "new")), what="it does not wait for the refresh that is due")
        assert pods.labels("prod", "chat-7c9") == {"team": "search"}, (
            "it was deleted; its last windows are not shipped yet"
        )
        asked = len(api.asked)
        for _ in range(100):
            assert pods.labels("prod", "there is none") == {}
        wait_until(lambda: len(api.asked) > asked)
        assert len(pods._missed) == 3
    finally:
        pods.stop()


def test_labels_of_deleted_pods_are_kept_for_a_while_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr("tokenyield_agent.workloads.pods.time.monotonic", lambda: now_s)
    pods = Pods(replace(Settings(), pod_resources_socket=""), environ={})
    for i in range(GONE_MAX + 5):
        now_s = float(i) / 10
        pods._remember({("prod", f"job-{i}"): {"team": "search"}})
    assert pods.labels("prod", "job-3") == {}
    assert pods.labels("prod", "job-4") == {"team": "search"}
    now_s += GONE_KEEP_S + 1
    pods._remember({("prod", "other"): {}})
    pods._remember({("prod", "other"): {}})
    assert set(pods._labels) == {("prod", "other"), ("prod", f"job-{GONE_MAX + 4}")}
    assert pods.labels("prod", "job-4") == {}


def test_a_gpu_of_a_pod_that_runs_nothing_has_the_pod_s_labels(socket: Path, tmp_path: Path) -> None:
    kubelet = Kubelet(socket, gpus_given())
    roster = Roster(replace(Settings(), pod_resources_socket=str(socket), slurm_jobs_dir=""), marks={})
    roster.pods._labels = {("prod", "chat-0"): {"owner": "StatefulSet/chat", "team": "search"}}
    try:
        wait_until(lambda: bool(roster.pods.allocations()))
        labels = roster.names()["prod/chat-0/server"].labels
        assert labels == {"namespace": "prod", "pod": "chat-0", "container": "server", "owner": "StatefulSet/chat",
                          "team": "search"}  # fmt: skip
    finally:
        roster.close()
        kubelet.stop()


def test_an_account_that_may_not_list_pods_is_shown_the_fix(api: ApiServer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("wrong")
    environ = {"KUBERNETES_SERVICE_HOST": "localhost", "KUBERNETES_SERVICE_PORT": str(api.port)}
    settings = replace(Settings(), pod_labels={"team": "team"}, pod_resources_socket="")
    pods = Pods(settings, account=tmp_path, environ=environ)
    try:
        wait_until(lambda: bool(pods.problems))
        assert "answers 403: allow the service account to list pods" in pods.problems["API server"]
    finally:
        pods.stop()


def test_without_kubernetes_nothing_is_asked(tmp_path: Path) -> None:
    pods = Pods(replace(Settings(), pod_resources_socket=str(tmp_path / "none")), account=tmp_path / "no", environ={})
    assert not pods.uses_api
    assert not pods.uses_kubelet
