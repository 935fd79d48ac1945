"""Each vendor's sample: parts sum to the vendor's own total, tokens to the token and money to the millionth."""

from pathlib import Path

import pytest

from tokenyield_collector.ingest.spend_import import SpendImport, read_spend_files
from tokenyield_collector.spend.people import people_filter
from tokenyield_collector.spend.slices import SpendAmounts, SpendFields, SpendLine
from tokenyield_collector.spend.sources import SOURCES, grain_of_slice, load_source

SAMPLES = Path(__file__).parents[2] / "fixtures" / "spend"
CARD = {
    "vendors": {"anthropic": "anthropic", "openai": "openai", "cursor": "cursor", "openrouter": "openrouter"},
    "columns": {
        "day": "Date",
        "cost": "Amount",
        "currency": "Currency",
        "vendor": "Description",
        "person": "Cardholder",
    },
}


def imported(source: str, *names: str, **options: object) -> SpendImport:
    files = [SAMPLES / name for name in names]
    return read_spend_files(source, files, people=people_filter("name", {}), **options)  # type: ignore[arg-type]


def lines_of(read: SpendImport) -> list[SpendLine]:
    return [line for one in read.slices for line in one.lines]


@pytest.mark.parametrize(
    ("source", "file", "layer", "tokens", "micro"),
    [
        ("anthropic", "anthropic_analytics_usage.json", "reported", 4_568_000 + 10_200_000, None),
        ("anthropic", "anthropic_analytics_cost.json", "billed", None, 792_000 + 40_000),
        ("anthropic", "anthropic_legacy_usage_report_messages.json", "reported", 3_700, None),
        ("anthropic", "anthropic_legacy_cost_report.json", "billed", None, 1_237_891),
        ("anthropic", "anthropic_legacy_usage_report_claude_code.json", "observed", 68_810 + 930_000, 2_910_000),
        ("openai", "openai_usage_completions.json", "reported", 141_201 + 9_756, None),
        ("openai", "openai_costs.json", "billed", None, 180_000),
        ("openrouter", "openrouter_activity.json", "billed", 56_100, 415_000),
        ("openrouter", "openrouter_generation.json", "observed", 1_180 + 322, 4_200),
        ("litellm", "litellm_spend_logs.json", "observed", 1_500, 12_300),
        ("cursor", "cursor_filtered_usage_events.json", "reported", 18_652, 201_800),
        ("cursor", "cursor_daily_usage.json", "reported", None, None),
        ("copilot", "github_ai_credit_usage.json", "billed", None, 2_000_000),
        ("copilot", "github_copilot_user_record.jsonl", "reported", 8_800, 125_000),
        ("aws", "bedrock_cur2_rows.json", "billed", 142_500, 213_700),
        ("azure", "azure_monitor_metrics.json", "reported", 4_821, None),
        ("google", "vertex_timeseries.json", "reported", 48_211, None),
        ("claude-code", "claude_code_session.jsonl", "observed", 23_917, None),
        ("codex", "codex_rollout.jsonl", "observed", 27_000, None),
    ],
)
def test_parts_sum_to_the_vendors_total(
    source: str, file: str, layer: str, tokens: int | None, micro: int | None
) -> None:
    read = imported(source, file)
    assert read.refused == 0
    assert {one.layer for one in read.slices} == {layer}
    counts = [count for line in lines_of(read) if (count := line.amounts.tokens) is not None]
    costs = [cost for line in lines_of(read) if (cost := line.amounts.cost_micro) is not None]
    assert (sum(counts) if counts else None, sum(costs) if costs else None) == (tokens, micro)


def test_input_that_includes_the_cache_and_input_that_does_not() -> None:
    (openai,) = lines_of(imported("openai", "openai_usage_completions.json"))
    assert openai == SpendLine(
        SpendFields("openai", model="gpt-5.6-terra", project="proj_abc", api_key="key_abc", person="user-xyz"),
        SpendAmounts(49_201, 90_000, 2_000, 0, 9_756, None, 470, None),
    )
    (anthropic,) = lines_of(imported("anthropic", "anthropic_legacy_usage_report_messages.json"))[:1]
    assert anthropic.amounts == SpendAmounts(1_500, 200, 1_500, 1_000, 500, None, None, None)
    (litellm,) = lines_of(imported("litellm", "litellm_spend_logs.json"))
    assert litellm.amounts[:5] == (300, 900, None, None, 300)
    (openrouter,) = lines_of(imported("openrouter", "openrouter_activity.json"))
    assert openrouter.amounts == SpendAmounts(22_000, 30_000, None, None, 4_100, 900, 12, 415_000)


def test_a_message_that_was_written_while_it_streamed_counts_once() -> None:
    (line,) = lines_of(imported("claude-code", "claude_code_session.jsonl"))
    assert line.amounts == SpendAmounts(12, 18_400, 5_120, 0, 385, None, 1, None), "the last of the main chain"
    assert line.fields.session == "5d1c0000-0000-4000-8000-000000000001"


def test_cumulative_counts_are_taken_apart() -> None:
    (line,) = lines_of(imported("codex", "codex_rollout.jsonl"))
    assert line.amounts == SpendAmounts(5_500, 20_000, None, None, 1_500, 500, 2, None)


def test_what_a_plan_includes_costs_nothing_more() -> None:
    read = imported("cursor", "cursor_filtered_usage_events.json")
    assert [(line.fields.service, line.amounts.cost_micro) for line in lines_of(read)] == [
        ("included", 0), ("tokens", 201_800),
    ]  # fmt: skip


def test_keys_of_a_cloud_bill() -> None:
    (line,) = lines_of(imported("aws", "bedrock_cur2_rows.json"))
    assert line.fields == SpendFields(
        "aws", model="Claude4.6Sonnet", team="search", product="answers", workload="abc", person="ada@example.com"
    )


def test_a_card_statement_by_a_mapping() -> None:
    read = imported("csv", "bank_card.csv", mapping=CARD, account="card")
    assert {one.key.account for one in read.slices} == {"card"}
    bought = {(line.fields.vendor, line.fields.person): line.amounts.cost_micro for line in lines_of(read)}
    assert bought == {
        ("anthropic", "E ALLEN"): 1_000_000_000, ("openai", "A DOE"): 25_000_000,
        ("cursor", "B ROE"): 40_000_000, ("openrouter", "B ROE"): 50_000_000,
    }  # fmt: skip


def test_pages_that_are_missing_are_named() -> None:
    read = imported("anthropic", "anthropic_analytics_cost.json")
    assert any("has_more" in notice for _, notice in read.notices)


def test_every_source_has_layers_that_slices_name() -> None:
    for name in SOURCES:
        form = load_source(name)
        assert form.documents
        for grain, known in form.grains.items():
            assert grain_of_slice(name, f"{grain}:part") == known
    assert grain_of_slice("a newer one", "x").rank == 0
