"""Pulling spend: what vendors report of accounts, asked for on a schedule, into slices of the ledger."""
