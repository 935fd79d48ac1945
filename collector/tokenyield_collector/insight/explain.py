"""Why a period cost more or less than another: the difference of two statements over the same facts, in effects.

In: a report maker, two periods, columns. Out: a document whose rows, effects and totals sum in both directions, exactly
and as it is shown. Raises `ParameterError`, `LedgerError`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

from tokenyield_collector.errors import ParameterError
from tokenyield_collector.http.schemas import (
    ExplainDocument,
    ExplainedPeriod,
    ExplainEffect,
    ExplainFigures,
    ExplainRow,
)
from tokenyield_collector.insight.differences import Part, effects_of, part_of
from tokenyield_collector.insight.effects import BY_NAME, NAMES
from tokenyield_collector.prices.period import iso, parse_period
from tokenyield_collector.reports.columns import check_by, check_where, grain_of
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.reports.report import ROWS_MAX
from tokenyield_collector.reports.reported_period import ReportedPeriod
from tokenyield_collector.reports.rounding import EXACT, Rounding, for_people
from tokenyield_collector.reports.team_statement import check_teams
from tokenyield_collector.statements.lines import Sums
from tokenyield_collector.statements.names import OTHER, column_values

CAUSES_MAX = 20
CAUSES_IN_WORDS = 5
_TIMED = ("day", "hour")
_Rows = dict[tuple[str, ...], dict[Part, Sums]]


@dataclass
class _Row:
    """One row, exactly."""

    before: int = 0
    after: int = 0
    effects: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def take(self, other: "_Row") -> None:
        self.before += other.before
        self.after += other.after
        for effect, quanta in other.effects.items():
            self.effects[effect] += quanta

    @property
    def moved(self) -> int:
        """How much it moved, whatever cancels out in it."""
        return sum(map(abs, self.effects.values()))


def explain(
    maker: ReportMaker,
    period: str,
    against: str,
    by: Sequence[str] = (),
    where: Mapping[str, str] | None = None,
    top: int | None = None,
) -> ExplainDocument:
    """Why `period` cost another amount than `against`. `by`: where no column is named, the first dimension of the rules
    and the model; `where`: only lines with these values; `top`: the rows that moved most, and one of all others."""
    if top is not None and top < 1:
        raise ParameterError("top", expected="a whole number, at least 1", found=str(top))
    for name in (*by, *(where or {})):
        if name in _TIMED:
            raise ParameterError(
                "by", expected="columns that two periods can have in common", found=f"'{name}'", fix="leave it out"
            )
    try:
        parse_period(against)
    except ParameterError as error:
        raise ParameterError("against", expected=error.expected, found=error.found, fix=error.fix) from None
    check_teams(dict(where or {}), maker.teams)
    by = by or maker.policy.default_columns
    grain = grain_of((*by, *(where or ()), "workload"))
    old, new = (maker.read(name, grain) for name in (against, period))
    policy = new.statement.policy
    currencies = [read.statement.policy.prices.currency for read in (old, new)]
    if currencies[0] != currencies[1]:
        raise ParameterError(
            "against", expected=f"a period in {currencies[1]}", found=f"one in {currencies[0]}", fix="report each alone"
        )
    old_rows, new_rows = (_rows_of(read, by, where or {}) for read in (old, new))
    length = _length(old, new)
    weights = policy.prices.token_weights.per_thousand()
    rows = {
        values: _row(old_rows.get(values, {}), new_rows.get(values, {}), length, weights)
        for values in old_rows.keys() | new_rows.keys()
    }
    ordered = sorted(rows, key=lambda values: (-rows[values].moved, values))
    listed = {values: rows[values] for values in ordered[:top]}
    if len(ordered) > len(listed):
        listed[(OTHER,) * len(by)] = other = _Row()
        for values in ordered[len(listed) - 1 :]:
            other.take(rows[values])
    return _document(old, new, tuple(by), where or {}, listed)


def _rows_of(read: ReportedPeriod, by: Sequence[str], where: Mapping[str, str]) -> _Rows:
    dimensions = read.statement.policy.rules.dimensions
    by, where = check_by(by, dimensions), check_where(where, dimensions)
    rows: _Rows = defaultdict(lambda: defaultdict(Sums))
    parts = 0
    wanted, columns = tuple(where.values()), tuple(where)
    for key, sums in read.statement.lines():
        if column_values(key, columns, dimensions) != wanted:
            continue
        row, part = rows[column_values(key, by, dimensions)], part_of(key)
        parts += part not in row
        if parts > ROWS_MAX:
            fix = "filter by a column, or name a shorter period"
            raise ParameterError("by", expected=f"at most {ROWS_MAX} rows and workloads", found="more", fix=fix)
        row[part].take(sums)
    return rows


def _length(old: ReportedPeriod, new: ReportedPeriod) -> Fraction:
    """How many times as long the second is; 1 where either has nothing."""
    before_ms, after_ms = (read.statement.span.end_ms - read.statement.span.start_ms for read in (old, new))
    return Fraction(after_ms, before_ms) if before_ms > 0 and after_ms > 0 else Fraction(1)


def _row(before: Mapping[Part, Sums], after: Mapping[Part, Sums], length: Fraction, weights: Mapping[str, int]) -> _Row:
    old, new = (sum(sums.total for sums in facts.values()) for facts in (before, after))
    row = _Row(old, new)
    row.effects.update(effects_of(before, after, length, weights))
    return row


# --- the document ------------------------------------------------------------------------------------------------


def _document(
    old: ReportedPeriod,
    new: ReportedPeriod,
    by: tuple[str, ...],
    where: Mapping[str, str],
    rows: Mapping[tuple[str, ...], _Row],
) -> ExplainDocument:
    whole = _Row()
    for row in rows.values():
        whole.take(row)
    people = for_people(max(abs(whole.before), abs(whole.after)))
    exact, shown = (_figures(rounding, whole, list(rows.values())) for rounding in (EXACT, people))
    currency = new.statement.policy.prices.currency
    shown_of = dict(zip(rows, shown[1:], strict=True))
    causes, rest = _causes(rows, shown_of, shown[0])
    periods = _period(new), _period(old)
    return {
        "period": periods[0],
        "against": periods[1],
        "currency": currency,
        "by": list(by),
        "where": dict(where),
        "text": _text(new.period.name, old.period.name, currency, shown[0], causes),
        "total": {"by": {}, **exact[0], "shown": shown[0]},
        "effects": [
            ExplainEffect(effect=name, title=BY_NAME[name].title, meaning=BY_NAME[name].meaning, amount=amount)
            for name, amount in shown[0]["effects"].items()
        ],
        "causes": [
            {
                "by": dict(zip(by, values, strict=True)),
                "effect": effect,
                "amount": amount,
                "text": _words(values, effect),
            }
            for values, effect, amount in causes
        ],
        "rest": rest,
        "rows": [
            ExplainRow(by=dict(zip(by, values, strict=True)), **exact[i], shown=shown[i])
            for i, values in enumerate(rows, 1)
        ],
        "notes": [f"{read.period.name}: {note}" for read in (new, old) for note in read.notes],
    }


def _period(read: ReportedPeriod) -> ExplainedPeriod:
    span = read.statement.span
    return {
        "name": read.period.name,
        "start": iso(span.start_ms),
        "end": iso(span.end_ms),
        "state": read.state,
        "version": read.version,
    }


def _figures(rounding: Rounding, whole: _Row, rows: Sequence[_Row]) -> list[ExplainFigures]:
    """Of the whole, and of each row. Rows and effects sum to the whole, a row's effects to its difference."""
    names = [name for name in NAMES if whole.effects.get(name) or any(row.effects.get(name) for row in rows)]
    before, after = rounding.whole(whole.before), rounding.whole(whole.after)
    wholes = rounding.divided(after - before, [whole.effects.get(name, 0) for name in names])
    columns = rounding.table([[row.effects.get(name, 0) for row in rows] for name in names], wholes)
    befores = [before, *rounding.divided(before, [row.before for row in rows])]
    cells = [wholes, *([column[i] for column in columns] for i in range(len(rows)))]
    return [
        {
            "cost_from": rounding.plain(start),
            "cost_to": rounding.plain(start + sum(steps)),
            "difference": rounding.plain(sum(steps)),
            "effects": {name: rounding.plain(step) for name, step in zip(names, steps, strict=True) if step},
        }
        for start, steps in zip(befores, cells, strict=True)
    ]


_Cause = tuple[tuple[str, ...], str, Decimal]


def _causes(
    rows: Mapping[tuple[str, ...], _Row], shown: Mapping[tuple[str, ...], ExplainFigures], whole: ExplainFigures
) -> tuple[list[_Cause], Decimal]:
    """The largest effects of rows, as they are shown, and what is left of the difference."""
    cells = [(values, effect) for values, row in rows.items() for effect in row.effects]
    cells.sort(key=lambda cell: (-abs(rows[cell[0]].effects[cell[1]]), cell))
    amounts = ((values, effect, shown[values]["effects"].get(effect, Decimal(0))) for values, effect in cells)
    causes = [cause for cause in amounts if cause[2]][:CAUSES_MAX]
    return causes, whole["difference"] - sum(amount for _, _, amount in causes)


def _words(values: Sequence[str], effect: str) -> str:
    """Names that are only markers, such as (unallocated), say nothing beside their effect."""
    named = [value for value in values if value and not value.startswith("(")]
    one = BY_NAME[effect]
    return one.words.format(" / ".join(dict.fromkeys(named))) if named else one.alone


def _text(period: str, against: str, currency: str, whole: ExplainFigures, causes: Sequence[_Cause]) -> str:
    difference, before = whole["difference"], whole["cost_from"]
    sums = f"({whole['cost_to']:,} against {before:,} {currency}"
    if not difference:
        return f"{period} cost as much as {against} {sums})."
    percent = f", {difference / before * 100:+.1f} %" if before > 0 else ""
    way = "more" if difference > 0 else "less"
    parts = [_more(amount, _words(values, effect)) for values, effect, amount in causes[:CAUSES_IN_WORDS]]
    rest = difference - sum(amount for _, _, amount in causes[:CAUSES_IN_WORDS])
    parts += [_more(rest, "from all else")] if rest else []
    return f"{period} cost {abs(difference):,} {currency} {way} than {against} {sums}{percent}): {'; '.join(parts)}."


def _more(amount: Decimal, words: str) -> str:
    return f"{abs(amount):,} {'more' if amount > 0 else 'less'} {words}"
