"""All months before the newest are added up once: an hour, and a start, unpack two figures, however many months there are."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.fleet import ms
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.live.kept_months import KeptMonth, KeptMonths, MonthToDate
from tokenyield_collector.live.series import Series
from tokenyield_collector.live.to_date import ToDate
from tokenyield_collector.prices.period import month_of
from tokenyield_wire.units import MS_PER_HOUR

FIRST_MS, KNOWN_MS = ms("2026-03-15T07:00"), ms("2026-11-20T12:00")
MONTHS = 9
SERIES = tuple(Series("attributed_tokens", ("c", "p", "m", "team", f"w{i}", "completion")) for i in range(5))


class Past:
    """A made-up past: what each month has, which may be corrected."""

    def __init__(self) -> None:
        self.corrections: dict[str, int] = {}

    def compute(self, start_ms: int, end_ms: int) -> MonthToDate:
        month = month_of(start_ms)
        amount = (end_ms - start_ms) // MS_PER_HOUR + self.corrections.get(month, 0)
        return MonthToDate(values={series: amount * (i + 1) for i, series in enumerate(SERIES)})

    def inputs(self, start_ms: int, end_ms: int) -> str:
        return f"{start_ms}-{end_ms}-{self.corrections.get(month_of(start_ms), 0)}"

    def whole(self, first_ms: int, known_ms: int) -> dict[Series, int]:
        amount = (known_ms - first_ms) // MS_PER_HOUR + sum(self.corrections.values())
        return {series: amount * (i + 1) for i, series in enumerate(SERIES)}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[DuckDbLedger]:
    ledger = DuckDbLedger(tmp_path / "ledger.duckdb")
    yield ledger
    ledger.close()


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which months were, in order."""
    names: list[str] = []
    whole = KeptMonth.unpacked

    def noted(self: KeptMonth) -> MonthToDate:
        names.append(self.month)
        return whole(self)

    monkeypatch.setattr(KeptMonth, "unpacked", noted)
    return names


def start(past: Past, ledger: DuckDbLedger | None, bases: dict[str, int] | None = None) -> ToDate:
    kept = KeptMonths(ledger.figures, "policy", ("team",), "USD") if ledger is not None else None
    return ToDate(past.compute, bases or {}, inputs_of=past.inputs, kept=kept)


def bring_up_to(to_date: ToDate, known_ms: int, first_ms: int = FIRST_MS) -> None:
    to_date.bring_up_to(first_ms, known_ms)
    if to_date.kept is not None:
        to_date.kept.write()


@pytest.mark.parametrize("is_kept", [True, False])
def test_an_hour_unpacks_the_newest_month_and_one_sum(ledger: DuckDbLedger, unpacked: list[str], is_kept: bool) -> None:
    past = Past()
    to_date = start(past, ledger if is_kept else None)
    bring_up_to(to_date, KNOWN_MS)
    assert to_date.values() == past.whole(FIRST_MS, KNOWN_MS)
    unpacked.clear()
    bring_up_to(to_date, KNOWN_MS + MS_PER_HOUR)
    assert to_date.values() == past.whole(FIRST_MS, KNOWN_MS + MS_PER_HOUR)
    assert set(unpacked) == {"earlier", "2026-11"}


def test_a_start_reads_the_sum_and_a_correction_makes_it_again(ledger: DuckDbLedger, unpacked: list[str]) -> None:
    past = Past()
    bring_up_to(start(past, ledger), KNOWN_MS)
    unpacked.clear()
    again = start(past, ledger)
    bring_up_to(again, KNOWN_MS)
    assert again.values() == past.whole(FIRST_MS, KNOWN_MS)
    assert set(unpacked) == {"earlier", "2026-11"}
    past.corrections["2026-05"] = 77
    for to_date in (again, start(past, ledger)):
        bring_up_to(to_date, KNOWN_MS)
        assert to_date.values() == past.whole(FIRST_MS, KNOWN_MS)
    assert len(ledger.figures.inputs("to date/policy/")) == MONTHS + 1


def test_a_new_month_joins_what_is_earlier(ledger: DuckDbLedger) -> None:
    past = Past()
    to_date = start(past, ledger)
    for known_ms in range(FIRST_MS + MS_PER_HOUR, KNOWN_MS, 11 * 24 * MS_PER_HOUR):
        bring_up_to(to_date, known_ms)
        assert to_date.values() == past.whole(FIRST_MS, known_ms)


def test_retention_takes_from_the_sum_what_goes_into_the_bases(ledger: DuckDbLedger) -> None:
    past = Past()
    to_date = start(past, ledger)
    bring_up_to(to_date, KNOWN_MS)
    before_ms = ms("2026-06-10T03:00")
    bases = to_date.retire(FIRST_MS, before_ms)
    bring_up_to(to_date, KNOWN_MS, before_ms)
    assert to_date.values() == past.whole(FIRST_MS, KNOWN_MS)
    again = start(past, ledger, bases)
    bring_up_to(again, KNOWN_MS, before_ms)
    assert again.values() == to_date.values()
