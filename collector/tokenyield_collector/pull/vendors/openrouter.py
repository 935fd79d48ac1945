"""OpenRouter: the activity of a day. The vendor keeps the last 30 completed days only."""

from datetime import date

from tokenyield_collector.pull.account import PullAccount
from tokenyield_collector.pull.request import PullVendor, VendorReport, VendorRequest, bearer

_DAYS_KEPT = 30


def _activity(account: PullAccount, first: date, last: date) -> VendorRequest:
    return VendorRequest("/api/v1/activity", (("date", f"{first}"),))


VENDOR = PullVendor(
    source="openrouter",
    base_url="https://openrouter.ai",
    headers=bearer,
    default=("activity",),
    reports={"activity": VendorReport(grain="activity", first=_activity, days_max=1, keeps_days=_DAYS_KEPT)},
)
