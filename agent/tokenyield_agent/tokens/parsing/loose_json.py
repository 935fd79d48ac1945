"""JSON as programs really write it. Pure.

Python writes NaN and Infinity, which are no JSON; a name that a client chose may hold half of an emoji, bytes of
another encoding, a number of a thousand digits. A line is not lost for such a field: else a client could hide what it
used.
"""

import json
import re
from typing import Any

import msgspec

_LOOSE = re.compile(rb"NaN|Infinity|\\u[dD][89a-fA-F]|[0-9]{19}|[eE]\+?[0-9]{3}|[\x80-\xff]")
"""What the standard decoder refuses, in fields that may not matter."""
_DIGITS_MAX = 30


class LooseDecoder:
    """Decodes documents of one type; `None` is what is no such document."""

    def __init__(self, kind: Any = Any) -> None:
        self._kind = kind
        self._strict = msgspec.json.Decoder(kind)

    def decode(self, text: bytes) -> Any:
        try:
            return self._strict.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            if not _LOOSE.search(text):
                return None
        try:
            document = json.loads(text.decode("utf-8", "replace"), parse_int=_int)
            return msgspec.convert(document, self._kind)
        except (ValueError, RecursionError, OverflowError, msgspec.MsgspecError):
            return None


def _int(digits: str) -> int | float:
    return int(digits) if len(digits) <= _DIGITS_MAX else float("inf")
