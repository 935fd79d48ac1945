"""The Deployment `chat` of the team search: a real llama-server that asks for a GPU, and what its answers say it used.

Also `notebook`, a pod of the team research that holds a GPU and runs nothing.
"""

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness import wait_until
from kube.cluster import Cluster

TEAM, IDLE_TEAM = "search", "research"
_POD = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
_CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
_GPU = {"limits": {"nvidia.com/gpu": 1}}
_FLAGS = ["--host", "0.0.0.0", "--port", "8080", "-np", "4", "-c", "4096", "--no-webui", "--metrics"]  # noqa: S104 - in its pod
CLIENTS = 2


def manifests() -> list[dict[str, Any]]:
    namespace = {"apiVersion": "v1", "kind": "Namespace",
                 "metadata": {"name": "search", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}  # fmt: skip
    server = {"name": "server", "image": "localhost/llama-server:1", "args": _FLAGS, "securityContext": _CONTAINER,
              "readinessProbe": {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 1}, "resources": _GPU}  # fmt: skip
    template = {"metadata": {"labels": {"app": "chat", "team": TEAM}},
                "spec": {"securityContext": _POD, "containers": [server], "terminationGracePeriodSeconds": 5}}  # fmt: skip
    chat = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "chat", "namespace": "search"},
            "spec": {"selector": {"matchLabels": {"app": "chat"}}, "template": template}}  # fmt: skip
    shell = {"name": "shell", "image": "localhost/pause:1", "securityContext": _CONTAINER, "resources": _GPU}
    notebook = {"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "notebook", "namespace": "search", "labels": {"team": IDLE_TEAM}},
                "spec": {"securityContext": _POD, "containers": [shell]}}  # fmt: skip
    return [namespace, chat, notebook]


class Chat:
    """`usage`: the sums of all answers, by the names of the ledger's columns."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self.usage = {"prompt_computed": 0, "prompt_cached": 0, "completion": 0, "requests": 0}

    def pod(self, unlike: str = "") -> dict[str, Any]:
        return self._cluster.ready_pod("app=chat", "search", unlike)

    def ask(self, requests: int, *, seed: int = 0) -> None:
        address = self.pod()["status"]["podIP"]
        for i in range(requests):
            self._ask(address, seed * 1000 + i)

    def _ask(self, address: str, number: int) -> None:
        prompt = "all clients begin alike so that the cache has something to do " * 2 + str(number)
        body = json.dumps({"prompt": prompt[number % 40 :], "max_tokens": 5 + number % 60, "seed": 1}).encode()
        with urllib.request.urlopen(f"http://{address}:8080/v1/completions", body, timeout=600) as answer:
            usage = json.load(answer)["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        with self._lock:
            self.usage["prompt_computed"] += usage["prompt_tokens"] - cached
            self.usage["prompt_cached"] += cached
            self.usage["completion"] += usage["completion_tokens"]
            self.usage["requests"] += 1

    @contextmanager
    def under_load(self) -> Iterator[None]:
        """Clients ask while the block runs; each of their requests is answered before it ends."""
        address = self.pod()["status"]["podIP"]
        stop = threading.Event()

        def run(client: int) -> None:
            number = client * 100_000
            while not stop.wait(0.05):
                number += 1
                self._ask(address, number)

        threads = [threading.Thread(target=run, args=(client,)) for client in range(1, CLIENTS + 1)]
        before = self.usage["requests"]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: self.usage["requests"] > before + CLIENTS, what="the clients are answered")
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def assert_all_is_counted(self) -> None:
        """Waits until the ledger has all tokens and requests of all answers; it must never have more."""
        last: dict[str, int] = {}

        def is_so() -> bool:
            last.update(self._cluster.counted())
            assert all(last[name] <= self.usage[name] for name in last), f"doubled: {last}, answered: {self.usage}"
            return last == self.usage

        try:
            wait_until(is_so)
        except AssertionError as error:
            raise AssertionError(f"{error}: counted {last}, answered {self.usage}\n{self._cluster.state()}") from error
