"""Names that are longer than their field. Pure."""

from hashlib import sha256

_DIGEST_CHARS = 12


def bounded(text: str, chars_max: int) -> str:
    """At most `chars_max` characters. A longer text ends in a digest of all of it: two with one beginning stay two."""
    if len(text) <= chars_max:
        return text
    digest = sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:_DIGEST_CHARS]
    return f"{text[: chars_max - 1 - _DIGEST_CHARS]}~{digest}"
