"""`POST /v1/spend`: slices of what is bought, which replace those of the same source, account, day and grain."""

import time

import msgspec

from tokenyield_collector.api.body import Refusal
from tokenyield_collector.api.services import Services
from tokenyield_collector.api.slice_import import DRY_RUN, FAULTS_MAX, REFUSALS, SliceImport
from tokenyield_collector.http.right import Right
from tokenyield_collector.http.route import JSON, BoundRoute, Route
from tokenyield_collector.http.schemas import SpendReceiptDocument
from tokenyield_collector.ingest.outcomes import allowed_days
from tokenyield_collector.ingest.spend_document import SpendSlices, decode_spend, spend_faults, spend_receipt
from tokenyield_collector.ingest.spend_import import people_of
from tokenyield_collector.ledger.spend import spend_size_faults
from tokenyield_collector.prices.period import day_start_ms
from tokenyield_collector.slices import slice_changes, span_of
from tokenyield_collector.spend.slices import SpendSlice
from tokenyield_settings.loader import SettingsError
from tokenyield_wire.units import NS_PER_MS
from tokenyield_wire.window import Fault

SPEND = Route(
    path="/v1/spend",
    method="POST",
    right=Right.SPEND,
    summary="Take in slices of spend. They replace those of the same source, account, day and grain.",
    answers={JSON: SpendReceiptDocument},
    refusals=REFUSALS,
    parameters=(DRY_RUN,),
    body=SpendSlices,
)
ROUTES = (SPEND,)


def routes(services: Services) -> list[BoundRoute]:
    return [(SPEND, SpendApi(services).handle)]


class SpendApi(SliceImport[SpendSlice]):
    """The handler."""

    what = "spend"
    unit = "slices"
    waits = "too much spend waits"
    held_max = 2

    def read(self, plain: bytes) -> list[SpendSlice]:
        try:
            slices = decode_spend(plain, people_of(self._settings))
        except msgspec.ValidationError as error:
            raise self.unsound((_fault(error),)) from None
        except (SettingsError, OSError) as error:
            raise Refusal("people", 503, f"people: {error}", retry_after_s=60) from None
        days = allowed_days(self._settings.hours_keep_days, time.time_ns() // NS_PER_MS)
        faults = spend_faults(slices, day_start_ms(days.first), day_start_ms(days.last))
        if listed := list(faults)[:FAULTS_MAX]:
            raise self.unsound(listed)
        return slices

    def replace(self, given: list[SpendSlice], is_dry: bool) -> SpendReceiptDocument:
        stored = self._ledger.spend(*span_of(given))
        if faults := [Fault(what, f"{found}", expected) for what, found, expected in spend_size_faults(stored, given)]:
            raise self.unsound(faults[:FAULTS_MAX])
        changes = slice_changes(stored, given)
        if not is_dry and changes.to_write:
            self._ledger.replace_spend(changes.to_write, time.time_ns() // NS_PER_MS)
        return spend_receipt(changes)


def _fault(error: msgspec.ValidationError) -> Fault:
    """`Expected `int`, got `str` - at `$.slices[0].lines[0].fresh`` as a field and what is wrong with it."""
    what, _, path = str(error).partition(" - at `$")
    expected, _, found = what.removeprefix("Expected ").partition(", got ")
    return Fault(path.partition("`")[0].lstrip(".") or "body", found[:200] or "another value", expected[:200])
