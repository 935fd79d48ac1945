"""The pace that work is held to: configured, or the best hour of the same model on the same GPUs. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tokenyield_collector.ledger.usage import BestHour, ModelInstance, UsageReader
from tokenyield_collector.prices.book import PriceBook, ReferencePace
from tokenyield_wire.units import MS_PER_DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedReference:
    """The pace that an instance is held to, in completion tokens a second, and where it is from."""

    instance: ModelInstance
    tokens_per_second: float
    source: str
    """`configured` or `learned`."""
    evidence: BestHour | None = None


def references_of(
    reader: UsageReader, prices: PriceBook, start_ms: int, end_ms: int, weights: Mapping[str, int]
) -> tuple[dict[ModelInstance, int], list[AppliedReference]]:
    """The pace of every instance that worked, in units per GPU-second; configured ones first."""
    rules = prices.reference_rates
    first_ms = min(start_ms, end_ms - rules.learn_days * MS_PER_DAY) if rules.learn else start_ms
    paces: dict[ModelInstance, int] = {}
    applied = []
    per_token = weights["completion"]
    for best in reader.best_hours(first_ms, end_ms, weights):
        instance = best.instance
        chosen = next((one for one in rules.configured if _is_about(one, instance)), None)
        if chosen is not None:
            paces[instance] = max(1, round(chosen.tokens_per_second * per_token / instance.gpus))
            applied.append(
                AppliedReference(
                    instance=instance, tokens_per_second=float(chosen.tokens_per_second), source="configured"
                )
            )
        elif rules.learn and best.pace and instance.model:
            paces[instance] = best.pace
            pace = best.pace * instance.gpus / per_token
            applied.append(AppliedReference(instance=instance, tokens_per_second=pace, source="learned", evidence=best))
    return paces, applied


def _is_about(reference: ReferencePace, instance: ModelInstance) -> bool:
    return (
        fnmatchcase(instance.model, reference.model)
        and fnmatchcase(instance.gpu_model, reference.gpu)
        and reference.gpus in (None, instance.gpus)
    )
