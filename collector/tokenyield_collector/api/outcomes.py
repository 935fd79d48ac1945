"""`POST /v1/outcomes`: counts of what was done with tokens, which replace those of the same source, day and name."""

import time
from collections.abc import Iterable
from typing import Any

import msgspec

from tokenyield_collector.api.services import Services
from tokenyield_collector.api.slice_import import DRY_RUN, FAULTS_MAX, REFUSALS, SliceImport
from tokenyield_collector.http.right import Right
from tokenyield_collector.http.route import JSON, BoundRoute, Route
from tokenyield_collector.http.schemas import OutcomesReceiptDocument
from tokenyield_collector.ingest.outcomes import (
    ROWS_MAX,
    AllowedDays,
    Outcomes,
    Row,
    UnusableOutcome,
    allowed_days,
    outcome_row,
    receipt_of,
    size_faults,
)
from tokenyield_collector.ledger.outcomes import slices_of
from tokenyield_collector.slices import slice_changes, span_of
from tokenyield_wire.units import NS_PER_MS
from tokenyield_wire.window import Fault

OUTCOMES = Route(
    path="/v1/outcomes",
    method="POST",
    right=Right.OUTCOMES,
    summary="Take in outcomes. They replace those of the same source, day and name; the same again changes nothing.",
    answers={JSON: OutcomesReceiptDocument},
    refusals=REFUSALS,
    parameters=(DRY_RUN,),
    body=Outcomes,
)
ROUTES = (OUTCOMES,)


def routes(services: Services) -> list[BoundRoute]:
    return [(OUTCOMES, OutcomeApi(services).handle)]


class OutcomeApi(SliceImport[Row]):
    """The handler."""

    what = "outcomes"
    unit = "rows"
    waits = "too many outcomes wait"
    held_max = 4

    def read(self, plain: bytes) -> list[Row]:
        days = allowed_days(self._settings.hours_keep_days, time.time_ns() // NS_PER_MS)
        rows, faults = _rows(msgspec.json.decode(plain), days)
        if faults:
            raise self.unsound(faults)
        return rows

    def replace(self, given: list[Row], is_dry: bool) -> OutcomesReceiptDocument:
        slices = slices_of(given)
        stored = self._ledger.outcomes(*span_of(slices))
        if faults := list(size_faults(stored, slices)):
            raise self.unsound(faults)
        changes = slice_changes(stored, slices)
        if not is_dry and changes.to_write:
            self._ledger.replace_outcomes(changes.to_write, time.time_ns() // NS_PER_MS)
        return receipt_of(len(given), changes)


def _rows(document: Any, days: AllowedDays) -> tuple[list[Row], list[Fault]]:
    entries = document.get("outcomes") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        return [], [Fault("outcomes", "none", "a list")]
    if len(entries) > ROWS_MAX:
        return [], [Fault("outcomes", f"{len(entries)}", f"at most {ROWS_MAX}; send whole slices in several requests")]
    rows: list[Row] = []
    faults: list[Fault] = []
    for i, entry in enumerate(entries):
        if len(faults) >= FAULTS_MAX:
            break
        if not isinstance(entry, dict):
            faults.append(Fault(f"outcomes[{i}]", type(entry).__name__, "an object"))
            continue
        try:
            rows.append(outcome_row(entry, days))
        except UnusableOutcome as error:
            faults += _at(i, error.faults)
    return rows, faults


def _at(i: int, faults: Iterable[Fault]) -> list[Fault]:
    return [Fault(f"outcomes[{i}].{field}", found, expected) for field, found, expected in faults]
