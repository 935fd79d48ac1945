"""Every setting of the collector, its default with the reason, and its check, in one place.

Read from `collector.yaml`, then the environment (`TOKENYIELD_COLLECTOR_<NAME>`), then `--set name=value`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenyield_settings.loader import load, setting

ENVIRONMENT_PREFIX = "TOKENYIELD_COLLECTOR_"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The collector's settings. Units are in the names."""

    listen: str = setting(
        "127.0.0.1:9464", "address of everything served; beyond loopback something has to ask who comes"
    )
    insecure: bool = setting(False, "listen beyond loopback without authentication")
    token_file: str | None = setting(None, "accepted bearer tokens, one a line, and what each may, see docs/access.md")
    web_config_file: str | None = setting(
        None, "TLS, client certificates, basic auth, as Prometheus' exporter-toolkit has it, see docs/access.md"
    )
    ledger_path: str = setting("/var/lib/tokenyield-collector/ledger.duckdb", "the ledger's file")
    ledger_memory: str = setting(
        "800MB", "memory that DuckDB may take; the rest of a collector takes up to 0.5 GB more"
    )
    ledger_url: str | None = setting(
        None, "clickhouse://user@host:9000/database instead of ledger_path, see docs/scale.md"
    )
    ledger_password_file: str | None = setting(None, "file with the password of ledger_url's user")
    ledger_cluster: str = setting("", "cluster of ledger_url's remote_servers; empty: that one server")
    prices_file: str | None = setting(None, "the price book, see prices.yaml; empty: usage without cost")
    attribution_file: str | None = setting(
        None, "rules, sharing and budgets, see attribution.yaml; empty: built-in rules"
    )
    body_bytes_max: int = setting(
        4 * 2**20, "compressed body of one shipment; 256 batches of 8 GPUs are 0.3 MB", within=(1, 2**30)
    )
    decompressed_bytes_max: int = setting(
        32 * 2**20, "the same decompressed, so that a bomb is not unpacked", within=(1, 2**32)
    )
    body_wait_s: float = setting(30.0, "how long a body may take to come, and an answer to be read", within=(0.01, 600))
    connections_max: int = setting(
        20_000, "connections at once; an agent keeps one. Needs as many file handles", within=(1, 1_000_000)
    )
    agent_batches_per_s: float = setting(
        50.0,
        "batches of one node in the long run, a minute's worth at once; at work it sends four a minute",
        within=(0.01, 1_000_000),
    )
    clock_skew_max_s: int = setting(
        300, "how far in the future a window may end; agents keep time with NTP", within=(0, 86_400)
    )
    commit_interval_ms: int = setting(
        200, "how long a batch may wait for others to be committed with it", within=(1, 10_000)
    )
    commit_batches_max: int = setting(
        2000, "batches in one commit; reached earlier, it starts at once", within=(1, 1_000_000)
    )
    queue_batches_max: int = setting(
        20_000, "batches waiting for a commit; beyond it agents are asked to come later", within=(1, 10_000_000)
    )
    windows_keep_days: int = setting(7, "raw windows; older batches are refused, hours are kept", within=(1, 3660))
    hours_keep_days: int = setting(400, "hours; a year and a month, to compare with last year", within=(1, 36_600))
    refresh_interval_s: float = setting(
        5.0, "between two recomputations of changed hours and of /metrics", within=(0.01, 3600)
    )
    live_lag_s: int = setting(
        45, "how long the newest windows take to arrive; the live view ends this long ago", within=(0, 3600)
    )
    live_window_s: int = setting(300, "stretch over which the live ratios are taken", within=(1, 86_400))
    live_grid_s: int = setting(
        15, "the live view starts and ends on multiples of this; agents' windows divide it", within=(1, 3600)
    )
    metrics_workloads_max: int = setting(
        500, "workloads with series of their own; the rest are one '(other)'", within=(0, 1_000_000)
    )
    metrics_groups_max: int = setting(
        500,
        "teams and products, and their models, with series of their own; the rest are one '(other)'",
        within=(0, 1_000_000),
    )
    log_format: Literal["text", "json"] = setting("text", "one line an event, as key=value or as JSON")
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "least level that is logged")

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
        if self.hours_keep_days < self.windows_keep_days:
            yield f"hours_keep_days: {self.hours_keep_days} is less than windows_keep_days ({self.windows_keep_days})"
        if self.live_grid_s and self.live_window_s % self.live_grid_s:
            yield f"live_window_s: {self.live_window_s} is no multiple of live_grid_s ({self.live_grid_s})"


def _faults_of_url(url: str) -> Iterator[str]:
    from tokenyield_collector.ledger.clickhouse.client import parse_address

    try:
        parse_address(url)
    except ValueError as error:
        yield f"ledger_url: {error}"


def load_settings(file: Path | None, environ: Mapping[str, str], flags: list[str]) -> Settings:
    """Raises `tokenyield_settings.loader.SettingsError` with every fault."""
    return load(Settings, file=file, environ=environ, flags=flags, prefix=ENVIRONMENT_PREFIX)
