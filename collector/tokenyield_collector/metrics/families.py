"""Every metric of the collector, in the order in which /metrics shows them; docs/metrics.md is made from this. Pure.

Facts are counters. Money is a view of facts: late data and new prices correct it, so it is never a counter but either
a gauge of the live window or a gauge *to date*, the sum of all closed hours as reports say it. Take `delta()`, or the
difference of two instants, of what is to date; `rate()` and `increase()` of counters.
"""

from collections.abc import Iterator, Sequence

from tokenyield_collector.attribution.rules import DEFAULT_DIMENSIONS
from tokenyield_collector.metrics.labelled import CollectorFamily as Family

TOKENS = Family(
    "tokenyield_tokens_total",
    "counter",
    "Tokens by kind (prompt_computed, prompt_cached, prompt_unsplit, completion) and by how they were counted",
    ("cluster", "workload", "model", "kind", "method"),
    "gen_ai.client.token.usage (gen_ai.token.type, gen_ai.request.model)",
)
REQUESTS = Family(
    "tokenyield_requests_total",
    "counter",
    "Requests by outcome: answered, aborted by the client, failed",
    ("cluster", "workload", "model", "outcome"),
    "count of gen_ai.server.request.duration (error.type)",
)
DEMAND_TOKENS = Family(
    "tokenyield_demand_tokens_total",
    "counter",
    "Tokens requested from a gateway, by its callers' team; the servers that made them count them too",
    ("cluster", "gateway", "model", "team", "kind"),
    "gen_ai.client.token.usage at the gateway",
)
DEMAND_REQUESTS = Family(
    "tokenyield_demand_requests_total",
    "counter",
    "Requests to a gateway, by its callers' team and by outcome",
    ("cluster", "gateway", "model", "team", "outcome"),
)
ENERGY = Family(
    "tokenyield_energy_joules_total",
    "counter",
    "Energy of the GPUs by their state while using it (active, idle, unallocated, unknown)",
    ("cluster", "pool", "state"),
    "hw.energy (hw.type=gpu)",
)
GPU_SECONDS = Family(
    "tokenyield_gpu_seconds_total",
    "counter",
    "GPU time by state (active, idle, unallocated, unknown) and the first pool that holds then, GPUs beyond its count "
    "included",
    ("cluster", "pool", "state"),
)
WORKLOAD_ENERGY = Family(
    "tokenyield_workload_energy_joules_total",
    "counter",
    "Energy of the GPUs that a workload held, by state (active, idle)",
    ("cluster", "workload", "state"),
)
WORKLOAD_GPU_SECONDS = Family(
    "tokenyield_workload_gpu_seconds_total",
    "counter",
    "GPU time that a workload held, by state (active, idle)",
    ("cluster", "workload", "state"),
)
PARKED = Family(
    "tokenyield_workload_parked_gpu_seconds_total",
    "counter",
    "Part of a workload's idle GPU time in which it had long made no token (the agents' parked_after_s)",
    ("cluster", "workload"),
)
ENERGY_INTEGRATED = Family(
    "tokenyield_energy_integrated_joules_total",
    "counter",
    "Part of the energy that is not from a GPU's counter but integrated from its power",
    ("cluster", "pool"),
)
ENERGY_ERROR = Family(
    "tokenyield_energy_error_joules_total",
    "counter",
    "By how much the integrated energy may be off either way",
    ("cluster", "pool"),
)
ACTIVITY = Family(
    "tokenyield_gpu_activity_seconds_total",
    "counter",
    "Integral of the share of SMs that were busy, of tensor activity and of memory bandwidth used (unit: sm, tensor, "
    "dram), of GPUs that count it",
    ("cluster", "pool", "unit"),
)
ACTIVITY_KNOWN = Family(
    "tokenyield_gpu_activity_known_seconds_total",
    "counter",
    "GPU time over which that was counted",
    ("cluster", "pool"),
)
THROTTLED = Family(
    "tokenyield_gpu_throttled_seconds_total",
    "counter",
    "GPU time with clocks held down, by reason; reasons overlap",
    ("cluster", "reason"),
)
THROTTLED_LOST = Family(
    "tokenyield_gpu_throttled_lost_seconds_total",
    "counter",
    "What of the active GPU time was lost by it, at most, by reason",
    ("cluster", "reason"),
)
EVENTS = Family(
    "tokenyield_gpu_events_total",
    "counter",
    "XIDs (xid_N), ECC errors, remapped rows, errors of NVLink and PCIe",
    ("cluster", "event"),
    "hw.errors (hw.type=gpu, error.type)",
)
HOST_ENERGY = Family(
    "tokenyield_host_energy_joules_total",
    "counter",
    "Energy of the hosts themselves by where it is from: rapl (processors and memory), dcmi or power_meter (all of the "
    "machine, GPUs included)",
    ("cluster", "source"),
)
PRICE_MISSING = Family(
    "tokenyield_price_missing_gpu_seconds_total",
    "counter",
    "GPU time without a cost: no pool of the price book matches and holds in that hour, or its price is not known",
)

GPUS = Family(
    "tokenyield_gpus",
    "gauge",
    "GPUs over the live window, in the mean, by bucket (dark, unallocated, idle, active)",
    ("cluster", "pool", "bucket"),
)
COST_PER_HOUR = Family(
    "tokenyield_cost_per_hour",
    "gauge",
    "Cost per hour over the live window by bucket (dark, unallocated, idle, active); the sum is the whole cost",
    ("currency", "cluster", "pool", "bucket"),
)
IDLE_CAPACITY_PER_HOUR = Family(
    "tokenyield_idle_capacity_cost_per_hour",
    "gauge",
    "Cost per hour over the live window of capacity on which nothing ran (dark, unallocated, idle), by component "
    "(hardware: owned and amortized, rent, capital, maintenance, facility, host, energy, purchase)",
    ("currency", "cluster", "pool", "component"),
)
HARDWARE_PER_HOUR = Family(
    "tokenyield_amortized_hardware_cost_per_hour",
    "gauge",
    "Cost per hour over the live window of the hardware itself: owned (amortized over its life) or rented. The idle "
    "share of it is the idle capacity cost of the components hardware and rent, over this",
    ("currency", "cluster", "pool", "ownership"),
)
WORKLOAD_COST_PER_HOUR = Family(
    "tokenyield_workload_cost_per_hour",
    "gauge",
    "Cost per hour of the GPUs that a workload holds, over the live window, by state (active, idle)",
    ("currency", "cluster", "workload", "state"),
)
PARKED_COST = Family(
    "tokenyield_workload_parked_cost_per_hour",
    "gauge",
    "Part of a workload's idle cost per hour, over the live window, in which it had long made no token",
    ("currency", "cluster", "workload"),
)
TOKENS_PER_WATT = Family(
    "tokenyield_tokens_per_watt",
    "gauge",
    "Tokens per second per watt over the live window, idle energy included; the same as tokens per joule",
    ("cluster", "workload", "model", "kind"),
)
TOKENS_PER_JOULE = Family(
    "tokenyield_tokens_per_joule",
    "gauge",
    "Tokens per joule over the live window, idle energy included; the same as tokens per second per watt",
    ("cluster", "workload", "model", "kind"),
)
UNIT_COST = Family(
    "tokenyield_cost_per_million_tokens",
    "gauge",
    "Cost per million tokens over the live window, on the direct, allocated and loaded basis",
    ("currency", "cluster", "workload", "model", "kind", "basis"),
)
LATENCY = Family(
    "tokenyield_latency_seconds",
    "gauge",
    "What callers of a workload waited at most over the live window, by kind (first_token, inter_token, end_to_end) "
    "and percentile (p50, p95, p99): the upper edge of the bucket that it falls into; missing above the last edge",
    ("cluster", "workload", "model", "kind", "percentile"),
    "gen_ai.server.time_to_first_token, gen_ai.server.time_per_output_token, gen_ai.server.request.duration",
)
LATENCY_OBSERVATIONS = Family(
    "tokenyield_latency_observations",
    "gauge",
    "How many waits that is of: requests, or tokens for inter_token",
    ("cluster", "workload", "model", "kind"),
)

COST_TO_DATE = Family(
    "tokenyield_cost_to_date",
    "gauge",
    "Cost of all closed hours by waterfall bucket (dark, unallocated, idle, under_yield, productive), before sharing",
    ("currency", "cluster", "pool", "bucket"),
)
IDLE_CAPACITY_TO_DATE = Family(
    "tokenyield_idle_capacity_cost_to_date",
    "gauge",
    "Cost of all closed hours of capacity on which nothing ran (dark, unallocated, idle), by component, before sharing",
    ("currency", "cluster", "pool", "component"),
)
HARDWARE_TO_DATE = Family(
    "tokenyield_amortized_hardware_cost_to_date",
    "gauge",
    "Cost of all closed hours of the hardware itself: owned (amortized over its life) or rented, before sharing",
    ("currency", "cluster", "pool", "ownership"),
)
WORKLOAD_COST_TO_DATE = Family(
    "tokenyield_workload_cost_to_date",
    "gauge",
    "Cost of all closed hours by workload and bucket (idle, under_yield, productive, shared)",
    ("currency", "cluster", "workload", "model", "bucket"),
)
WORKLOAD_SECONDS_TO_DATE = Family(
    "tokenyield_workload_gpu_seconds_to_date",
    "gauge",
    "GPU time of all closed hours by workload and bucket (idle, under_yield, productive)",
    ("cluster", "workload", "model", "bucket"),
)

GAPS = Family(
    "tokenyield_gaps",
    "gauge",
    "Things that are not known, by kind, of the closed hours of the newest day: without a price, demand that no server "
    "made, reported twice; docs/money.md describes them, /v1/summary names them (gaps_to_date)",
    ("kind",),
)
REFERENCE = Family(
    "tokenyield_reference_tokens_per_second",
    "gauge",
    "The expected pace of a model on so many GPUs, in completion tokens: configured, learned from nodes that agree "
    "(learned_nodes), or from days of the one node that it applies to (learned_days)",
    ("model", "gpu_model", "gpus", "cluster", "node", "source"),
)
BUDGET = Family(
    "tokenyield_budget",
    "gauge",
    "What a budget allows in the present month (UTC), in its unit: a currency, or tokens",
    ("unit", "budget"),
)
BUDGET_SPENT = Family(
    "tokenyield_budget_spent", "gauge", "What of it the closed hours of the month have spent", ("unit", "budget")
)
BUDGET_FORECAST = Family(
    "tokenyield_budget_forecast",
    "gauge",
    "What the month will come to (expected, low, high)",
    ("unit", "budget", "bound"),
)
BUDGET_STEP = Family(
    "tokenyield_budget_step_reached",
    "gauge",
    "1 for the highest step of a budget (percent of it) that the month has reached, 0 for the others",
    ("unit", "budget", "step"),
)

FORECAST = Family(
    "tokenyield_forecast_month",
    "gauge",
    "What the month (UTC) will come to, by its own history: cost, tokens, energy; computed once a day",
    ("measure", "unit", "bound"),
)

INFO = Family("tokenyield_collector_info", "gauge", "Version of the collector", ("version",))
NODES = Family(
    "tokenyield_collector_nodes",
    "gauge",
    "Nodes by how long ago their newest window ended: reporting, late (over 2 minutes), silent (over 15)",
    ("cluster", "state"),
)
NODE_LAG = Family(
    "tokenyield_collector_node_lag_seconds",
    "gauge",
    "Age of the newest window of the node that is furthest behind, silent ones left out",
    ("cluster",),
)
BATCHES = Family("tokenyield_collector_batches_total", "counter", "Batches committed")
DUPLICATES = Family("tokenyield_collector_duplicate_batches_total", "counter", "Batches sent again and counted once")
REFUSED = Family("tokenyield_collector_refused_requests_total", "counter", "Requests refused, by reason", ("reason",))
OTLP_POINTS = Family(
    "tokenyield_collector_otlp_points_total",
    "counter",
    "Points, events and spans with tokens that came over OTLP, by what became of them: counted (once, where they come "
    "again), refused, or late (before a reset that was counted)",
    ("signal", "fate"),
)
ENROLLED = Family(
    "tokenyield_collector_enrolments_total",
    "counter",
    "Tokens issued to nodes, by what they presented: secret, kubernetes, renewal",
    ("how",),
)
ENROL_REFUSED = Family(
    "tokenyield_collector_enrolment_refusals_total",
    "counter",
    "Requests for enrolment that were refused, by reason; taken: for the name of a node that another installation has",
    ("reason",),
)
COMMITS = Family("tokenyield_collector_commits_total", "counter", "Commits of the ledger")
COMMIT_SECONDS = Family("tokenyield_collector_commit_seconds_total", "counter", "Time spent in commits")
WAITING = Family("tokenyield_collector_waiting_batches", "gauge", "Batches waiting for a commit")
BOUGHT_COST = Family(
    "tokenyield_bought_month_cost",
    "gauge",
    "What vendors cost in the present month (UTC), as far as their sources report; part: what some finer source "
    "observed, or not_observed: billed, and seen in use by nothing",
    ("currency", "vendor", "part"),
)
BOUGHT_TOKENS = Family(
    "tokenyield_bought_month_tokens", "gauge", "Tokens bought in the present month (UTC)", ("vendor", "kind")
)
BOUGHT_UNPRICED = Family(
    "tokenyield_bought_month_unpriced_tokens",
    "gauge",
    "Tokens bought in the present month (UTC) that neither a bill nor a list has a price for",
    ("vendor",),
)
PULL_SUCCESS = Family(
    "tokenyield_spend_pull_success_timestamp_seconds",
    "gauge",
    "When all reports of an account of spend.yaml were last pulled up to yesterday",
    ("account",),
)
PULL_FAILING = Family(
    "tokenyield_spend_pull_failing", "gauge", "1 where the last pull of an account failed, 0 where not", ("account",)
)
PULL_MISSING = Family(
    "tokenyield_spend_pull_missing_days",
    "gauge",
    "Days of an account that should be known and are not, of the report that lacks most",
    ("account",),
)
PULL_ROWS = Family(
    "tokenyield_spend_pull_rows_total", "counter", "Rows of vendors that were pulled and could be used", ("account",)
)
PULL_REFUSED = Family(
    "tokenyield_spend_pull_refusals_total",
    "counter",
    "Pulls of a report that failed, by reason (key, rate, unavailable, answer, ledger); rows: rows that could not be "
    "used",
    ("account", "reason"),
)
WATCH_FILES = Family(
    "tokenyield_spend_watch_files",
    "gauge",
    "Files, and folders that are imported as one, of a source's folder in spend_folder, by state (imported, waiting, "
    "failed)",
    ("folder", "state"),
)
WATCH_PROBLEM = Family(
    "tokenyield_spend_watch_failing",
    "gauge",
    "1 where something of a source's folder in spend_folder (empty: spend_folder itself) cannot be imported, 0 where "
    "not",
    ("folder",),
)
WATCH_ROWS = Family(
    "tokenyield_spend_watch_rows_total", "counter", "Rows of files in spend_folder that could be used", ("folder",)
)
WATCH_REFUSED = Family(
    "tokenyield_spend_watch_refused_rows_total",
    "counter",
    "Rows of imported files in spend_folder that could not be used",
    ("folder",),
)
LEDGER_BYTES = Family("tokenyield_collector_ledger_bytes", "gauge", "Size of the ledger")
POLICY_FRESH = Family(
    "tokenyield_collector_policy_fresh",
    "gauge",
    "1 while the price book and rules in use are those in the files, 0 after a change that was refused",
)
NAMES = Family(
    "tokenyield_collector_metric_names",
    "gauge",
    "Names in labels, by class (caller, workload, group, place, reported) and fate: shown, or folded into '(other)' by "
    "metrics_series_max",
    ("of", "fate"),
)
AS_OF = Family("tokenyield_collector_as_of_timestamp_seconds", "gauge", "Up to when the live window looks")
TO_DATE_AT = Family(
    "tokenyield_collector_to_date_timestamp_seconds", "gauge", "Up to when the figures to date have been computed"
)

TO_DATE_POLICY = Family(
    "tokenyield_collector_to_date_policy_current",
    "gauge",
    "1 where the figures to date were computed under the price book and rules in use, 0 while those before are shown",
)
HISTORY_LEFT = Family(
    "tokenyield_collector_history_left",
    "gauge",
    "Left to compute of the past: months of figures to date, and counter_hours, without which no counter is shown",
    ("of",),
)


def attributed(dimensions: Sequence[str] = DEFAULT_DIMENSIONS) -> dict[str, Family]:
    """By who carries it; the label names are the dimensions of the rules. See live/to_date.py for the keys."""
    who, place = tuple(dimensions), ("cluster", "pool", "model")
    return {
        "attributed_cost": Family(
            "tokenyield_attributed_cost_to_date",
            "gauge",
            "Cost of all closed hours by who carries it, by bucket (dark, unallocated, idle, under_yield, productive, "
            "and shared: taken over from others); the sum is the whole cost",
            ("currency", *place, *who, "bucket"),
        ),
        "attributed_gpu_ms": Family(
            "tokenyield_attributed_gpu_seconds_to_date",
            "gauge",
            "GPU time of all closed hours by who used it and bucket",
            (*place, *who, "bucket"),
        ),
        "attributed_energy_mj": Family(
            "tokenyield_attributed_energy_joules_to_date",
            "gauge",
            "Energy of the GPUs in all closed hours by who used it",
            (*place, *who),
        ),
        "attributed_tokens": Family(
            "tokenyield_attributed_tokens_to_date",
            "gauge",
            "Tokens of all closed hours by who they were made for",
            (*place, *who, "kind"),
        ),
        "attributed_requests": Family(
            "tokenyield_attributed_requests_to_date",
            "gauge",
            "Requests of all closed hours by who they were answered for",
            (*place, *who),
        ),
    }


def every_family(dimensions: Sequence[str] = DEFAULT_DIMENSIONS) -> Iterator[Family]:
    """All families in this file's order, the attributed ones after what is to date by workload."""
    for value in list(globals().values()):
        if isinstance(value, Family):
            yield value
            if value is WORKLOAD_SECONDS_TO_DATE:
                yield from attributed(dimensions).values()
