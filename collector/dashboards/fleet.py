"""Fleet yield: tokens/s per watt, idle-capacity cost, and where capacity is lost."""

from dashboards.panels import CLUSTER, POOL, bars, lines, number, page, rows

C = 'cluster=~"$cluster"'
CP = 'cluster=~"$cluster",pool=~"$pool"'
HARDWARE = 'component=~"hardware|rent"'
TOKENS = f"sum(rate(tokenyield_tokens_total{{{C}}}[$__rate_interval]))"
OWNED_HARDWARE = f"sum by (currency, ownership) (tokenyield_amortized_hardware_cost_per_hour{{{CP}}})"
OWNED_IDLE = (
    f"sum by (currency, ownership) (label_replace(label_replace(tokenyield_idle_capacity_cost_per_hour{{{CP},{HARDWARE}}},"
    ' "ownership", "owned", "component", "hardware"), "ownership", "rented", "component", "rent"))'
)
WORKLOAD_LINK = (
    "/d/tokenyield-workload?var-workload=${__data.fields.workload}&${datasource:queryparam}&${__url_time_range}"
)

DASHBOARD = page(
    "tokenyield-fleet",
    "tokenyield / Fleet yield",
    "Tokens/s per watt, idle-capacity cost against amortized hardware cost, and where the rest is lost.",
    [CLUSTER, POOL],
    [
        (
            "Headline figures",
            [
                number(
                    "Tokens/s per watt",
                    f"{TOKENS} / sum(rate(tokenyield_energy_joules_total{{{C}}}[$__rate_interval]))",
                    "The same as tokens per joule: all tokens over all energy of the GPUs, idle and unallocated ones included. Of whole clusters: tokens have no pool.",
                    decimals=3,
                ),
                number(
                    "Idle-capacity cost per hour",
                    f"sum by (currency) (tokenyield_idle_capacity_cost_per_hour{{{CP}}})",
                    "Cost of GPUs on which nothing runs (dark, unallocated, idle), energy included, over the live window.",
                    legend="{{currency}}",
                ),
                number(
                    "Idle share of hardware cost",
                    f"sum by (currency) (tokenyield_idle_capacity_cost_per_hour{{{CP},{HARDWARE}}}) / sum by (currency) (tokenyield_amortized_hardware_cost_per_hour{{{CP}}})",
                    "Amortization or rent of idle capacity over amortization and rent of all GPUs, over the live window.",
                    unit="percentunit",
                    decimals=1,
                    legend="{{currency}}",
                ),
                number(
                    "Idle share, owned and rented",
                    f"{OWNED_IDLE} / {OWNED_HARDWARE}",
                    "The same share of owned hardware and of rented hardware.",
                    unit="percentunit",
                    decimals=1,
                    legend="{{ownership}}",
                ),
                number(
                    "Idle-capacity cost in the range",
                    f"sum by (currency) (delta(tokenyield_idle_capacity_cost_to_date{{{CP}}}[$__range]))",
                    "Of the closed hours in the range, before sharing.",
                    legend="{{currency}}",
                ),
                number(
                    "Idle share in the range",
                    f"sum by (currency) (delta(tokenyield_idle_capacity_cost_to_date{{{CP},{HARDWARE}}}[$__range])) / (sum by (currency) (delta(tokenyield_amortized_hardware_cost_to_date{{{CP}}}[$__range])) > 0)",
                    "Amortization or rent of idle capacity over that of all GPUs, of the closed hours in the range.",
                    unit="percentunit",
                    decimals=1,
                    legend="{{currency}}",
                ),
            ],
        ),
        (
            "Now",
            [
                number(
                    "Cost per million tokens",
                    f"sum by (currency) (tokenyield_cost_per_hour{{{C}}}) / on () group_left () ({TOKENS} * 3600 / 1e6)",
                    "The whole cost of the fleet over all its tokens. Of whole clusters: tokens have no pool.",
                    legend="{{currency}}",
                ),
                number(
                    "Cost per hour",
                    f"sum by (currency) (tokenyield_cost_per_hour{{{CP}}})",
                    "Capacity and energy of the whole fleet.",
                    legend="{{currency}}",
                ),
                number(
                    "GPUs active",
                    f'sum(tokenyield_gpus{{{CP},bucket="active"}}) / sum(tokenyield_gpus{{{CP}}})',
                    "Share of the GPUs paid for on which kernels ran.",
                    unit="percentunit",
                    decimals=1,
                ),
                number("GPUs", f"sum(tokenyield_gpus{{{CP}}})", "Paid for, dark ones included.", decimals=0),
            ],
        ),
        (
            "Where the capacity goes",
            [
                lines(
                    "Cost per hour by bucket",
                    [(f"sum by (bucket) (tokenyield_cost_per_hour{{{CP}}})", "{{bucket}}")],
                    "The live waterfall: dark, unallocated, idle, active.",
                    stacked=True,
                ),
                bars(
                    "Waterfall of the range",
                    f"sum by (bucket) (delta(tokenyield_cost_to_date{{{CP}}}[$__range]))",
                    "{{bucket}}",
                    "Cost of the closed hours in the range; active time is split into under-yield and productive.",
                ),
                lines(
                    "Idle-capacity cost per hour by component",
                    [
                        (
                            f"sum by (component) (tokenyield_idle_capacity_cost_per_hour{{{CP}}})",
                            "{{component}}",
                        )
                    ],
                    "hardware: amortization of owned GPUs; rent; cost of capital; maintenance; facility; hosts; energy.",
                    stacked=True,
                ),
                lines(
                    "Idle share of hardware cost",
                    [(f"{OWNED_IDLE} / {OWNED_HARDWARE}", "{{ownership}}")],
                    "Of owned and of rented hardware, over the live window.",
                    unit="percentunit",
                ),
                lines(
                    "GPUs by bucket",
                    [(f"sum by (bucket) (tokenyield_gpus{{{CP}}})", "{{bucket}}")],
                    "Mean over the live window.",
                    stacked=True,
                ),
                lines(
                    "Power by state",
                    [(f"sum by (state) (rate(tokenyield_energy_joules_total{{{CP}}}[$__rate_interval]))", "{{state}}")],
                    "Joules per second of the GPUs by their state.",
                    unit="watt",
                    stacked=True,
                ),
            ],
        ),
        (
            "Yield",
            [
                lines(
                    "Tokens per second",
                    [(f"sum by (kind) (rate(tokenyield_tokens_total{{{C}}}[$__rate_interval]))", "{{kind}}")],
                    "prompt_cached came from the prefix cache and cost almost nothing.",
                    stacked=True,
                ),
                lines(
                    "What the kernels do",
                    [
                        (
                            f"sum by (unit) (rate(tokenyield_gpu_activity_seconds_total{{{CP}}}[$__rate_interval])) / on () group_left () sum(rate(tokenyield_gpu_activity_known_seconds_total{{{CP}}}[$__rate_interval]))",
                            "{{unit}}",
                        )
                    ],
                    "Share of SMs and tensor cores that were busy, and of the memory's bandwidth used, of GPUs that count it (Hopper and later).",
                    unit="percentunit",
                ),
                lines(
                    "Tokens/s per watt by workload",
                    [(f'topk(10, tokenyield_tokens_per_watt{{{C},kind="total"}})', "{{workload}}")],
                    "The ten with the most; idle energy included. The same as tokens per joule.",
                ),
            ],
        ),
        (
            "Top losers",
            [
                rows(
                    "Idle now",
                    [
                        (
                            f'topk(15, sum by (currency, cluster, workload) (tokenyield_workload_cost_per_hour{{{C},state="idle"}}))',
                            "per hour",
                        )
                    ],
                    "Workloads that hold GPUs on which no kernel runs, by what that costs an hour.",
                    link=WORKLOAD_LINK,
                ),
                rows(
                    "Parked now",
                    [
                        (
                            f"topk(15, sum by (currency, cluster, workload) (tokenyield_workload_parked_cost_per_hour{{{C}}}))",
                            "per hour",
                        )
                    ],
                    "Workloads that hold GPUs and have made no token for long, by what that costs an hour. Part of idle.",
                    link=WORKLOAD_LINK,
                ),
                rows(
                    "Under-yield in the range",
                    [
                        (
                            f'topk(15, sum by (currency, cluster, workload, model) (delta(tokenyield_workload_cost_to_date{{{C},bucket="under_yield"}}[$__range])))',
                            "cost",
                        ),
                    ],
                    "Workloads that were active, but made fewer tokens than their reference pace, by what that cost.",
                    link=WORKLOAD_LINK,
                ),
            ],
        ),
    ],
)
