"""What a route requires of a request."""

from enum import StrEnum


class Right(StrEnum):
    """`READ`, `WRITE` and `OUTCOMES` are also what a line of the token file grants."""

    OPEN = "open"
    """Nothing: for probes."""
    PAGE = "page"
    """A password where the web config has some, for browsers ask for it; else nothing."""
    READ = "read"
    WRITE = "write"
    OUTCOMES = "outcomes"
    """To report outcomes: no right of an agent."""
