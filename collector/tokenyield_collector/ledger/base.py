"""What a ledger keeps and promises. One suite of contract tests runs against every engine.

In: shipments. Out: receipts, and sums of facts over any stretch of time. Never any money (design principle 2).

The promises:
* `append` returns after the batches are durable, and counts each (agent_id, epoch, cluster, node, seq) once, whatever
  is sent again.
* An hour is always recomputed from its windows, never added to, so late and repeated batches are harmless.
* A kill at any point leaves a ledger that opens, with every batch that had its receipt.
* Of closed periods it keeps what they came to (closed.py), which no retention removes.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from tokenyield_collector.ledger.closed import VersionStore
from tokenyield_collector.ledger.facts import FACT_KINDS, FactKind, Facts, GpuNow, MadeSlot, WorkSlot
from tokenyield_collector.ledger.kept import FigureStore
from tokenyield_collector.ledger.name_conflicts import NameConflict
from tokenyield_collector.ledger.outcomes import OutcomeSlice
from tokenyield_collector.ledger.quarantine import Impossible, QuarantinedRows
from tokenyield_collector.ledger.receipts import ReceiptDifference
from tokenyield_collector.ledger.usage import LedgerUsageReader
from tokenyield_collector.spend.otlp.points import ObservedPoint, SeriesState
from tokenyield_collector.spend.otlp.slices import ObservedSum
from tokenyield_collector.spend.slices import SpendSlice
from tokenyield_wire.window import Shipment


class ShipmentReceipt(NamedTuple):
    """How many batches of a shipment were new, and how many the ledger had."""

    accepted: int
    duplicates: int


class Ledger(Protocol):
    """Blocking; what writes is called from one thread; `…_between`, `facts_…`, `last_seen`, `counter_bases` and
    `first_ms` from any.

    Others commit while one reads. Every reading call answers from one state of the ledger: each batch counts in all of
    the answer or in none of it. Figures that are compared or subtracted must come from one call (or one `usage`
    reader). Where an engine guarantees less, its class says so.
    """

    is_shared: bool
    """Whether other collectors write into it as well."""

    def leads(self) -> bool:
        """Whether, of the collectors that share the ledger, this one recomputes hours, retires, and shows the fleet's
        metrics, so that they are not shown twice. Called at every refresh."""
        ...

    def append(
        self, shipments: Sequence[Shipment], received_ms: int, scopes: Sequence[str] = ()
    ) -> list[ShipmentReceipt]:
        """Make all batches durable in one commit. Raises `LedgerError`, and then nothing was kept. `scopes`: of the
        tokens that the shipments came with, by which their workloads are named (workload_names.py); none where no token
        came with them."""
        ...

    def try_writing(self) -> None:
        """Write something that changes nothing. Raises `LedgerError` where a commit would fail."""
        ...

    def missing(self, shipment: Shipment) -> list[tuple[int, int]]:
        """The newest ranges of its sender's batch numbers that are not here though later ones are, inclusive. For
        agents to send again what a ledger restored from a backup has lost; empty where that is unknown."""
        ...

    def fold(self) -> list[int]:
        """Recompute the hours whose windows changed since the last call; returns them (start, ms)."""
        ...

    def facts_of_hours(
        self,
        hours_ms: Sequence[int] | None = None,
        *,
        by_node: bool = True,
        kinds: Sequence[FactKind] = FACT_KINDS,
    ) -> Facts:
        """Sums by hour, of the given hours or of all; over all nodes, named "", unless `by_node`. Of other kinds than
        `kinds` nothing is read."""
        ...

    def facts_between(self, start_ms: int, end_ms: int, *, by_node: bool = True) -> Facts:
        """Sums over the windows that start in [start_ms, end_ms), as one stretch; over all nodes unless `by_node`."""
        ...

    def facts_of_stretches(self, stretches: Sequence[tuple[int, int]], *, by_node: bool = True) -> list[Facts]:
        """The same of each (start_ms, end_ms), all of one state of the ledger. They may overlap, as a whole and its
        parts do."""
        ...

    def gpus_between(self, start_ms: int, end_ms: int, known_since_ms: int) -> Sequence[GpuNow]:
        """What every GPU that reported since `known_since_ms` did in [start_ms, end_ms), by cluster, node and uuid."""
        ...

    def work_between(self, start_ms: int, end_ms: int, step_ms: int) -> Sequence[WorkSlot]:
        """What every workload held in each step of [start_ms, end_ms), from the windows that are kept."""
        ...

    def made_between(self, start_ms: int, end_ms: int, step_ms: int) -> Sequence[MadeSlot]:
        """What every workload made in each step of [start_ms, end_ms), from the windows that are kept."""
        ...

    def last_tokens(self) -> Mapping[tuple[str, str], int]:
        """(cluster, workload) -> start (ms) of the newest window kept in which it made a token."""
        ...

    def first_ms(self) -> int | None:
        """Start of the oldest window, or of the oldest hour whose windows are gone; None in an empty ledger."""
        ...

    def last_seen(self) -> Mapping[tuple[str, str], int]:
        """(cluster, node) -> end (ms) of its newest window, of the nodes that sent one in the ledger's last day."""
        ...

    def retire(self, *, windows_before_ms: int, hours_before_ms: int, counter_bases: dict[str, int]) -> None:
        """Forget old windows and hours, and add what exported counters lose by it to their bases, in one commit."""
        ...

    def counter_bases(self) -> dict[str, int]:
        """What exported counters start from: series -> integer, see `retire`."""
        ...

    def roll(self, before_ms: int | None = None, hours_max: int | None = None) -> bool:
        """Make the roll-ups that `usage` reads again, of at most so many hours (before that instant) that changed.

        Folds first. Returns whether some are left.
        """
        ...

    def roll_day(self, before_ms: int) -> int | None:
        """Put the roll-ups of one day together, the newest that ended before that instant and needs it, where the
        engine keeps such: reports are faster by it, and the same without. Returns the day's start, None if there was
        none."""
        ...

    def usage(self) -> LedgerUsageReader:
        """What reports read: of one state of the ledger for as long as the reader is kept, from its first read on. For
        one statement, in one thread."""
        ...

    def revision(self, start_ms: int, end_ms: int) -> str:
        """Changes when an hour of [start_ms, end_ms) is recomputed from other windows, or is gone. Quick; hours must be
        rolled up."""
        ...

    def hour_revisions(self) -> Mapping[int, int | None]:
        """Start of each hour that is kept -> a number that changes with its facts; None while it still grows in memory.
        Quick; read it before the facts that it is compared with."""
        ...

    @property
    def versions(self) -> VersionStore:
        """What is kept of closed periods."""
        ...

    @property
    def figures(self) -> FigureStore:
        """What is kept of figures that were computed from it."""
        ...

    def replace_outcomes(self, slices: Sequence[OutcomeSlice], imported_ms: int) -> None:
        """Put these slices in the place of those of the same source, day and name, in one commit; one without counts
        removes them."""
        ...

    def outcomes(self, start_ms: int, end_ms: int) -> list[OutcomeSlice]:
        """Of the days that begin in [start_ms, end_ms), by source, day and name."""
        ...

    def replace_spend(self, slices: Sequence[SpendSlice], imported_ms: int) -> None:
        """Put these slices in the place of those with the same key, in one commit; one without lines removes them.
        ClickHouse replaces each slice at once, and a reader may see some of them before others."""
        ...

    def spend(self, start_ms: int, end_ms: int) -> list[SpendSlice]:
        """Slices of the days that begin in [start_ms, end_ms), by their keys."""
        ...

    def spend_days(self) -> tuple[int, int] | None:
        """Start (ms) of the first and of the last day that has a slice with amounts; None where there is none."""
        ...

    def spend_days_of(self, source: str, account: str, grain: str) -> list[int]:
        """Start (ms) of every day that has this slice, in their order."""
        ...

    def spend_revision(self, start_ms: int, end_ms: int) -> str:
        """Changes when a slice with amounts of the days that begin in [start_ms, end_ms) does; empty where there is
        none. Quick."""
        ...

    def add_observed(self, points: Sequence[ObservedPoint], received_ms: int) -> None:
        """Make points durable in one commit; one that is there stays as it is, but a newer one of a cumulative series
        takes the place of that of its day."""
        ...

    def observed_states(self, series: Sequence[str]) -> dict[str, SeriesState]:
        """The newest point of each of these cumulative series that has one."""
        ...

    def observed_days(self, first_ms: int) -> dict[int, tuple[int, int]]:
        """Start of each day from `first_ms` on that has points -> (how many, when the last one came in): another where
        its points are others. Quick."""
        ...

    def observed_sums(self, day_ms: int) -> list[ObservedSum]:
        """What the points of a day add up to; of a cumulative series what it counted since the days before."""
        ...

    def hours(self) -> list[int]:
        """Start of every hour that is kept."""
        ...

    def windows_from_ms(self) -> int | None:
        """Start of the oldest window that is still kept; None where there is none."""
        ...

    def doubled(self) -> list[tuple[str, str, int, int]]:
        """(cluster, node, start, count) of windows of a node that are there more than once: their time counts twice."""
        ...

    def receipt_differences(self) -> Sequence[ReceiptDifference]:
        """Where the list of what was received, if the engine has one beside the batches, differs from the batches: one
        that is not listed would count again when it is sent again, one that is not there would never be taken in."""
        ...

    def impossible(self, hour_ms: int) -> Sequence[Impossible]:
        """What cannot have been measured (quarantine.py) of the windows of an hour, or of the hour itself where its
        windows are gone. Of hours whose sums are too great once no single window is, so ask again after `quarantine`.
        In the writing thread."""
        ...

    def quarantine(self, found: Sequence[Impossible], moved_ms: int) -> None:
        """Move all that the named nodes reported of these windows or hours aside. Their batches stay known, and hours
        are recomputed from what is left. Of one commit, or so that a second call ends what a first one began."""
        ...

    def name_conflicts(self) -> Sequence[NameConflict]:
        """Names of workloads that nodes of several scopes use, or used while hours were kept; at most
        `CONFLICTS_MAX`."""
        ...

    def quarantined(self) -> Sequence[QuarantinedRows]:
        """What was moved aside, by node and time; as long as hours are kept."""
        ...

    def size_bytes(self) -> int: ...

    def close(self) -> None: ...
