"""The version of a ledger's tables, and what to do with one that is newer than this collector."""

from tokenyield_collector.errors import LedgerError


def check_schema_version(ledger: str, version: int, known: int) -> None:
    """Raises `LedgerError` where a newer collector has opened the ledger."""
    if version > known:
        raise LedgerError(
            f"ledger {ledger}: expected schema version {known} or older, found {version}; run the newer collector, or "
            "restore the copy made before the upgrade"
        )
