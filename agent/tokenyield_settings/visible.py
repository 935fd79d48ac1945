"""Text that others chose, as terminals, logs and labels of metrics show it: nothing in it acts. Pure.

What cannot be printed (control characters, ends of lines, marks of direction, characters without a width) is written as
an escape, `\\x1b` or `\\u202e`. A backslash that would then be read as one is doubled, so two names never become one.
"""

import re

_READS_LIKE_ESCAPE = re.compile(r"\\(?:[\\nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")


def visible(text: str) -> str:
    """`text` in one line of printable characters. Injective; the same text where there is nothing to escape."""
    if text.isprintable() and ("\\" not in text or not _READS_LIKE_ESCAPE.search(text)):
        return text
    return "".join(
        one if one.isprintable() and one != "\\" else one.encode("unicode_escape").decode("ascii") for one in text
    )
