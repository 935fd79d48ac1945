"""Any API that answers with JSON rows, by a mapping in spend.yaml; its rows are read as those of a table."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from tokenyield_collector.pull.account import JsonReport, PullAccount
from tokenyield_collector.pull.request import PullVendor, VendorReport, VendorRequest, with_page
from tokenyield_collector.spend.values import UnusableSpend, at

PLACES = ("first", "last", "after")
"""What stands in braces in `query`."""


def _own(account: PullAccount) -> JsonReport:
    assert account.json is not None
    return account.json


def _headers(account: PullAccount, key: str) -> Mapping[str, str]:
    return {_own(account).key_header: f"{_own(account).key_prefix}{key}"}


def _first(account: PullAccount, first: date, last: date) -> VendorRequest:
    days = dict(zip(PLACES, map(str, (first, last, last + timedelta(1))), strict=True))
    query = tuple((name, _filled(value, days)) for name, value in _own(account).query.items())
    return VendorRequest(_own(account).path, query)


def _filled(value: str, days: Mapping[str, str]) -> str:
    for name, day in days.items():
        value = value.replace(f"{{{name}}}", day)
    return value


def _documents(account: PullAccount, answer: Any) -> Iterator[Any]:
    """Rows, each with the columns that the mapping names; one that is missing in a row is empty there."""
    path = _own(account).rows
    rows = at(answer, path) if path and isinstance(answer, Mapping) else answer
    if not isinstance(rows, list):
        raise UnusableSpend(
            path or "answer", expected="a list of rows", found=type(rows).__name__, fix="correct `rows`"
        )
    columns = [str(column) for column in _own(account).mapping.get("columns", {}).values()]
    for row in rows:
        yield {column: at(row, column) for column in columns} if isinstance(row, Mapping) else row


def report_of(account: PullAccount) -> VendorReport:
    """The one report that spend.yaml describes."""
    own = _own(account)

    def following(request: VendorRequest, document: Any) -> Sequence[VendorRequest]:
        page = at(document, own.next.at) if own.next and isinstance(document, Mapping) else None
        if own.next is None or page is None or page == "" or page is False:
            return ()
        return (with_page(request, own.next.as_, str(page)),)

    layer = str(own.mapping.get("layer") or "billed")
    return VendorReport(grain=layer, first=_first, next=following, days_max=own.days_at_once)


VENDOR = PullVendor(
    source="csv",
    base_url="",
    headers=_headers,
    default=("json",),
    documents=_documents,
    names_currency=False,
    reports={},
)
