"""What Kubernetes reports about this node's pods, where it runs and allows it: their labels and the GPUs given to them.

In: settings. Out: `labels(namespace, pod)` and `allocations()`, from snapshots that a thread refreshes. Everything
here is optional: without a kubelet's socket or a service account, nothing is requested and nothing is known.

* Labels come from the API server: GET /api/v1/pods?fieldSelector=spec.nodeName=NODE with the service account's token.
  With them comes `owner`: what made the pod, and keeps its name when the pod gets another.
* Allocations come from the kubelet's pod-resources socket (gRPC, k8s.io/kubelet/pkg/apis/podresources/v1): they show
  a GPU that a pod holds while nothing runs on it. Needs the extra `kubernetes`.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from tokenyield_agent.config import Settings
from tokenyield_agent.supervision import Supervisor
from tokenyield_agent.workloads.workload_name import OWN_NAME_CHARS_MAX
from tokenyield_wire.bounded import fitting_name

log = logging.getLogger(__name__)

OWNER = "owner"
"""A label of pods that have one, unless the settings give that name to a label of theirs."""
REFRESH_S = 30.0
REFRESH_S_MIN = 2.0
"""Between two, where a pod is asked for that is not known yet: its labels shall be in its first window."""
GONE_KEEP_S = 600.0
"""How long the labels of a pod that was deleted are kept: its last windows are still to be shipped."""
GONE_MAX = 1000
"""Of such pods; those that have been gone longest are dropped first."""
TIMEOUT_S = 5.0
API_SERVER, KUBELET = "API server", "pod-resources"
"""What is asked, as `Pods.problems` names it."""
BODY_BYTES_MAX = 32 * 1024 * 1024
"""Of the list of this node's pods: at most a few hundred, each some tens of kilobytes."""
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class _OwnerReference(msgspec.Struct):
    kind: str
    name: str
    controller: bool = False


class _Metadata(msgspec.Struct):
    name: str
    namespace: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[_OwnerReference] = msgspec.field(default_factory=list, name="ownerReferences")


class _Pod(msgspec.Struct):
    metadata: _Metadata


class _PodList(msgspec.Struct):
    items: list[_Pod] = []


class Pods:
    """Snapshots of this node's pods. The thread starts only where there is something to request."""

    def __init__(
        self,
        settings: Settings,
        account: Path = ACCOUNT,
        environ: Mapping[str, str] = os.environ,
        supervisor: Supervisor | None = None,
    ) -> None:
        self._label_names = dict(settings.pod_labels)
        self._socket = settings.pod_resources_socket
        self._node = settings.node_name
        self._account = account
        self._server = (environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443"))
        self._labels: dict[tuple[str, str], dict[str, str]] = {}
        self._gone_since_s: dict[tuple[str, str], float] = {}
        self._missed: set[tuple[str, str]] = set()
        """Pods that were asked for and are not known, since the last refresh that was due."""
        self._allocations: dict[str, frozenset[str]] = {}
        self.problems: dict[str, str] = {}
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._were_asked = threading.Event()
        self.uses_api = bool(self._label_names) and bool(self._server[0]) and account.exists()
        self.uses_kubelet = bool(self._socket) and os.path.exists(self._socket)
        if self.uses_api or self.uses_kubelet:
            (supervisor or Supervisor()).start("pods", self._run)

    def labels(self, namespace: str, pod: str) -> dict[str, str]:
        """The labels that the settings name, of one pod, by their names here, and its `owner`: `Deployment/chat`."""
        key = (namespace, pod)
        if self.uses_api and key not in self._labels and key not in self._missed and len(self._missed) < GONE_MAX:
            self._missed.add(key)
            self._wake.set()
        return self._labels.get(key, {})

    def allocations(self) -> dict[str, frozenset[str]]:
        """`namespace/pod/container` -> uuids of the GPUs (or MIG instances) that the kubelet gave it."""
        return self._allocations

    def wait_until_asked(self) -> None:
        """Until each service that is used has answered or failed once; `problems` says which failed."""
        if self.uses_api or self.uses_kubelet:
            self._were_asked.wait(2 * TIMEOUT_S + 1)

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            if self.uses_api:
                self._try(API_SERVER, self.refresh_labels)
            if self.uses_kubelet:
                self._try(KUBELET, self.refresh_allocations)
            self._were_asked.set()
            self._stop.wait(REFRESH_S_MIN)
            if not self._wake.wait(REFRESH_S - REFRESH_S_MIN):
                self._missed = set()  # once a pod between two refreshes that are due

    def _try(self, service: str, refresh: Callable[[], None]) -> None:
        try:
            refresh()
            self.problems.pop(service, None)
        except Exception as error:  # noqa: BLE001 - whatever Kubernetes answers costs its labels only
            problem = f"{type(error).__name__}: {error}"[:300]
            if self.problems.get(service) != problem:  # once per change of state
                log.warning("%s: no answer can be used: %s", service, problem)
            self.problems[service] = problem

    def refresh_labels(self) -> None:
        """Refresh the labels. Raises OSError, http.client.HTTPException, msgspec.MsgspecError or ValueError."""
        import http.client
        import ssl
        import urllib.parse

        host, port = self._server
        context = ssl.create_default_context(cafile=str(self._account / "ca.crt"))
        connection = http.client.HTTPSConnection(host, int(port), timeout=TIMEOUT_S, context=context)
        try:
            token = (self._account / "token").read_text(encoding="ascii").strip()
            # Of this node alone. RBAC cannot narrow a list so: the account may list all pods.
            path = "/api/v1/pods?" + urllib.parse.urlencode({"fieldSelector": f"spec.nodeName={self._node}"})
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}", "Accept": "application/json"})
            response = connection.getresponse()
            body = response.read(BODY_BYTES_MAX + 1)
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(f"answers {response.status}: allow the service account to list pods, or empty pod_labels")
        if len(body) > BODY_BYTES_MAX:
            raise ValueError(f"answers more than {BODY_BYTES_MAX >> 20} MiB")
        pods = msgspec.json.decode(body, type=_PodList).items
        self._remember({(pod.metadata.namespace, pod.metadata.name): self._pick(pod.metadata) for pod in pods})

    def _remember(self, labels: dict[tuple[str, str], dict[str, str]]) -> None:
        """These, and for a while those of pods that are gone."""
        now_s = time.monotonic()
        gone = {pod: self._gone_since_s.get(pod, now_s) for pod in self._labels if pod not in labels}
        kept = sorted((pod for pod in gone if now_s - gone[pod] <= GONE_KEEP_S), key=lambda pod: -gone[pod])[:GONE_MAX]
        self._gone_since_s = {pod: gone[pod] for pod in kept}
        self._labels = labels | {pod: self._labels[pod] for pod in kept}

    def _pick(self, metadata: _Metadata) -> dict[str, str]:
        labels = {**metadata.annotations, **metadata.labels}
        owner = _owner_of(metadata)
        own = {OWNER: owner} if owner is not None else {}
        return own | {here: labels[there] for here, there in self._label_names.items() if labels.get(there)}

    def refresh_allocations(self) -> None:
        """Refresh the allocations. Raises ImportError without the extra `kubernetes`, or KubeletError."""
        from tokenyield_agent.workloads.pod_resources import list_gpus

        by_container: dict[str, set[str]] = {}
        for entry in list_gpus(self._socket, TIMEOUT_S):
            name = f"{entry.namespace}/{entry.pod}/{entry.container}"
            # A time-sliced GPU is listed as uuid::replica.
            uuids = {uuid.partition("::")[0] for uuid in entry.device_ids}
            by_container.setdefault(fitting_name(name, OWN_NAME_CHARS_MAX), set()).update(uuids)
        self._allocations = {pod: frozenset(uuids) for pod, uuids in by_container.items()}


def _owner_of(metadata: _Metadata) -> str | None:
    """`kind/name` of the controller that made the pod. A ReplicaSet that a Deployment made has the Deployment's name,
    `-` and a hash of the pod's template, which changes with every version; the pod has that hash as a label."""
    for owner in metadata.owner_references:
        if owner.controller and owner.kind != "Node":  # of a static pod
            template = metadata.labels.get("pod-template-hash")
            if owner.kind == "ReplicaSet" and template and owner.name.endswith(f"-{template}"):
                return f"Deployment/{owner.name.removesuffix(f'-{template}')}"
            return f"{owner.kind}/{owner.name}"
    return None
