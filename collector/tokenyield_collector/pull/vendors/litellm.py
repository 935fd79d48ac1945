"""LiteLLM: the spend log of a proxy, by pages of a day."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from tokenyield_collector.pull.account import PullAccount
from tokenyield_collector.pull.request import PullVendor, VendorReport, VendorRequest, bearer, with_page
from tokenyield_collector.spend.values import UnusableSpend, count_at

_ROWS_OF_PAGE = "1000"
_PAGES_MAX = 20_000


def _logs(account: PullAccount, first: date, last: date) -> VendorRequest:
    """`end_date` is included: the day's last second would be cut without the first moment of the next day."""
    query = (
        ("start_date", f"{first} 00:00:00"),
        ("end_date", f"{last + timedelta(1)} 00:00:00"),
        ("sort_by", "startTime"),
        ("sort_order", "asc"),
        ("page_size", _ROWS_OF_PAGE),
        ("page", "1"),
    )
    return VendorRequest("/spend/logs/v2", query)


def _next(request: VendorRequest, document: Any) -> Sequence[VendorRequest]:
    if not isinstance(document, Mapping) or (pages := count_at(document, "total_pages")) is None:
        raise UnusableSpend("total_pages", expected="a number of pages", found="none", fix="update LiteLLM")
    page = int(dict(request.query)["page"])
    return (with_page(request, "page", str(page + 1)),) if page < pages else ()


VENDOR = PullVendor(
    source="litellm",
    base_url="",
    headers=bearer,
    default=("spend_log",),
    reports={
        "spend_log": VendorReport(
            grain="spend_log", first=_logs, next=_next, days_max=1, has_edges=True, pages_max=_PAGES_MAX
        )
    },
)
