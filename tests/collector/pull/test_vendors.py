"""What each vendor reports comes into the ledger whole: all pages, to the token and the millionth."""

from datetime import date

import pytest

from collector.pull.conftest import Pulling, ago
from collector.pull.rows import (
    anthropic_cost,
    anthropic_usage,
    copilot_credit,
    copilot_user,
    cursor_event,
    litellm_row,
    openai_cost,
    openai_usage,
    openrouter_row,
)
from collector.pull.vendors import KEY


def unix_ms(days_ago: int) -> int:
    return (ago(days_ago) - date(1970, 1, 1)).days * 86_400_000


def test_anthropic_all_pages_cents_and_unknown_values(pulling: Pulling) -> None:
    rows = pulling.vendors.rows
    rows["analytics/cost", ago(2)] = [
        anthropic_cost("79.20"),
        anthropic_cost("0.00015", model="claude-next"),
        anthropic_cost("4", cost_type="moon_landing", model=None),
        anthropic_cost("-10.5", product="a product of tomorrow"),
        anthropic_cost("123.78912", actor={"type": "user_actor", "email_address": "ada@example.com"}),
    ]
    rows["analytics/cost", ago(1)] = [anthropic_cost("1")]
    rows["analytics/usage", ago(2)] = [anthropic_usage(120_000, 4_100_000, 260_000, 88_000)] * 3
    state = pulling.pull(pulling.account("anthropic"))
    assert (state.problems, state.missing_days, state.rows) == ({}, 0, 9)
    assert pulling.totals() == {
        ("analytics_cost", 2): (1_964_893, 0),  # (79.20 + 0.00015 + 4 - 10.5 + 123.78912) cents, in millionths
        ("analytics_cost", 1): (10_000, 0),
        ("analytics_usage", 2): (0, 3 * 4_568_000),
    }
    lines = [line for one in pulling.slices for line in one.lines]
    assert {"moon_landing", "tokens"} == {line.fields.service for line in lines}
    assert "ada@example.com" in {line.fields.person for line in lines}
    assert {path.split("?")[0].rsplit("/", 1)[1] for _, path, _ in pulling.vendors.sent} == {"cost", "usage"}
    assert all("limit=1000" in path for _, path, _ in pulling.vendors.sent), "20 rows is the vendor's default"
    assert {method for method, _, _ in pulling.vendors.sent} == {"GET"}


def test_anthropic_older_reports(pulling: Pulling) -> None:
    rows = pulling.vendors.rows
    rows["cost_report", ago(3)] = [{"currency": "USD", "amount": "123.78912", "cost_type": "tokens"}]
    rows["usage_report/messages", ago(3)] = [anthropic_usage(1500, 200, 500, 500)["usage"]]
    rows["usage_report/claude_code", ago(1)] = [
        {"date": f"{ago(1)}T00:00:00Z", "actor": {"email_address": "ada@example.com"}, "customer_type": "api",
         "core_metrics": {}, "model_breakdown": [
             {"model": "claude-opus-5", "estimated_cost": {"currency": "USD", "amount": 186},
              "tokens": {"input": 1, "output": 2, "cache_read": 3, "cache_creation": 4}}]}
    ] * 3  # fmt: skip
    state = pulling.pull(pulling.account("anthropic", reports=["cost_report", "messages", "claude_code"]))
    assert state.problems == {}
    assert pulling.totals() == {
        ("cost_report", 3): (1_237_891, 0),
        ("messages", 3): (0, 2_700),
        ("claude_code", 1): (5_580_000, 30),
    }


def test_openai_dollars_and_every_endpoint(pulling: Pulling) -> None:
    rows = pulling.vendors.rows
    rows["costs", ago(1)] = [openai_cost(0.06), openai_cost(0.12, "web search tool calls"), openai_cost(1e-7)]
    rows["usage/completions", ago(9)] = [openai_usage(141_201, 90_000, 9_756)]
    rows["usage/embeddings", ago(1)] = [openai_usage(10, 0, 0, "embeddings")]
    state = pulling.pull(pulling.account("openai", account="org-1"))
    assert state.problems == {}
    assert pulling.totals() == {
        ("costs", 1): (180_000, 0),
        ("usage:completions", 9): (0, 150_957),
        ("usage:embeddings", 1): (0, 10),
    }
    assert {one.key.account for one in pulling.slices} == {"org-1"}


def test_openrouter_by_day_and_not_beyond_what_it_keeps(pulling: Pulling) -> None:
    for days in (1, 2, 30, 31):
        pulling.vendors.rows["activity", ago(days)] = [openrouter_row(ago(days), 0.415)] * 2
    state = pulling.pull(pulling.account("openrouter", start="2026-01-01", currency="EUR"))
    assert state.problems == {}
    assert pulling.totals() == {("activity", days): (830_000, 2 * 54) for days in (1, 2, 30)}
    assert {line.fields.currency for one in pulling.slices for line in one.lines} == {"EUR"}
    assert pulling.vendors.asked["/api/v1/activity"] == 30


def test_litellm_each_request_on_its_own_day(pulling: Pulling) -> None:
    """`end_date` is included, so the next day's first request comes too; it is not counted twice."""
    rows = pulling.vendors.rows
    rows["logs", ago(1)] = [litellm_row(f"{ago(1)}T00:00:00.000Z", 0.01, i) for i in range(3)]
    rows["logs", ago(2)] = [litellm_row(f"{ago(2)}T23:59:59.900Z", 0.0123, i) for i in range(10, 15)]
    state = pulling.pull(pulling.account("litellm"))
    assert state.problems == {}
    assert pulling.totals() == {("spend_log", 1): (30_000, 45), ("spend_log", 2): (61_500, 75)}


def test_cursor_events_by_post_and_basic_auth(pulling: Pulling) -> None:
    pulling.vendors.rows["events", ago(1)] = [cursor_event(unix_ms(1) + i, 20.18) for i in range(5)]
    state = pulling.pull(pulling.account("cursor"))
    assert state.problems == {}
    assert pulling.totals() == {("events", 1): (1_009_000, 50)}
    assert {(method, path) for method, path, _ in pulling.vendors.sent} == {("POST", "/teams/filtered-usage-events")}


def test_copilot_credits_and_files_behind_links_which_get_no_key(pulling: Pulling) -> None:
    rows = pulling.vendors.rows
    rows["credits", ago(1)] = [copilot_credit(2.0), copilot_credit(0.01)]
    rows["users", ago(1)] = [copilot_user(ago(1), "ada", 12.5), copilot_user(ago(1), "bob", 1)]
    rows["more", ago(1)] = [copilot_user(ago(1), "eve", 0.5)]
    state = pulling.pull(pulling.account("copilot", organization="acme"))
    assert state.problems == {}
    assert pulling.totals() == {("credits_day", 1): (2_010_000, 0), ("users", 1): (140_000, 33)}
    assert {one.key.account for one in pulling.slices} == {"acme"}
    links = [headers for _, path, headers in pulling.vendors.sent if path.startswith("/files/")]
    assert links
    assert all(KEY not in repr(headers) for headers in links)


def test_any_json_by_a_mapping(pulling: Pulling) -> None:
    pulling.vendors.rows["json", ago(1)] = [
        {"when": f"{ago(1)}", "money": {"eur": amount}, "model": "m"} for amount in (1.1, 2.2, 3.3)
    ]
    pulling.vendors.rows["json", ago(1)].append({"when": "yesterday", "money": {"eur": 1}})
    mapping = {"vendor": "mistral", "currency": "EUR", "service": "tokens",
               "columns": {"day": "when", "cost": "money.eur", "model": "model"}}  # fmt: skip
    json = {"path": "/costs", "query": {"from": "{first}", "to": "{after}"}, "rows": "result.items",
            "next": {"at": "result.cursor", "as": "cursor"}, "mapping": mapping}  # fmt: skip
    state = pulling.pull(pulling.account("json", json=json))
    assert pulling.totals() == {("billed", 1): (6_600_000, 0)}
    assert (state.rows, state.refused["rows"]) == (3, 1), "a row that cannot be used costs only itself"
    assert {one.key.account for one in pulling.slices} == {"main"}


@pytest.mark.parametrize("source", ["anthropic", "openai", "openrouter", "litellm", "cursor"])
def test_a_vendor_without_use_misses_nothing(source: str, pulling: Pulling) -> None:
    state = pulling.pull(pulling.account(source))
    assert (state.problems, state.missing_days, state.success_at_ms) == ({}, 0, pulling.clock.ms)
    assert pulling.slices == []
