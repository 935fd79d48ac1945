"""Which labels of a series are names that others choose: tenants, nodes, clients of gateways. Pure."""

Labels = tuple[str, ...]

CLASS_OF_METRIC = {
    "tokens": ("workload", 3),
    "requests": ("workload", 3),
    "workload_cost": ("workload", 3),
    "workload_bucket_ms": ("workload", 3),
    "workload_energy_mj": ("workload", 2),
    "workload_gpu_ms": ("workload", 2),
    "parked_ms": ("workload", 2),
    "demand_tokens": ("caller", 4),
    "demand_requests": ("caller", 4),
    "energy_mj": ("place", 2),
    "gpu_ms": ("place", 2),
    "integrated_mj": ("place", 2),
    "energy_error_mj": ("place", 2),
    "activity_ms": ("place", 2),
    "activity_known_ms": ("place", 2),
    "cost": ("place", 2),
    "idle_capacity_cost": ("place", 2),
    "hardware_cost": ("place", 2),
    "throttled_ms": ("reported", 2),
    "throttled_lost_ms": ("reported", 2),
    "gpu_events": ("reported", 2),
    "host_mj": ("reported", 2),
}
"""Metric of a series -> its class, and how many of its first labels are the name."""


def name_of(metric: str, labels: Labels) -> tuple[str, Labels] | None:
    """(class, name) of a series; None where its labels are not chosen by others."""
    if metric not in CLASS_OF_METRIC:
        return None
    name_class, count = CLASS_OF_METRIC[metric]
    return name_class, ((metric, *labels[:count]) if name_class == "reported" else labels[:count])
