"""What stands before a server's own words in a line, and whose line that makes it. Pure.

A log goes through many hands: docker compose (`llm-1  | `), `docker logs -t`, syslog and journalctl (`Nov 23 12:00:00
host llama[77]: `), `kubectl logs --prefix` (`[pod/llm-0/server] `), llama.cpp's router (`[40001] `), a formatter of the
operator's. So a dialect finds a line by its words and lets anything stand before them but quotation marks, which begin
what a user wrote. What of it names a sender distinguishes the lines of two servers in one log that count alike.
"""

import re

try:
    from _blake2 import blake2b  # hashlib would bring OpenSSL, which is 4 MiB
except ImportError:
    from hashlib import blake2b

BEFORE = rb"^(?P<before>[^'\"]{0,500}?)"
"""Whatever stands before a line's own words, taken as little as possible."""
DIGEST_BYTES = 6

_NOT_A_SENDER = re.compile(
    rb"[\d.:,+/|*>-]*|[A-Z]|\["  # numbers, times, bars, a level's letter
    rb"|\[[\d.,]*[:.][\d:.,]*\]?|[\d:.,+-]+\]"
    rb"|\[?\d{4}-\d\d-\d\dT[\d:.,]+(?:Z|[+-]\d\d:?\d\d)?\]?:?"
    rb"|\[\d{4}-\d\d-\d\d"
    rb"|(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec|Mon|Tue|Wed|Thu|Fri|Sat|Sun),?"
    rb"|\[?(?:DEBUG|INFO|WARN|WARNING|ERROR|TRACE)\]?:?|stdout|stderr"
)


_ONLY_TIMES = re.compile(rb"[\d.:,TZ -]*(?:[A-Z] )?")


def sender_of(before: bytes) -> str:
    """A short name of who wrote a line, of what stands before its words: the same for all lines of one sender, whatever
    their times. Empty where nothing names one. It is a digest, because what is kept must not hold a user's text."""
    if _ONLY_TIMES.fullmatch(before):  # as nearly always
        return ""
    words = [word for word in before.split() if not _NOT_A_SENDER.fullmatch(word)]
    return digest(b" ".join(words)) if words else ""


def raw_digest(text: bytes) -> bytes:
    """What of `text` may be kept to know it again."""
    return blake2b(text, digest_size=DIGEST_BYTES).digest()


def digest(text: bytes) -> str:
    """The same as text."""
    return raw_digest(text).hex()
