"""JSON that may be shown on a terminal: the same document, in which what cannot be printed is an escape. Pure."""

import json
import re

_NOT_ASCII = re.compile(r"[^\n\x20-\x7e]")


def printable_json(document: bytes) -> bytes:
    """`document` is JSON; it may be indented."""
    if document.isascii() and b"\x7f" not in document:
        return document  # JSON escapes what is below a space itself
    return _NOT_ASCII.sub(_escape, document.decode()).encode()


def _escape(match: re.Match[str]) -> str:
    return match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1]
