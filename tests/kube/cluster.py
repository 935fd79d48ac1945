"""The node with our chart on it: what the tests of this folder do with it.

Out: helm and kubectl, the collector's answers and its ledger, and waits for states of pods.
"""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import duckdb

from harness import wait_until
from kube.gpus import UUIDS, Gpus
from kube.node import Node
from nvml.stand_in import build
from real.build_helm import HELM

ROOT = Path(__file__).parents[2]
NAMESPACE = "tokenyield"
COLLECTOR, AGENT = "app.kubernetes.io/component=collector", "app.kubernetes.io/component=agent"
VOLUME = "/mnt/ledger"
"""Of the node: the collector's."""
TOKENS = ("prompt_computed", "prompt_cached", "completion", "requests")


class Cluster:
    """A node with two GPUs, images loaded, nothing installed yet."""

    def __init__(self, program: Path, cache: Path, folder: Path) -> None:
        self.folder = folder
        driver = folder / "driver"
        (driver / "scenario").mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("nvidia_runtime.py"), driver / "nvidia-container-runtime")
        build(driver)
        self._gpus = Gpus(driver / "scenario" / "scenario.txt")
        self._helm = cache / f"helm-{HELM}" / "helm"
        self._program = program
        self.node = Node(program, driver / "nvidia-container-runtime")
        self._copies = 0

    def start(self, archives: list[Path]) -> None:
        self.node.start()
        self._gpus.follow(self.node.machine)
        for archive in archives:
            self.node.load(archive)
        self.node.offer_gpus(*UUIDS)
        self.volume.mkdir()

    def stop(self) -> None:
        self._gpus.stop()
        self.node.stop()

    @property
    def volume(self) -> Path:
        return self.node.machine.path(VOLUME)

    # --- kubectl and helm ----------------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """In which `kubectl` and `helm` are this cluster's."""
        commands = self.folder / "bin"
        if not commands.exists():
            commands.mkdir()
            (commands / "kubectl").write_text(f'#!/bin/sh\nexec {self._program} kubectl "$@"\n')
            (commands / "kubectl").chmod(0o755)
            (commands / "helm").symlink_to(self._helm)
        path = f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "KUBECONFIG": self.node.kubeconfig, "HOME": str(self.folder)}

    def shell(self, script: str) -> str:
        """What bash writes, in a folder that has the chart where the repository has it; it must end with 0."""
        if not (self.folder / "helm").exists():
            (self.folder / "helm").symlink_to(ROOT / "helm")
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=self.folder, env=self.environment,
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}\n{self.state()}"
        return done.stdout

    def helm(self, *call: str) -> str:
        done = subprocess.run(["helm", *call, "--namespace", NAMESPACE], cwd=ROOT, env=self.environment,
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, f"helm {' '.join(call)}: {done.stderr[-3000:]}\n{self.state()}"
        return done.stdout

    def state(self) -> str:
        """Of all pods, for who reads why a test failed."""
        try:
            return self.node.kubectl("get", "pods", "--all-namespaces", "--output", "wide") + self.node.kubectl(
                "get", "events", "--all-namespaces", "--sort-by", ".lastTimestamp"
            )
        except AssertionError as error:
            return str(error)

    def pods(self, selector: str, namespace: str = NAMESPACE) -> list[dict[str, Any]]:
        """Those that are not being deleted."""
        items = self.node.get("pods", "--namespace", namespace, "--selector", selector)["items"]
        return [item for item in items if "deletionTimestamp" not in item["metadata"]]

    def ready_pod(self, selector: str, namespace: str = NAMESPACE, unlike: str = "") -> dict[str, Any]:
        """The one pod, once it is ready; not the one with the uid `unlike`."""
        ready: list[dict[str, Any]] = []

        def is_ready() -> bool:
            ready[:] = [pod for pod in self.pods(selector, namespace) if _is_ready(pod) and uid(pod) != unlike]
            return bool(ready)

        try:
            wait_until(is_ready, what=f"a pod of {selector} is ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.state()}") from error
        (pod,) = ready
        return pod

    # --- the collector -------------------------------------------------------------------------------------------

    def reader(self) -> str:
        """The token that may read, from the Secret that the README has made."""
        return self.node.kubectl("get", "secret", "tokenyield-tokens", "--namespace", NAMESPACE, "--output",
                                 "go-template={{.data.reader|base64decode}}")  # fmt: skip

    def url(self) -> str:
        """The collector's service, which kube-proxy leads to its pod."""
        address = self.node.get("service", "tokenyield-collector", "--namespace", NAMESPACE)["spec"]["clusterIP"]
        return f"http://{address}:9464"

    def ask(self, path: str) -> bytes:
        request = urllib.request.Request(f"{self.url()}{path}", headers={"Authorization": f"Bearer {self.reader()}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            body: bytes = answer.read()
            return body

    def summary(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.ask("/v1/summary"))
        return answer

    def ledger(self, sql: str) -> list[tuple[Any, ...]]:
        """Of a copy that the collector makes of its ledger, as an operator would have it made."""
        self._copies += 1
        name = f"copy-{self._copies}.duckdb"
        self.node.kubectl("exec", "statefulset/tokenyield-collector", "--namespace", NAMESPACE, "--", "tokenyield-collector",
                          "backup", "--config", "/etc/tokenyield/collector.yaml", f"/state/{name}")  # fmt: skip
        copy = self.folder / name
        shutil.move(self.volume / name, copy)
        rows = query(copy, sql)
        copy.unlink()
        return rows

    def counted(self) -> dict[str, int]:
        """All tokens and requests in the ledger."""
        return counted(self.ledger(COUNTED)[0])


def readme_script(heading: str) -> str:
    """The commands below a heading of the chart's README."""
    section = (ROOT / "helm" / "tokenyield" / "README.md").read_text().partition(f"## {heading}\n")[2]
    return section.partition("```sh\n")[2].partition("```")[0]


COUNTED = f"SELECT {', '.join(f'sum({name})' for name in TOKENS)} FROM token_windows"


def query(ledger: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(ledger), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def counted(row: tuple[Any, ...]) -> dict[str, int]:
    """Of the answer to COUNTED."""
    return {name: int(value or 0) for name, value in zip(TOKENS, row, strict=True)}


def uid(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["uid"])


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
