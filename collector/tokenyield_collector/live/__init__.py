"""What is shown of a ledger now and to date: counters, the live view, and its documents."""
