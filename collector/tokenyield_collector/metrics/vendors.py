"""What is bought in the present month, as metrics: a bounded number of vendors, the most expensive first. Pure."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import Metric

from tokenyield_collector.live.bought_to_date import BoughtMonth
from tokenyield_collector.metrics import families
from tokenyield_collector.prices.money import NANO_PER_UNIT, QUANTA_PER_NANO
from tokenyield_collector.statements.names import OTHER, own_name
from tokenyield_wire.window import TOKEN_KINDS

VENDORS_MAX = 50
"""That are shown by name; what is beyond is `OTHER`."""


def vendors_of(bought: BoughtMonth, currency: str) -> Iterator[Metric]:
    costs: Counter[tuple[str, ...]] = Counter()
    tokens: Counter[tuple[str, ...]] = Counter()
    unpriced: Counter[tuple[str, ...]] = Counter()
    for i, one in enumerate(bought.vendors):
        vendor = own_name(one.vendor) if i < VENDORS_MAX else OTHER
        costs[currency, vendor, "observed"] += one.sums.total - one.unseen
        costs[currency, vendor, "not_observed"] += one.unseen
        for kind in TOKEN_KINDS:
            if (count := one.sums.reported(kind)) is not None:
                tokens[vendor, kind] += count
        unpriced[(vendor,)] += one.sums.unpriced_tokens
    yield families.BOUGHT_COST.samples({key: quanta / QUANTA_PER_NANO / NANO_PER_UNIT for key, quanta in costs.items()})
    yield families.BOUGHT_TOKENS.samples(tokens)
    yield families.BOUGHT_UNPRICED.samples(unpriced)
