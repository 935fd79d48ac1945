"""Names that no dimension may have, because something in a report or a metric is called so already. Pure.

A row of CSV, Parquet or JSON has its dimensions and its figures side by side: one of two with the same name would hide
the other.
"""

BUILT_IN = ("hour", "day", "source", "cluster", "pool", "node", "workload", "model", "tier", "vendor")
"""Columns that a report can always be made by, beside the dimensions."""
_LABELS = ("bucket", "currency", "kind", "job", "instance", "le")
_PARAMETERS = (
    "period",
    "by",
    "format",
    "top",
    "focus_version",
    "version",
    "from",
    "to",
    "period_state",
    "period_version",
)
_BASES = ("direct", "allocated", "loaded")
_FIGURES = (
    *("cost", "shown"),
    *(f"cost_{name}" for name in ("dark", "unallocated", "idle", "under_yield", "productive", "shared")),
    *("energy_cost", "idle_capacity_cost", "parked_cost"),
    *("hardware_cost", "hardware_cost_owned", "hardware_cost_rented"),
    "idle_capacity_share_of_hardware_cost",
    *(f"idle_capacity_share_of_hardware_cost_{name}" for name in ("owned", "rented")),
    *(f"cost_of_{name}" for name in ("hardware", "rent", "capital", "maintenance", "facility", "host", "energy",
                                     "purchase")),
    *(f"{name}_gpu_hours" for name in ("active", "idle", "unallocated", "dark", "unrated", "parked", "price_missing")),
    *("prompt_computed", "prompt_cached", "prompt_unsplit", "completion", "tokens", "requests"),
    *(f"joules_{name}" for name in ("gpu", "host", "facility")),
    "tokens_per_second_per_watt",
    *(f"tokens_per_joule_{name}" for name in ("gpu", "host", "facility")),
    *("co2_grams", "co2_grams_per_million_tokens"),
    *(f"cost_per_{unit}_{basis}" for unit in ("mtok", "1000_tokens", "request") for basis in _BASES),
    *(f"cost_per_mtok_{basis}_{name}" for basis in _BASES for name in ("prompt", "cached", "completion")),
    *("revenue", "revenue_missing_tokens", "revenue_without_cost", "margin", "break_even_utilization"),
    *("price_missing_tokens", "price_missing_joules"),
    *("observations", "mean_ms", "p50_ms", "p95_ms", "p99_ms", "counts"),
)  # fmt: skip
OUTCOME_FIGURES = ("outcomes_", "cost_per_outcome_")
"""What the figures of outcomes begin with."""
TAKEN: dict[str, str] = {
    **dict.fromkeys(_FIGURES, "a figure of every report"),
    **dict.fromkeys(_PARAMETERS, "a parameter of reports"),
    **dict.fromkeys(_LABELS, "a label of the metrics"),
    **dict.fromkeys(BUILT_IN, "a column of every report"),
}
"""Name -> what is called so."""
