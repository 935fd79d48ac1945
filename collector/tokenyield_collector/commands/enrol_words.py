"""What `tokenyield-collector enrol` takes: words of the form key=value, and what they may be."""

import re

from tokenyield_wire.units import NS_PER_MS

REPLACE_AFTER_S_MAX = 366 * 86_400
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Unusable(Exception):
    """A parameter that cannot be used; in words."""


def pairs_of(texts: list[str], known: tuple[str, ...]) -> dict[str, str]:
    from tokenyield_settings.loader import nearest

    pairs: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not value or value != "".join(value.split()) or not value.isprintable():
            raise Unusable(f"expected key=value without spaces, found '{text}'")
        if key not in known:
            raise Unusable(f"unknown key '{key}'{nearest(key, known)}")
        if key in pairs:
            raise Unusable(f"{key}: expected it once, found it twice; leave out one")
        pairs[key] = value
    return pairs


def node_of(pairs: dict[str, str]) -> tuple[str, str]:
    from tokenyield_collector.access.enrolment_rules import NAME

    for key in ("cluster", "node"):
        if not NAME.fullmatch(pairs.get(key, "")):
            raise Unusable(
                f"{key}: expected the name as `enrol list` shows it, found '{pairs.get(key, '')}'; add {key}=…"
            )
    return pairs["cluster"], pairs["node"]


def whole_of(key: str, text: str, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= most:
        raise Unusable(f"{key}: expected a number from 1 to {most}, found '{text}'")
    return int(text)


def seconds_of(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    seconds = int(match[1]) * _UNITS_S[match[2]] if match else 0
    if not 1 <= seconds <= REPLACE_AFTER_S_MAX:
        raise Unusable(f"replace_after: expected a time as 90s, 30m, 24h or 7d, found '{text}'")
    return seconds


def day_of(at_ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def now_ms() -> int:
    import time

    return time.time_ns() // NS_PER_MS
