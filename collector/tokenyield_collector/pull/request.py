"""What a vendor's report is: how it is asked for, and where its next page is. Pure.

One file of vendors/ is one vendor. It makes requests of an account and days, and finds the next one in an answer; the
answers are read by the same sources as saved files (spend/sources/).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

from tokenyield_collector.pull.account import PullAccount

Query = tuple[tuple[str, str], ...]
DAYS_AT_ONCE = 31


class VendorRequest(NamedTuple):
    """`path` is below the account's base URL, or an absolute URL, which gets no key. A body makes it a POST: of
    reading, where the vendor has no GET for it."""

    path: str
    query: Query = ()
    body: Mapping[str, Any] | None = None
    has_key: bool = True
    is_lines: bool = False
    """The answer is JSON lines."""


FirstRequest = Callable[[PullAccount, date, date], VendorRequest]
"""Of an account, for the days from the first to the last."""
NextRequests = Callable[[VendorRequest, Any], Sequence[VendorRequest]]
"""What else has to be asked after this answer. Raises `UnusableSpend` where it cannot be known."""


@dataclass(frozen=True, kw_only=True)
class VendorReport:
    """One report of a vendor. Its rows become slices of `grain`, one for each day."""

    grain: str
    first: FirstRequest
    next: NextRequests = lambda request, document: ()
    days_max: int = DAYS_AT_ONCE
    """Of one request."""
    keeps_days: int | None = None
    """Older days are not reported."""
    has_edges: bool = False
    """Rows of the day before and after may come with the days that are asked for; they are left out."""
    pages_max: int = 1_000


def as_it_is(account: PullAccount, answer: Any) -> Iterator[Any]:
    yield answer


@dataclass(frozen=True, kw_only=True)
class PullVendor:
    """`reports` by the names that spend.yaml gives them."""

    source: str
    """Who reads the answers, of spend/sources/."""
    base_url: str
    """Empty: it must be given."""
    headers: Callable[[PullAccount, str], Mapping[str, str]]
    """With the key."""
    reports: Mapping[str, VendorReport]
    default: tuple[str, ...]
    documents: Callable[[PullAccount, Any], Iterator[Any]] = as_it_is
    """Of an answer: what the source reads."""
    names_currency: bool = False
    """Whether its reports say what their money is in."""


def bearer(account: PullAccount, key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def with_page(request: VendorRequest, name: str, value: str) -> VendorRequest:
    """The same request for another page."""
    return request._replace(query=(*((known, own) for known, own in request.query if known != name), (name, value)))
