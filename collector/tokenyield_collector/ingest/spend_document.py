"""Slices of spend as they come in over HTTP: their document, its checks, and what an import did. Pure.

In: a document of slices, each with all of its lines. Out: slices, in which people are kept as the collector's own
setting allows; or faults, by field.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from typing import Annotated

import msgspec

from tokenyield_collector.http.schemas import SpendReceiptDocument
from tokenyield_collector.prices.period import day_of, day_start_ms
from tokenyield_collector.slices import SliceChanges
from tokenyield_collector.spend.builder import SliceBuilder
from tokenyield_collector.spend.format import SpendRow
from tokenyield_collector.spend.slices import (
    COST_MICRO_MAX,
    EVIDENCE_SOURCE,
    FIELD_CHARS_MAX,
    SLICE_LINES_MAX,
    TOKENS,
    Layer,
    SpendAmounts,
    SpendFields,
    SpendKey,
    SpendLine,
    SpendSlice,
    spend_findings,
)
from tokenyield_collector.spend.values import PICO_PER_MICRO
from tokenyield_wire.bounded import fitting_name
from tokenyield_wire.window import COUNT_MAX, Fault

SLICES_MAX = 5_000
"""In one request."""
LINES_MAX = 20_000
"""In one request, but for a slice that alone has more."""
CHANGES_SHOWN = 50
Text = Annotated[str, msgspec.Meta(max_length=FIELD_CHARS_MAX)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=FIELD_CHARS_MAX)]
Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]
People = Callable[[SpendFields, int], SpendFields]


class SpendLineEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A line of a slice: what was bought, who used it, how much; nothing where it is not known. Money in millionths of
    the currency."""

    vendor: Name
    service: Name = TOKENS
    model: Text = ""
    team: Text = ""
    product: Text = ""
    project: Text = ""
    api_key: Text = ""
    workload: Text = ""
    person: Text = ""
    agent_task: Text = ""
    session: Text = ""
    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")] = "USD"
    fresh: Count | None = None
    cache_read: Count | None = None
    cache_write: Count | None = None
    long_cache_write: Count | None = None
    output: Count | None = None
    reasoning: Count | None = None
    requests: Count | None = None
    cost_micro: Annotated[int, msgspec.Meta(ge=-COST_MICRO_MAX, le=COST_MICRO_MAX)] | None = None


class SpendSliceEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one report (`grain`) of one source says of one account and day (UTC). All of its lines come together: they
    replace those that are there."""

    source: Name
    account: Name
    day: date
    grain: Name
    layer: Layer
    lines: Annotated[tuple[SpendLineEntry, ...], msgspec.Meta(max_length=SLICE_LINES_MAX)]


class SpendSlices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `POST /v1/spend` takes."""

    slices: Annotated[tuple[SpendSliceEntry, ...], msgspec.Meta(max_length=SLICES_MAX)]


_decoder = msgspec.json.Decoder(SpendSlices)


def decode_spend(body: bytes, people: People) -> list[SpendSlice]:
    """Raises `msgspec.ValidationError` for a document that cannot be used, `msgspec.DecodeError` for no JSON."""
    slices: dict[SpendKey, SpendSlice] = {}
    for entry in _decoder.decode(body).slices:
        built = _slice(entry, people)
        if built.key in slices:
            raise msgspec.ValidationError(f"Expected each slice once - at `$.slices`: {built.key.text} again")
        slices[built.key] = built
    return list(slices.values())


def _slice(entry: SpendSliceEntry, people: People) -> SpendSlice:
    day_ms = day_start_ms(entry.day)
    source, account, grain = (
        fitting_name(name, FIELD_CHARS_MAX) for name in (entry.source, entry.account, entry.grain)
    )
    builder = SliceBuilder(source, lambda _: entry.layer, account=account, people=people)
    for line in entry.lines:
        fields = SpendFields(*(fitting_name(getattr(line, name), FIELD_CHARS_MAX) for name in SpendFields._fields))
        amounts = SpendAmounts(*(getattr(line, name) for name in SpendAmounts._fields))
        cost_pico = None if amounts.cost_micro is None else amounts.cost_micro * PICO_PER_MICRO
        builder.add(SpendRow(grain, day_ms, fields, amounts._replace(cost_micro=None), cost_pico))
    key = SpendKey(source, account, day_ms, grain)
    return next(iter(builder.slices()), SpendSlice(key, entry.layer, ()))


def spend_faults(slices: Sequence[SpendSlice], first_ms: int, last_ms: int) -> Iterator[Fault]:
    """What cannot be kept: days beyond what the ledger keeps, values out of bounds."""
    for one in slices:
        if not first_ms <= one.key.day_ms <= last_ms:
            days = f"a day from {day_of(first_ms)} to {day_of(last_ms)}: the ledger keeps no other"
            yield Fault("slices", one.key.text, days)
    for finding in spend_findings(slices):
        yield Fault("slices", finding, "values within bounds")


def encode_spend(slices: Sequence[SpendSlice]) -> bytes:
    """The body of a request that brings these slices."""
    entries = [
        SpendSliceEntry(
            source=key.source,
            account=key.account,
            day=day_of(key.day_ms),
            grain=key.grain,
            layer=layer,
            lines=tuple(SpendLineEntry(**fields._asdict(), **amounts._asdict()) for fields, amounts in lines),
        )
        for key, layer, lines in slices
    ]
    return msgspec.json.encode(SpendSlices(slices=tuple(entries)))


def spend_requests(slices: Sequence[SpendSlice]) -> Iterator[list[SpendSlice]]:
    """Whole slices, in parts that a collector takes at once."""
    part: list[SpendSlice] = []
    lines = 0
    for one in slices:
        if part and (lines + len(one.lines) > LINES_MAX or len(part) >= SLICES_MAX):
            yield part
            part, lines = [], 0
        part.append(one)
        lines += len(one.lines)
    if part:
        yield part


def spend_receipt(changes: SliceChanges[SpendSlice]) -> SpendReceiptDocument:
    return {
        "added": len(changes.added),
        "replaced": len(changes.replaced),
        "unchanged": len(changes.unchanged),
        "changes": [
            {"slice": after.key.text, "before": totals_in_words(before), "after": totals_in_words(after)}
            for before, after in changes.replaced[:CHANGES_SHOWN]
        ],
    }


def joined(receipts: Sequence[SpendReceiptDocument]) -> SpendReceiptDocument:
    """Of several requests of one import."""
    return {
        "added": sum(one["added"] for one in receipts),
        "replaced": sum(one["replaced"] for one in receipts),
        "unchanged": sum(one["unchanged"] for one in receipts),
        "changes": [change for one in receipts for change in one["changes"]][:CHANGES_SHOWN],
    }


def totals_in_words(one: SpendSlice) -> str:
    """`1.250000 USD, 3,000 tokens`; of evidence `2 connections, 50,000 bytes received`."""
    if one.key.source == EVIDENCE_SOURCE:
        return ", ".join(evidence_in_words(one.lines)) or "nothing"
    parts = [f"{money_in_words(micro)} {currency}" for currency, micro in sorted(one.cost_micro().items())]
    return ", ".join([*parts, f"{one.tokens:,} tokens"] if one.tokens or not parts else parts)


def evidence_in_words(lines: Iterable[SpendLine]) -> list[str]:
    """What was counted, by what it is."""
    counts: Counter[str] = Counter()
    for fields, amounts in lines:
        counts[fields.service] += amounts.requests or 0
    return [f"{count:,} {service}" for service, count in sorted(counts.items())]


def money_in_words(micro: int) -> str:
    return f"{'-' if micro < 0 else ''}{abs(micro) // 10**6:,}.{abs(micro) % 10**6:06d}"
