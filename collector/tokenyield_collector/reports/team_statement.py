"""The part of a statement that some teams carry, for those who may read no more. Pure.

In: a statement, names of teams. Out: the same with the lines that these teams carry. What is known of
the whole alone is left out: the waterfall before sharing, what is not known, paces and how they were learned, how long
callers waited (a server's callers may be of several teams), why a version changed.
"""

from collections.abc import Iterator, Sequence

from tokenyield_collector.errors import ParameterError
from tokenyield_collector.policy import Policy
from tokenyield_collector.reports.closed_statement import ReportedStatement
from tokenyield_collector.statements.gaps import DayGap
from tokenyield_collector.statements.lines import Sums
from tokenyield_collector.statements.names import own_name
from tokenyield_collector.statements.references import AppliedReference
from tokenyield_collector.statements.statement import KeyedLine

TEAM = "team"
"""The dimension of the rules whose values are teams."""


class TeamStatement:
    """A `ReportedStatement` of the lines that `teams` carry. Names are as rules give them, never markers."""

    def __init__(self, statement: ReportedStatement, teams: Sequence[str]) -> None:
        """Raises `ParameterError` where the rules of the period know no teams."""
        self.policy: Policy = statement.policy
        self.span = statement.span
        self.whole: Sums | None = None
        self.references: list[AppliedReference] = []
        self.gaps: Sequence[DayGap] = ()
        self._statement = statement
        self._teams = frozenset(teams)
        dimensions = self.policy.rules.dimensions
        if TEAM not in dimensions:
            raise ParameterError(
                "period",
                expected=f"a period whose rules have the dimension '{TEAM}', for this token is limited to teams",
                found=f"the dimensions {', '.join(dimensions)}",
            )
        self._at = dimensions.index(TEAM)

    def lines(self) -> Iterator[KeyedLine]:
        for key, sums in self._statement.lines():
            if not key.carrier.is_lost and key.carrier.values[self._at] in self._teams:
                yield key, sums


def check_teams(where: dict[str, str], teams: Sequence[str] | None) -> None:
    """Whether a filter names a team that may be read, whatever other teams there are. Raises `ParameterError`."""
    if teams is None or TEAM not in where or where[TEAM] in (own := [own_name(name) for name in teams]):
        return
    raise ParameterError(
        TEAM, expected=f"a team that this token may read: {', '.join(own)}", found=f"'{where[TEAM][:40]}'"
    )
