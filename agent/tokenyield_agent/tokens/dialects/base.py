"""What one file of this package exports: a `Server` or a `Gateway`, and what their log dialects share. Pure.

A new server is one file with `SERVER = Server(...)`, a new gateway one with `GATEWAY = Gateway(...)`, and a folder of
recordings in tests/fixtures/. The registry, the discovery of processes, `doctor` and docs/dialects.md read the rest
from here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tokenyield_agent.tokens.endpoint import CounterNames
from tokenyield_agent.tokens.event import Dialect, TokenCounts
from tokenyield_wire.window import TOKEN_KINDS

Exactness = Literal["exact", "lower bound", "rate"]
"""How well a path counts a kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathReport:
    """What one path to a server's tokens, its counters or its log, reports and what it cannot report."""

    exact: tuple[str, ...] = ()
    """Kinds that are counted: per request, per batch or as a total. Of counters: left out, their names show it."""
    lower_bound: tuple[str, ...] = ()
    """Kinds that are counted but may miss some, as what aborted requests made: what is counted is there, never more."""
    rates: tuple[str, ...] = ()
    """Kinds that are a rate times its interval."""
    has_load: bool = False
    """Also requests running and waiting and the part of the KV cache in use. Of counters: left out."""
    since: Mapping[str, str] = field(default_factory=dict)
    """Kind -> the first version that reports it, where older ones do not."""
    turned_on_by: str = ""
    """The option or setting that turns it on; empty: it is on by default."""
    caveat: str = ""
    """What a reader of its figures has to know, as a clause in the table of docs/dialects.md."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """All that it reports; empty for counters, whose names show it."""
        return (*self.exact, *self.lower_bound, *self.rates)

    def exactness(self, kind: str) -> Exactness | None:
        """How well it counts `kind`; None where it does not report it."""
        if kind in self.exact:
            return "exact"
        if kind in self.lower_bound:
            return "lower bound"
        return "rate" if kind in self.rates else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessNames:
    """How the process that executes a server is recognized: by what it runs, never by words in its arguments."""

    programs: tuple[str, ...] = ()
    """Names of its program or script, or ends of their paths; with the command that must follow: `vllm serve`."""
    modules: tuple[str, ...] = ()
    """Python modules run with `-m` or as a file, and those below them; with the command that must follow."""
    titles: tuple[str, ...] = ()
    """How the titles begin that its processes give themselves."""
    folders: tuple[str, ...] = ()
    """Folders, with a slash at the end, of which every program and script is the server's."""
    model_flags: tuple[str, ...] = ()
    """Flags before the file of its one model, where its counters do not name the model."""

    @property
    def all(self) -> frozenset[str]:
        return frozenset((*self.programs, *self.modules, *self.titles, *self.folders))


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One inference server. Where a line, a page or a command fits several, `before` and `last` say which is taken."""

    name: str
    """What users write as `dialect` and see as the server."""
    title: str
    """Its full name with the versions that are read, for people."""
    process: ProcessNames | None = None
    """How its process is recognized; None where it cannot be."""
    port: int | None = None
    """Where its counters are when the command line names no port; None: it has none to ask for."""
    counters: CounterNames | None = None
    counters_report: PathReport | None = None
    log: type[Dialect] | None = None
    log_report: PathReport | None = None
    engines: tuple[str, ...] = ()
    """Servers that run inside it, whose log and counters are its own."""
    advice: str = ""
    """What to change for exact counts: `doctor` shows it where the counters do not answer."""
    log_advice: str = ""
    """What to change when its log holds no statistics."""
    log_warnings: Mapping[str, str] = field(default_factory=dict)
    """Words of a line in its log that say why it holds none -> for people: what that means and what to change."""
    before: tuple[str, ...] = ()
    """Servers that it is preferred to."""
    last: bool = False
    """All others are preferred to it: what it is recognized by is general."""

    def log_warning_in(self, *texts: bytes) -> str:
        """Why its log holds no statistics, where these parts of it say so; empty where they do not."""
        warnings = self.log_warnings.items()
        return next((reason for words, reason in warnings if any(words.encode() in text for text in texts)), "")

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds that any path reports."""
        log = self.log_report
        from_log = () if log is None else log.kinds
        return frozenset(from_log + (() if self.counters is None else self.counters.kinds))

    @property
    def reports_tokens(self) -> bool:
        return bool(self.engines) or not self.kinds.isdisjoint(TOKEN_KINDS)

    @property
    def no_tokens(self) -> str:
        """For people: that it reports no tokens, and what to do; empty where it does report them."""
        return "" if self.reports_tokens else f"{self.title} reports no tokens, so they are unknown: {self.advice}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """One gateway: its log shows who called. Its tokens are demand, made by servers behind it."""

    name: str
    title: str
    log: type[Dialect]
    reports: str
    """For people: what its log shows of the caller, as a clause in the table of docs/dialects.md."""
    takes_fields: bool = False
    """Its dialect is made with `fields`: label of the caller -> field of the line."""
    before: tuple[str, ...] = ()
    last: bool = False


class LogDialect:
    """A dialect that remembers nothing else and holds nothing back. A subclass names itself and feeds."""

    def __init__(self) -> None:
        self.model: str | None = None
        self.recognised = 0

    def finish(self) -> list[TokenCounts]:
        return []

    def forget_counts(self) -> None:
        pass

    def state(self) -> dict[str, Any]:
        return {"model": self.model, "recognised": self.recognised}

    def restore(self, state: dict[str, Any]) -> None:
        self.model = state["model"]
        self.recognised = state["recognised"]
