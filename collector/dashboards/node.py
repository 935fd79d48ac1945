"""Node and GPU: power, throttling and workloads of each GPU of a node. From the agents' own metrics."""

from dashboards.panels import choice, history, lines, number, page, rows

N = 'instance=~"$node"'
NG = 'instance=~"$node",index=~"$gpu"'
RATE = "[$__rate_interval]"

DASHBOARD = page(
    "tokenyield-node",
    "tokenyield / Node and GPU",
    "Every GPU of a node: power, energy, states, throttling, and the workloads that hold them. Prometheus must scrape the agents.",
    [
        choice("node", "Node", "label_values(tokenyield_agent_info, instance)"),
        choice("gpu", "GPU", 'label_values(tokenyield_agent_gpu_info{instance=~"$node"}, index)'),
    ],
    [
        (
            "The node",
            [
                number(
                    "GPUs readable",
                    f"sum(tokenyield_agent_gpu_up{{{N}}})",
                    "Of those seen since the agent started.",
                    decimals=0,
                ),
                number(
                    "GPUs lost",
                    f"sum(1 - tokenyield_agent_gpu_up{{{N}}})",
                    "Seen before, and cannot be read.",
                    decimals=0,
                ),
                number(
                    "Power",
                    f"sum(tokenyield_agent_gpu_power_watts{{{N}}})",
                    "Of the GPU boards.",
                    unit="watt",
                    decimals=0,
                ),
                number(
                    "Energy in the range",
                    f"sum(increase(tokenyield_agent_gpu_energy_joules_total{{{N}}}[$__range])) / 3.6e6",
                    "From the GPUs' own counters.",
                    unit="kwatth",
                ),
                number(
                    "Active",
                    f'sum(rate(tokenyield_agent_gpu_seconds_total{{{N},state="active"}}{RATE})) / sum(rate(tokenyield_agent_gpu_seconds_total{{{N}}}{RATE}))',
                    "Share of GPU time in which a kernel ran.",
                    unit="percentunit",
                    decimals=1,
                ),
                number(
                    "Hottest",
                    f"max(tokenyield_agent_gpu_temperature_celsius{{{N}}})",
                    "Core temperature.",
                    unit="celsius",
                    decimals=0,
                ),
            ],
        ),
        (
            "GPUs",
            [
                history(
                    "Active time of each GPU",
                    [
                        (
                            f'sum by (instance, index) (rate(tokenyield_agent_gpu_seconds_total{{{NG},state="active"}}{RATE}))',
                            "{{instance}} GPU {{index}}",
                        )
                    ],
                    "Share of the time in which a kernel ran: blue none, red all of it.",
                ),
                lines(
                    "Power",
                    [(f"tokenyield_agent_gpu_power_watts{{{NG}}}", "{{instance}} GPU {{index}}")],
                    "Drawn by the board.",
                    unit="watt",
                ),
                lines(
                    "Time by state",
                    [(f"sum by (state) (rate(tokenyield_agent_gpu_seconds_total{{{NG}}}{RATE}))", "{{state}}")],
                    "Mean number of GPUs: active, idle (held, no kernel), unallocated, unknown.",
                    stacked=True,
                ),
                lines(
                    "Memory",
                    [(f"tokenyield_agent_gpu_memory_used_bytes{{{NG}}}", "{{instance}} GPU {{index}}")],
                    "In use.",
                    unit="bytes",
                ),
                lines(
                    "Temperature",
                    [(f"tokenyield_agent_gpu_temperature_celsius{{{NG}}}", "{{instance}} GPU {{index}}")],
                    "Core.",
                    unit="celsius",
                ),
                lines(
                    "Throttled",
                    [
                        (
                            f"sum by (instance, index, reason) (rate(tokenyield_agent_gpu_throttled_seconds_total{{{NG}}}{RATE})) > 0 or on () vector(0)",
                            "{{instance}} GPU {{index}} {{reason}}",
                        )
                    ],
                    "Share of the time in which the clocks were limited, by NVML's reason; reasons overlap.",
                    unit="percentunit",
                ),
                lines(
                    "Activity",
                    [
                        (
                            f"sum by (instance, index, unit) (rate(tokenyield_agent_gpu_activity_seconds_total{{{NG}}}{RATE}))",
                            "{{instance}} GPU {{index}} {{unit}}",
                        )
                    ],
                    "Share of SMs and tensor cores that were busy, and of the memory's bandwidth used; by GPM, on Hopper and later.",
                    unit="percentunit",
                ),
                lines(
                    "Errors",
                    [
                        (
                            f"sum by (instance, index, event) (increase(tokenyield_agent_gpu_events_total{{{NG}}}{RATE})) > 0 or on () vector(0)",
                            "{{instance}} GPU {{index}} {{event}}",
                        )
                    ],
                    "XIDs, ECC errors, remapped rows, errors of NVLink and PCIe.",
                ),
                lines(
                    "SM clock",
                    [(f"tokenyield_agent_gpu_sm_clock_hertz{{{NG}}}", "{{instance}} GPU {{index}}")],
                    "Of the streaming multiprocessors.",
                    unit="hertz",
                ),
            ],
        ),
        (
            "Workloads on the GPUs",
            [
                rows(
                    "Holders in the range",
                    [
                        (
                            f"sum by (workload, instance, index) (increase(tokenyield_agent_workload_gpu_seconds_total{{{NG}}}[$__range])) / 3600",
                            "GPU-hours held",
                        ),
                        (
                            f'sum by (workload, instance, index) (increase(tokenyield_agent_workload_gpu_seconds_total{{{NG},state="active"}}[$__range])) / 3600',
                            "active",
                        ),
                    ],
                    "GPU time by workload. (untied): held by a process that belongs to no known workload.",
                    link="/d/tokenyield-workload?var-workload=${__data.fields.workload}&${datasource:queryparam}&${__url_time_range}",
                ),
                rows(
                    "The GPUs",
                    [
                        (f"max by (instance, index, gpu, model) (tokenyield_agent_gpu_info{{{NG}}})", "seen"),
                    ],
                    "Product names and UUIDs.",
                ),
            ],
        ),
    ],
    since="now-6h",
)
