"""Why a workload yields what it yields: findings over measured facts, with the money at stake."""
