"""What the servers' dialects share: the model, how many statistics were read, and a state of these two. Pure."""

from typing import Any

from tokenyield_agent.tokens.event import Counted


class LogDialect:
    """A dialect that remembers nothing else and holds nothing back. A subclass names itself and feeds."""

    def __init__(self) -> None:
        self.model: str | None = None
        self.recognised = 0

    def finish(self) -> list[Counted]:
        return []

    def forget_counts(self) -> None:
        pass

    def state(self) -> dict[str, Any]:
        return {"model": self.model, "recognised": self.recognised}

    def restore(self, state: dict[str, Any]) -> None:
        self.model = state["model"]
        self.recognised = state["recognised"]
