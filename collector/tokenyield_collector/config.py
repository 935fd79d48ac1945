"""Every setting of the collector, its default with the reason, and its check, in one place.

Read from `collector.yaml`, then the environment (`TOKENYIELD_COLLECTOR_<NAME>`), then `--set name=value`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tokenyield_settings.loader import load

ENVIRONMENT_PREFIX = "TOKENYIELD_COLLECTOR_"


def _setting(default: Any, help_text: str) -> Any:
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The collector's settings. Units are in the names."""

    listen: str = _setting(
        "127.0.0.1:9464", "address of everything served; beyond loopback something has to ask who comes"
    )
    insecure: bool = _setting(False, "listen beyond loopback without authentication")
    token_file: str | None = _setting(None, "accepted bearer tokens, one a line, and what each may, see docs/access.md")
    web_config_file: str | None = _setting(
        None, "TLS, client certificates, basic auth, as Prometheus' exporter-toolkit has it, see docs/access.md"
    )
    ledger_path: str = _setting("/var/lib/tokenyield-collector/ledger.duckdb", "the ledger's file")
    ledger_memory: str = _setting(
        "800MB", "memory that DuckDB may take; the rest of a collector takes up to 0.5 GB more"
    )
    ledger_url: str | None = _setting(
        None, "clickhouse://user@host:9000/database instead of ledger_path, see docs/scale.md"
    )
    ledger_password_file: str | None = _setting(None, "file with the password of ledger_url's user")
    ledger_cluster: str = _setting("", "cluster of ledger_url's remote_servers; empty: that one server")
    prices_file: str | None = _setting(None, "the price book, see prices.yaml; empty: usage without cost")
    attribution_file: str | None = _setting(
        None, "rules, sharing and budgets, see attribution.yaml; empty: built-in rules"
    )
    body_bytes_max: int = _setting(4 * 2**20, "compressed body of one shipment; 256 batches of 8 GPUs are 0.3 MB")
    decompressed_bytes_max: int = _setting(32 * 2**20, "the same decompressed, so that a bomb is not unpacked")
    body_wait_s: float = _setting(30.0, "how long a body may take to come, and an answer to be read")
    connections_max: int = _setting(20_000, "connections at once; an agent keeps one. Needs as many file handles")
    agent_batches_per_s: float = _setting(
        50.0, "batches of one node in the long run, a minute's worth at once; at work it sends four a minute"
    )
    clock_skew_max_s: int = _setting(300, "how far in the future a window may end; agents keep time with NTP")
    commit_interval_ms: int = _setting(200, "how long a batch may wait for others to be committed with it")
    commit_batches_max: int = _setting(2000, "batches in one commit; reached earlier, it starts at once")
    queue_batches_max: int = _setting(20_000, "batches waiting for a commit; beyond it agents are asked to come later")
    windows_keep_days: int = _setting(7, "raw windows; older batches are refused, hours are kept")
    hours_keep_days: int = _setting(400, "hours; a year and a month, to compare with last year")
    refresh_interval_s: float = _setting(5.0, "between two recomputations of changed hours and of /metrics")
    live_lag_s: int = _setting(45, "how long the newest windows take to arrive; the live view ends this long ago")
    live_window_s: int = _setting(300, "stretch over which the live ratios are taken")
    live_grid_s: int = _setting(15, "the live view starts and ends on multiples of this; agents' windows divide it")
    metrics_workloads_max: int = _setting(500, "workloads with series of their own; the rest are one '(other)'")
    metrics_groups_max: int = _setting(
        500, "teams and products, and their models, with series of their own; the rest are one '(other)'"
    )
    log_format: Literal["text", "json"] = _setting("text", "one line an event, as key=value or as JSON")
    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", "least level that is logged")

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    def faults(self) -> Iterator[str]:
        """What is wrong across fields, each with the mend."""
        _, _, port = self.listen.rpartition(":")
        if not port.isdigit() or int(port) > 65535:
            yield f"listen: '{self.listen}' is no address; write host:port"
        if self.ledger_url:
            yield from _faults_of_url(self.ledger_url)
        if not 1 <= self.commit_interval_ms <= 10_000:
            yield f"commit_interval_ms: {self.commit_interval_ms} is outside 1 to 10000"
        for name in (
            "body_bytes_max",
            "decompressed_bytes_max",
            "commit_batches_max",
            "queue_batches_max",
            "connections_max",
        ):
            if getattr(self, name) < 1:
                yield f"{name}: {getattr(self, name)} wants to be at least 1"
        if self.agent_batches_per_s <= 0 or self.body_wait_s <= 0:
            yield "agent_batches_per_s and body_wait_s want to be positive"
        if self.windows_keep_days < 1 or self.hours_keep_days < self.windows_keep_days:
            yield "hours_keep_days wants to be at least windows_keep_days, and that at least 1"
        if self.live_grid_s < 1 or self.live_window_s % self.live_grid_s:
            yield f"live_window_s: {self.live_window_s} is no multiple of live_grid_s ({self.live_grid_s})"
        if self.live_window_s < 1 or self.live_lag_s < 0 or self.refresh_interval_s <= 0:
            yield "live_window_s, live_lag_s and refresh_interval_s want to be positive"


def _faults_of_url(url: str) -> Iterator[str]:
    from tokenyield_collector.ledger.clickhouse_client import parse_address

    try:
        parse_address(url)
    except ValueError as error:
        yield f"ledger_url: {error}"


def load_settings(file: Path | None, environ: Mapping[str, str], flags: list[str]) -> Settings:
    """Raises `tokenyield_settings.loader.SettingsError` with every fault."""
    return load(Settings, file=file, environ=environ, flags=flags, prefix=ENVIRONMENT_PREFIX)
