"""Versions of a closed period's statement: the same inputs give the same version, changed ones the next.

Pure. In: the records kept before, a checksum of the facts, the price book and the rules as JSON. Out: a record.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from tokenyield_collector.ledger.base import StatementRecord

CHANGES_SHOWN = 6


def next_record(
    before: Sequence[StatementRecord], period: str, facts: str, prices: str, attribution: str
) -> StatementRecord:
    """The record of these inputs: the last one when nothing changed, else a new one with the next number."""
    last = before[-1] if before else None
    if last is not None and (last.facts, last.prices, last.attribution) == (facts, prices, attribution):
        return last
    changes: list[str] = []
    if last is not None:
        if last.facts != facts:
            changes.append("facts: windows came in late")
        changes += [f"prices: {change}" for change in differences(last.prices, prices)]
        changes += [f"attribution: {change}" for change in differences(last.attribution, attribution)]
        if len(changes) > CHANGES_SHOWN:
            changes[CHANGES_SHOWN:] = [f"and {len(changes) - CHANGES_SHOWN} more"]
    number = last.version + 1 if last is not None else 1
    return StatementRecord(period, number, facts, prices, attribution, "; ".join(changes))


def differences(before: str, after: str) -> list[str]:
    """What differs between two JSON documents, a line each: 'pools.h100.owned.gpu: 30000 -> 32000'."""
    old, new = (dict(_leaves(json.loads(text or "{}"), "")) for text in (before, after))
    return [
        f"{path}: {_shown(old, path)} -> {_shown(new, path)}"
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path)
    ]


def _shown(leaves: dict[str, Any], path: str) -> str:
    return json.dumps(leaves[path])[:60] if path in leaves else "(nothing)"


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            name = inner["name"] if isinstance(inner, dict) and isinstance(inner.get("name"), str) else str(i)
            yield from _leaves(inner, f"{path}.{name}")
    else:
        yield path, value
