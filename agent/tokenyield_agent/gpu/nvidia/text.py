"""What NVML gives as a string, which need not be one.

In: a call of the binding that returns a name. Out: text that can be shown. A board's maker may have written anything
into its memory; what is not UTF-8, or not printable, becomes U+FFFD, and the GPU is read all the same.
"""

from collections.abc import Callable
from typing import Any

_UNREADABLE = "\ufffd"


def text_of(call: Callable[[Any], Any], handle: Any) -> str:
    """Raises NVMLError."""
    try:
        text = call(handle)
    except UnicodeDecodeError as error:
        text = error.object
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    return "".join(letter if letter.isprintable() else _UNREADABLE for letter in text).strip()
