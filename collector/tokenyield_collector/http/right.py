"""What a route requires of a request, and what it answers to a token that is limited to teams."""

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


class TeamAnswer(StrEnum):
    """What a route answers to a token that reads what some teams carry alone (`teams=` of the token file)."""

    OWN = "own"
    """Figures of what these teams carry, exactly, and none of others."""
    NO_FIGURES = "no figures"
    """The same as to everybody: it has no figures and no names of anybody."""
    REFUSED = "refused"
    """Nothing: it is of the whole fleet, and what the teams have in it is not known exactly."""
