"""Chargeback: what teams and products cost, by day and month, and their budgets. Closed hours, as reports say it."""

from dashboards.panels import CLUSTER, POOL, bars, choice, lines, number, page, rows

A = 'cluster=~"$cluster",pool=~"$pool",team=~"$team",product=~"$product",model=~"$model"'


def cost(by: str, span: str) -> str:
    return f"sum by ({by}) (delta(tokenyield_attributed_cost_to_date{{{A}}}[{span}]))"


TOKENS = f"sum by (team, product) (delta(tokenyield_attributed_tokens_to_date{{{A}}}[$__range]))"

DASHBOARD = page(
    "tokenyield-chargeback",
    "tokenyield / Chargeback",
    "What teams and products cost. The report is the bill (`tokenyield-collector report`); this shows the same sums, by the hour.",
    [
        CLUSTER,
        POOL,
        choice("team", "Team", "label_values(tokenyield_attributed_cost_to_date, team)"),
        choice("product", "Product", 'label_values(tokenyield_attributed_cost_to_date{team=~"$team"}, product)'),
        choice("model", "Model", 'label_values(tokenyield_attributed_cost_to_date{team=~"$team"}, model)'),
    ],
    [
        (
            "In the range",
            [
                number(
                    "Cost", cost("currency", "$__range"), "Of the closed hours in the range.", legend="{{currency}}"
                ),
                number(
                    "Nobody carries",
                    f'sum by (currency) (delta(tokenyield_attributed_cost_to_date{{{A},team=~"\\\\(.*|unattributed"}}[$__range])) or on () vector(0)',
                    "What stands apart: (unallocated), (dark), (idle) by the sharing policy, and what no rule attributes.",
                    legend="{{currency}}",
                ),
                number("Tokens", f"sum({TOKENS})", "Made for these teams."),
                number(
                    "GPU-hours",
                    f"sum(delta(tokenyield_attributed_gpu_seconds_to_date{{{A}}}[$__range])) / 3600",
                    "Used, held or lost.",
                ),
                number(
                    "Energy",
                    f"sum(delta(tokenyield_attributed_energy_joules_to_date{{{A}}}[$__range])) / 3.6e6",
                    "Of the GPU boards.",
                    unit="kwatth",
                ),
                number(
                    "Booked up to",
                    "max(tokenyield_collector_to_date_timestamp_seconds > 0) * 1000 or on () vector(0)",
                    "The end of the newest closed hour in these figures.",
                    unit="dateTimeAsIso",
                    decimals=0,
                ),
            ],
        ),
        (
            "By team and product",
            [
                lines(
                    "Cost per day by team", [(cost("team", "1d"), "{{team}}")], "Of 24 hours.", bars=True, interval="1d"
                ),
                lines(
                    "Cost per day by product",
                    [(cost("product", "1d"), "{{product}}")],
                    "Of 24 hours.",
                    bars=True,
                    interval="1d",
                ),
                lines(
                    "Cost of 30 days by team",
                    [(cost("team", "30d"), "{{team}}")],
                    "Of the 30 days before each bar.",
                    bars=True,
                    interval="30d",
                ),
                bars(
                    "Where it goes",
                    cost("bucket", "$__range"),
                    "{{bucket}}",
                    "By bucket; shared is what was taken over from others by the policy.",
                ),
                rows(
                    "Teams and products",
                    [
                        (cost("currency, team, product", "$__range"), "cost"),
                        (TOKENS, "tokens"),
                        (
                            f"{cost('currency, team, product', '$__range')} / on (team, product) group_left () ({TOKENS} / 1e6)",
                            "per million tokens",
                        ),
                    ],
                    "In the range. A price per million tokens stands where tokens were made.",
                    span=24,
                ),
            ],
        ),
        (
            "Budgets of the month",
            [
                bars(
                    "Spent of the budget",
                    "tokenyield_budget_spent / tokenyield_budget",
                    "{{budget}}",
                    "Of the present month (UTC).",
                    unit="percentunit",
                ),
                rows(
                    "Budgets",
                    [
                        ("sum by (budget, currency) (tokenyield_budget_spent)", "spent"),
                        ("sum by (budget, currency) (tokenyield_budget)", "budget"),
                        ('sum by (budget, currency) (tokenyield_budget_forecast{bound="expected"})', "forecast"),
                        ('sum by (budget, currency) (tokenyield_budget_forecast{bound="high"})', "at most"),
                    ],
                    "The forecast adds, for each day to come, the mean of the same weekdays before.",
                ),
            ],
        ),
    ],
    since="now-7d",
)
