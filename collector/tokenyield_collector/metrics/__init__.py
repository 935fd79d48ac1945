"""The collector's /metrics."""
