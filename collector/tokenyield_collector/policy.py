"""What a collector judges by: the price book and the attribution rules, loaded together and taken up together."""

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tokenyield_collector.attribution.rules import AttributionRules, load_rules, names_for_rules
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.load import load_prices
from tokenyield_collector.prices.token_prices import match_faults
from tokenyield_settings.loader import SettingsError

REMEMBERED_MAX = 200_000
"""Identities whose dimensions are remembered: those of a live view of 100,000 GPUs, several times over."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A price book and rules. Immutable but for what it remembers of its own answers."""

    prices: PriceBook = field(default_factory=PriceBook)
    rules: AttributionRules = field(default_factory=AttributionRules)
    _remembered: dict[tuple[str, str, str, str, str], tuple[str | None, ...]] = field(
        default_factory=dict, compare=False, repr=False
    )

    @property
    def default_columns(self) -> tuple[str, str]:
        """What a report is by where nothing is named: the first dimension, and the model."""
        return self.rules.dimensions[0], "model"

    def same_as(self, other: "Policy") -> bool:
        """Whether everything costs, and belongs to, the same under both."""
        return (self.prices.fingerprint, self.rules.document) == (other.prices.fingerprint, other.rules.document)

    def dimension_values(
        self, cluster: str, workload: str, model: str, labels: str, caller: str
    ) -> tuple[str | None, ...]:
        """What the rules give a piece of work for each dimension. `labels` and `caller` are JSON objects."""
        identity = (cluster, workload, model, labels, caller)
        if identity not in self._remembered:
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[identity] = self.rules.attribute(names_of_work(*identity))
        return self._remembered[identity]


def names_of_work(cluster: str, workload: str, model: str, labels: str, caller: str) -> dict[str, str]:
    """What is known of a piece of work, under the names that rules and tiers match."""
    return names_for_rules(
        cluster=cluster, workload=workload, model=model, labels=_texts(labels), caller=_texts(caller)
    )


def _texts(document: str) -> dict[str, str]:
    return {name: str(value) for name, value in msgspec.json.decode(document).items()}


def load_policy(settings: CollectorSettings) -> Policy:
    """Raises `SettingsError` with the faults of both files."""
    faults: list[str] = []
    prices, rules = PriceBook(), AttributionRules()
    try:
        prices = load_prices(Path(settings.prices_file)) if settings.prices_file else prices
    except SettingsError as error:
        faults += error.faults
    try:
        rules = load_rules(Path(settings.attribution_file) if settings.attribution_file else None)
    except SettingsError as error:
        faults += error.faults
    if not faults:
        faults += [f"{settings.prices_file}: {fault}" for fault in match_faults(prices.token_prices, rules.dimensions)]
    if faults:
        raise SettingsError(faults)
    return Policy(prices=prices, rules=rules)


def files_changed_at(settings: CollectorSettings) -> list[tuple[int, int] | None]:
    """What distinguishes a changed file from the one before: its time (ns) and size; None where there is none."""
    states: list[tuple[int, int] | None] = []
    for name in (settings.prices_file, settings.attribution_file):
        try:
            status = Path(name).stat() if name else None
        except OSError:
            status = None
        states.append((status.st_mtime_ns, status.st_size) if status else None)
    return states
