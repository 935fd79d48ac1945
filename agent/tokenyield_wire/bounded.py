"""Names from outside, made to fit: as long as their field takes, of characters that can be shipped. Pure.

A name that is changed ends in a digest of all of it, behind a head that can still be read: two names stay two.
"""

import unicodedata

_DIGEST_CHARS = 12
_ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's categories of control characters, marks that nobody sees, halves of pairs, and ends of lines."""


def bounded(text: str, chars_max: int) -> str:
    """At most `chars_max` characters, all of which can be written in UTF-8."""
    if len(text) <= chars_max and (text.isascii() or _can_be_encoded(text)):
        return text
    return _with_digest(text.encode("utf-8", "replace").decode(), text, chars_max)


def fitting_name(text: str, chars_max: int) -> str:
    """`bounded`, and without control characters: for what tenants call their models and processes, as it comes in."""
    if len(text) <= chars_max and text.isprintable():
        return text
    head = "".join(one for one in text if unicodedata.category(one) not in _ACTING)
    return bounded(text, chars_max) if head == text else _with_digest(head, text, chars_max)


def _with_digest(head: str, whole: str, chars_max: int) -> str:
    from hashlib import sha256  # it brings OpenSSL, and few names need it

    digest = sha256(whole.encode("utf-8", "backslashreplace")).hexdigest()[:_DIGEST_CHARS]
    return f"{head[: chars_max - 1 - _DIGEST_CHARS]}~{digest}"


def _can_be_encoded(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
