"""One report of one account over some days: page after page into slices. Without a clock, file or socket of its own.

A span of days is whole or it is not there: no slice leaves this file before the last page was read.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from tokenyield_collector.prices.period import day_of
from tokenyield_collector.pull.account import PullAccount
from tokenyield_collector.pull.exchange import PullFault, RawAnswer, decoded
from tokenyield_collector.pull.request import PullVendor, VendorReport, VendorRequest
from tokenyield_collector.spend.builder import SliceBuilder
from tokenyield_collector.spend.format import ReadItem, ReadOptions, SpendRow, grain_family
from tokenyield_collector.spend.slices import SpendFields, SpendKey, SpendSlice
from tokenyield_collector.spend.sources import grain_of_slice, load_source
from tokenyield_collector.spend.values import UnusableSpend
from tokenyield_wire.units import MS_PER_DAY

BYTES_MAX = 4 * 2**30
"""Of all answers of one span."""
REFUSALS_SHOWN = 5

People = Callable[[SpendFields, int], SpendFields]


@dataclass
class Pulled:
    """What a span of days has. `refusals`: the first rows that cannot be used, in words."""

    slices: list[SpendSlice] = field(default_factory=list)
    rows: int = 0
    refused: int = 0
    refusals: list[str] = field(default_factory=list)


class ReportFetch:
    """Answers to `request` are taken until it is done; then `pulled` is whole."""

    def __init__(
        self, account: PullAccount, vendor: PullVendor, report: VendorReport, span: tuple[date, date], people: People
    ) -> None:
        self._account = account
        self._vendor = vendor
        self._report = report
        self._first, self._last = span
        mapping = account.json.mapping if account.json else {}
        self._reader = load_source(vendor.source).reader(ReadOptions(mapping=mapping))
        self._builder = SliceBuilder(
            vendor.source,
            lambda grain: grain_of_slice(vendor.source, grain).layer,
            account=account.slice_account,
            people=_with_currency(people, account.currency),
        )
        self._left: list[VendorRequest] = [report.first(account, *span)]
        self._asked: set[str] = set()
        self._bytes = 0
        self._outside: Counter[str] = Counter()
        self.pulled = Pulled()

    @property
    def is_done(self) -> bool:
        return not self._left

    @property
    def request(self) -> VendorRequest:
        """The next one."""
        return self._left[0]

    def take(self, answer: RawAnswer) -> None:
        """What `request` was answered. Raises `PullFault`, after which nothing more may be taken."""
        request = self._left[0]
        self._bytes += len(answer.body)
        if self._bytes > BYTES_MAX:
            raise PullFault("answer", f"expected at most {BYTES_MAX} bytes for {self._first}..{self._last}, found more")
        following: list[VendorRequest] = []
        try:
            for document in decoded(answer):
                following += self._report.next(request, document)
                for own in self._vendor.documents(self._account, document):
                    self._take(self._reader.read(own))
        except UnusableSpend as error:
            raise PullFault("answer", str(error)) from None
        self._asked.add(repr(request))
        self._left = [*self._left[1:], *following]
        if any(repr(one) in self._asked for one in following):
            raise PullFault("answer", "expected another page, found one that was read before")
        if len(self._asked) + len(self._left) > self._report.pages_max:
            raise PullFault("answer", f"expected at most {self._report.pages_max} pages, found more")
        if self.is_done:
            self._finish()

    def _take(self, items: Iterable[ReadItem]) -> None:
        """A row that cannot be used costs only itself; a document that cannot is a fault."""
        try:
            for item in items:
                if isinstance(item, SpendRow):
                    self._add(item)
                elif isinstance(item, UnusableSpend):
                    self._refuse(item)
        except UnusableSpend as error:
            if self._vendor.source != "csv":  # whose document is a row
                raise
            self._refuse(error)

    def _add(self, row: SpendRow) -> None:
        if grain_family(row.grain) != grain_family(self._report.grain):
            raise UnusableSpend("answer", expected=f"rows of {self._report.grain}", found=f"rows of {row.grain}")
        if not self._first <= day_of(row.day_ms) <= self._last:
            self._outside[day_of(row.day_ms).isoformat()] += 1
            return
        self._builder.add(row)
        self.pulled.rows += 1

    def _refuse(self, error: UnusableSpend) -> None:
        self.pulled.refused += 1
        if len(self.pulled.refusals) < REFUSALS_SHOWN:
            self.pulled.refusals.append(str(error))

    def _finish(self) -> None:
        self._take(self._reader.finish())
        edges = {f"{self._first - timedelta(1)}", f"{self._last + timedelta(1)}"} if self._report.has_edges else set()
        if others := sorted(set(self._outside) - edges):
            raise PullFault("answer", f"expected rows of {self._first}..{self._last}, found some of {others[0]}")
        if self._builder.is_full:
            raise PullFault("answer", f"expected fewer lines for {self._first}..{self._last}; name fewer fields")
        if self.pulled.refused > self.pulled.rows:
            why = self.pulled.refusals[0]
            raise PullFault("rows", f"{self.pulled.refused} of {self.pulled.refused + self.pulled.rows} rows cannot be "
                                    f"used, so the days stay as they were: {why}")  # fmt: skip
        self.pulled.slices = [*self._builder.slices(), *self._empty(self._builder.slices())]

    def _empty(self, slices: list[SpendSlice]) -> Iterable[SpendSlice]:
        """Of days without rows: what was reported of them before is withdrawn."""
        there = {one.key.day_ms for one in slices if one.key.grain == self._report.grain}
        layer = grain_of_slice(self._vendor.source, self._report.grain).layer
        start = int(datetime(self._first.year, self._first.month, self._first.day, tzinfo=UTC).timestamp()) * 1000
        for i in range((self._last - self._first).days + 1):
            if (day_ms := start + i * MS_PER_DAY) not in there:
                key = SpendKey(self._vendor.source, self._account.slice_account, day_ms, self._report.grain)
                yield SpendSlice(key, layer, ())


def _with_currency(people: People, currency: str) -> People:
    if not currency:
        return people
    return lambda fields, day_ms: people(fields._replace(currency=currency), day_ms)
