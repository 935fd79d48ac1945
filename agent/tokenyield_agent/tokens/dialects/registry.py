"""The dialects there are, and telling which one a log is in.

Adding one is one file beside this, one line in `DIALECTS`, and one recorded log under tests/fixtures.
"""

from typing import Any, ClassVar

from tokenyield_agent.tokens.dialects.llamacpp import LlamaCpp
from tokenyield_agent.tokens.dialects.vllm import Vllm
from tokenyield_agent.tokens.event import Counted, Dialect

DIALECTS: dict[str, type[Dialect]] = {"vllm": Vllm, "llamacpp": LlamaCpp}


class UnknownDialect(ValueError):
    """No dialect has that name."""


def new_dialect(name: str) -> Dialect:
    """The dialect called `name`, or `auto`. Raises `UnknownDialect`."""
    if name == "auto":
        return AutoDialect()
    if name not in DIALECTS:
        raise UnknownDialect(f"no dialect '{name}'; known are auto, {', '.join(sorted(DIALECTS))}")
    return DIALECTS[name]()


class AutoDialect:
    """Feeds every dialect until one recognises a statistics line, then is that one.

    A dialect gives no counts before it recognises a line, so nothing is counted in the wrong format.
    """

    name: ClassVar[str] = "auto"

    def __init__(self) -> None:
        self._open: dict[str, Dialect] = {name: kind() for name, kind in DIALECTS.items()}
        self.chosen: Dialect | None = None

    @property
    def model(self) -> str | None:
        return self.chosen.model if self.chosen else None

    @property
    def recognised(self) -> int:
        return self.chosen.recognised if self.chosen else 0

    def feed(self, block: bytes | bytearray, arrival_s: float) -> list[Counted]:
        if self.chosen is not None:
            return self.chosen.feed(block, arrival_s)
        found = {name: dialect.feed(block, arrival_s) for name, dialect in self._open.items()}
        best = max(self._open.values(), key=lambda dialect: dialect.recognised)
        if not best.recognised:
            return []
        self.chosen = best
        return found[best.name]

    def finish(self) -> list[Counted]:
        return self.chosen.finish() if self.chosen else []

    def forget_counts(self) -> None:
        for dialect in [self.chosen] if self.chosen is not None else self._open.values():
            dialect.forget_counts()

    def state(self) -> dict[str, Any]:
        if self.chosen is not None:
            return {"chosen": self.chosen.name, "state": self.chosen.state()}
        return {"chosen": None, "open": {name: dialect.state() for name, dialect in self._open.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        if state["chosen"] in DIALECTS:
            self.chosen = DIALECTS[state["chosen"]]()
            self.chosen.restore(state["state"])
            return
        for name, inner in state.get("open", {}).items():
            if name in self._open:
                self._open[name].restore(inner)
