"""What a route requires of a request."""

from enum import StrEnum


class Right(StrEnum):
    """All but `OPEN`, `ENROL` and `PAGE` are also what a line of the token file grants."""

    OPEN = "open"
    """Nothing: for probes."""
    ENROL = "enrol"
    """A proof of which node it is, which the handler judges: what is no line of the token file."""
    PAGE = "page"
    """A password where the web config has some, for browsers ask for it; else nothing."""
    READ = "read"
    WRITE = "write"
    GATEWAY = "gateway"
    """With `WRITE`: to report who asked a gateway, which moves cost between teams."""
    OUTCOMES = "outcomes"
    """To report outcomes: no right of an agent."""
    SPEND = "spend"
    """To report what is bought: no right of an agent."""
    OTLP = "otlp"
    """To send OpenTelemetry: of coding agents and applications, and no right of an agent of a host."""
