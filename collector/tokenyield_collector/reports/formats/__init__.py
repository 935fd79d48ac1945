"""The formats of a report: a file each, found by listing this folder.

A file `some_name.py` is the format `some-name`. It exports `FORMAT`, a `ReportFormat` or a `StatementFormat`. A file is
imported when its format is used, so that a report imports only what its own format needs.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tokenyield_collector.reports.focus.columns import DEFAULT_VERSION

if TYPE_CHECKING:
    from tokenyield_collector.prices.period import Period
    from tokenyield_collector.reports.closed_statement import ReportedStatement
    from tokenyield_collector.reports.report import Report


class ReportFormat(NamedTuple):
    """Encodes rows that are grouped by the columns that the caller names."""

    name: str
    media_type: str
    encode: "Callable[[Report], bytes]"
    shows_latency: bool = False
    """It needs `Report.latency`, which is read for it alone."""


class TextWriter(Protocol):
    """The part of a text file that is needed to write one."""

    def write(self, text: str, /) -> object: ...


class Correction(NamedTuple):
    """The days in which two versions differ, before and after; and the month in which the later one was made."""

    before: "ReportedStatement"
    after: "ReportedStatement"
    billing_period: "Period"


class PeriodStatement(NamedTuple):
    """The statement of a period, whose grain has workloads and clusters. `version` is None while it is not closed;
    `period` is the billing period: the month, where all days are of one that is closed."""

    statement: "ReportedStatement"
    period: "Period"
    version: int | None
    focus_version: str = DEFAULT_VERSION
    correction: "Correction | None" = None
    """What a version after the first corrects of the one before."""
    invoice_name: str = ""
    """The month that is charged, where `period` is another one."""
    issued_ms: int = 0
    """When its version was made."""

    @property
    def invoice_id(self) -> str:
        """Of FOCUS; empty while the period is open."""
        return self._invoice_id(self.version) if self.version is not None else ""

    @property
    def replaced_invoice_id(self) -> str:
        """That of the version before; its own for the first."""
        return self._invoice_id(max(1, self.version - 1)) if self.version is not None else ""

    def _invoice_id(self, version: int) -> str:
        return (
            f"{self.statement.policy.rules.focus.billing_account_id}-{self.invoice_name or self.period.name}-v{version}"
        )


class StatementFormat(NamedTuple):
    """Writes all lines of a statement, streamed; columns and filters do not apply."""

    name: str
    media_type: str
    write: Callable[[PeriodStatement, TextWriter], object]


FORMAT_NAMES = tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__)))


def load_format(name: str) -> ReportFormat | StatementFormat:
    """The format of that name, which is one of `FORMAT_NAMES`."""
    chosen: ReportFormat | StatementFormat = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").FORMAT
    assert chosen.name == name
    return chosen


class _MediaTypes(Mapping[str, str]):
    """Imports a format's file only when its media type is looked up."""

    def __getitem__(self, name: str) -> str:
        if name not in FORMAT_NAMES:
            raise KeyError(name)
        return load_format(name).media_type

    def __iter__(self) -> Iterator[str]:
        return iter(FORMAT_NAMES)

    def __len__(self) -> int:
        return len(FORMAT_NAMES)

    def __contains__(self, name: object) -> bool:
        return name in FORMAT_NAMES


MEDIA_TYPES: Mapping[str, str] = _MediaTypes()
"""Name of a format -> its media type."""
