"""Names that a tenant may choose to bend a report, a spreadsheet, a terminal or a query, and what reads them back."""

import re
import unicodedata

LONG = "long-" * 50
NAMES = (
    # markers, and what looks like one
    "(dark)", '"(dark)"', '""(dark)""', "(unallocated)", "(idle)", "(other)", "(untied)", "(price missing)",
    "(UNALLOCATED)", "(dark)\u200b", " (dark) ", "\uff08dark\uff09", "unattributed", "Unattributed", "unknown model",
    "sum", "-", "nobody",
    # rich's markup and emoji codes
    "[/]", "[bold]x[/bold]", "[link=http://x]y[/link]", "[red]", ":warning:", "\\[bold]",
    # spreadsheets
    "=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1:A9)", "=1+1", "'=1+1", "''", "\t=1+1", "  =1+1", "\uff1d1+1", "x;=1+1",
    '"=1+1', 'a","b', "a,b", "1e5", "|x", "%00",
    # terminals
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x1b]8;;http://x\x07y", "\x9b31m", "\x07", "\x08\x08", "\x7f", "\x00", "a\x00b",
    # lines and directions
    "a\nb", "a\rb", "a\r\nb", "a\\nb", "a\x0bb", "a\x0cb", "a\x85b", "a\u2028b", "a\u2029b", "\u202egnp.exe",
    "\u2066x\u2069", "\u200fx", "\ufeffx", "x\u00ad", "\x1f", " ", "  ", "\u3000", "x ", " x", "x",
    # markup and queries
    "<script>alert(1)</script>", "</td></tr>", "&amp;", "{{ 7*7 }}", "${x}", "%s", "{0}", "{labels.team}",
    'x"} or vector(1) #', "x\\", "x\\\\", "\\x1b", "\\\\x1b", "'; DROP TABLE hours; --", "`x`", "$(x)", "../../etc/passwd",
    "a/b", "a%2Fb", "*", "[a-z]", "?",
    # other scripts, and characters of several code units
    "\u05d0\u05d1\u05d2", "\u6771\u4eac", "\U0001f600", "e\u0301", "\u00e9", "\u0130", "\ufffd",
    # as long as a name may be, with the same beginning
    f"{LONG}a", f"{LONG}b",
)  # fmt: skip
assert len(set(NAMES)) == len(NAMES)
assert all(len(name) <= 253 for name in NAMES), "the longest name of a workload on the wire"

_ACTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n")
_NOBODY_SEES = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def acting(text: str, but: str = "\n") -> set[str]:
    """Characters that a terminal obeys, or that nobody sees."""
    return {one for one in text if one not in but and unicodedata.category(one) in _NOBODY_SEES}


def is_formula(text: str) -> bool:
    """Whether a spreadsheet computes it."""
    return text.lstrip(" ").startswith(_ACTS)


def as_written(text: str) -> str:
    """The text that `visible` has written: its escapes read back."""
    escape = re.compile(r"\\(\\|n|r|t|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
    return escape.sub(lambda found: _CHARACTERS.get(found[1]) or chr(int(found[1][1:], 16)), text)


_CHARACTERS = {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}
