"""What differs between two JSON documents (price books, rules), a line each. Pure.

Entries of a list are known by what they are about, not by their number, so that one that is put before others changes
nothing of them: by `name`, else by the day from which they hold, else by what they match.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

SHOWN_CHARS_MAX = 60
_NOTHING = "(nothing)"


def differences(before: str, after: str) -> list[str]:
    """'pools.h100.owned.gpu: 30000 -> 32000'; in the order of their places."""
    return sorted(_differences("", json.loads(before or "{}"), json.loads(after or "{}")))


def _differences(path: str, old: Any, new: Any) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old.keys() | new.keys():
            yield from _of_entry(f"{path}.{name}" if path else str(name), old, new, name)
    elif _has_entries(old) and _has_entries(new):
        known, now = _named(old), _named(new)
        for name in known.keys() | now.keys():
            yield from _of_entry(f"{path}.{name}", known, now, name)
        order, order_now = [name for name in known if name in now], [name for name in now if name in known]
        if order != order_now:
            yield f"{path}: order {_shown(order)} -> {_shown(order_now)}"
    else:
        yield f"{path}: {_shown(old)} -> {_shown(new)}"


def _of_entry(path: str, old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> Iterator[str]:
    if name not in new:
        yield f"{path}: {_shown(old[name])} -> {_NOTHING}"
    elif name not in old:
        yield f"{path}: {_NOTHING} -> {_shown(new[name])}"
    else:
        yield from _differences(path, old[name], new[name])


def _has_entries(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


def _named(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Identity -> entry; several with the same one are numbered."""
    seen: Counter[str] = Counter()
    named = {}
    for entry in entries:
        name = _identity(entry)
        seen[name] += 1
        named[name if seen[name] == 1 else f"{name} ({seen[name]})"] = entry
    return named


def _identity(entry: dict[str, Any]) -> str:
    if isinstance(entry.get("name"), str) and entry["name"]:
        return str(entry["name"])
    if "match" in entry:
        about = _without_nothing(entry["match"])
        return f"[{_compact(about)}]" if about else "[everything]"
    if "from" in entry:
        return f"[from {entry['from']}]"
    models = {name: entry[name] for name in ("model", "gpu", "gpus") if entry.get(name) is not None}
    return f"[{_compact(models)}]" if models else "[first]"


def _without_nothing(match: Any) -> Any:
    if isinstance(match, dict):
        return {name: value for name, value in match.items() if value not in (None, {}, [])}
    return match


def _compact(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(", ", "="), ensure_ascii=False)
    return text.replace('"', "").replace("{", "").replace("}", "")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARS_MAX else text[: SHOWN_CHARS_MAX - 1] + "…"
