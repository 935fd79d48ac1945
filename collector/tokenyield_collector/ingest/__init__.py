"""From the body of a request to durable batches: decompression, bounds in time, commits of many shipments at once."""
