"""The servers and gateways there are, found by listing this package, and which of them a log or page is of.

Nothing is listed here: every file of the package that exports `SERVER` or `GATEWAY` is one.
"""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Protocol, TypeVar

from tokenyield_agent.tokens import dialects
from tokenyield_agent.tokens.dialects.base import Gateway, Server
from tokenyield_agent.tokens.dialects.json_lines import JsonLines
from tokenyield_agent.tokens.dialects.pattern import PatternDialect, PatternSettings
from tokenyield_agent.tokens.endpoint import CounterNames, is_known, is_recognized
from tokenyield_agent.tokens.event import Dialect, TokenCounts
from tokenyield_agent.tokens.exposition import names_on
from tokenyield_agent.tokens.parsing.request_class import RequestClasses


class UnknownDialect(ValueError):
    """No dialect has that name."""


class _Ranked(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def before(self) -> tuple[str, ...]: ...
    @property
    def last(self) -> bool: ...


_R = TypeVar("_R", bound=_Ranked)


def in_order(entries: Iterable[_R]) -> dict[str, _R]:
    """Name -> entry, in the order in which they are tried: by name, but as `before` and `last` demand. Raises
    ValueError for a name that is used twice, an unknown name in `before`, and a circle."""
    waiting = sorted(entries, key=lambda entry: (entry.last, entry.name))
    names = [entry.name for entry in waiting]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"dialects: expected one '{name}', found {names.count(name)}; rename the other")
    for entry in waiting:
        if unknown := set(entry.before) - set(names):
            raise ValueError(f"{entry.name}.before: expected known names, found {', '.join(sorted(unknown))}")
    ordered: dict[str, _R] = {}
    while waiting:
        free = [entry for entry in waiting if not any(entry.name in other.before for other in waiting)]
        if not free:
            raise ValueError(f"before: expected an order, found a circle of {', '.join(e.name for e in waiting)}")
        ordered[free[0].name] = free[0]
        waiting.remove(free[0])
    return ordered


def with_own_processes(servers: Mapping[str, Server]) -> Mapping[str, Server]:
    """The same servers. Raises ValueError where two of them are recognized by the same program, module or title."""
    owner: dict[str, str] = {}
    for server in servers.values():
        for name in sorted(server.process.all) if server.process is not None else ():
            if name in owner:
                raise ValueError(
                    f"{server.name}.process: expected names of its own, found '{name}' of {owner[name]} too; remove one"
                )
            owner[name] = server.name
    return servers


def _exported(export: str) -> Iterator[Any]:
    for module in pkgutil.iter_modules(dialects.__path__, f"{dialects.__name__}."):
        if module.name != __name__ and (entry := getattr(importlib.import_module(module.name), export, None)):
            yield entry


SERVERS: Mapping[str, Server] = with_own_processes(in_order(_exported("SERVER")))
GATEWAYS: Mapping[str, Gateway] = in_order(_exported("GATEWAY"))


def without_tokens(servers: Mapping[str, Server]) -> frozenset[str]:
    """Those of which no path reports tokens."""
    return frozenset(name for name, server in servers.items() if not server.reports_tokens)


WITHOUT_TOKENS = without_tokens(SERVERS)
SERVER_DIALECTS: Mapping[str, type[Dialect]] = {s.name: s.log for s in SERVERS.values() if s.log is not None}
GATEWAY_DIALECTS: Mapping[str, type[Dialect]] = {gateway.name: gateway.log for gateway in GATEWAYS.values()}
COUNTERS: Mapping[str, CounterNames] = dict(
    sorted(
        ((server.name, server.counters) for server in SERVERS.values() if server.counters is not None),
        key=lambda named: named[1].fallback,
    )
)
"""Server -> the names of its counters, in the order in which a page is compared with them."""


def names() -> list[str]:
    return [*SERVER_DIALECTS, *GATEWAY_DIALECTS]


def new_dialect(
    name: str,
    *,
    patterns: Iterable[PatternSettings] = (),
    fields: Mapping[str, str] | None = None,
    among: Mapping[str, type[Dialect]] | None = None,
    classes: RequestClasses | None = None,
) -> Dialect:
    """The dialect called `name`; `auto` finds it by the log, `among` some or all. `fields` are for gateways, which read
    the caller from them; `classes` is how they class requests. Raises `UnknownDialect`."""
    known = {**SERVER_DIALECTS, **GATEWAY_DIALECTS}
    if name == "auto":
        return AutoDialect(among or known, fields, classes)
    own = {pattern.name: pattern for pattern in patterns}
    if name in own:
        return PatternDialect(own[name])
    if name not in known:
        raise UnknownDialect(f"expected one of {', '.join(['auto', *known, *own])}; found '{name}'")
    return _make(name, known[name], fields, classes)


def reports_tokens(dialect: str) -> bool:
    """Whether logs of this dialect can hold token counts; those of the operator's own dialects can."""
    return dialect not in WITHOUT_TOKENS


def log_advice() -> str:
    """What to change when a log holds no statistics, server by server."""
    return "; ".join(f"{server.name}: {server.log_advice}" for server in SERVERS.values() if server.log_advice)


def why_silent(sample: bytes) -> str:
    """Why a log holds no statistics, where it shows that itself, and what to do; empty where it does not."""
    reasons = ((server.title, server.log_warning_in(sample)) for server in SERVERS.values())
    return next((f"{title} prints no statistics: {reason}" for title, reason in reasons if reason), "")


def counters_of_page(body: bytes) -> CounterNames | None:
    """Whose Prometheus page this is: by its counters, else by the names that only this server uses. None for no server
    that is known."""
    on_page = names_on(body)
    known = (names for names in COUNTERS.values() if is_known(on_page, body, names))
    recognized = (names for names in COUNTERS.values() if is_recognized(on_page, names))
    return next(known, None) or next(recognized, None)


def _make(name: str, kind: type[Dialect], fields: Mapping[str, str] | None, classes: RequestClasses | None) -> Dialect:
    takes_fields = name in GATEWAYS and GATEWAYS[name].takes_fields
    dialect: Dialect = kind(fields) if fields and takes_fields else kind()  # type: ignore[call-arg]
    if classes is not None and isinstance(dialect, JsonLines):
        dialect.classes = classes
    return dialect


class AutoDialect:
    """Feeds every dialect until one recognises a statistics line, then is that one.

    A dialect gives no counts before it recognises a line, so nothing is counted in the wrong format. Where two
    recognise a line in the same block, the first in the registry is taken.
    """

    name: ClassVar[str] = "auto"

    def __init__(
        self,
        among: Mapping[str, type[Dialect]],
        fields: Mapping[str, str] | None = None,
        classes: RequestClasses | None = None,
    ) -> None:
        self._open: dict[str, Dialect] = {name: _make(name, kind, fields, classes) for name, kind in among.items()}
        self.chosen: Dialect | None = None

    @property
    def model(self) -> str | None:
        return self.chosen.model if self.chosen else None

    @property
    def recognised(self) -> int:
        return self.chosen.recognised if self.chosen else 0

    def feed(self, block: bytes | bytearray, arrival_s: float) -> list[TokenCounts]:
        if self.chosen is not None:
            return self.chosen.feed(block, arrival_s)
        events = {name: dialect.feed(block, arrival_s) for name, dialect in self._open.items()}
        self.chosen = next((dialect for dialect in self._open.values() if dialect.recognised), None)
        return events[self.chosen.name] if self.chosen is not None else []

    def finish(self) -> list[TokenCounts]:
        return self.chosen.finish() if self.chosen else []

    def forget_counts(self) -> None:
        for dialect in [self.chosen] if self.chosen is not None else self._open.values():
            dialect.forget_counts()

    def state(self) -> dict[str, Any]:
        if self.chosen is not None:
            return {"chosen": self.chosen.name, "state": self.chosen.state()}
        return {"chosen": None, "open": {name: dialect.state() for name, dialect in self._open.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        if state["chosen"] in self._open:
            self.chosen = self._open[state["chosen"]]
            self.chosen.restore(state["state"])
            return
        for name, inner in state.get("open", {}).items():
            if name in self._open:
                self._open[name].restore(inner)
