"""Closes months: computes what a month came to and keeps it as a version, where anything of it changed by a name.

In: the ledger, the policy of the collector that has it open. Out: versions in the ledger's register. Only a running
collector closes (server.py); commands that read a ledger, or a copy of it, with other prices or rules never do.

A month is computed one day at a time, so that reports have their turn between them and only a day is in memory.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from tokenyield_collector.ledger.closed import PeriodCheck, StatementRecord, VersionStore
from tokenyield_collector.ledger.usage import LedgerUsageReader
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.period import Period, months_of
from tokenyield_collector.reports.closed_day import KeyedLines, decode_lines
from tokenyield_collector.reports.month_lines import MonthLines
from tokenyield_collector.reports.version_content import ENGINE, ClosedDayEntry, ClosedVersion, VersionContent
from tokenyield_collector.reports.version_content import closed_version as read_version
from tokenyield_collector.reports.versions import (
    CHANGES_KEPT,
    LINES_KEPT_NOW,
    fact_change,
    fact_days,
    pace_changes,
    policy_changes,
    shows_beside_lines,
)
from tokenyield_collector.statements.references import AppliedReference
from tokenyield_collector.statements.source import OtherCosts, Span
from tokenyield_wire.units import MS_PER_DAY, hour_of_ms

VERSIONS_MAX = 1000
"""Of one month; after that it changes no more, which is a finding."""
DAYS_COMPARED = 3
"""Days of which late windows are named by node and workload."""


class ClosableLedger(Protocol):
    """The part of a `Ledger` that closing needs. What writes runs in the writer's turn."""

    @property
    def versions(self) -> VersionStore: ...

    def first_ms(self) -> int | None: ...

    def roll(self) -> object: ...

    def usage(self) -> LedgerUsageReader: ...

    def revision(self, start_ms: int, end_ms: int) -> str: ...


@dataclass(frozen=True, kw_only=True)
class MonthClosing:
    """Closes the due months of one ledger under one policy."""

    ledger: ClosableLedger
    policy: Policy
    now_ms: int
    close_after_ms: int
    made_by: str
    others: Sequence[OtherCosts] = ()

    def steps(self) -> Iterator[None]:
        """Close what is due, with a step for each day that is computed. Raises `LedgerError`."""
        self.ledger.roll()
        checks, computed = self.ledger.versions.checks(), False
        for month in due_months(self.ledger.first_ms(), self.now_ms, self.close_after_ms):
            for _ in self._month(month, checks.get(month.name)):
                computed = True
                yield
        if computed:
            self.ledger.versions.forget_days(named_days(self.ledger.versions))

    def _month(self, month: Period, check: PeriodCheck | None) -> Iterator[None]:
        records = self.ledger.versions.records(month.name)
        last = read_version(records[-1]) if records else None
        if last is not None and (check is None or check.checked_ms < last.content.made_ms):
            # A kill came after the record: the version is as computed then, and is to be checked from then on.
            check = PeriodCheck(month.name, last.content.inputs, last.content.made_ms, "")
            self.ledger.versions.note_check(check)
        first_ms = self.ledger.first_ms()
        oldest_ms = hour_of_ms(self.now_ms if first_ms is None else first_ms)
        if last is not None and is_final(last, oldest_ms):
            return
        inputs = inputs_of(self.ledger, self.policy, month, self.others)
        if last is not None and inputs in (last.content.inputs, check.inputs if check is not None else ""):
            return
        first_days = [first for other in self.others if (first := other.first_ms()) is not None]
        span = Span(max(month.start_ms, min([oldest_ms, *first_days])), month.end_ms)
        computed = MonthLines(self.ledger, self.policy, span, self.others, fleet_from_ms=oldest_ms)
        known = {entry.digest for entry in last.content.days.values()} if last is not None else set()
        entries: dict[str, ClosedDayEntry] = {}
        for day, encoded, facts in computed.days():
            if encoded.digest not in known:
                self.ledger.versions.add_day(encoded.digest, encoded.parts)
            entries[day] = ClosedDayEntry(encoded.digest, len(encoded.parts), facts, encoded.total)
            yield
        changes = self._changes(records, last, entries, computed.references)
        finding = _finding(last, entries, changes) if last is not None else None
        if finding is None:
            content = VersionContent(
                engine=ENGINE,
                made_by=self.made_by,
                made_ms=self.now_ms,
                start_ms=span.start_ms,
                end_ms=span.end_ms,
                facts_from_ms=max(oldest_ms, _facts_from_ms(self.policy, month)),
                inputs=inputs,
                currency=self.policy.prices.currency,
                total=sum(entry.total for entry in entries.values()),
                days=entries,
                references=list(computed.references),
                gaps=computed.gaps,
                changes=changes,
            )
            self._keep(month, records, content)
        self.ledger.versions.note_check(PeriodCheck(month.name, inputs, self.now_ms, finding or ""))

    def _changes(
        self,
        records: Sequence[StatementRecord],
        last: ClosedVersion | None,
        entries: Mapping[str, ClosedDayEntry],
        references: Sequence[AppliedReference],
    ) -> list[str]:
        """Against the newest version, every cause by its name."""
        if not records:
            return []
        policy = self.policy.prices.document, self.policy.rules.document
        changes = policy_changes((records[-1].prices, records[-1].attribution), policy)
        if last is None:
            changes.insert(0, LINES_KEPT_NOW)
        else:
            old = last.content
            if days := fact_days(old.days, entries):
                lines = [self._lines(days[:DAYS_COMPARED], of_version) for of_version in (old.days, entries)]
                changes.insert(0, fact_change(days, *lines))
            changes += pace_changes(old.references, references)
            if old.engine != ENGINE:
                changes.append(f"computing: {old.engine} -> {ENGINE}")
        if len(changes) > CHANGES_KEPT:
            changes[CHANGES_KEPT:] = [f"and {len(changes) - CHANGES_KEPT} more"]
        return changes

    def _lines(self, days: Sequence[str], entries: Mapping[str, ClosedDayEntry]) -> KeyedLines:
        lines: KeyedLines = []
        for entry in (entries[day] for day in days if day in entries):
            for number in range(1, entry.parts):
                for part in self.ledger.versions.day_part([entry.digest], number).values():
                    lines += decode_lines(part)
        return lines

    def _keep(self, month: Period, records: Sequence[StatementRecord], content: VersionContent) -> None:
        """The record comes last: until it is there, the days are nobody's."""
        facts = hashlib.sha256("".join(entry.facts for entry in content.days.values()).encode()).hexdigest()[:32]
        record = StatementRecord(
            month.name,
            records[-1].version + 1 if records else 1,
            facts,
            self.policy.prices.document,
            self.policy.rules.document,
            "; ".join(content.changes),
            msgspec.json.encode(content).decode(),
        )
        self.ledger.versions.add_record(record)


def inputs_of(ledger: ClosableLedger, policy: Policy, month: Period, others: Sequence[OtherCosts] = ()) -> str:
    """A digest of all that a month's figures depend on. The ledger must be rolled up."""
    revision = ledger.revision(_facts_from_ms(policy, month), month.end_ms)
    beside = [other.revision(month.start_ms, month.end_ms) for other in others]
    parts = (revision, policy.prices.document, policy.rules.document, ENGINE, *filter(None, beside))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _facts_from_ms(policy: Policy, month: Period) -> int:
    return min(month.start_ms, first_fact_ms(policy, month.end_ms))


def first_fact_ms(policy: Policy, end_ms: int) -> int:
    """Paces of a period that ends then are learned from hours before it too."""
    rules = policy.prices.reference_rates
    return end_ms - rules.learn_days * MS_PER_DAY if rules.learn else end_ms


def due_months(first_ms: int | None, now_ms: int, close_after_ms: int) -> list[Period]:
    """Of which the ledger has something, and which are over for long enough; the oldest first."""
    last_ms = now_ms - close_after_ms
    if first_ms is None or last_ms <= first_ms:
        return []
    span = Period(name="", start_ms=first_ms, end_ms=last_ms)
    return [month for month in months_of(span) if month.end_ms <= last_ms]


def is_final(version: ClosedVersion, oldest_ms: int) -> bool:
    """Whether retention has begun to remove what it was made of: it stays as it was closed. `oldest_ms` is the oldest
    hour that the ledger has."""
    return oldest_ms > version.content.facts_from_ms


def retire_before(store: VersionStore, first_ms: int | None, wanted_ms: int, now_ms: int) -> int:
    """Up to where hours may be removed: those of a month that is over and not closed wait until it is."""
    if first_ms is None or first_ms >= wanted_ms:
        return wanted_ms
    for month in months_of(Period(name="", start_ms=first_ms, end_ms=wanted_ms)):
        if month.end_ms <= now_ms and newest_version(store, month.name) is None:
            return min(wanted_ms, month.start_ms)
    return wanted_ms


def newest_version(store: VersionStore, month: str) -> ClosedVersion | None:
    """None while the month is not closed."""
    records = store.records(month)
    return read_version(records[-1]) if records else None


def named_days(store: VersionStore) -> set[str]:
    """Digests of all days that a version consists of."""
    versions = (read_version(record) for period in store.periods() for record in store.records(period))
    return {entry.digest for version in versions if version is not None for entry in version.content.days.values()}


def _finding(last: ClosedVersion, entries: Mapping[str, ClosedDayEntry], changes: Sequence[str]) -> str | None:
    """None where there is a new version; else what is wrong with the newest one, empty where nothing is."""
    days = last.content.days
    is_same = {day: entry.digest for day, entry in entries.items()} == {
        day: entry.digest for day, entry in days.items()
    }
    if is_same and not shows_beside_lines(changes):
        return ""
    if not changes:
        differing = [day for day in sorted(days.keys() | entries.keys()) if days.get(day) != entries.get(day)]
        return f"version {last.number}: computed again it differs on {', '.join(differing[:3])}, and nothing changed"
    return f"{VERSIONS_MAX} versions are kept; it changes no more" if last.number >= VERSIONS_MAX else None
