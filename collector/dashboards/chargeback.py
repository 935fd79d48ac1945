"""Chargeback: what each value of a dimension of the rules costs, by day and month, and the budgets. Closed hours.

The viewer chooses the dimension; its name is the name of a label. `team, product`, the default dimensions, are replaced
by those of the rules when the files are written, see monitoring/files.py.
"""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as kinds

from dashboards.panels import CLUSTER, POOL, Panel, bars, choice, lines, number, page, rows
from tokenyield_collector.attribution.rules import DEFAULT_DIMENSIONS

PLACE = 'cluster=~"$cluster",pool=~"$pool",model=~"$model"'
CHOSEN = f'{PLACE},$dimension=~"$value"'
TOKENS = f"tokenyield_attributed_tokens_to_date{{{CHOSEN}}}"


def cost(by: str, span: str, selector: str = CHOSEN) -> str:
    return f"sum by ({by}) (delta(tokenyield_attributed_cost_to_date{{{selector}}}[{span}]))"


def cost_bars(title: str, by: str, span: str, description: str) -> Panel:
    """A bar for each `span`."""
    return lines(title, [(cost(by, span), f"{{{{{by}}}}}")], description, bars=True, interval=span)


def dimension_choice(dimensions: Sequence[str]) -> dashboard.CustomVariable:
    options = [kinds.VariableOption(selected=i == 0, text=name, value=name) for i, name in enumerate(dimensions)]
    return (
        dashboard.CustomVariable("dimension")
        .label("By")
        .values(", ".join(dimensions))
        .current(options[0])
        .options(options)
    )


def chargeback(dimensions: Sequence[str] = DEFAULT_DIMENSIONS) -> kinds.Dashboard:
    """The dashboard for rules with these dimensions."""
    all_dimensions = ", ".join(dimensions)
    tokens_by_all = f"sum by ({all_dimensions}) (delta({TOKENS}[$__range]))"
    return page(
        "tokenyield-chargeback",
        "tokenyield / Chargeback",
        "What each value of a dimension of your rules costs. The report is the bill (`tokenyield-collector report`); this shows the same sums, by the hour.",
        [
            CLUSTER,
            POOL,
            dimension_choice(dimensions),
            choice("value", "Value", "label_values(tokenyield_attributed_cost_to_date, $dimension)"),
            choice("model", "Model", 'label_values(tokenyield_attributed_cost_to_date{$dimension=~"$value"}, model)'),
        ],
        [
            (
                "In the range",
                [
                    number(
                        "Cost", cost("currency", "$__range"), "Of the closed hours in the range.", legend="{{currency}}"
                    ),
                    number(
                        "Carried by nobody",
                        cost("currency", "$__range", f'{CHOSEN},$dimension=~"\\\\(.*|unattributed"')
                        + " or on () vector(0)",
                        "What stands apart: (unallocated), (dark), (idle) by the sharing policy, and what no rule attributes.",
                        legend="{{currency}}",
                    ),
                    number("Tokens", f"sum(delta({TOKENS}[$__range]))", "Made for the values chosen."),
                    number(
                        "GPU-hours",
                        f"sum(delta(tokenyield_attributed_gpu_seconds_to_date{{{CHOSEN}}}[$__range])) / 3600",
                        "Used, held or lost.",
                    ),
                    number(
                        "Energy",
                        f"sum(delta(tokenyield_attributed_energy_joules_to_date{{{CHOSEN}}}[$__range])) / 3.6e6",
                        "Of the GPU boards.",
                        unit="kwatth",
                    ),
                    number(
                        "Computed up to",
                        "max(tokenyield_collector_to_date_timestamp_seconds > 0) * 1000 or on () vector(0)",
                        "The end of the newest closed hour in these figures.",
                        unit="dateTimeAsIso",
                        decimals=0,
                    ),
                ],
            ),
            (
                "By $dimension",
                [
                    cost_bars("Cost per day by $dimension", "$dimension", "1d", "Of 24 hours."),
                    cost_bars("Cost per day by model", "model", "1d", "Of 24 hours."),
                    cost_bars("Cost of 30 days by $dimension", "$dimension", "30d", "Of the 30 days before each bar."),
                    bars(
                        "Where it goes",
                        cost("bucket", "$__range"),
                        "{{bucket}}",
                        "By bucket; shared is what was taken over from others by the sharing policy.",
                    ),
                    rows(
                        "By all dimensions",
                        [
                            (cost(f"currency, {all_dimensions}", "$__range"), "cost"),
                            (tokens_by_all, "tokens"),
                            (
                                f"{cost(f'currency, {all_dimensions}', '$__range')} / on ({all_dimensions}) group_left () ({tokens_by_all} / 1e6)",
                                "per million tokens",
                            ),
                        ],
                        "In the range. A cost per million tokens is shown where tokens were made.",
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
                        "{{budget}}, {{unit}}",
                        "Of the current month (UTC).",
                        unit="percentunit",
                    ),
                    rows(
                        "Budgets",
                        [
                            ("sum by (budget, unit) (tokenyield_budget_spent)", "spent"),
                            ("sum by (budget, unit) (tokenyield_budget)", "budget"),
                            ('sum by (budget, unit) (tokenyield_budget_forecast{bound="expected"})', "forecast"),
                            ('sum by (budget, unit) (tokenyield_budget_forecast{bound="high"})', "at most"),
                        ],
                        "The forecast adds, for each day to come, the mean of the same weekdays before.",
                    ),
                ],
            ),
        ],
        since="now-7d",
    )


DASHBOARD = chargeback()
