"""OpenAI: costs and usage of an organization. Times are seconds since 1970."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from tokenyield_collector.pull.account import PullAccount
from tokenyield_collector.pull.request import FirstRequest, PullVendor, VendorReport, VendorRequest, bearer
from tokenyield_collector.pull.vendors.anthropic import next_page

_WHO = ("project_id", "user_id", "api_key_id", "model")
_PROJECT = ("project_id",)
_ENDPOINTS = {
    "completions": _WHO,
    "embeddings": _WHO,
    "moderations": _WHO,
    "images": _WHO,
    "audio_speeches": _WHO,
    "audio_transcriptions": _WHO,
    "vector_stores": _PROJECT,
    "code_interpreter_sessions": _PROJECT,
    "file_search_calls": _PROJECT,
    "web_search_calls": _PROJECT,
}
"""Endpoint of usage -> what it is grouped by."""
_BUCKETS_OF_PAGE = "31"


def _first(path: str, groups: Sequence[str]) -> FirstRequest:
    def request(account: PullAccount, first: date, last: date) -> VendorRequest:
        query = (
            ("start_time", str(_unix(first))),
            ("end_time", str(_unix(last + timedelta(1)))),
            ("bucket_width", "1d"),
            ("limit", _BUCKETS_OF_PAGE),
            *(("group_by[]", group) for group in groups),
        )
        return VendorRequest(f"/v1/organization/{path}", query)

    return request


def _unix(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


VENDOR = PullVendor(
    source="openai",
    base_url="https://api.openai.com",
    headers=bearer,
    names_currency=True,
    default=("costs", *list(_ENDPOINTS)[:6]),
    reports={
        "costs": VendorReport(grain="costs", first=_first("costs", ("project_id", "line_item")), next=next_page),
        **{
            endpoint: VendorReport(grain=f"usage:{endpoint}", first=_first(f"usage/{endpoint}", groups), next=next_page)
            for endpoint, groups in _ENDPOINTS.items()
        },
    },
)
