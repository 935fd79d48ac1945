"""Cursor: usage events, and daily usage, of a team. Both are read by POST; the key is the user of basic auth."""

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tokenyield_collector.pull.account import PullAccount
from tokenyield_collector.pull.request import PullVendor, VendorReport, VendorRequest
from tokenyield_collector.spend.values import at

_EVENTS_OF_PAGE = 1000
_PAGES_MAX = 5_000


def _headers(account: PullAccount, key: str) -> Mapping[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}


def _events(account: PullAccount, first: date, last: date) -> VendorRequest:
    body = _days(first, last) | {"page": 1, "pageSize": _EVENTS_OF_PAGE}
    return VendorRequest("/teams/filtered-usage-events", body=body)


def _daily(account: PullAccount, first: date, last: date) -> VendorRequest:
    return VendorRequest("/teams/daily-usage-data", body=_days(first, last))


def _days(first: date, last: date) -> dict[str, Any]:
    return {"startDate": _ms(first), "endDate": _ms(last + timedelta(1))}


def _ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def _next(request: VendorRequest, document: Any) -> Sequence[VendorRequest]:
    if not isinstance(document, Mapping) or not at(document, "pagination.hasNextPage"):
        return ()
    body = dict(request.body or {})
    return (request._replace(body=body | {"page": body["page"] + 1}),)


VENDOR = PullVendor(
    source="cursor",
    base_url="https://api.cursor.com",
    headers=_headers,
    default=("events",),
    reports={
        "events": VendorReport(
            grain="events", first=_events, next=_next, days_max=1, has_edges=True, pages_max=_PAGES_MAX
        ),
        "daily": VendorReport(grain="daily", first=_daily, days_max=30, has_edges=True),
    },
)
