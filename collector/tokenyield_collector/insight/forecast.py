"""What a month will come to, and the time after it: cost, tokens or energy, of all or by columns.

In: a report maker, what to forecast. Out: a document. What the month has up to the last complete day is exact, and only
the rest is forecast (forecasting.py), so that the band vanishes with the month. Raises `ParameterError`, `LedgerError`.
"""

from calendar import monthrange
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from itertools import pairwise

import numpy as np

from tokenyield_collector.errors import ParameterError
from tokenyield_collector.http.schemas import ForecastBand, ForecastRow, ForecastsDocument
from tokenyield_collector.insight.forecasting import DAYS_MIN, Band, Floats, forecast
from tokenyield_collector.live.view import MonthForecast
from tokenyield_collector.prices.money import amount
from tokenyield_collector.prices.period import DAYS_MAX, day_of
from tokenyield_collector.reports.columns import check_by, check_where, grain_of
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.reports.report import ROWS_MAX
from tokenyield_collector.reports.team_statement import check_teams
from tokenyield_collector.statements.bought import SOURCE as BOUGHT
from tokenyield_collector.statements.lines import Sums
from tokenyield_collector.statements.names import OTHER, column_values, vendor_name
from tokenyield_wire.units import JOULES_PER_KWH, MJ_PER_JOULE

HISTORY_DAYS = 180
HISTORY_DAYS_MAX = DAYS_MAX - 1
TOTALS_DAYS = (91, 182, 365)
PATH_DAYS = 91
TOP, TOP_MAX = 10, 200
AHEAD_PER_KNOWN = 4
"""A total of more days than this many times the history is not forecast; the month's end always is."""
LATE_DAYS_MAX = 7
"""How much later a vendor may report than the fleet: history ends with the newest day that all have."""
_UJ_PER_JOULE = 1_000_000
_RECENT_DAYS = 28

MEASURES: dict[str, tuple[str, Callable[[Sums], float]]] = {
    "cost": ("", lambda sums: amount(sums.total)),
    "tokens": ("tokens", lambda sums: float(sums.tokens)),
    "energy": (
        "kWh",
        lambda sums: (sums.get("gpu_mj") / MJ_PER_JOULE + sums.get("host_uj") / _UJ_PER_JOULE) / JOULES_PER_KWH,
    ),
}
"""What can be forecast -> its unit (cost: the currency), and how a line has it. Energy is that of GPUs and hosts."""


def forecasts(
    maker: ReportMaker,
    measure: str = "cost",
    by: Sequence[str] = (),
    where: Mapping[str, str] | None = None,
    top: int = TOP,
    history_days: int = HISTORY_DAYS,
) -> ForecastsDocument:
    """`by`: rows, those with most in the last four weeks, at most `top`, and one of all others."""
    if measure not in MEASURES:
        raise ParameterError("measure", expected=f"one of {', '.join(MEASURES)}", found=f"'{measure[:40]}'")
    for name, number, most in (("top", top, TOP_MAX), ("history_days", history_days, HISTORY_DAYS_MAX)):
        if not 1 <= number <= most:
            raise ParameterError(name, expected=f"a whole number from 1 to {most}", found=str(number))
    check_teams(dict(where or {}), maker.teams)
    for name in (*by, *(where or {})):
        if name in ("day", "hour"):
            raise ParameterError("by", expected="columns that days have in common", found=f"'{name}'")
    history = _History(maker, (measure,), by, where or {}, history_days)
    whole, columns = history.whole(measure), history.columns
    shown = _shown(history.series[measure], history.complete, top) if columns else {}
    rows = {values: own[: history.complete] for values, own in shown.items()}
    made = _Made(history.as_of, whole, {})
    return {
        "measure": measure,
        "unit": history.unit(measure),
        "month": (history.as_of + timedelta(1)).strftime("%Y-%m"),
        "as_of": history.as_of.isoformat(),
        "by": list(columns),
        "where": history.where,
        "total": made.row,
        "path": made.path,
        "history": [float(one) for one in whole],
        "rows": [
            _Made(history.as_of, own, dict(zip(columns, values, strict=True))).row for values, own in rows.items()
        ],
        "notes": history.notes,
    }


def month_ends(maker: ReportMaker) -> list[MonthForecast]:
    """Of all measures, for metrics; without those of which there is too little history."""
    history = _History(maker, tuple(MEASURES), (), {}, HISTORY_DAYS)
    ends = ((measure, _Made(history.as_of, history.whole(measure), {}).row["month_end"]) for measure in MEASURES)
    return [
        MonthForecast(measure, history.unit(measure), end["p10"], end["p50"], end["p90"])
        for measure, end in ends
        if end is not None
    ]


class _History:
    """By day: of each measure, by the values of columns, up to the newest day that all have."""

    def __init__(
        self,
        maker: ReportMaker,
        measures: Sequence[str],
        by: Sequence[str],
        where: Mapping[str, str],
        history_days: int,
    ) -> None:
        today, known_day = day_of(maker.now_ms), day_of(maker.now_ms - maker.settle_ms)
        month_first = (known_day - timedelta(LATE_DAYS_MAX + 1)).replace(day=1)  # of the earliest that can be forecast
        first = min(today - timedelta(history_days), month_first)
        read = maker.read(f"{first}..{today}", grain_of((*by, *where)))
        dimensions = read.statement.policy.rules.dimensions
        self.columns, self.where = (tuple(by) and check_by(by, dimensions)), check_where(where, dimensions)
        self._currency = read.statement.policy.prices.currency
        self._days = (today - first).days + 1
        self.series: dict[str, dict[tuple[str, ...], Floats]] = {
            measure: defaultdict(lambda: np.zeros(self._days)) for measure in measures
        }
        names, wanted = tuple(self.where), tuple(self.where.values())
        of_vendors: dict[str, set[int]] = defaultdict(set)
        """The days of which each reports anything."""
        for key, sums in read.statement.lines():
            if column_values(key, names, dimensions) != wanted:
                continue
            at, values = (day_of(key.start_ms) - first).days, column_values(key, self.columns, dimensions)
            for measure, series in self.series.items():
                series[values][at] += MEASURES[measure][1](sums)
            if len(self.series[measures[0]]) > ROWS_MAX:
                fix = "filter by a column, or name fewer columns"
                raise ParameterError("by", expected=f"at most {ROWS_MAX} rows", found="more", fix=fix)
            if key.source == BOUGHT:
                of_vendors[vendor_name(key.carrier)].add(at)
        self.complete = (known_day - first).days  # the day up to which is known has not ended
        self.notes: list[str] = []
        for vendor, reported in sorted(of_vendors.items()):
            if (until := _late_from(reported, self.complete)) is not None:
                self.notes.append(f"{vendor} reports up to {first + timedelta(until - 1)}: what is later is forecast")
                self.complete = until
        self.as_of = first + timedelta(self.complete - 1)

    def whole(self, measure: str) -> Floats:
        total: Floats = np.sum([*self.series[measure].values(), np.zeros(self._days)], axis=0)[: self.complete]
        return total

    def unit(self, measure: str) -> str:
        return MEASURES[measure][0] or self._currency


def _late_from(reported: set[int], complete: int) -> int | None:
    """The day from which on a vendor has still to report: where it is quiet for longer than ever before, but not for so
    long that it has ended. None where it is not late."""
    days = sorted(day for day in reported if day < complete)
    if not days:
        return None
    longest = max((after - before for before, after in pairwise(days)), default=1) - 1
    quiet = complete - 1 - days[-1]
    return days[-1] + 1 if longest < quiet <= LATE_DAYS_MAX and max(reported) < complete else None


def _shown(series: Mapping[tuple[str, ...], Floats], complete: int, top: int) -> dict[tuple[str, ...], Floats]:
    recent = {values: float(own[max(0, complete - _RECENT_DAYS) : complete].sum()) for values, own in series.items()}
    ordered = sorted(series, key=lambda values: (-recent[values], values))
    shown = {values: series[values] for values in ordered[:top]}
    if others := [series[values] for values in ordered[top:]]:
        shown[(OTHER,) * len(ordered[0])] = np.sum(others, axis=0)
    return shown


class _Made:
    """One series, forecast."""

    def __init__(self, as_of: date, own: Floats, by: dict[str, str]) -> None:
        next_day = as_of + timedelta(1)
        left = monthrange(next_day.year, next_day.month)[1] - next_day.day + 1
        to_date = float(own[len(own) - (next_day.day - 1) :].sum()) if next_day.day > 1 else 0.0
        found = forecast(own.tolist(), sorted({*TOTALS_DAYS, left}))
        self.path: list[ForecastBand] = []
        self.row: ForecastRow = {
            "by": by,
            "to_date": to_date,
            "month_end": None,
            "totals": [],
            "method": None,
            "history_days": 0,
            "back_test": None,
            "why": None,
        }
        if found is None:
            self.row["why"] = f"too little history: at least {DAYS_MIN} days with something are needed"
            return
        bands = {band.days: band for band in found.totals}
        self.row["month_end"] = _band(bands[left], to_date)
        most = AHEAD_PER_KNOWN * found.history_days
        self.row["totals"] = [_band(bands[days]) for days in TOTALS_DAYS if days <= most]
        self.row["method"] = found.method
        self.row["history_days"] = found.history_days
        if found.back_test is not None:
            test = found.back_test
            self.row["back_test"] = {
                "days": test.days,
                "origins": test.origins,
                "median_error": test.median_error,
                "within": test.within,
            }
        self.path = [
            {"days": i, "p10": float(low), "p50": float(middle), "p90": float(high)}
            for i, (low, middle, high) in enumerate(found.path.T[: min(PATH_DAYS, most)], start=1)
        ]


def _band(band: Band, more: float = 0.0) -> ForecastBand:
    return {"days": band.days, "p10": more + band.p10, "p50": more + band.p50, "p90": more + band.p90}
