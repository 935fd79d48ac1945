"""Every setting of the agent, its default with the reason, and its check, in one place.

Read from `agent.yaml`, then the environment (`TOKENYIELD_AGENT_<NAME>`), then `--set name=value`.
"""

import os
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tokenyield_agent.tokens.dialects.registry import DIALECTS
from tokenyield_settings.loader import load

ENVIRONMENT_PREFIX = "TOKENYIELD_AGENT_"


def _setting(default: Any, help_text: str) -> Any:
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True, kw_only=True)
class WorkloadSettings:
    """One inference server whose log is followed. `gpus` names what it holds; left out, it is found by processes."""

    name: str
    log: str
    dialect: str = "auto"
    model: str | None = None
    start: Literal["end", "beginning"] = "end"
    """Where to begin in a log that exists at the agent's first start. A log that appears later is read whole."""
    gpus: tuple[int | str, ...] = ()
    pid_file: str | None = None
    process: str | None = None
    """Regular expression found in the command line of the server's process."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The agent's settings. Units are in the names."""

    cluster: str = _setting("default", "cluster that this node belongs to, a label on everything")
    node: str = _setting("", "name of this node; empty: the host name")
    state_dir: str = _setting("/var/lib/tokenyield-agent", "folder for the spool and the agent's identity")
    collector_url: str = _setting("http://127.0.0.1:9464", "the collector's base address")
    collector_token_file: str | None = _setting(None, "file with the bearer token; read again for every shipment")
    collector_ca_file: str | None = _setting(None, "CA certificates to trust for https; empty: the system's")
    collector_client_cert_file: str | None = _setting(None, "client certificate (PEM) for mutual TLS")
    collector_client_key_file: str | None = _setting(None, "key of the client certificate")
    collector_timeout_s: float = _setting(30.0, "how long one shipment may take; a busy collector answers within 1 s")
    gpu_reader: Literal["nvml", "trace", "none"] = _setting("nvml", "where GPU readings come from")
    gpu_trace_file: str | None = _setting(None, "recorded trace to replay when gpu_reader is trace")
    poll_interval_ms: int = _setting(1000, "between two readings; NVML's own utilization sample is up to 1 s long")
    window_length_s: int = _setting(15, "length of a window; must divide an hour")
    window_settle_s: int = _setting(12, "how long a window waits for rates that speak of it; vLLM reports every 10 s")
    restart_bridge_s: int = _setting(
        3600, "a pause of the agent up to this long is reported as unknown time with its energy; a longer one is dark"
    )
    spool_bytes_max: int = _setting(256 * 2**20, "bytes on disk; four weeks of an 8-GPU node at 1.5 kB a window")
    spool_age_max_s: int = _setting(7 * 86400, "older batches are given up; collectors refuse them by default")
    ship_batches_max: int = _setting(64, "batches in one request, so that a backlog drains quickly")
    status_listen: str = _setting("127.0.0.1:9465", "address of /metrics, /healthz and /readyz; empty: none")
    log_format: Literal["text", "json"] = _setting("text", "one line an event, as key=value or as JSON")
    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", "least level that is logged")
    workloads: tuple[WorkloadSettings, ...] = _setting((), "inference servers to follow, see agent.yaml")

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
        if not 100 <= self.poll_interval_ms <= 10_000:
            yield f"poll_interval_ms: {self.poll_interval_ms} is outside 100 to 10000"
        if self.window_length_s < 1 or 3600 % self.window_length_s:
            yield f"window_length_s: {self.window_length_s} does not divide an hour; use 5, 10, 15, 30 or 60"
        if self.window_settle_s < 0:
            yield f"window_settle_s: {self.window_settle_s} is negative"
        if self.spool_bytes_max < 4 * 2**20:
            yield f"spool_bytes_max: {self.spool_bytes_max} is less than 4 MiB, which holds a few minutes"
        if not 1 <= self.ship_batches_max <= 256:
            yield f"ship_batches_max: {self.ship_batches_max} is outside 1 to 256"
        if self.gpu_reader == "trace" and not self.gpu_trace_file:
            yield "gpu_trace_file: is empty while gpu_reader is trace; name a file made by `tokenyield-agent record`"
        if bool(self.collector_client_cert_file) != bool(self.collector_client_key_file):
            yield "collector_client_cert_file and collector_client_key_file: give both or none"
        if self.status_listen and not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[\w.-]*):\d{1,5}", self.status_listen):
            yield f"status_listen: '{self.status_listen}' is no address; write host:port"
        yield from self._workload_faults()

    def _workload_faults(self) -> Iterator[str]:
        names: set[str] = set()
        for i, workload in enumerate(self.workloads):
            at = f"workloads[{i}]"
            if not re.fullmatch(r"[\w./:@-]{1,200}", workload.name):
                yield f"{at}.name: '{workload.name}' wants 1 to 200 letters, digits or ._/:@-"
            if workload.name in names:
                yield f"{at}.name: '{workload.name}' stands twice; every workload needs its own"
            names.add(workload.name)
            if not os.path.isabs(workload.log):
                yield f"{at}.log: '{workload.log}' is not an absolute path"
            if workload.dialect != "auto" and workload.dialect not in DIALECTS:
                yield f"{at}.dialect: '{workload.dialect}' is unknown; known are auto, {', '.join(sorted(DIALECTS))}"
            try:
                re.compile(workload.process or "")
            except re.error as error:
                yield f"{at}.process: '{workload.process}' is no regular expression ({error})"


def load_settings(file: Path | None, environ: Mapping[str, str], flags: list[str]) -> Settings:
    """Raises `tokenyield_settings.loader.SettingsError` with every fault."""
    return load(Settings, file=file, environ=environ, flags=flags, prefix=ENVIRONMENT_PREFIX)
