"""The dialects there are, and telling which one a log is in.

Adding one is one file beside this, one line in `SERVERS` or `GATEWAYS`, and one recorded log under tests/fixtures.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from tokenyield_agent.tokens.dialects import llamacpp, lmdeploy, nim, sglang, tgi, trtllm, vllm
from tokenyield_agent.tokens.dialects.envoy import EnvoyAiGateway
from tokenyield_agent.tokens.dialects.litellm import LiteLlm
from tokenyield_agent.tokens.dialects.ollama import Ollama
from tokenyield_agent.tokens.dialects.openai_usage import OpenAiUsage
from tokenyield_agent.tokens.dialects.pattern import Pattern, PatternSettings
from tokenyield_agent.tokens.endpoint import CounterNames, is_known
from tokenyield_agent.tokens.event import Counted, Dialect

SERVERS: dict[str, type[Dialect]] = {
    "ollama": Ollama,  # before llamacpp, whose lines stand in Ollama's log
    "vllm": vllm.Vllm,
    "sglang": sglang.SgLang,
    "tgi": tgi.Tgi,
    "trtllm": trtllm.TrtLlm,
    "lmdeploy": lmdeploy.LmDeploy,
    "llamacpp": llamacpp.LlamaCpp,
}
GATEWAYS: dict[str, type[Dialect]] = {
    "litellm": LiteLlm,  # before openai-usage, whose object may stand in LiteLLM's payload
    "envoy-ai-gateway": EnvoyAiGateway,
    "openai-usage": OpenAiUsage,
}
ENDPOINTS: tuple[CounterNames, ...] = (
    vllm.COUNTERS,
    sglang.COUNTERS,
    llamacpp.COUNTERS,
    tgi.COUNTERS,
    trtllm.COUNTERS,
    trtllm.TRITON_COUNTERS,
    lmdeploy.COUNTERS,
    nim.DYNAMO_COUNTERS,
    nim.NIM_COUNTERS,  # last: its names have no prefix
)
"""Servers with a Prometheus endpoint. Where an exposition fits several (Dynamo passes its engine's on), the first."""


class UnknownDialect(ValueError):
    """No dialect has that name."""


def names() -> list[str]:
    return [*SERVERS, *GATEWAYS]


def new_dialect(
    name: str,
    *,
    patterns: Iterable[PatternSettings] = (),
    fields: Mapping[str, str] | None = None,
    among: Mapping[str, type[Dialect]] | None = None,
) -> Dialect:
    """The dialect called `name`; `auto` tells by the log, `among` some or all. `fields` are for gateways, which read
    who asked from them. Raises `UnknownDialect`."""
    if name == "auto":
        return AutoDialect(among or {**SERVERS, **GATEWAYS}, fields)
    for pattern in patterns:
        if pattern.name == name:
            return Pattern(pattern)
    kind = SERVERS.get(name) or GATEWAYS.get(name)
    if kind is None:
        known = ["auto", *names(), *(pattern.name for pattern in patterns)]
        raise UnknownDialect(f"no dialect '{name}'; known are {', '.join(known)}")
    return _make(kind, fields)


def endpoint_of(body: bytes) -> CounterNames | None:
    """Whose exposition this is; None for no server that we know."""
    return next((names for names in ENDPOINTS if is_known(body, names)), None)


def _make(kind: type[Dialect], fields: Mapping[str, str] | None) -> Dialect:
    return kind(fields) if fields and kind in (EnvoyAiGateway, OpenAiUsage) else kind()


class AutoDialect:
    """Feeds every dialect until one recognises a statistics line, then is that one.

    A dialect gives no counts before it recognises a line, so nothing is counted in the wrong format. Where two
    recognise a line in the same block, the one that stands first in the registry is taken.
    """

    name: ClassVar[str] = "auto"

    def __init__(self, among: Mapping[str, type[Dialect]], fields: Mapping[str, str] | None = None) -> None:
        self._open: dict[str, Dialect] = {name: _make(kind, fields) for name, kind in among.items()}
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
        self.chosen = next((dialect for dialect in self._open.values() if dialect.recognised), None)
        return found[self.chosen.name] if self.chosen is not None else []

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
        if state["chosen"] in self._open:
            self.chosen = self._open[state["chosen"]]
            self.chosen.restore(state["state"])
            return
        for name, inner in state.get("open", {}).items():
            if name in self._open:
                self._open[name].restore(inner)
