"""Changes to whole documents: a fuzzer that only changes bytes seldom gets past the parser.

In: bytes of a JSON or YAML document, or of a log. Out: bytes of one like it, in which values or lines are replaced,
moved, doubled or taken away.
"""

import contextlib
import copy
import datetime
import gzip
import json
import random
import re
import zlib
from collections.abc import Callable
from typing import Any

import yaml

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3_600_000, 2**31, 2**48, 2**48 + 1, 2**63, 10**30, 0.5, -0.0, 1e-320, 1e308, float("inf"), float("nan"),
    "", " ", "0", "1e3", "*", "[", "(a|b)*c", "\0", "é\ud800", "\u202e", "../x", "${x}", "{model}", "x" * 600, "Europe/Berlin",
    "2026-02-30", "2026-11-26T00:00:00Z", "9999-12-31", datetime.date(2026, 11, 26), datetime.datetime(1, 1, 1), [], {}, [None], {"": 0},
)  # fmt: skip
CHANGES_MAX = 4


class NoDocument(ValueError):
    """The bytes are none that can be changed so."""


Change = Callable[[bytes, random.Random], bytes]


def _changed_batches(data: bytes, chosen: random.Random) -> bytes:
    """The first byte chooses the encoding, see fuzz_targets.py. Raises `NoDocument`."""
    try:
        if data[:1] == b"\1":
            return data[:1] + gzip.compress(_changed_json(gzip.decompress(data[1:]), chosen), 1)
        return data[:1] + _changed_json(data[1:], chosen)
    except (ValueError, OSError, EOFError, zlib.error, RecursionError, OverflowError) as error:
        raise NoDocument from error


def _changed_json(data: bytes, chosen: random.Random) -> bytes:
    return json.dumps(_changed(json.loads(data), chosen), default=str).encode()


def _changed_yaml(data: bytes, chosen: random.Random) -> bytes:
    """Raises `NoDocument`."""
    try:
        new = _changed(yaml.load(data, yaml.CSafeLoader), chosen)
        return bytes(yaml.dump(new, Dumper=yaml.CSafeDumper, encoding="utf-8", allow_unicode=True))
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise NoDocument from error


def _changed_log(data: bytes, chosen: random.Random) -> bytes:
    """The first two bytes choose the dialect and the block, see fuzz_targets.py. A line's document or number changes, or
    the line's place."""
    lines = data[2:].splitlines(keepends=True)
    if not lines:
        raise NoDocument
    for _ in range(chosen.randint(1, CHANGES_MAX)):
        at = chosen.randrange(len(lines))
        before, brace, document = lines[at].partition(b"{")
        numbers = list(_NUMBER.finditer(lines[at]))
        way = chosen.randrange(4)
        if way == 0:
            lines.insert(chosen.randrange(len(lines)), lines[at])
        elif way == 1:
            lines.insert(chosen.randrange(len(lines)), lines.pop(at))
        elif brace and way == 2:
            with contextlib.suppress(ValueError, RecursionError, OverflowError):
                lines[at] = before + _changed_json(brace + document, chosen) + b"\n"
        elif numbers:
            number = chosen.choice(numbers)
            lines[at] = lines[at][: number.start()] + chosen.choice(_ODD_NUMBERS) + lines[at][number.end() :]
    return data[:2] + b"".join(lines)


_NUMBER = re.compile(rb"-?\d+(\.\d+)?")
_ODD_NUMBERS = (
    b"0",
    b"1",
    b"-1",
    b"0.0",
    b"9" * 20,
    b"9" * 400,
    b"1e999",
    b"nan",
    b"inf",
    b"",
    b"00",
    b"4294967296",
    b"0.000001",
    b"86401",
)

CHANGES: dict[str, Change] = {
    "batches": _changed_batches,
    "logs": _changed_log,
    "endpoints": _changed_log,
    "prices": _changed_yaml,
    "rules": _changed_yaml,
}
"""How the documents of a target of fuzz_targets.py are changed."""


def _changed(document: Any, chosen: random.Random) -> Any:
    box = [document]
    for _ in range(chosen.randint(1, CHANGES_MAX)):
        places = list(_places(box))
        holder, key = chosen.choice(places)
        chosen.choice(_WAYS)(holder, key, places, chosen)
        box = box or [document]
    return _summed(box[0]) if chosen.random() < 0.5 else box[0]


def _places(holder: Any) -> Any:
    """(list or mapping, key) of every value."""
    for key, value in list(enumerate(holder) if isinstance(holder, list) else holder.items()):
        yield holder, key
        if isinstance(value, (list, dict)):
            yield from _places(value)


def _replace(holder: Any, key: Any, places: list[Any], chosen: random.Random) -> None:
    holder[key] = copy.deepcopy(chosen.choice(ODD))


def _nudge(holder: Any, key: Any, places: list[Any], chosen: random.Random) -> None:
    value = holder[key]
    if isinstance(value, (int, float)):
        holder[key] = value + chosen.choice([-1, 1, value, chosen.randrange(10_000)])
    elif isinstance(value, str):
        at = chosen.randint(0, len(value))
        holder[key] = (
            value[:at] + chosen.choice(["", "0", "-", " ", "é", ":", "*"]) + value[at + chosen.randint(0, 1) :]
        )


def _copy(holder: Any, key: Any, places: list[Any], chosen: random.Random) -> None:
    other, other_key = chosen.choice(places)
    holder[key] = copy.deepcopy(other[other_key])


def _take_away(holder: Any, key: Any, places: list[Any], chosen: random.Random) -> None:
    del holder[key]


def _double(holder: Any, key: Any, places: list[Any], chosen: random.Random) -> None:
    if isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    else:
        holder[f"{key}_"] = copy.deepcopy(holder[key])


_WAYS: tuple[Callable[[Any, Any, list[Any], random.Random], None], ...] = (_replace, _nudge, _copy, _take_away, _double)


def _summed(document: Any) -> Any:
    """The states of a shipment's GPUs made to sum again, so that what comes after that check is reached."""
    try:
        for batch in document["batches"]:
            for gpu in batch["gpus"]:
                others = sum(gpu.get(state, 0) for state in ("active_ms", "unallocated_ms", "unknown_ms"))
                gpu["idle_ms"] = batch["end_ms"] - batch["start_ms"] - others
                gpu["unknown_reason_ms"] = {"agent_down": gpu.get("unknown_ms", 0)}
    except (TypeError, KeyError, AttributeError, IndexError):
        pass
    return document
