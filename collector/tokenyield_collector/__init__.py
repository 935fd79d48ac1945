"""The central program: receives batches, keeps the ledger, prices it and shows the yield."""
