"""Workload: tokens, yield and cost of one inference server."""

from dashboards.panels import CLUSTER, choice, lines, number, page, rows

W = 'cluster=~"$cluster",workload=~"$workload"'
WM = 'cluster=~"$cluster",workload=~"$workload",model=~"$model"'
RATE = "[$__rate_interval]"
PRODUCTIVE = f'sum(delta(tokenyield_workload_gpu_seconds_to_date{{{WM},bucket="productive"}}[$__range]))'
ACTIVE = f'sum(delta(tokenyield_workload_gpu_seconds_to_date{{{WM},bucket=~"productive|under_yield"}}[$__range]))'
WAITS = "{{workload}} {{percentile}}"
AT_MOST = "Over the live window, at most: the upper edge of the bucket that the percentile falls into, of the slowest cluster and model. Missing where the server does not report it."

DASHBOARD = page(
    "tokenyield-workload",
    "tokenyield / Workload",
    "Tokens, requests, yield against the reference pace, and cost three ways.",
    [
        CLUSTER,
        choice(
            "workload", "Workload", 'label_values(tokenyield_workload_gpu_seconds_total{cluster=~"$cluster"}, workload)'
        ),
        choice(
            "model", "Model", 'label_values(tokenyield_tokens_total{cluster=~"$cluster",workload=~"$workload"}, model)'
        ),
    ],
    [
        (
            "In the range",
            [
                number("Tokens", f"sum(increase(tokenyield_tokens_total{{{WM}}}[$__range]))", "All kinds."),
                number(
                    "Requests",
                    f"sum(increase(tokenyield_requests_total{{{WM}}}[$__range]))",
                    "Of every outcome.",
                    decimals=0,
                ),
                number(
                    "Tokens/s per watt",
                    f"sum(increase(tokenyield_tokens_total{{{W}}}[$__range])) / sum(increase(tokenyield_workload_energy_joules_total{{{W}}}[$__range]))",
                    "The same as tokens per joule: over all energy of the GPUs while held, idle included. Of whole workloads: energy has no model.",
                    decimals=3,
                ),
                number(
                    "Yield against reference",
                    f"{PRODUCTIVE} / {ACTIVE}",
                    "Share of the active time that the tokens would have taken at the reference pace; 100 % where there is none.",
                    unit="percentunit",
                    decimals=1,
                ),
                number(
                    "Active while held",
                    f'sum(increase(tokenyield_workload_gpu_seconds_total{{{W},state="active"}}[$__range])) / sum(increase(tokenyield_workload_gpu_seconds_total{{{W}}}[$__range]))',
                    "Share of the time held in which a kernel ran.",
                    unit="percentunit",
                    decimals=1,
                ),
                number(
                    "Cost",
                    f"sum by (currency) (delta(tokenyield_workload_cost_to_date{{{WM}}}[$__range]))",
                    "Of the closed hours in the range, idle time and what was shared to it included.",
                    legend="{{currency}}",
                ),
            ],
        ),
        (
            "Tokens and requests",
            [
                lines(
                    "Tokens per second",
                    [(f"sum by (kind) (rate(tokenyield_tokens_total{{{WM}}}{RATE}))", "{{kind}}")],
                    "By kind.",
                    stacked=True,
                ),
                lines(
                    "Requests per second",
                    [(f"sum by (outcome) (rate(tokenyield_requests_total{{{WM}}}{RATE}))", "{{outcome}}")],
                    "By outcome.",
                    unit="reqps",
                    stacked=True,
                ),
                lines(
                    "How tokens are counted",
                    [(f"sum by (method) (rate(tokenyield_tokens_total{{{WM}}}{RATE}))", "{{method}}")],
                    "counter is exact; count is added up per request, of some logs a lower bound; rate is a rate times its interval.",
                    stacked=True,
                ),
                lines(
                    "GPUs held",
                    [(f"sum by (state) (rate(tokenyield_workload_gpu_seconds_total{{{W}}}{RATE}))", "{{state}}")],
                    "Mean, by state.",
                    stacked=True,
                ),
            ],
        ),
        (
            "What callers waited",
            [
                lines(
                    "To the first token",
                    [(f'max by (workload, percentile) (tokenyield_latency_seconds{{{WM},kind="first_token"}})', WAITS)],
                    f"{AT_MOST} Beside yield: packing more requests makes both grow.",
                    unit="s",
                ),
                lines(
                    "From one token to the next",
                    [(f'max by (workload, percentile) (tokenyield_latency_seconds{{{WM},kind="inter_token"}})', WAITS)],
                    AT_MOST,
                    unit="s",
                ),
                lines(
                    "To the end of the answer",
                    [(f'max by (workload, percentile) (tokenyield_latency_seconds{{{WM},kind="end_to_end"}})', WAITS)],
                    AT_MOST,
                    unit="s",
                ),
            ],
        ),
        (
            "Yield and cost",
            [
                lines(
                    "Tokens/s per watt",
                    [(f"tokenyield_tokens_per_watt{{{WM}}}", "{{workload}} {{kind}}")],
                    "Over the live window. The same as tokens per joule.",
                ),
                lines(
                    "Cost per million tokens",
                    [
                        (
                            f'sum by (currency, workload, basis) (tokenyield_cost_per_million_tokens{{{WM},kind="total"}})',
                            "{{workload}} {{basis}} {{currency}}",
                        )
                    ],
                    "direct: active time only; allocated: and the idle time held; loaded: and a share of what the pool lost.",
                ),
                lines(
                    "Cost per hour",
                    [(f"sum by (state) (tokenyield_workload_cost_per_hour{{{W}}})", "{{state}}")],
                    "Of the GPUs held.",
                    stacked=True,
                ),
                lines(
                    "Cost per closed hour by bucket",
                    [(f"sum by (bucket) (delta(tokenyield_workload_cost_to_date{{{WM}}}[1h]))", "{{bucket}}")],
                    "As in reports.",
                    bars=True,
                    interval="1h",
                ),
                rows(
                    "Reference paces",
                    [
                        (
                            'max by (model, gpu_model, gpus, cluster, node, source) (tokenyield_reference_tokens_per_second{model=~"$model"})',
                            "tokens per second",
                        )
                    ],
                    "Expected pace of a model on so many GPUs: configured, or learned from three nodes or from days of one node.",
                    span=24,
                ),
            ],
        ),
    ],
)
