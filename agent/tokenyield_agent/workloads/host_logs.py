"""Where container runtimes keep their logs on this host. A thin reader; what it cannot read is unknown.

In: a `Place`. Out: a `ContainerLog`: the log's path or pattern, and the names in its path, without any request to an
API server. Kubernetes: /var/log/pods/<namespace>_<pod>_<uid>/<container>/<restarts>.log. Docker:
/var/lib/docker/containers/<id>/<id>-json.log, with the name in config.v2.json beside it.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from tokenyield_agent.workloads.process_location import Place

CONFIG_BYTES_MAX = 1 << 20
ENTRIES_MAX = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerLog:
    """The log of one container. `pattern` is None where there is none to read."""

    pattern: str | None = None
    namespace: str | None = None
    pod: str | None = None
    container: str | None = None


@lru_cache(maxsize=256)  # it is asked of every configured log at every poll
def pod_of_log_path(path: str) -> tuple[str, str, str, str] | None:
    """(namespace, pod, uid, container) of a path below /var/log/pods; None for any other."""
    parts = path.split("/")
    for i, part in enumerate(parts[:-2]):
        fields = part.split("_")
        if i and parts[i - 1] == "pods" and len(fields) == 3 and all(fields):
            return fields[0], fields[1], fields[2], parts[i + 1]
    return None


class HostLogs:
    """Looks below `pods_dir` and `docker_dir`."""

    def __init__(self, pods_dir: str = "/var/log/pods", docker_dir: str = "/var/lib/docker/containers") -> None:
        self._pods_dir = pods_dir
        self._containers_dir = os.path.join(os.path.dirname(pods_dir), "containers")
        self._docker_dir = docker_dir

    def of(self, place: Place) -> ContainerLog:
        """The log of the container at `place`."""
        if place.pod_uid is not None:
            return self._of_pod(place.pod_uid, place.container)
        if place.container is not None:
            return self._of_docker(place.container)
        return ContainerLog()

    def _of_pod(self, uid: str, container_id: str | None) -> ContainerLog:
        for folder in _names(self._pods_dir):
            namespace, _, rest = folder.partition("_")
            pod, _, folder_uid = rest.rpartition("_")
            if folder_uid.replace("-", "") != uid.replace("-", ""):
                continue
            containers = _names(os.path.join(self._pods_dir, folder))
            name = self._container_name(namespace, pod, container_id)
            if name is None and len(containers) == 1:
                name = containers[0]
            pattern = os.path.join(self._pods_dir, folder, name, "*.log") if name is not None else None
            return ContainerLog(pattern=pattern, namespace=namespace, pod=pod, container=name)
        return ContainerLog()

    def _container_name(self, namespace: str, pod: str, container_id: str | None) -> str | None:
        """From the kubelet's links: <pod>_<namespace>_<container>-<id>.log."""
        if container_id is None:
            return None
        for link in _names(self._containers_dir):
            if link.startswith(f"{pod}_{namespace}_") and link.endswith(f"-{container_id}.log"):
                return link.removeprefix(f"{pod}_{namespace}_").removesuffix(f"-{container_id}.log")
        return None

    def _of_docker(self, container_id: str) -> ContainerLog:
        folder = os.path.join(self._docker_dir, container_id)
        path = os.path.join(folder, f"{container_id}-json.log")
        name = container_id[:12]
        try:
            with open(os.path.join(folder, "config.v2.json"), "rb") as file:
                config: Any = msgspec.json.decode(file.read(CONFIG_BYTES_MAX))
            name = str(config["Name"]).lstrip("/")[:128] or name
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError):
            pass
        return ContainerLog(pattern=path if os.path.exists(path) else None, container=name)


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))[:ENTRIES_MAX]
    except OSError:
        return []
