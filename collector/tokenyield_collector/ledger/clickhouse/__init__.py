"""The ledger of several collectors, in ClickHouse."""
