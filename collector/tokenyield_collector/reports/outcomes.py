"""What was done with tokens beside what it cost: outcomes of a period tied to the rows of its report. Pure.

In: a report, slices of its days, the policy. Out: figures of its rows, `outcomes_<name>` and `cost_per_outcome_<name>`,
and what is to be said about them. A count is tied to a row by its labels: a dimension's own name, what the rules make
of the other labels (as of a workload's, or a caller's), `workload`, `model`, `cluster`, `node`, `pool`, and its day.
What is not known by a column of the report is null there, and says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tokenyield_collector.attribution.rules import names_for_rules
from tokenyield_collector.ledger.outcomes import OutcomeSlice
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.period import day_of
from tokenyield_collector.reports.report import Report
from tokenyield_collector.reports.report_table import ReportRow
from tokenyield_collector.statements.names import OTHER, UNATTRIBUTED, own_name

NAMES_MAX = 20
"""Outcomes of one report: each is two columns."""
_BY_LABEL = ("workload", "model", "cluster", "node", "pool")


@dataclass(kw_only=True)
class ReportedOutcome:
    """One outcome in a report. `reason`: why rows do not have it; empty where they do."""

    name: str
    count: int
    days: int
    """On which it was reported, of those of the report."""
    reason: str = ""
    no_row: int = 0
    """Counts whose labels fit no row."""


@dataclass
class _Tied:
    """Counts of one outcome by row, and the columns that some count knows."""

    counts: dict[tuple[str, ...], int] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    days: set[int] = field(default_factory=set)
    total: int = 0


def tie_outcomes(report: Report, slices: Sequence[OutcomeSlice], policy: Policy) -> None:
    """Adds the figures to the rows, their total and `report.outcomes`, and remarks to its notes."""
    by_name: dict[str, list[OutcomeSlice]] = {}
    for one in slices:
        by_name.setdefault(one.key.name, []).append(one)
    names = sorted(by_name)
    if len(names) > NAMES_MAX:
        report.notes.append(f"{len(names) - NAMES_MAX} outcomes are not shown: at most {NAMES_MAX} are")
    rows = {tuple(row.by.values()): row for row in report.rows}
    values = _Values(policy)
    for name in names[:NAMES_MAX]:
        report.outcomes.append(_tie(report, rows, name, _tied(report, by_name[name], values)))
    report.notes += _notes(report)


def outcomes_of_teams(slices: Sequence[OutcomeSlice], policy: Policy, teams: Sequence[str]) -> list[OutcomeSlice]:
    """The counts that these teams' labels, or the rules, give to them."""
    values, own = _Values(policy), {own_name(name) for name in teams}
    of_teams = [
        OutcomeSlice(one.key, tuple((labels, n) for labels, n in one.counts if values.of(labels).get("team") in own))
        for one in slices
    ]
    return [one for one in of_teams if one.counts]


class _Values:
    """The values of counts in columns. What labels give was looked up once."""

    def __init__(self, policy: Policy) -> None:
        self.dimensions = policy.rules.dimensions
        self._rules = policy.rules
        self._remembered: dict[str, dict[str, str]] = {}

    def of(self, labels: str) -> Mapping[str, str]:
        """Column -> value, of those that are known."""
        if labels not in self._remembered:
            given: dict[str, str] = msgspec.json.decode(labels)
            names = names_for_rules(
                cluster=given.get("cluster", ""),
                workload=given.get("workload", ""),
                model=given.get("model", ""),
                labels=given,
                caller=given,
            )
            ruled = zip(self.dimensions, self._rules.attribute(names), strict=True)
            known = {name: own_name(value) for name, value in ruled if value is not None}
            known |= {name: own_name(given[name]) for name in (*self.dimensions, *_BY_LABEL) if name in given}
            self._remembered[labels] = known
        return self._remembered[labels]


def _tied(report: Report, slices: Sequence[OutcomeSlice], values: _Values) -> _Tied:
    tied = _Tied()
    columns = (*report.by, *report.where)
    for key, counts in slices:
        day = day_of(key.day_ms).isoformat()
        for labels, count in counts:
            known = {**values.of(labels), "day": day}
            tied.known.update(known)
            at = {name: known.get(name, UNATTRIBUTED if name in values.dimensions else "") for name in columns}
            if all(at[name] == value for name, value in report.where.items()):
                row = tuple(at[name] for name in report.by)
                tied.counts[row] = tied.counts.get(row, 0) + count
                tied.total += count
                tied.days.add(key.day_ms)
    return tied


def _tie(report: Report, rows: Mapping[tuple[str, ...], ReportRow], name: str, tied: _Tied) -> ReportedOutcome:
    outcome = ReportedOutcome(name=name, count=tied.total, days=len(tied.days))
    unfiltered = [column for column in report.where if column not in tied.known]
    missing = unfiltered or [column for column in report.by if column not in tied.known]
    counts: dict[int, int] = {}
    if missing:
        outcome.reason = f"it is not known by {', '.join(missing)}"
    else:
        other = rows.get((OTHER,) * len(report.by))
        for values, count in tied.counts.items():
            row = rows.get(values, other)
            if row is None:
                outcome.no_row += count
            else:
                counts[id(row)] = counts.get(id(row), 0) + count
    for row in report.rows:
        row.figures.update(_figures(row, name, counts.get(id(row))))
    report.total.figures.update(_figures(report.total, name, None if unfiltered else tied.total))
    return outcome


def _figures(row: ReportRow, name: str, count: int | None) -> dict[str, Any]:
    is_priced = not row.figures.get("price_missing_gpu_hours")
    cost = float(row.cost) / count if count and is_priced else None
    return {f"outcomes_{name}": count, f"cost_per_outcome_{name}": cost}


def _notes(report: Report) -> Iterator[str]:
    for one in report.outcomes:
        if one.reason:
            yield f"outcome {one.name}: rows do not have it, because {one.reason}"
        if one.no_row:
            yield f"outcome {one.name}: {one.no_row:,} of {one.count:,} fit no row of this report"
        if one.days < (days := report.period.days) and one.count and report.state != "open":
            yield f"outcome {one.name}: reported on {one.days} of {days} days; the cost is that of all of them"
        if report.total.figures.get("price_missing_gpu_hours"):
            yield f"outcome {one.name}: no cost per outcome where GPU-hours have no price"
