"""JSON that the standard decoder refuses for a field that does not matter."""

from typing import Any

import msgspec
import pytest

from tokenyield_agent.tokens.parsing.loose_json import LooseDecoder


class _Line(msgspec.Struct):
    count: int
    name: Any = None


@pytest.mark.parametrize(
    "name", [b"NaN", b"-Infinity", b'"\\ud83d"', b'"Andr\xe9"', b"1e999", b"9" * 5000, b'"plain"', b'{"a":[1]}']
)
def test_a_line_is_read_for_what_matters(name: bytes) -> None:
    text = b'{"count":15,"name":%b}' % name
    assert LooseDecoder(_Line).decode(text).count == 15
    assert LooseDecoder().decode(text)["count"] == 15


@pytest.mark.parametrize("text", [b"", b"{", b"{}", b"[]", b'{"count":"NaN"}', b"NaN", b"[" * 100_000, b'{"count":NaN'])
def test_what_is_no_such_document_is_none(text: bytes) -> None:
    assert LooseDecoder(_Line).decode(text) is None
