"""An account of spend.yaml: who is asked, with which key, how often. Pure."""

from datetime import date
from typing import Any

import msgspec

HOUR_S = 3600
_UNITS_S = {"m": 60, "h": HOUR_S, "d": 24 * HOUR_S}
EVERY_S_MIN, EVERY_S_MAX = HOUR_S // 4, 7 * 24 * HOUR_S


class NextPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a page of `json` says what the next one is (`at`, a path with dots; nothing there: it is the last), and
    the parameter that asks for it (`as`)."""

    at: str
    as_: str = msgspec.field(name="as")


class JsonReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an API without a source of its own is asked, and what its rows mean. In `query` {first}, {last} and {after}
    stand for the first and the last day, and the day after it."""

    path: str
    query: dict[str, str] = {}
    rows: str = ""
    """Where the list of rows is, a path with dots; empty: the answer is the list."""
    next: NextPage | None = None
    days_at_once: int = 1
    key_header: str = "Authorization"
    key_prefix: str = "Bearer "
    mapping: dict[str, Any]
    """As of `import csv --mapping`; columns may be paths with dots."""


class PullAccount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One account at one vendor. Names as in spend.yaml."""

    name: str
    source: str
    key_file: str
    base_url: str = ""
    account: str = ""
    """Of its slices; empty: `default`, of copilot the organization, of json the name."""
    currency: str = ""
    """Of money whose currency the reports do not name; empty: USD."""
    every: str = "6h"
    start: date | None = None
    """The first day that is pulled; without it the last 30, and all since a day that is known."""
    reports: tuple[str, ...] = ()
    organization: str = ""
    enterprise: str = ""
    json: JsonReport | None = None

    @property
    def slice_account(self) -> str:
        named = self.name if self.source == "json" else self.organization or self.enterprise
        return self.account or named or "default"

    @property
    def every_s(self) -> int | None:
        """None where it is not a time such as 6h."""
        number, unit = self.every[:-1], self.every[-1:]
        return int(number) * _UNITS_S[unit] if unit in _UNITS_S and number.isascii() and number.isdigit() else None
