"""GitHub Copilot: billing of AI credits, and daily records of users, of an organization or an enterprise.

A report of users is a list of links to files, which are signed and get no key.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any
from urllib.parse import quote

from tokenyield_collector.pull.account import PullAccount
from tokenyield_collector.pull.request import PullVendor, VendorReport, VendorRequest
from tokenyield_collector.spend.values import UnusableSpend

LINKS_MAX = 100
_DAYS_KEPT = 365


def _headers(account: PullAccount, key: str) -> Mapping[str, str]:
    return {
        "Authorization": f"Bearer {key}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }


def _credits(account: PullAccount, first: date, last: date) -> VendorRequest:
    place = _place(account, "organizations")
    query = (("year", str(first.year)), ("month", str(first.month)), ("day", str(first.day)))
    return VendorRequest(f"{place}/settings/billing/ai_credit/usage", query)


def _users(account: PullAccount, first: date, last: date) -> VendorRequest:
    return VendorRequest(f"{_place(account, 'orgs')}/copilot/metrics/reports/users-1-day", (("day", f"{first}"),))


def _place(account: PullAccount, organizations: str) -> str:
    if account.enterprise:
        return f"/enterprises/{quote(account.enterprise, safe='')}"
    return f"/{organizations}/{quote(account.organization, safe='')}"


def _files(request: VendorRequest, document: Any) -> Sequence[VendorRequest]:
    if not isinstance(document, Mapping) or "download_links" not in document:
        return ()
    links = document["download_links"]
    if not isinstance(links, list) or len(links) > LINKS_MAX or not all(isinstance(link, str) for link in links):
        raise UnusableSpend("download_links", expected=f"at most {LINKS_MAX} links", found=type(links).__name__)
    return [VendorRequest(link, has_key=False, is_lines=True) for link in links]


def _documents(account: PullAccount, answer: Any) -> Sequence[Any]:
    """The links are followed, not read."""
    return () if isinstance(answer, Mapping) and "download_links" in answer else (answer,)


VENDOR = PullVendor(
    source="copilot",
    base_url="https://api.github.com",
    headers=_headers,
    default=("credits", "users"),
    documents=lambda account, answer: iter(_documents(account, answer)),
    reports={
        "credits": VendorReport(grain="credits_day", first=_credits, days_max=1),
        "users": VendorReport(grain="users", first=_users, next=_files, days_max=1, keeps_days=_DAYS_KEPT),
    },
)
