"""Rows of vendors as they publish them (shared samples, by name), with amounts that a test chooses."""

from typing import Any


def anthropic_cost(cents: str, **group: Any) -> dict[str, Any]:
    return {
        "group": {"model": "claude-sonnet-5", "workspace_id": "wrkspc_01AA", "cost_type": "tokens", "actor": None,
                  "rbac_group_id": None, **group},
        "cost": {"amount": cents, "list_amount": cents, "currency": "USD", "requests": None},
    }  # fmt: skip


def anthropic_usage(fresh: int, read: int = 0, written: int = 0, output: int = 0, **group: Any) -> dict[str, Any]:
    return {
        "group": {"model": "claude-sonnet-5", "workspace_id": None, "rbac_group_id": None, **group},
        "usage": {
            "uncached_input_tokens": fresh, "cache_read_input_tokens": read,
            "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
            "output_tokens": output, "requests": 3, "server_tool_use": {"web_search_requests": 0},
            "total_tokens": fresh + read + written + output,
        },
    }  # fmt: skip


def openai_cost(dollars: float, line_item: str = "gpt-5.6-terra, input_tokens") -> dict[str, Any]:
    return {"object": "organization.costs.result", "amount": {"value": dollars, "currency": "usd"},
            "line_item": line_item, "project_id": "proj_abc"}  # fmt: skip


def openai_usage(whole_input: int, cached: int, output: int, endpoint: str = "completions") -> dict[str, Any]:
    return {"object": f"organization.usage.{endpoint}.result", "input_tokens": whole_input,
            "input_cached_tokens": cached, "output_tokens": output, "num_model_requests": 1, "model": "gpt-5.6-terra",
            "service_tier": "a tier of tomorrow"}  # fmt: skip


def openrouter_row(day: Any, dollars: float) -> dict[str, Any]:
    return {"date": f"{day}", "model": "openai/gpt-5.6-terra", "usage": dollars, "requests": 1, "prompt_tokens": 50,
            "cached_tokens": 30, "completion_tokens": 4, "reasoning_tokens": 1}  # fmt: skip


def litellm_row(moment: str, dollars: float, number: int) -> dict[str, Any]:
    return {"request_id": f"r-{number}", "spend": dollars, "total_tokens": 15, "prompt_tokens": 12,
            "completion_tokens": 3, "startTime": moment, "model": "anthropic/claude-sonnet-5",
            "custom_llm_provider": "anthropic", "metadata": {}}  # fmt: skip


def cursor_event(ms: int, cents: float) -> dict[str, Any]:
    return {"timestamp": f"{ms}", "model": "claude-opus-5", "kind": "Usage-based", "userEmail": "ada@example.com",
            "tokenUsage": {"inputTokens": 1, "outputTokens": 2, "cacheWriteTokens": 3, "cacheReadTokens": 4,
                           "totalCents": cents}}  # fmt: skip


def copilot_credit(dollars: float) -> dict[str, Any]:
    return {"product": "Copilot", "sku": "Copilot AI Credits", "model": "Claude Sonnet 5", "unitType": "ai-credits",
            "netQuantity": dollars * 100, "netAmount": dollars}  # fmt: skip


def copilot_user(day: Any, login: str, credits_used: float) -> dict[str, Any]:
    return {"day": f"{day}", "user_login": login, "ai_credits_used": credits_used,
            "totals_by_cli": {"token_usage": {"prompt_tokens_sum": 5, "output_tokens_sum": 6}}}  # fmt: skip
