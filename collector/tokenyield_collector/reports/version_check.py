"""Whether closed months are what they were: each version sums to itself, and the newest agrees with the ledger.

In: a ledger. Out: findings, in words: what, by how much, how to fix it. None when
* every day of every version is there, has the content that its digest names, and sums to what the version says;
* the newest version of a month, computed again under the prices and rules that it was made under, has the same lines;
  as long as the ledger has its hours, and this release computes as the one that made it.
"""

from collections.abc import Callable, Iterator, Sequence

from tokenyield_collector.errors import LedgerError
from tokenyield_collector.ledger.closed import StatementRecord, VersionStore
from tokenyield_collector.reports.closed_day import decode_lines, decode_sums, digest_of
from tokenyield_collector.reports.closing import ClosableLedger, is_final
from tokenyield_collector.reports.month_lines import MonthLines
from tokenyield_collector.reports.version_content import ENGINE, ClosedDayEntry, ClosedVersion, closed_version
from tokenyield_collector.statements.source import OtherCosts, Span
from tokenyield_wire.units import MS_PER_DAY, hour_of_ms

RESTORE = "restore the newest backup that has it"
CHECK_EVERY_MS = 7 * MS_PER_DAY


def verify_versions(
    ledger: ClosableLedger,
    progress: Callable[[int, int], None] = lambda done, of: None,
    others: Sequence[OtherCosts] = (),
) -> Iterator[str]:
    """All of them. The ledger must be rolled up. `progress`: months done, of how many."""
    periods = ledger.versions.periods()
    sound: set[str] = set()
    for i, period in enumerate(periods):
        for record in ledger.versions.records(period):
            yield from _findings(_sums(ledger.versions, record, sound))
        yield from _findings(_recomputed(ledger, period, others))
        progress(i + 1, len(periods))


def check_again(ledger: ClosableLedger, now_ms: int, others: Sequence[OtherCosts] = ()) -> Iterator[None]:
    """One month, the one that was checked longest ago: what is found stands in its reports. A step for each day."""
    checks = [check for check in ledger.versions.checks().values() if now_ms - check.checked_ms >= CHECK_EVERY_MS]
    if not checks:
        return
    check = min(checks, key=lambda check: (check.checked_ms, check.period))
    finding = ""
    try:
        for record in ledger.versions.records(check.period)[-1:]:
            for part in (_sums(ledger.versions, record, set()), _recomputed(ledger, check.period, others)):
                for found in part:
                    finding = finding or found
                    yield
    except LedgerError as error:
        finding = str(error)
    ledger.versions.note_check(check._replace(checked_ms=now_ms, finding=finding))


def _findings(days: Iterator[str]) -> Iterator[str]:
    """What is wrong, of what is said of each day."""
    try:
        yield from filter(None, days)
    except LedgerError as error:
        yield str(error)


def _recomputed(ledger: ClosableLedger, period: str, others: Sequence[OtherCosts]) -> Iterator[str]:
    """Of each day of the newest version of a month, how it differs from what the ledger gives under the policy that it
    was made under; empty where it does not."""
    records = ledger.versions.records(period)
    version = closed_version(records[-1]) if records else None
    first_ms = ledger.first_ms()
    if version is None or first_ms is None or is_final(version, hour_of_ms(first_ms)):
        return
    content, at = version.content, _name(version)
    if content.engine != ENGINE:
        return  # a running collector of this release compares it, and names the release where it differs
    span = Span(content.start_ms, content.end_ms)
    lines = MonthLines(ledger, version.policy, span, others, fleet_from_ms=hour_of_ms(first_ms))
    for day, encoded, facts in lines.days():
        entry = content.days.get(day)
        if entry is None or entry.facts != facts:
            yield f"{at}: expected the facts of {day} that it was made of, found others; a collector makes the next"
        elif entry.digest != encoded.digest:
            yield (
                f"{at}: expected the lines of {day} as computed again ({encoded.total} quanta), found others "
                f"({entry.total}), and nothing that it was made of has changed; report it, and {RESTORE}"
            )
        else:
            yield ""


def _sums(store: VersionStore, record: StatementRecord, sound: set[str]) -> Iterator[str]:
    """Of each day of a version what is wrong with it, empty where nothing is. `sound`: digests that were looked at."""
    version = closed_version(record)
    if version is None:
        return
    content, at = version.content, _name(version)
    if (total := sum(entry.total for entry in content.days.values())) != content.total:
        yield f"{at}: expected days that sum to {content.total} quanta, found {total}; {RESTORE}"
    for day, entry in content.days.items():
        if entry.digest not in sound:
            if finding := _of_day(store, entry):
                yield f"{at}: expected the lines of {day} as they were closed, found {finding}; {RESTORE}"
            else:
                sound.add(entry.digest)
                yield ""


def _of_day(store: VersionStore, entry: ClosedDayEntry) -> str:
    """What is wrong with a day; empty where nothing is."""
    parts = []
    for number in range(entry.parts):
        part = store.day_part([entry.digest], number).get(entry.digest)
        if part is None:
            return f"{number} of {entry.parts} parts"
        parts.append(part)
    if digest_of(parts) != entry.digest:
        return "other content than its digest names"
    sums = decode_sums(parts[0])
    totals = (
        sum(line.total for _, line in sums.lines),
        sum(cost.total for cost in sums.before_sharing.values()),
        sum(line.total for part in parts[1:] for _, line in decode_lines(part)),
    )
    return "" if set(totals) == {entry.total} else f"sums of {totals} quanta instead of {entry.total}"


def _name(version: ClosedVersion) -> str:
    return f"{version.record.period}, version {version.number}"
