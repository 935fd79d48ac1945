"""What a route requires of a request."""

from enum import StrEnum


class Right(StrEnum):
    """All but `OPEN` and `PAGE` are also what a line of the token file grants."""

    OPEN = "open"
    """Nothing: for probes."""
    PAGE = "page"
    """A password where the web config has some, for browsers ask for it; else nothing."""
    READ = "read"
    WRITE = "write"
    GATEWAY = "gateway"
    """With `WRITE`: to report who asked a gateway, which moves cost between teams."""
    OUTCOMES = "outcomes"
    """To report outcomes: no right of an agent."""
