"""Every setting of the collector, with its default, its reason and its check, in one place.

Read from `collector.yaml`, then the environment (`TOKENYIELD_COLLECTOR_<NAME>`), then `--set name=value`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenyield_collector.spend.otlp.document import OTLP_PREFIX
from tokenyield_settings.loader import load, setting
from tokenyield_wire.units import MS_PER_DAY

PART_BYTES_MAX = 64 * 2**20
"""Estimated memory of the part of a large shipment that is decoded and committed at once; 256 batches of 8 GPUs are
40 MB."""
ENVIRONMENT_PREFIX = "TOKENYIELD_COLLECTOR_"


@dataclass(frozen=True, kw_only=True)
class KubernetesEnrolment:
    """A cluster whose agents enrol with their ServiceAccount tokens. Empty: as where the collector itself runs."""

    cluster: str
    """As its agents name it."""
    service_account: str
    """The agents', as namespace/name."""
    audience: str = "tokenyield-collector"
    """What their tokens are projected for."""
    nodes: tuple[str, ...] = ("*",)
    """Patterns as in a shell, of nodes that enrol by this entry; the first entry that fits a node counts."""
    workloads: str = ""
    """The scope of its nodes' workloads (decision 0016); empty: `nodes`, `kubernetes` where all; `self`: each alone."""
    may: Literal["write", "write,gateway"] = "write"
    api_server: str = ""
    """https://host:port, which is asked to review tokens."""
    ca_file: str = ""
    token_file: str = ""
    """Of an account that may create tokenreviews there (and before Kubernetes 1.30 get pods)."""


@dataclass(frozen=True, kw_only=True)
class CollectorSettings:
    """The collector's settings. Units are in the names."""

    listen: str = setting("127.0.0.1:9464", "address of everything served; beyond loopback authentication is required")
    insecure: bool = setting(False, "listen beyond loopback without authentication")
    token_file: str | None = setting(None, "accepted bearer tokens and what each may do, see docs/access.md")
    web_config_file: str | None = setting(
        None, "TLS, client certificates, basic auth, in the format of Prometheus' exporter-toolkit, see docs/access.md"
    )
    enrol_dir: str | None = setting(
        None,
        "folder of bootstrap secrets, and of the nodes that enrolled, see docs/access.md; empty: no enrolment",
    )
    enrol_key_file: str | None = setting(
        None, "what signs tokens of nodes, the same for several collectors; empty: made in enrol_dir"
    )
    enrol_token_days: int = setting(
        30, "how long the token of an enrolled node is valid; its agent renews it after two thirds", within=(1, 3660)
    )
    enrol_kubernetes: tuple[KubernetesEnrolment, ...] = setting(
        (), "clusters whose agents enrol with their ServiceAccount tokens, see docs/access.md"
    )
    enrol_kubernetes_token_s: int = setting(
        3600, "how long the token of such an agent is valid", within=(60, 366 * 86_400)
    )
    ledger_path: str = setting("/var/lib/tokenyield-collector/ledger.duckdb", "the ledger's file")
    ledger_memory: str = setting("300MB", "memory that DuckDB may use; the rest of a collector uses up to 0.5 GB more")
    ledger_url: str | None = setting(
        None, "clickhouse://user@host:9000/database instead of ledger_path, see docs/scale.md"
    )
    ledger_password_file: str | None = setting(None, "file with the password of ledger_url's user")
    ledger_cluster: str = setting("", "cluster of ledger_url's remote_servers; empty: that one server")
    prices_file: str | None = setting(None, "the price book, see prices.yaml; without one there is usage and no cost")
    attribution_file: str | None = setting(
        None, "rules, sharing and budgets, see attribution.yaml; without one the built-in rules"
    )
    spend_file: str | None = setting(
        None, "accounts at vendors whose spend is pulled, see docs/spend.md; without one none is"
    )
    spend_folder: str | None = setting(
        None, "folder whose files are imported: SOURCE/FILE or SOURCE@ACCOUNT/FOLDER/..., see docs/spend.md"
    )
    egress_file: str | None = setting(
        None, "hosts of vendors, sanctioned gateways and who clients are, for `import egress`, see docs/spend.md"
    )
    people: Literal["off", "team", "pseudonym", "name"] = setting(
        "team", "what is kept of persons in spend; team: the team of people_file, and no person, see docs/spend.md"
    )
    people_file: str | None = setting(
        None, "who the mail addresses and ids of vendors are: a mapping to {name: ..., team: ...}"
    )
    people_key_file: str | None = setting(None, "people pseudonym: the secret that pseudonyms are made with")
    otlp_prefix: str = setting(OTLP_PREFIX, "before /v1/metrics, /v1/logs, /v1/traces of OTLP/HTTP, see docs/spend.md")
    otlp_own_fleet: tuple[str, ...] = setting(
        (),
        "patterns of server.address or gen_ai.provider.name in OTLP: requests that the fleet itself served",
    )
    body_bytes_max: int = setting(
        4 * 2**20, "compressed body of one shipment; 256 batches of 8 GPUs are 0.3 MB", within=(1, 2**30)
    )
    decompressed_bytes_max: int = setting(
        32 * 2**20, "the same decompressed, so that a small body cannot take much memory", within=(1, 2**32)
    )
    ingest_memory_bytes_max: int = setting(
        192 * 2**20,
        "estimated memory of shipments that are decoded and committed at once; others wait",
        within=(2**20, 2**40),
    )
    body_wait_s: float = setting(30.0, "time for a body to arrive, and for an answer to be read", within=(0.01, 600))
    connections_max: int = setting(
        20_000, "connections at once; an agent keeps one. Needs as many file handles", within=(1, 1_000_000)
    )
    connections_per_address_max: int = setting(
        10_000,
        "connections of one address at once (IPv6: of its /64); lower it where agents have addresses of their own",
        within=(1, 1_000_000),
    )
    agent_batches_per_s: float = setting(
        50.0,
        "batches of one node in the long run, a minute's worth at once; normally it sends four a minute",
        within=(0.01, 1_000_000),
    )
    clock_skew_max_s: int = setting(
        300, "how far in the future a window may end; hosts should use NTP", within=(0, 86_400)
    )
    commit_interval_ms: int = setting(
        200, "how long a batch may wait for others to be committed with it", within=(1, 10_000)
    )
    commit_batches_max: int = setting(
        2000, "batches in one commit; when so many wait, it starts at once", within=(1, 1_000_000)
    )
    queue_batches_max: int = setting(
        20_000, "batches waiting for a commit; beyond it agents are answered to retry later", within=(1, 10_000_000)
    )
    windows_keep_days: int = setting(7, "raw windows; older batches are refused, and hours stay", within=(1, 3660))
    hours_keep_days: int = setting(400, "hours; a year and a month, to compare with last year", within=(1, 36_600))
    close_after_days: int | None = setting(
        None,
        "days after its end at which a month is closed; empty: windows_keep_days, when late windows are refused",
        within=(0, 3660),
    )
    refresh_interval_s: float = setting(
        5.0, "time between two recomputations of changed hours and of /metrics", within=(0.01, 3600)
    )
    live_lag_s: int = setting(
        45, "time that the newest windows take to arrive; the live view ends this long ago", within=(0, 3600)
    )
    live_window_s: int = setting(300, "stretch over which the live ratios are computed", within=(1, 86_400))
    live_grid_s: int = setting(
        15, "the live view starts and ends on multiples of this; agents' windows divide it", within=(1, 3600)
    )
    metrics_series_max: int = setting(
        80_000,
        "series of /metrics whose labels others choose; the names beyond it are one '(other)', see docs/metrics.md",
        within=(0, 10_000_000),
    )
    log_format: Literal["text", "json"] = setting("text", "one line an event, as key=value or as JSON")
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "lowest level that is logged")

    @property
    def close_after_ms(self) -> int:
        """How long after its end a month is closed."""
        days = self.windows_keep_days if self.close_after_days is None else self.close_after_days
        return days * MS_PER_DAY

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    def faults(self) -> Iterator[str]:
        """What is wrong across fields, and how to fix it."""
        _, _, port = self.listen.rpartition(":")
        if not port.isdigit() or int(port) > 65535:
            yield f"listen: expected host:port, found '{self.listen}'"
        if self.ledger_url:
            yield from _faults_of_url(self.ledger_url)
        yield from self._enrol_faults()
        if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", self.otlp_prefix) or self.otlp_prefix == "/v1":
            yield f"otlp_prefix: expected a path such as /otlp, found '{self.otlp_prefix}'; correct it"
        if self.people == "pseudonym" and not self.people_key_file:
            yield "people_key_file: expected a file with people pseudonym, found none; openssl rand -hex 32 > FILE"
        if self.hours_keep_days < self.windows_keep_days:
            yield (
                f"hours_keep_days: expected at least windows_keep_days ({self.windows_keep_days}), "
                f"found {self.hours_keep_days}"
            )
        if self.ingest_memory_bytes_max < (least := 2 * (self.decompressed_bytes_max + PART_BYTES_MAX)):
            yield (
                f"ingest_memory_bytes_max: expected at least {least}, twice decompressed_bytes_max and "
                f"{PART_BYTES_MAX}, found {self.ingest_memory_bytes_max}"
            )
        if self.live_grid_s and self.live_window_s % self.live_grid_s:
            yield f"live_window_s: expected a multiple of live_grid_s ({self.live_grid_s}), found {self.live_window_s}"

    def _enrol_faults(self) -> Iterator[str]:
        if not self.enrol_dir:
            for name in ("enrol_kubernetes", "enrol_key_file"):
                if getattr(self, name):
                    yield f"{name}: expected enrol_dir with it, found none; name a folder for the collector"
        unlimited: set[tuple[str, str, str]] = set()
        for i, entry in enumerate(self.enrol_kubernetes):
            at = f"enrol_kubernetes[{i}]"
            agents = (entry.cluster, entry.service_account, entry.audience)
            if agents in unlimited:
                yield (
                    f"{at}: expected agents that no earlier entry takes all nodes of, found cluster '{entry.cluster}', "
                    f"{entry.service_account} again; put the entry with the narrower nodes first, or remove one"
                )
            if "*" in entry.nodes:
                unlimited.add(agents)
            if not entry.nodes or not all(entry.nodes):
                yield f"{at}.nodes: expected patterns of nodes, as [gpu-*], found none; leave it out for all nodes"
            if not re.fullmatch(r"[a-z0-9.-]{1,253}/[a-z0-9.-]{1,253}", entry.service_account):
                yield f"{at}.service_account: expected namespace/name, found '{entry.service_account}'; correct it"
            if not entry.audience:
                yield f"{at}.audience: expected a name, found none; without one every ServiceAccount token would do"
            if entry.api_server and not entry.api_server.startswith("https://"):
                yield f"{at}.api_server: expected https://host:port, found '{entry.api_server}'; correct it"


def _faults_of_url(url: str) -> Iterator[str]:
    from tokenyield_collector.ledger.clickhouse.client import parse_address

    try:
        parse_address(url)
    except ValueError as error:
        yield f"ledger_url: {error}"


def load_settings(file: Path | None, environ: Mapping[str, str], flags: list[str]) -> CollectorSettings:
    """Raises `tokenyield_settings.loader.SettingsError` with every fault."""
    return load(CollectorSettings, file=file, environ=environ, flags=flags, prefix=ENVIRONMENT_PREFIX)
