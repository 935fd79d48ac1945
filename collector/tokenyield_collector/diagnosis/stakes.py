"""The money at stake of all findings, exactly and rounded for people. Pure.

The whole is the sum of the most expensive finding of each workload, because findings of one workload overlap. It is
rounded first and divided among those, so that a list of them sums to it.
"""

from collections.abc import Sequence
from decimal import Decimal

from tokenyield_collector.diagnosis.findings import Diagnosis
from tokenyield_collector.prices.money import NANO_PER_UNIT, QUANTA_PER_NANO
from tokenyield_collector.reports.rounding import EXACT, Rounding, for_people


class Stakes:
    """Of `made`, each with its most expensive finding first."""

    def __init__(self, made: Sequence[Diagnosis]) -> None:
        self._made = made
        most = [_nano(one.findings[0].at_stake) if one.findings else None for one in made]
        known = [nano or 0 for nano in most]
        self._is_known = any(nano is not None for nano in most)
        self._whole = sum(known)
        self.decimals = for_people(self._whole * QUANTA_PER_NANO).digits
        self._rounding = Rounding(NANO_PER_UNIT, self.decimals)
        self._steps = self._rounding.whole(self._whole)
        self._firsts = self._rounding.divided(self._steps, known) if known else []

    @property
    def total(self) -> Decimal | None:
        return EXACT.plain(self._whole) if self._is_known else None

    @property
    def shown_total(self) -> Decimal | None:
        return self._rounding.number(self._steps) if self._is_known else None

    def of(self, at: int) -> list[Decimal | None]:
        """Of each finding of that diagnosis, for people."""
        nanos = [_nano(finding.at_stake) for finding in self._made[at].findings]
        steps = [None if nano is None else self._rounding.whole(nano) for nano in nanos]
        if steps and steps[0] is not None:
            steps[0] = self._firsts[at]
        return [None if one is None else self._rounding.number(one) for one in steps]


def _nano(amount: Decimal | None) -> int | None:
    return None if amount is None else int(amount.scaleb(EXACT.digits))
