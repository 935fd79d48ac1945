"""A Kubernetes node with its control plane, of the real programs, on a machine of its own (machine.py).

etcd, containerd, runc and the CNI plugins are Debian's; the API server, controller manager, scheduler, kubelet, kube-proxy,
CoreDNS and kubectl are one program that build_kubernetes.py builds. Out: `kubectl(...)`, `load(image)`, and the machine.
"""

import json
import os
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import wait_until
from kube.machine import THERE, Machine

PODS, SERVICES, API, DNS_PORT = "10.244.0.0/16", "10.96.0.0/16", f"https://{THERE}:6443", 53
LOG_BYTES_MAX = 32_768
"""At which the kubelet rotates a container's log."""
_CONTAINERD = """
version = 2
root = "/mnt/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/opt/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "nvidia"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
        BinaryName = "{nvidia}"
"""
_NETWORK = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "hairpinMode": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]},
        }
    ],
}
_KUBELET = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "volumePluginDir": "/opt/volume-plugins",
    "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
    "clusterDNS": [THERE],
    "clusterDomain": "cluster.local",
    "failCgroupV1": False,
    "failSwapOn": False,
    "cgroupDriver": "cgroupfs",
    "enforceNodeAllocatable": [],
    "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0.1%", "imagefs.available": "0.1%"},
    "localStorageCapacityIsolation": False,
    "containerLogMaxSize": str(LOG_BYTES_MAX),
    "containerLogMaxFiles": 3,
    "containerLogMonitorInterval": "3s",
    "nodeStatusUpdateFrequency": "1s",
    "syncFrequency": "5s",  # also how soon a changed ConfigMap is in its pod
    "shutdownGracePeriod": "0s",
}


class Node:
    """`program`: what build_kubernetes.py built. `nvidia_runtime`: a program that stands for nvidia-container-runtime."""

    def __init__(self, program: Path, nvidia_runtime: Path) -> None:
        self.machine = Machine("gpu-1")
        self.name = self.machine.name
        self._program = str(program)
        self._nvidia = nvidia_runtime
        self._token = secrets.token_hex(16)

    def start(self) -> None:
        self.machine.start()
        for network in (PODS, SERVICES):
            self.machine.route(network)
        self._write_files()
        self._start_runtime()
        self._start_control_plane()
        self._start_kubelet()

    def _path(self, name: str) -> str:
        return str(self.machine.folder / name)

    def _write_files(self) -> None:
        folder = self.machine.folder
        users = {
            "admin": "system:masters",
            f"system:node:{self.name}": "system:nodes",
            "system:kube-controller-manager": "",
            "system:kube-scheduler": "",
            "system:kube-proxy": "",
        }
        lines = []
        for user, group in users.items():
            token = f"{self._token}-{user}"
            lines.append(f'{token},{user},{user},"{group}"')
            self._write_kubeconfig(user, token)
        (folder / "tokens.csv").write_text("\n".join(lines) + "\n")
        for call in (
            ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "accounts.key"],
            ["pkey", "-in", "accounts.key", "-pubout", "-out", "accounts.pub"],
        ):
            subprocess.run(["openssl", *call], cwd=folder, check=True, capture_output=True)
        kubelet = {**_KUBELET, "cgroupRoot": self.machine.cgroup, "resolvConf": self._path("resolv.conf")}
        (folder / "kubelet.json").write_text(json.dumps(kubelet))
        (folder / "resolv.conf").write_text(f"nameserver {THERE}\n")
        (folder / "containerd.toml").write_text(_CONTAINERD.format(nvidia=self._nvidia))
        network = self.machine.path("/opt/cni/net.d/10-pods.conflist")
        network.parent.mkdir(parents=True)
        network.write_text(json.dumps(_NETWORK))
        (folder / "Corefile").write_text(
            f".:{DNS_PORT} {{\n errors\n bind {THERE}\n"
            f" kubernetes cluster.local in-addr.arpa {{\n  kubeconfig {self._path('admin.kubeconfig')}\n }}\n}}\n"
        )

    def _write_kubeconfig(self, user: str, token: str) -> None:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": API, "insecure-skip-tls-verify": True}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        (self.machine.folder / f"{user}.kubeconfig").write_text(json.dumps(config))

    @property
    def kubeconfig(self) -> str:
        return self._path("admin.kubeconfig")

    def _start_runtime(self) -> None:
        self.machine.launch("containerd", "containerd", "--config", self._path("containerd.toml"))
        self._until(lambda: self._ctr("version") != "", "containerd answers")

    def _ctr(self, *call: str) -> str:
        return self.machine.run("ctr", "--address", "/run/containerd/containerd.sock", "--namespace", "k8s.io", *call)

    def load(self, archive: Path) -> None:
        """An image, as docker-archive."""
        self._ctr("images", "import", str(archive))

    def _kube(self, name: str, *flags: str) -> None:
        self.machine.launch(name, self._program, name, *flags)

    def _start_control_plane(self) -> None:
        etcd = "http://127.0.0.1:2379"
        self.machine.launch("etcd", "etcd", "--data-dir", self._path("etcd"), "--listen-client-urls", etcd,
                            "--advertise-client-urls", etcd, "--listen-peer-urls", "http://127.0.0.1:2380")  # fmt: skip
        certificates, key = self._path("certificates"), self._path("accounts.key")
        self._kube(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--advertise-address={THERE}",
            f"--cert-dir={certificates}",
            f"--service-cluster-ip-range={SERVICES}",
            f"--token-auth-file={self._path('tokens.csv')}",
            "--allow-privileged=true",  # as every installer sets it
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._path('accounts.pub')}",
            f"--service-account-signing-key-file={key}",
            "--kubelet-preferred-address-types=InternalIP",
        )
        self._until(lambda: self.kubectl("get", "--raw", "/readyz") == "ok", "the API server is ready")
        self._kube(
            "kube-controller-manager",
            f"--kubeconfig={self._path('system:kube-controller-manager.kubeconfig')}",
            f"--service-account-private-key-file={key}",
            f"--root-ca-file={certificates}/apiserver.crt",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            f"--cluster-cidr={PODS}",
        )
        self._kube(
            "kube-scheduler",
            f"--kubeconfig={self._path('system:kube-scheduler.kubeconfig')}",
            "--leader-elect=false",
        )
        self._kube(
            "kube-proxy",
            f"--kubeconfig={self._path('system:kube-proxy.kubeconfig')}",
            f"--hostname-override={self.name}",
            f"--cluster-cidr={PODS}",
            "--masquerade-all=true",  # answers between pods on the bridge come back by this host
            "--conntrack-max-per-core=0",
        )
        self._kube("coredns", "-conf", self._path("Corefile"))

    def _start_kubelet(self) -> None:
        self._kube(
            "kubelet",
            f"--config={self._path('kubelet.json')}",
            f"--kubeconfig={self._path(f'system:node:{self.name}.kubeconfig')}",
            f"--hostname-override={self.name}",
            f"--node-ip={THERE}",
            "--node-labels=nvidia.com/gpu.present=true",
        )
        self._until(self._is_ready, "the node is ready")

    def _is_ready(self) -> bool:
        items = self.get("nodes")["items"]
        return any(c["type"] == "Ready" and c["status"] == "True" for i in items for c in i["status"]["conditions"])

    def offer_gpus(self, *uuids: str) -> None:
        """By a device plugin, as nvidia.com/gpu."""
        self._kube("device-plugin", *uuids)
        self._until(lambda: self.get("node", self.name)["status"]["allocatable"].get("nvidia.com/gpu") == str(len(uuids)),
                    "the kubelet offers the GPUs")  # fmt: skip

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        def holds() -> bool:
            self.machine.assert_all_run()
            try:
                return condition()
            except AssertionError:
                return False

        wait_until(holds, what=f"{what}; logs are in {self.machine.folder}")

    def kubectl(self, *call: str, text: str | None = None) -> str:
        """What kubectl writes, as administrator. `text`: its input."""
        environment = {**os.environ, "HOME": str(self.machine.folder)}  # where it keeps what it has discovered
        done = subprocess.run([self._program, "kubectl", "--kubeconfig", self.kubeconfig, *call], input=text,
                              capture_output=True, text=True, check=False, env=environment)  # fmt: skip
        assert done.returncode == 0, f"kubectl {' '.join(call)}: {done.stderr[-3000:]}"
        return done.stdout

    def get(self, *call: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.kubectl("get", *call, "--output", "json"))
        return answer

    def apply(self, *manifests: dict[str, Any]) -> None:
        self.kubectl(
            "apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        )

    def stop(self) -> None:
        self.machine.stop()
