"""One day of a closed period, as it is kept: all of its lines, and what a report needs beside them. Pure.

In: the lines of a day after sharing, what each pool cost before it, and how long callers waited. Out: texts (parts),
each compressed, and the digest of their content; and back. Part 0 has the sums that most reports need (lines without
workload and node); the others have every line, some thousand each.

Lines stand in the order of their keys and have only the fields that are not 0, so that the same figures give the same
digest, whichever fields a later collector adds.
"""

import base64
import hashlib
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from tokenyield_collector.errors import LedgerError
from tokenyield_collector.ledger.usage import WorkIdentity, WorkLatency
from tokenyield_collector.statements.lines import FIELD_AT, FIELDS, Carrier, LineKey, Sums
from tokenyield_collector.statements.source import Grain

KEPT_GRAIN = Grain(node=True, workload=True, cluster=True)
"""What lines are kept by."""
COARSE_GRAIN = Grain(cluster=True)
"""What the lines of part 0 are by."""
LINES_PER_PART = 5_000
PoolPlace = tuple[str, str, str | None]
"""(cluster, source, pool)"""
KeyedLines = list[tuple[LineKey, Sums]]
_COMPRESSION = 6


class EncodedDay(NamedTuple):
    """`digest` is of what the parts decode to; `total` is the cost of all lines, in quanta."""

    digest: str
    parts: list[str]
    total: int


class DaySums(NamedTuple):
    """Part 0 of a day."""

    lines: KeyedLines
    before_sharing: dict[PoolPlace, Sums]
    waits: list[WorkLatency]


def encode_day(
    lines: Mapping[LineKey, Sums], before_sharing: Mapping[PoolPlace, Sums], waits: Iterable[WorkLatency]
) -> EncodedDay:
    """`lines` are by `KEPT_GRAIN`."""
    coarse: dict[LineKey, Sums] = defaultdict(Sums)
    for key, sums in lines.items():
        coarse[COARSE_GRAIN.coarsened(key)].take(sums)
    ordered = _ordered_lines(lines)
    bodies: list[dict[str, Any]] = [
        _table(_ordered_lines(coarse)) | {"before_sharing": _table(_ordered(before_sharing)), "waits": list(waits)}
    ]
    bodies += [_table(ordered[i : i + LINES_PER_PART]) for i in range(0, len(ordered), LINES_PER_PART)]
    digest, parts = hashlib.sha256(), []
    for body in bodies:
        data = msgspec.json.encode(body)
        digest.update(b"%d:" % len(data) + data)
        parts.append(base64.b85encode(zlib.compress(data, _COMPRESSION)).decode())
    return EncodedDay(digest.hexdigest(), parts, sum(sums.total for sums in lines.values()))


def digest_of(parts: Sequence[str]) -> str:
    """What `encode_day` gave with these parts. Raises `LedgerError` where one cannot be read."""
    digest = hashlib.sha256()
    for part in parts:
        data = _data(part)
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()


def decode_sums(part: str) -> DaySums:
    """Part 0. Raises `LedgerError`."""
    body = _body(part)
    return DaySums(
        [(_key(key), sums) for key, sums in _rows(body)],
        {(cluster, source, pool): sums for (cluster, source, pool), sums in _rows(body["before_sharing"])},
        [WorkLatency(WorkIdentity(*who), kind, sum_ms, tuple(counts)) for who, kind, sum_ms, counts in body["waits"]],
    )


def decode_lines(part: str) -> KeyedLines:
    """Any other part. Raises `LedgerError`."""
    return [(_key(key), sums) for key, sums in _rows(_body(part))]


def _ordered_lines(lines: Mapping[LineKey, Sums]) -> list[tuple[Any, Sums]]:
    return sorted(((_kept_key(key), sums) for key, sums in lines.items() if any(sums)), key=_by_key)


def _ordered(pools: Mapping[PoolPlace, Sums]) -> list[tuple[Any, Sums]]:
    return sorted(((place, sums) for place, sums in pools.items() if any(sums)), key=_by_key)


def _by_key(line: tuple[Any, Sums]) -> bytes:
    return msgspec.json.encode(line[0])


def _table(lines: Sequence[tuple[Any, Sums]]) -> dict[str, Any]:
    """Names of the fields that are used, and of each line its key and [number of the field, value, ...]."""
    used = [at for at in range(len(FIELDS)) if any(sums[at] for _, sums in lines)]
    numbers = {at: number for number, at in enumerate(used)}
    rows = []
    for key, sums in lines:
        cells: list[int] = []
        for at in used:
            if sums[at]:
                cells += (numbers[at], sums[at])
        rows.append((key, cells))
    return {"fields": [FIELDS[at] for at in used], "lines": rows}


def _rows(table: Mapping[str, Any]) -> Iterable[tuple[Any, Sums]]:
    unknown = [name for name in table["fields"] if name not in FIELD_AT]
    if unknown:
        raise LedgerError(
            f"a closed period: expected fields that this collector knows, found {unknown[0]}; run the newer collector"
        )
    places = [FIELD_AT[name] for name in table["fields"]]
    for key, cells in table["lines"]:
        sums = Sums()
        for number, value in zip(cells[::2], cells[1::2], strict=True):
            sums[places[number]] = value
        yield key, sums


def _key(key: Sequence[Any]) -> LineKey:
    start_ms, source, pool, node, (kind, values, *rest) = key
    return LineKey(start_ms, source, pool, (node[0], node[1]), Carrier(kind, tuple(values), *rest))


def _kept_key(key: LineKey) -> tuple[Any, ...]:
    """Without what is empty at the end of a carrier, so that a field added there changes no digest."""
    carrier = list(key.carrier)
    while carrier[-1] == "":
        carrier.pop()
    return (*key[:4], carrier)


def _body(part: str) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(_data(part))
    return body


def _data(part: str) -> bytes:
    try:
        return zlib.decompress(base64.b85decode(part))
    except (ValueError, zlib.error) as error:
        raise LedgerError(
            f"a closed period: expected a day as it was written, found a damaged one ({error}); restore the newest "
            "backup"
        ) from error
