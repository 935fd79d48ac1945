"""CSV, FOCUS files included: what spreadsheets open without computing anything, a line of text for each row. Pure."""

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache

from tokenyield_settings.visible import visible

NAMES_IN_CSV = (
    "Text that begins with = + - @ (also full-width, also after spaces) or with an apostrophe has one more apostrophe "
    "before it; characters that cannot be printed are escapes, as \\x1b, \\n or \\u202e, and a backslash that would "
    "read as one is doubled. Names that read like a marker, as (dark) or unattributed, are in quotes. No two names "
    "become one. JSON and Parquet carry names without apostrophes and escapes."
)
"""For the metadata of exports."""
_ACTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'")
_IN_QUOTES = frozenset(',";|')
"""Also what other locales and tools divide fields by."""


class JsonField(str):
    """A JSON object in ASCII: it begins with a brace and holds no control character, so it stays as it is."""


class PlainNumber(str):
    """A number that is written out already: it may begin with a minus."""


def json_field(document: Mapping[str, object]) -> JsonField:
    return JsonField(json.dumps(document, sort_keys=True))


def csv_line(values: Iterable[object]) -> str:
    """One row with its end. Numbers are as Python writes them, decimals without exponents; None is empty."""
    return ",".join(_field(value) for value in values) + "\n"


def csv_text(text: str) -> str:
    """A text as a field holds it, before it is quoted. Injective."""
    plain = visible(text)
    return f"'{plain}" if plain.lstrip(" ").startswith(_ACTS) else plain


def _field(value: object) -> str:
    if not isinstance(value, str):
        return "" if value is None else f"{value:f}" if isinstance(value, Decimal) else str(value)
    return _text_field(value)


@lru_cache(1 << 14, typed=True)  # a FOCUS file has a few thousand texts in millions of fields
def _text_field(value: str) -> str:
    text = value if isinstance(value, JsonField | PlainNumber) else csv_text(value)
    return '"' + text.replace('"', '""') + '"' if not _IN_QUOTES.isdisjoint(text) else text
