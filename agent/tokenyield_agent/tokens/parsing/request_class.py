"""What class of request a gateway's line is about: its service tier, and how long its prompt is. Pure.

In: fields of a line, counts. Out: labels of the caller, `service_tier` and `context`, by which price books select a
tier. Both have few values whatever clients send: tiers that are not listed are `other`, and prompts are classed.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tokenyield_agent.tokens.parsing.usage import as_object, dig

REQUEST_LABELS = ("service_tier", "context")
SERVICE_TIERS = (
    "auto", "batch", "default", "flex", "free", "on_demand", "priority", "provisioned_throughput", "reserved", "scale",
    "standard",
)  # fmt: skip
"""Of OpenAI, Anthropic, Bedrock and Gemini, and `free`."""
OTHER_TIER = "other"
CONTEXT_EDGES = (32_000, 128_000, 200_000)
"""Tokens of a prompt up to which a class reaches."""
CLASSES_MAX = 16
"""Tiers that a setting may list, and edges."""
_PLACES = (
    "service_tier", "usage.service_tier", "serviceTier.type", "serviceTier", "openai.response.service_tier",
    "gen_ai.openai.response.service_tier", "usageMetadata.trafficType",
)  # fmt: skip
"""Where an answer, or a line about it, says how it was served."""
_PLACES_OF_REQUEST = (
    "model_parameters.service_tier", "openai.request.service_tier", "gen_ai.openai.request.service_tier",
)  # fmt: skip
"""Where a line says how the client wished it to be; read where no answer says more."""


def tier_in(*holders: Any) -> Any:
    """How the first of these objects that says so was served; None where none does."""
    objects = [document for holder in holders if (document := as_object(holder))]
    for places in (_PLACES, _PLACES_OF_REQUEST):
        for document in objects:
            for place in places:
                value = dig(document, place)
                if isinstance(value, str) and value not in ("", "-"):
                    return value
    return None


class RequestClasses(NamedTuple):
    """What is classed and how. Without `context_edges` the prompt's length is not."""

    service_tiers: frozenset[str] = frozenset(SERVICE_TIERS)
    context_edges: tuple[int, ...] = ()

    def labels(
        self, labels: tuple[tuple[str, str], ...], kinds: Mapping[str, int], *, is_one_request: bool
    ) -> tuple[tuple[str, str], ...]:
        """`labels` of a caller with its tier by a listed name, and the class of the prompt where it is of one request
        and known."""
        if any(name == "service_tier" for name, _ in labels):
            labels = tuple((name, self._tier(text) if name == "service_tier" else text) for name, text in labels)
        if any(name == "context" for name, _ in labels):  # of a field of the line, whose values nothing bounds
            labels = tuple(label for label in labels if label[0] != "context")
        if self.context_edges and is_one_request and (context := self._context(kinds)) is not None:
            labels = (*labels, ("context", context))
        return labels

    def _tier(self, text: str) -> str:
        name = text.lower()
        return name if name in self.service_tiers else OTHER_TIER

    def _context(self, kinds: Mapping[str, int]) -> str | None:
        prompt = [count for kind, count in kinds.items() if kind.startswith("prompt")]
        if not any(prompt):
            return None
        edge = next((edge for edge in self.context_edges if sum(prompt) <= edge), None)
        return f"gt_{_short(self.context_edges[-1])}" if edge is None else f"le_{_short(edge)}"


def class_faults(service_tiers: tuple[str, ...], context_edges: tuple[int, ...]) -> Iterator[str]:
    """Of the settings `service_tiers` and `context_edges`."""
    if len(service_tiers) > CLASSES_MAX or any(name != name.lower() or not name for name in service_tiers):
        found = ", ".join(service_tiers[: CLASSES_MAX + 1])
        yield f"service_tiers: expected at most {CLASSES_MAX} names in lower case, found {found}; correct them"
    is_growing = all(former < later for former, later in zip((0, *context_edges), context_edges, strict=False))
    if not 1 <= len(context_edges) <= CLASSES_MAX or not is_growing:
        found = ", ".join(map(str, context_edges)) or "none"
        yield (
            f"context_edges: expected 1 to {CLASSES_MAX} numbers of tokens that grow, found {found}; write "
            f"[{', '.join(map(str, CONTEXT_EDGES))}]"
        )


def _short(tokens: int) -> str:
    """32000 as 32k, 1000000 as 1m; others as they are."""
    for unit, letter in ((10**6, "m"), (10**3, "k")):
        if tokens % unit == 0:
            return f"{tokens // unit}{letter}"
    return str(tokens)
