"""The pace that work is held to: configured, or learned from hours of the same model on the same GPUs. Pure.

A pace that holds for all nodes takes three nodes that agree, so that none of them sets the pace of others; where there
are not as many, a node has its own, from two days. What has neither is unrated.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tokenyield_collector.ledger.usage import BEST_DAYS, BestHour, ModelInstance, NodeInstance, UsageReader
from tokenyield_collector.prices.book import PriceBook, ReferencePace
from tokenyield_collector.statements.names import own_name
from tokenyield_wire.units import MS_PER_DAY

NODES_MIN = 3
"""So many nodes reached a pace that is learned for all."""
AGREE_PERCENT = 75
"""Nodes agree whose best hours are at least this part of the fastest among them."""
_Node = tuple[str, str]
"""(cluster, node)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedReference:
    """The pace that an instance is held to, in completion tokens a second, and where it is from."""

    instance: ModelInstance
    tokens_per_second: float
    source: str
    """`configured` or `learned`."""
    evidence: BestHour | None = None
    """Of a learned one: the hour whose pace it is, the slowest of those that it is learned from."""
    nodes: int = 0
    """How many nodes agreed on it; 0 where it is from a node's own days."""
    days: int = 0
    """On how many days the node itself reached it; 0 where it is from several nodes."""
    node: _Node | None = None
    """The only one that it applies to; None for all."""

    @property
    def place(self) -> tuple[ModelInstance, _Node]:
        """What it is about: of one statement, each once."""
        return self.instance, self.node or ("", "")

    @property
    def origin(self) -> str:
        """Where a learned pace is from: '3 nodes', '2 days of c/n1'; '' where it is configured or not known."""
        if self.node is None:
            return f"{self.nodes} nodes" if self.nodes else ""
        return f"{self.days} days of {own_name(self.node[0])}/{own_name(self.node[1])}"


def references_of(
    reader: UsageReader, prices: PriceBook, start_ms: int, end_ms: int, weights: Mapping[str, int]
) -> tuple[dict[ModelInstance, int], dict[NodeInstance, int], list[AppliedReference]]:
    """The pace of every instance that worked, in units per GPU-second: for all nodes, and of nodes of their own."""
    rules = prices.reference_rates
    first_ms = min(start_ms, end_ms - rules.learn_days * MS_PER_DAY) if rules.learn else start_ms
    paces: dict[ModelInstance, int] = {}
    node_paces: dict[NodeInstance, int] = {}
    applied = []
    per_token = weights["completion"]
    for instance, hours in _by_instance(reader.best_hours(first_ms, end_ms, weights)).items():
        chosen = next((one for one in rules.configured if _is_about(one, instance)), None)
        if chosen is not None:
            paces[instance] = max(1, round(chosen.tokens_per_second * per_token / instance.gpus))
            applied.append(
                AppliedReference(
                    instance=instance, tokens_per_second=float(chosen.tokens_per_second), source="configured"
                )
            )
        elif rules.learn and instance.model:
            learned = _learned(instance, hours, per_token)
            applied += learned
            for reference in learned:
                assert reference.evidence is not None
                if reference.node is None:
                    paces[instance] = reference.evidence.pace
                else:
                    node_paces[NodeInstance(*reference.node, instance)] = reference.evidence.pace
    return paces, node_paces, applied


def _learned(
    instance: ModelInstance, hours: Mapping[_Node, Sequence[BestHour]], per_token: int
) -> list[AppliedReference]:
    """One for all nodes, or one for each node that has shown it twice."""

    def reference(evidence: BestHour, *, nodes: int = 0, days: int = 0, node: _Node | None = None) -> AppliedReference:
        pace = evidence.pace * instance.gpus / per_token
        return AppliedReference(
            instance=instance, tokens_per_second=pace, source="learned", evidence=evidence, nodes=nodes, days=days,
            node=node,
        )  # fmt: skip

    if agreed := _agreed([best[0] for best in hours.values()]):
        return [reference(agreed[0], nodes=agreed[1])]
    return [
        reference(best[BEST_DAYS - 1], days=BEST_DAYS, node=node)
        for node, best in hours.items()
        if len(best) >= BEST_DAYS and best[BEST_DAYS - 1].pace
    ]


def _agreed(bests: Sequence[BestHour]) -> tuple[BestHour, int] | None:
    """The greatest pace that `NODES_MIN` nodes reached whose best hours agree, and how many agree with it."""
    fastest = sorted((best for best in bests if best.pace), key=lambda best: (-best.pace, best.cluster, best.node))
    for i, third in enumerate(fastest[NODES_MIN - 1 :]):
        least = fastest[i].pace * AGREE_PERCENT
        if third.pace * 100 >= least:
            return third, sum(1 for best in fastest[i:] if best.pace * 100 >= least)
    return None


def _by_instance(bests: Sequence[BestHour]) -> dict[ModelInstance, dict[_Node, list[BestHour]]]:
    """Hours of each node, the best first."""
    instances: dict[ModelInstance, dict[_Node, list[BestHour]]] = defaultdict(lambda: defaultdict(list))
    for best in bests:
        instances[best.instance][best.cluster, best.node].append(best)
    return instances


def _is_about(reference: ReferencePace, instance: ModelInstance) -> bool:
    return (
        fnmatchcase(instance.model, reference.model)
        and fnmatchcase(instance.gpu_model, reference.gpu)
        and reference.gpus in (None, instance.gpus)
    )
