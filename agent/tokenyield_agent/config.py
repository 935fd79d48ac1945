"""Every setting of the agent, its default with the reason, and its check, in one place.

Read from `agent.yaml`, then the environment (`TOKENYIELD_AGENT_<NAME>`), then `--set name=value`.
"""

import argparse
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tokenyield_agent.gpu import READERS
from tokenyield_agent.tokens.dialects.json_lines import LABELS
from tokenyield_agent.tokens.dialects.pattern import PatternSettings
from tokenyield_settings.addresses import is_loopback
from tokenyield_settings.loader import load, setting
from tokenyield_wire.window import LABELS_MAX

ENVIRONMENT_PREFIX = "TOKENYIELD_AGENT_"
OWN_LABELS_MAX = LABELS_MAX // 2 - 2
"""Of a workload, from its settings or its pod; its namespace, pod and container come besides."""


@dataclass(frozen=True, kw_only=True)
class WorkloadSettings:
    """One inference server. Its tokens come from `metrics` (its Prometheus endpoint), and from `log` or `journal` while
    that does not answer. `gpus` names what it holds; left out, it is found by processes."""

    name: str
    log: str | None = None
    """A file or a pattern of files."""
    journal: str | None = None
    """A systemd unit."""
    metrics: str | None = None
    """http://host:port, with or without the path."""
    dialect: str = "auto"
    model: str | None = None
    start: Literal["end", "beginning"] = "end"
    """Where to begin in a log that exists at the agent's first start. A log that appears later is read whole."""
    gpus: tuple[int | str, ...] = ()
    pid_file: str | None = None
    process: str | None = None
    """Regular expression found in the command line of the server's process."""
    labels: dict[str, str] = field(default_factory=dict)
    """Such as team and product; they travel with everything that is told of it."""


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """One gateway's log, which tells who asked. Its tokens are demand: never added to those that servers made."""

    name: str
    log: str | None = None
    journal: str | None = None
    dialect: str = "auto"
    start: Literal["end", "beginning"] = "end"
    fields: dict[str, str] = field(default_factory=dict)
    """Label of the asker -> field of the line, for dialects that read JSON of the operator's own making."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The agent's settings. Units are in the names."""

    cluster: str = setting("default", "cluster that this node belongs to, a label on everything")
    node: str = setting("", "name of this node; empty: the host name")
    node_labels: dict[str, str] = field(
        default_factory=dict, metadata={"help": "what is known of this node (rack, contract): price books may match it"}
    )
    state_dir: str = setting("/var/lib/tokenyield-agent", "folder for the spool and the agent's identity")
    collector_url: str = setting("http://127.0.0.1:9464", "the collector's base address")
    collector_token_file: str | None = setting(None, "file with the bearer token; read again for every shipment")
    collector_ca_file: str | None = setting(None, "CA certificates to trust for https; empty: the system's")
    collector_client_cert_file: str | None = setting(None, "client certificate (PEM) for mutual TLS")
    collector_client_key_file: str | None = setting(None, "key of the client certificate")
    collector_timeout_s: float = setting(
        30.0, "how long one shipment may take; a busy collector answers within 1 s", within=(0.1, 600)
    )
    gpu_reader: str = setting("nvml", f"where GPU readings come from: {', '.join(READERS)}")
    gpu_trace_file: str | None = setting(None, "recorded trace to replay when gpu_reader is trace")
    host_energy: Literal["auto", "rapl", "power_meter", "dcmi", "off"] = setting(
        "auto", "how the host's own energy is read, see docs/gpu.md; auto takes the best that can be read"
    )
    poll_interval_ms: int = setting(
        1000, "between two readings; NVML's own utilization sample is up to 1 s long", within=(100, 10_000)
    )
    window_length_s: int = setting(15, "length of a window; must divide an hour", within=(1, 3600))
    window_settle_s: int = setting(
        12, "how long a window waits for rates that speak of it; vLLM reports every 10 s", within=(0, 600)
    )
    parked_after_s: int = setting(
        600,
        "a held GPU whose workload has made no token for so long, while its SMs are nearly idle, is parked",
        within=(1, 30 * 86_400),
    )
    parked_sm_percent: int = setting(
        5, "nearly idle: up to this much SM activity (older GPUs: utilization)", within=(0, 100)
    )
    restart_bridge_s: int = setting(
        3600,
        "a pause of the agent up to this long is reported as unknown time with its energy; a longer one is dark",
        within=(0, 86_400),
    )
    spool_bytes_max: int = setting(
        256 * 2**20, "bytes on disk; four weeks of an 8-GPU node at 1.5 kB a window", within=(4 * 2**20, 2**40)
    )
    spool_keep_bytes: int = setting(
        32 * 2**20,
        "of these, batches that have their receipt, for a collector that is restored from a backup",
        within=(0, 2**40),
    )
    spool_age_max_s: int = setting(
        7 * 86400, "older batches are given up; collectors refuse them by default", within=(60, 366 * 86_400)
    )
    ship_batches_max: int = setting(64, "batches in one request, so that a backlog drains quickly", within=(1, 256))
    status_listen: str = setting("127.0.0.1:9465", "address of /metrics, /healthz and /readyz; empty: none")
    web_config_file: str | None = setting(
        None, "TLS and basic auth of status_listen, as Prometheus' exporter-toolkit has it, see docs/access.md"
    )
    insecure: bool = setting(False, "status_listen beyond loopback without authentication")
    log_format: Literal["text", "json"] = setting("text", "one line an event, as key=value or as JSON")
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "least level that is logged")
    scrape_interval_s: float = setting(
        5.0, "between two looks at a server's counters; three fit into a window", within=(1, 600)
    )
    scrape_timeout_s: float = setting(2.0, "how long a server may take to show its counters", within=(0.1, 30))
    discover: bool = setting(True, "find workloads by the processes that hold GPUs")
    discover_endpoints: bool = setting(True, "ask ports on which such processes listen for /metrics, once each")
    proc_dir: str = setting("/proc", "the host's /proc; in a container, where it is mounted")
    pods_dir: str = setting("/var/log/pods", "where the kubelet keeps logs")
    docker_dir: str = setting("/var/lib/docker/containers", "where Docker keeps logs")
    journal_dir: str | None = setting(None, "another journal than this host's, as journalctl's --directory")
    pod_resources_socket: str = setting(
        "/var/lib/kubelet/pod-resources/kubelet.sock", "tells GPUs allocated to pods; empty: not asked"
    )
    pod_labels: dict[str, str] = field(
        default_factory=dict,
        metadata={"help": "label here -> a pod's label or annotation; asks the API server, see agent.yaml"},
    )
    asker_labels: tuple[str, ...] = setting(
        ("team", "key", "project", "org"), "what may be told of who asked a gateway; also known: user, end_user, tags"
    )
    dialects: tuple[PatternSettings, ...] = setting((), "log formats of your own, see agent.yaml")
    workloads: tuple[WorkloadSettings, ...] = setting((), "inference servers to follow, see agent.yaml")
    gateways: tuple[GatewaySettings, ...] = setting((), "gateways whose logs tell who asked, see agent.yaml")

    @property
    def node_name(self) -> str:
        return self.node or socket.gethostname()

    @property
    def status_address(self) -> tuple[str, int] | None:
        if not self.status_listen:
            return None
        host, _, port = self.status_listen.rpartition(":")
        return host.strip("[]"), int(port)

    def faults(self) -> Iterator[str]:
        """What is wrong across fields, each with the mend."""
        if not self.collector_url.startswith(("http://", "https://")):
            yield f"collector_url: '{self.collector_url}' is no address; write http://host:port or https://host:port"
        elif "@" in urlsplit(self.collector_url).netloc:
            yield "collector_url: holds a password, which would be logged; use collector_token_file"
        if self.window_length_s and 3600 % self.window_length_s:
            yield f"window_length_s: {self.window_length_s} does not divide an hour; use 5, 10, 15, 30 or 60"
        if self.gpu_reader not in READERS:
            yield f"gpu_reader: expected one of {', '.join(READERS)}, found '{self.gpu_reader}'"
        if self.gpu_reader == "trace" and not self.gpu_trace_file:
            yield "gpu_trace_file: is empty while gpu_reader is trace; name a file made by `tokenyield-agent record`"
        if bool(self.collector_client_cert_file) != bool(self.collector_client_key_file):
            yield "collector_client_cert_file and collector_client_key_file: give both or none"
        if self.status_listen and not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[\w.-]*):\d{1,5}", self.status_listen):
            yield f"status_listen: '{self.status_listen}' is no address; write host:port"
        elif self._is_open():
            where = f"status_listen: {self.status_listen} can be reached from other hosts"
            mend = "name a web_config_file that asks who comes, or set insecure: true behind a network policy"
            yield f"{where}; {mend}"
        if len(self.node_labels) > OWN_LABELS_MAX:
            yield f"node_labels: {len(self.node_labels)} are more than {OWN_LABELS_MAX}"
        if len(self.pod_labels) > OWN_LABELS_MAX:
            yield f"pod_labels: {len(self.pod_labels)} are more than {OWN_LABELS_MAX}"
        yield from self._source_faults()

    def _is_open(self) -> bool:
        address = self.status_address
        return address is not None and not (self.insecure or self.web_config_file or is_loopback(address[0]))

    def _source_faults(self) -> Iterator[str]:
        yield from _label_faults("asker_labels", self.asker_labels)
        if not (self.dialects or self.workloads or self.gateways):
            return
        from tokenyield_agent.tokens.dialects.registry import (  # all of them: only where it is needed
            GATEWAY_DIALECTS,
            SERVER_DIALECTS,
        )

        own = {pattern.name for pattern in self.dialects}
        for i, pattern in enumerate(self.dialects):
            yield from pattern.faults(f"dialects[{i}]")
            if pattern.name in ("auto", *SERVER_DIALECTS, *GATEWAY_DIALECTS):
                yield f"dialects[{i}].name: '{pattern.name}' is a dialect already; choose another name"
        used: set[str] = set()
        for i, workload in enumerate(self.workloads):
            yield from _common_faults(f"workloads[{i}]", workload, used, {"auto", *SERVER_DIALECTS, *own})
            yield from _workload_faults(f"workloads[{i}]", workload)
        for i, gateway in enumerate(self.gateways):
            yield from _common_faults(f"gateways[{i}]", gateway, used, {"auto", *GATEWAY_DIALECTS, *own})
            if not (gateway.log or gateway.journal):
                yield f"gateways[{i}].log: is missing; name the gateway's log, or its journal unit"
            yield from _label_faults(f"gateways[{i}].fields", gateway.fields)


def _common_faults(
    at: str, source: WorkloadSettings | GatewaySettings, used: set[str], dialects: set[str]
) -> Iterator[str]:
    if not re.fullmatch(r"[\w./:@-]{1,200}", source.name):
        yield f"{at}.name: '{source.name}' wants 1 to 200 letters, digits or ._/:@-"
    if source.name in used:
        yield f"{at}.name: '{source.name}' stands twice; every workload and gateway needs its own"
    used.add(source.name)
    if source.log and source.journal:
        yield f"{at}.journal: stands beside log; the same lines would count twice: keep one of them"
    if source.log and not os.path.isabs(source.log):
        yield f"{at}.log: '{source.log}' is not an absolute path"
    if source.journal and not re.fullmatch(r"[\w@:.\\-]{1,200}\.(service|scope)", source.journal):
        yield f"{at}.journal: '{source.journal}' is no unit; write it whole, as vllm.service"
    if source.dialect not in dialects:
        yield f"{at}.dialect: '{source.dialect}' is unknown; known are {', '.join(sorted(dialects))}"


def _workload_faults(at: str, workload: WorkloadSettings) -> Iterator[str]:
    if not (workload.log or workload.journal or workload.metrics):
        yield f"{at}.log: is missing; name the server's log, its journal unit, or its metrics endpoint"
    if workload.metrics:
        split = urlsplit(workload.metrics)
        if split.scheme not in ("http", "https") or not split.hostname:
            yield f"{at}.metrics: '{workload.metrics}' is no address; write http://host:port"
        elif "@" in split.netloc:
            yield f"{at}.metrics: holds a user or a password, which would be logged; only open endpoints are read"
    try:
        re.compile(workload.process or "")
    except re.error as error:
        yield f"{at}.process: '{workload.process}' is no regular expression ({error})"
    if len(workload.labels) > OWN_LABELS_MAX:
        yield f"{at}.labels: {len(workload.labels)} are more than {OWN_LABELS_MAX}"


def _label_faults(at: str, labels: Iterable[str]) -> Iterator[str]:
    for label in labels:
        if label not in LABELS:
            yield f"{at}: unknown label '{label}' of an asker; known are {', '.join(LABELS)}"


def load_settings(file: Path | None, environ: Mapping[str, str], flags: list[str]) -> Settings:
    """Raises `tokenyield_settings.loader.SettingsError` with every fault."""
    return load(Settings, file=file, environ=environ, flags=flags, prefix=ENVIRONMENT_PREFIX)


def settings_of(arguments: argparse.Namespace) -> Settings:
    """The settings that a command's --config and --set name. Raises `SettingsError`."""
    return load_settings(arguments.config, os.environ, arguments.set)
