"""Anthropic: the usage and cost analytics of an organization, and the three older reports of the admin API.

A page of the analytics counts rows (20 by default), not buckets. `rbac_group_id` is never grouped by: such rows
overlap.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from tokenyield_collector.pull.account import PullAccount
from tokenyield_collector.pull.request import FirstRequest, PullVendor, VendorReport, VendorRequest, with_page

_VERSION = "2023-06-01"
_BETA = "analytics-usage-cost-2026-08-24"
_ROWS_OF_PAGE = "1000"
_BUCKETS_OF_PAGE = "31"
_ANALYTICS_DAYS = 365
_WHO = ("model", "workspace_id", "api_key_id", "actor", "product")
_BUCKET_WHO = ("model", "workspace_id", "api_key_id")


def _headers(account: PullAccount, key: str) -> Mapping[str, str]:
    return {"x-api-key": key, "anthropic-version": _VERSION, "anthropic-beta": _BETA}


def _first(path: str, width: str, limit: str, groups: Sequence[str]) -> FirstRequest:
    def request(account: PullAccount, first: date, last: date) -> VendorRequest:
        query = (
            ("starting_at", f"{first}T00:00:00Z"),
            ("ending_at", f"{last + timedelta(1)}T00:00:00Z"),
            (width, "1d"),
            ("limit", limit),
            *(("group_by[]", group) for group in groups),
        )
        return VendorRequest(f"/v1/organizations/{path}", query)

    return request


def _claude_code(account: PullAccount, first: date, last: date) -> VendorRequest:
    query = (("starting_at", f"{first}"), ("limit", _ROWS_OF_PAGE))
    return VendorRequest("/v1/organizations/usage_report/claude_code", query)


def next_page(request: VendorRequest, document: Any) -> Sequence[VendorRequest]:
    """Where `has_more` says that there is one."""
    if isinstance(document, Mapping) and document.get("has_more"):
        return (with_page(request, "page", str(document.get("next_page") or "")),)
    return ()


VENDOR = PullVendor(
    source="anthropic",
    base_url="https://api.anthropic.com",
    headers=_headers,
    names_currency=True,
    default=("analytics_cost", "analytics_usage"),
    reports={
        "analytics_cost": VendorReport(
            grain="analytics_cost",
            first=_first("analytics/cost", "time_bucket_width", _ROWS_OF_PAGE, (*_WHO, "cost_type", "token_type")),
            next=next_page,
            keeps_days=_ANALYTICS_DAYS,
        ),
        "analytics_usage": VendorReport(
            grain="analytics_usage",
            first=_first("analytics/usage", "time_bucket_width", _ROWS_OF_PAGE, _WHO),
            next=next_page,
            keeps_days=_ANALYTICS_DAYS,
        ),
        "cost_report": VendorReport(
            grain="cost_report",
            first=_first("cost_report", "bucket_width", _BUCKETS_OF_PAGE, ("workspace_id", "description")),
            next=next_page,
        ),
        "messages": VendorReport(
            grain="messages",
            first=_first("usage_report/messages", "bucket_width", _BUCKETS_OF_PAGE, _BUCKET_WHO),
            next=next_page,
        ),
        "claude_code": VendorReport(grain="claude_code", first=_claude_code, next=next_page, days_max=1),
    },
)
