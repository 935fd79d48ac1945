"""Every setting of the collector, its default with the reason, and its check, in one place.

Read from `collector.yaml`, then the environment (`TOKENYIELD_COLLECTOR_<NAME>`), then `--set name=value`.
"""

import ipaddress
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

    listen: str = _setting("127.0.0.1:9464", "address of everything served; beyond loopback token_file is wanted")
    insecure: bool = _setting(False, "listen beyond loopback without authentication")
    token_file: str | None = _setting(None, "accepted bearer tokens, one a line; several while one is being replaced")
    tls_cert_file: str | None = _setting(None, "certificate (PEM) to serve https")
    tls_key_file: str | None = _setting(None, "key of the certificate")
    ledger_path: str = _setting("/var/lib/tokenyield-collector/ledger.duckdb", "the ledger's file")
    ledger_memory: str = _setting("1GB", "memory that DuckDB may take")
    prices_file: str | None = _setting(None, "the price book, see prices.yaml; empty: usage without cost")
    attribution_file: str | None = _setting(
        None, "rules, sharing and budgets, see attribution.yaml; empty: built-in rules"
    )
    body_bytes_max: int = _setting(4 * 2**20, "compressed body of one shipment; 256 batches of 8 GPUs are 0.3 MB")
    decompressed_bytes_max: int = _setting(32 * 2**20, "the same decompressed, so that a bomb is not unpacked")
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
        host, _, port = self.listen.rpartition(":")
        if not port.isdigit() or int(port) > 65535:
            yield f"listen: '{self.listen}' is no address; write host:port"
        elif not self.insecure and not self.token_file and not _is_loopback(host.strip("[]")):
            yield (
                f"listen: {self.listen} can be reached from other hosts and token_file is empty; name a token_file, "
                "listen on 127.0.0.1, or set insecure: true if something in front authenticates"
            )
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            yield "tls_cert_file and tls_key_file: give both or none"
        if not 1 <= self.commit_interval_ms <= 10_000:
            yield f"commit_interval_ms: {self.commit_interval_ms} is outside 1 to 10000"
        for name in ("body_bytes_max", "decompressed_bytes_max", "commit_batches_max", "queue_batches_max"):
            if getattr(self, name) < 1:
                yield f"{name}: {getattr(self, name)} wants to be at least 1"
        if self.windows_keep_days < 1 or self.hours_keep_days < self.windows_keep_days:
            yield "hours_keep_days wants to be at least windows_keep_days, and that at least 1"
        if self.live_grid_s < 1 or self.live_window_s % self.live_grid_s:
            yield f"live_window_s: {self.live_window_s} is no multiple of live_grid_s ({self.live_grid_s})"
        if self.live_window_s < 1 or self.live_lag_s < 0 or self.refresh_interval_s <= 0:
            yield "live_window_s, live_lag_s and refresh_interval_s want to be positive"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name may resolve to anything; empty means every address


def load_settings(file: Path | None, environ: Mapping[str, str], flags: list[str]) -> Settings:
    """Raises `tokenyield_settings.loader.SettingsError` with every fault."""
    return load(Settings, file=file, environ=environ, flags=flags, prefix=ENVIRONMENT_PREFIX)
