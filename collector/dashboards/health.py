"""Agents and collector: health, lag, drops, and the resources that they use."""

from dashboards.panels import lines, number, page, rows

RATE = "[$__rate_interval]"

DASHBOARD = page(
    "tokenyield-health",
    "tokenyield / Agents and collector",
    "Health, lag, spool, drops and cardinality of tokenyield itself.",
    [],
    [
        (
            "Now",
            [
                number(
                    "Nodes reporting",
                    'sum(tokenyield_collector_nodes{state="reporting"})',
                    "Newest window at most 2 minutes old.",
                    decimals=0,
                ),
                number(
                    "Nodes late or silent",
                    'sum(tokenyield_collector_nodes{state!="reporting"})',
                    "Over 2 minutes, over 15.",
                    decimals=0,
                ),
                number(
                    "Longest lag",
                    "max(tokenyield_collector_node_lag_seconds) or on () vector(0)",
                    "Age of the newest window of the slowest node.",
                    unit="s",
                    decimals=0,
                ),
                number(
                    "Dropped in the range",
                    "sum(increase(tokenyield_agent_spool_dropped_total[$__range])) + sum(increase(tokenyield_agent_windows_dropped_total[$__range])) + sum(increase(tokenyield_agent_ship_rejected_total[$__range]))",
                    "Windows that agents dropped or the collector refused for good.",
                    decimals=0,
                ),
                number(
                    "Prices and rules fresh",
                    "min(tokenyield_collector_policy_fresh)",
                    "0: a change of the files was refused.",
                    decimals=0,
                ),
                number("Ledger", "max(tokenyield_collector_ledger_bytes)", "On disk.", unit="bytes", decimals=1),
            ],
        ),
        (
            "Agents",
            [
                lines(
                    "Spool",
                    [("topk(20, tokenyield_agent_spool_batches)", "{{instance}}")],
                    "Batches without a receipt; the twenty longest.",
                ),
                lines(
                    "Drops",
                    [
                        (f"sum(rate(tokenyield_agent_spool_dropped_total{RATE}))", "spool full or too old"),
                        (f"sum(rate(tokenyield_agent_windows_dropped_total{RATE}))", "dropped in memory"),
                        (f"sum(rate(tokenyield_agent_ship_rejected_total{RATE}))", "refused for good"),
                        (
                            f"sum(rate(tokenyield_agent_source_files_lost_total{RATE})) or on () vector(0)",
                            "log files lost unread",
                        ),
                        (
                            f"sum(rate(tokenyield_agent_source_lines_too_long_total{RATE})) or on () vector(0)",
                            "lines too long",
                        ),
                    ],
                    "What was not counted, by cause.",
                ),
                lines(
                    "Shipments that failed",
                    [
                        (f"sum(rate(tokenyield_agent_ship_failures_total{RATE}))", "failures"),
                        (f"sum(rate(tokenyield_agent_ship_requests_total{RATE}))", "shipments"),
                    ],
                    "Retried with back-off.",
                ),
                lines(
                    "Faults of GPUs",
                    [
                        (
                            f"sum by (kind) (rate(tokenyield_agent_gpu_faults_total{RATE})) > 0 or on () vector(0)",
                            "{{kind}}",
                        )
                    ],
                    "Faults that began.",
                ),
                lines(
                    "CPU of an agent",
                    [
                        (
                            f"topk(10, rate(process_cpu_seconds_total{RATE}) * on (instance, job) group_left () tokenyield_agent_info)",
                            "{{instance}}",
                        )
                    ],
                    "Share of one core; the ten with the most.",
                    unit="percentunit",
                ),
                lines(
                    "Memory of an agent",
                    [
                        (
                            "topk(10, process_resident_memory_bytes * on (instance, job) group_left () tokenyield_agent_info)",
                            "{{instance}}",
                        )
                    ],
                    "Resident; the ten with the most.",
                    unit="bytes",
                ),
            ],
        ),
        (
            "Collector",
            [
                lines(
                    "Batches",
                    [
                        (f"sum(rate(tokenyield_collector_batches_total{RATE}))", "committed"),
                        (f"sum(rate(tokenyield_collector_duplicate_batches_total{RATE}))", "duplicates"),
                    ],
                    "Per second.",
                    unit="ops",
                ),
                lines(
                    "Time of a commit",
                    [
                        (
                            f"sum(rate(tokenyield_collector_commit_seconds_total{RATE})) / (sum(rate(tokenyield_collector_commits_total{RATE})) > 0) or on () vector(0)",
                            "mean",
                        )
                    ],
                    "Mean.",
                    unit="s",
                ),
                lines(
                    "Requests refused",
                    [
                        (
                            f"sum by (reason) (rate(tokenyield_collector_refused_requests_total{RATE})) or on () vector(0)",
                            "{{reason}}",
                        )
                    ],
                    "By reason.",
                    unit="reqps",
                ),
                lines(
                    "Batches waiting for a commit",
                    [("sum(tokenyield_collector_waiting_batches)", "waiting")],
                    "Beyond queue_batches_max agents get 503 and retry later.",
                ),
                lines(
                    "CPU and memory",
                    [
                        (
                            f"rate(process_cpu_seconds_total{RATE}) * on (instance, job) group_left () tokenyield_collector_info",
                            "cores",
                        ),
                        (
                            "process_resident_memory_bytes * on (instance, job) group_left () tokenyield_collector_info / 2^30",
                            "GiB",
                        ),
                    ],
                    "Of the collector.",
                ),
                lines(
                    "Cardinality",
                    [
                        ("sum by (of, fate) (tokenyield_collector_metric_names)", "{{of}} {{fate}}"),
                        ("sum by (job) (scrape_samples_scraped)", "samples of {{job}}"),
                    ],
                    "Names that are folded share the label '(other)'.",
                ),
            ],
        ),
        (
            "Versions",
            [
                rows("Agents", [("count by (version) (tokenyield_agent_info)", "agents")], "By version."),
                rows("Collectors", [("count by (version) (tokenyield_collector_info)", "collectors")], "By version."),
            ],
        ),
    ],
    since="now-6h",
)
