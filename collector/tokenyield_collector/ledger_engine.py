"""Opens the ledger that the settings name: a DuckDB file, or ClickHouse where `ledger_url` stands.

Engines are imported where they are used, for each brings a library of its own.
"""

from pathlib import Path

from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.errors import LedgerError
from tokenyield_collector.ledger.base import Ledger


def open_ledger(settings: CollectorSettings, *, threads: int = 1, has_to_exist: bool = False) -> Ledger:
    """Raises `LedgerError`; `LedgerInUse` where another process has the file open."""
    if settings.ledger_url:
        from tokenyield_collector.ledger.clickhouse.client import parse_address
        from tokenyield_collector.ledger.clickhouse.ledger import connect

        return connect(parse_address(settings.ledger_url), _password(settings), settings.ledger_cluster)
    if has_to_exist and not Path(settings.ledger_path).exists():
        raise LedgerError(f"there is no ledger at {settings.ledger_path}; give --config or --ledger")
    from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger

    return DuckDbLedger(settings.ledger_path, memory_limit=settings.ledger_memory, threads=threads)


def _password(settings: CollectorSettings) -> str:
    if not settings.ledger_password_file:
        return ""
    try:
        return Path(settings.ledger_password_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerError(f"ledger_password_file: {settings.ledger_password_file} cannot be read: {error}") from None
