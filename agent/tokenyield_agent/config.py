"""Every setting of the agent, its default with the reason, and its check, in one place.

Read from `agent.yaml`, then the environment (`TOKENYIELD_AGENT_<NAME>`), then `--set name=value`.
"""

import argparse
import os
import re
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tokenyield_agent.gpu import READERS
from tokenyield_agent.tokens.dialects.json_lines import LABELS
from tokenyield_agent.tokens.dialects.pattern import PatternSettings
from tokenyield_agent.tokens.parsing.request_class import CONTEXT_EDGES, SERVICE_TIERS, class_faults
from tokenyield_settings.addresses import is_loopback
from tokenyield_settings.loader import load, setting
from tokenyield_wire.bounded import bounded
from tokenyield_wire.window import LABELS_MAX, NAME_CHARS_MAX, TEXT_CHARS_MAX

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
    """http://host:port, with or without path and query."""
    metrics_token_file: str | None = None
    """A file with the bearer token for `metrics`, read again for every request."""
    metrics_ca_file: str | None = None
    """CA certificates to trust for an https endpoint, instead of the system's."""
    metrics_when_idle: Literal["always", "rarely", "never"] | None = None
    """How often it is asked while idle; left out, as `scrape_when_idle`."""
    dialect: str = "auto"
    model: str | None = None
    start: Literal["end", "beginning"] = "end"
    """Where to begin in a log that exists at the agent's first start. A log that appears later is read whole."""
    gpus: tuple[int | str, ...] = ()
    pid_file: str | None = None
    process: str | None = None
    """Regular expression found in the command line of the server's process."""
    labels: dict[str, str] = field(default_factory=dict)
    """Such as team and product; they travel with everything that is reported about it."""


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """One gateway's log, which names its callers. Its tokens are demand: never added to those that servers made."""

    name: str
    log: str | None = None
    journal: str | None = None
    dialect: str = "auto"
    start: Literal["end", "beginning"] = "end"
    fields: dict[str, str] = field(default_factory=dict)
    """Label of the caller -> field of the line, for dialects that read JSON of the operator's own making."""


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
    collector_token_file: str | None = setting(
        None, "file with a bearer token of your own; empty: this node's, by enrolment; read again for every shipment"
    )
    enrol_token_file: str | None = setting(
        None,
        "file with what this node's token is exchanged for by itself: a Kubernetes ServiceAccount token, or a "
        "bootstrap secret, see docs/access.md",
    )
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
        12, "how long a window waits for rates that belong to it; vLLM reports every 10 s", within=(0, 600)
    )
    parked_after_s: int = setting(
        600,
        "a held GPU whose workload has made no token for so long, while it is nearly idle, is parked",
        within=(1, 30 * 86_400),
    )
    parked_activity_percent: int = setting(
        5, "nearly idle: up to this much compute activity (older GPUs: utilization)", within=(0, 100)
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
        None, "TLS and basic auth of status_listen, in the format of Prometheus' exporter-toolkit, see docs/access.md"
    )
    insecure: bool = setting(False, "status_listen beyond loopback without authentication")
    log_format: Literal["text", "json"] = setting("text", "one line an event, as key=value or as JSON")
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "least level that is logged")
    scrape_interval_s: float = setting(
        5.0, "between two scrapes of a server's counters; three fit into a window", within=(1, 600)
    )
    scrape_timeout_s: float = setting(2.0, "how long a server may take to answer a scrape", within=(0.1, 30))
    scrape_when_idle: Literal["always", "rarely", "never"] = setting(
        "always",
        "how often a server is scraped while it is idle: rarely is every 10 minutes, never is not before its log shows "
        "a request; for servers that wake up to answer, as llama-server --sleep-idle-seconds did before b10519",
    )
    discover: bool = setting(True, "find workloads by the processes that hold GPUs")
    discover_endpoints: bool = setting(True, "try ports on which such processes listen for /metrics, once each")
    proc_dir: str = setting("/proc", "the host's /proc; in a container, where it is mounted")
    pods_dir: str = setting("/var/log/pods", "where the kubelet keeps logs")
    docker_dir: str = setting("/var/lib/docker/containers", "where Docker keeps logs")
    log_roots: tuple[str, ...] = setting(
        (), "folders to which a log may be a link that root owns, beside pods_dir and docker_dir"
    )
    journal_dir: str | None = setting(None, "another journal than this host's, as journalctl's --directory")
    pod_resources_socket: str = setting(
        "/var/lib/kubelet/pod-resources/kubelet.sock", "reports GPUs allocated to pods; empty: not used"
    )
    slurm_jobs_dir: str = setting(
        "/run/tokenyield-slurm", "where Slurm's prolog writes who has which GPUs, see docs/slurm.md; empty: not used"
    )
    slurm_environment: bool = setting(
        False, "believe the account and partition in a Slurm job's own environment where the prolog wrote nothing"
    )
    pod_labels: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "help": "label here -> a pod's label or annotation, and the pod's owner; asks the API server: agent.yaml"
        },
    )
    caller_labels: tuple[str, ...] = setting(
        ("team", "key", "project", "org", "service_tier"),
        "labels of a gateway's callers that may leave the host; also known: user, end_user, tags, agent_task, session, "
        "agent, context",
    )
    service_tiers: tuple[str, ...] = setting(
        SERVICE_TIERS, "values of the caller's label service_tier; any other is sent as 'other'"
    )
    context_edges: tuple[int, ...] = setting(
        CONTEXT_EDGES, "tokens of a request's prompt at which the classes of the caller's label context end"
    )
    dialects: tuple[PatternSettings, ...] = setting((), "log formats of your own, see agent.yaml")
    workloads: tuple[WorkloadSettings, ...] = setting((), "inference servers to follow, see agent.yaml")
    gateways: tuple[GatewaySettings, ...] = setting((), "gateways whose logs name their callers, see agent.yaml")

    @property
    def node_name(self) -> str:
        """`node`, or the host's name."""
        return self.node or socket.gethostname()

    @property
    def status_address(self) -> tuple[str, int] | None:
        """Host and port of `status_listen`; None where nothing is served."""
        if not self.status_listen:
            return None
        host, _, port = self.status_listen.rpartition(":")
        return host.strip("[]"), int(port)

    def faults(self) -> Iterator[str]:
        """What is wrong across fields: expected, found, how to fix it."""
        yield from self._collector_faults()
        if self.window_length_s and 3600 % self.window_length_s:
            found = self.window_length_s
            yield f"window_length_s: expected a divisor of an hour, found {found}; use 5, 10, 15, 30 or 60"
        if self.gpu_reader not in READERS:
            yield f"gpu_reader: expected one of {', '.join(READERS)}, found '{self.gpu_reader}'; correct it"
        if self.gpu_reader == "trace" and not self.gpu_trace_file:
            yield (
                "gpu_trace_file: expected a file, for gpu_reader is trace, found none; "
                "name one made by `tokenyield-agent record`"
            )
        yield from self._status_faults()
        for name in ("node_labels", "pod_labels"):
            yield from _count_faults(name, getattr(self, name))
        yield from _name_faults("cluster", self.cluster)
        yield from _name_faults("node", self.node_name)
        yield from _text_faults("node_labels", self.node_labels)
        for label in self.pod_labels:
            yield from _name_faults(f"pod_labels.{label}", label)
        yield from _label_faults("caller_labels", self.caller_labels)
        yield from class_faults(self.service_tiers, self.context_edges)
        yield from self._source_faults()

    def _collector_faults(self) -> Iterator[str]:
        if not self.collector_url.startswith(("http://", "https://")):
            url = self.collector_url
            yield f"collector_url: expected http://host:port or https://host:port, found '{url}'; correct it"
        elif "@" in urlsplit(self.collector_url).netloc:
            yield ("collector_url: expected no user or password, for it is logged, found one; use collector_token_file")
        if self.collector_token_file and self.enrol_token_file:
            yield (
                "enrol_token_file: expected no collector_token_file with it, whose token is sent instead, found both; "
                "keep one of them"
            )
        if bool(self.collector_client_cert_file) != bool(self.collector_client_key_file):
            yield (
                "collector_client_cert_file: expected it together with collector_client_key_file, found one of them; "
                "give both or none"
            )

    def _status_faults(self) -> Iterator[str]:
        if self.status_listen and not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[\w.-]*):\d{1,5}", self.status_listen):
            yield f"status_listen: expected host:port, found '{self.status_listen}'; correct it"
        elif self._is_open():
            yield (
                f"status_listen: expected a loopback address, found {self.status_listen}, which other hosts can reach; "
                "name a web_config_file that authenticates, or set insecure: true behind a network policy"
            )

    def _is_open(self) -> bool:
        address = self.status_address
        return address is not None and not (self.insecure or self.web_config_file or is_loopback(address[0]))

    def _source_faults(self) -> Iterator[str]:
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
                yield f"dialects[{i}].name: expected a new name, found '{pattern.name}', which is built in; rename it"
        used: set[str] = set()
        for i, workload in enumerate(self.workloads):
            yield from _common_faults(f"workloads[{i}]", workload, used, {"auto", *SERVER_DIALECTS, *own})
            yield from _workload_faults(f"workloads[{i}]", workload)
        for i, gateway in enumerate(self.gateways):
            yield from _common_faults(f"gateways[{i}]", gateway, used, {"auto", *GATEWAY_DIALECTS, *own})
            if not (gateway.log or gateway.journal):
                yield f"gateways[{i}].log: expected the gateway's log or journal unit, found neither; name one"
            yield from _label_faults(f"gateways[{i}].fields", gateway.fields)


def _common_faults(
    at: str, source: WorkloadSettings | GatewaySettings, used: set[str], dialects: set[str]
) -> Iterator[str]:
    if not re.fullmatch(r"[\w./:@-]{1,200}", source.name):
        yield f"{at}.name: expected 1 to 200 letters, digits or ._/:@-, found '{source.name}'; rename it"
    if source.name in used:
        yield f"{at}.name: expected a name of its own, found '{source.name}' twice; rename one"
    used.add(source.name)
    if source.log and source.journal:
        yield f"{at}.journal: expected log or journal, found both, whose lines would count twice; keep one of them"
    if source.log and not os.path.isabs(source.log):
        yield f"{at}.log: expected an absolute path, found '{source.log}'; correct it"
    if source.journal and not re.fullmatch(r"[\w@:.\\-]{1,200}\.(service|scope)", source.journal):
        yield f"{at}.journal: expected a whole unit, as vllm.service, found '{source.journal}'; correct it"
    if source.dialect not in dialects:
        yield f"{at}.dialect: expected one of {', '.join(sorted(dialects))}, found '{source.dialect}'; correct it"


def _workload_faults(at: str, workload: WorkloadSettings) -> Iterator[str]:
    if not (workload.log or workload.journal or workload.metrics):
        yield f"{at}.log: expected the server's log, its journal unit or its metrics endpoint, found none; name one"
    if workload.metrics:
        split = urlsplit(workload.metrics)
        if split.scheme not in ("http", "https") or not split.hostname:
            yield f"{at}.metrics: expected http://host:port, found '{workload.metrics}'; correct it"
        elif "@" in split.netloc:
            yield (
                f"{at}.metrics: expected no user or password, for it is logged, found one; name a file with a token in "
                "metrics_token_file"
            )
    yield from _endpoint_faults(at, workload)
    try:
        re.compile(workload.process or "")
    except re.error as error:
        yield f"{at}.process: expected a regular expression, found '{workload.process}' ({error}); correct it"
    yield from _count_faults(f"{at}.labels", workload.labels)
    yield from _text_faults(f"{at}.labels", workload.labels)


def _endpoint_faults(at: str, workload: WorkloadSettings) -> Iterator[str]:
    for name in ("metrics_token_file", "metrics_ca_file"):
        path = getattr(workload, name)
        if path and not workload.metrics:
            yield f"{at}.{name}: expected metrics with it, found none; name the endpoint"
        elif path and not os.path.isabs(path):
            yield f"{at}.{name}: expected an absolute path, found '{path}'; correct it"
    if workload.metrics_ca_file and workload.metrics and not workload.metrics.startswith("https:"):
        yield f"{at}.metrics_ca_file: expected metrics with https, found '{workload.metrics}'; leave it out"
    if workload.metrics_when_idle == "never" and not (workload.log or workload.journal):
        yield (
            f"{at}.metrics_when_idle: expected a log or journal beside never, which shows when to ask again, found "
            "none; name it, or use rarely"
        )


def _count_faults(at: str, labels: Collection[str]) -> Iterator[str]:
    if len(labels) > OWN_LABELS_MAX:
        yield f"{at}: expected at most {OWN_LABELS_MAX} labels, found {len(labels)}; remove some"


def _name_faults(at: str, name: str) -> Iterator[str]:
    """What is sent with every shipment is checked here: no collector would take one of them."""
    if not name or bounded(name, NAME_CHARS_MAX) != name:
        yield f"{at}: expected 1 to {NAME_CHARS_MAX} characters, found {len(name)}; choose another name"


def _text_faults(at: str, labels: Mapping[str, str]) -> Iterator[str]:
    for label, text in labels.items():
        yield from _name_faults(f"{at}.{label}", label)
        if bounded(text, TEXT_CHARS_MAX) != text:
            yield f"{at}.{label}: expected at most {TEXT_CHARS_MAX} characters, found {len(text)}; shorten it"


def _label_faults(at: str, labels: Iterable[str]) -> Iterator[str]:
    for label in labels:
        if label not in LABELS:
            yield f"{at}: expected labels of a caller ({', '.join(LABELS)}), found '{label}'; correct it"


def load_settings(file: Path | None, environ: Mapping[str, str], flags: list[str]) -> Settings:
    """Raises `tokenyield_settings.loader.SettingsError` with every fault."""
    return load(Settings, file=file, environ=environ, flags=flags, prefix=ENVIRONMENT_PREFIX)


def settings_of(arguments: argparse.Namespace) -> Settings:
    """The settings that a command's --config and --set name. Raises `SettingsError`."""
    return load_settings(arguments.config, os.environ, arguments.set)
