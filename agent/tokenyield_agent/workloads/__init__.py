"""Which workload holds which GPU."""
