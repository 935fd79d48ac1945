"""What sites cost in an hour beside what their GPUs pay for space. Plain Python, from docs/money.md (Sites).

In: the portions of an hour (placement.py). Out: what no GPU pays for, by site.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from oracle.facts import HOUR_MS
from oracle.lines import ONE
from oracle.placement import Chain, Portion
from oracle.terms import ZERO, Terms


class UnusedSite(NamedTuple):
    """`slip`: by how much the product's whole milliseconds may differ."""

    site: str
    cost: Decimal
    slip: Decimal


def unused_sites(
    terms: Terms,
    hour_ms: int,
    reported_ms: Mapping[Chain, int],
    portions: Mapping[Chain, Sequence[Portion]],
    unreported: Mapping[str, Decimal],
) -> Iterator[UnusedSite]:
    """`reported_ms`: GPU time of each chain; `unreported`: ms that pools pay for without reports."""
    taken = [
        (pool, part * reported_ms[chain], part != ONE)
        for chain, listed in portions.items()
        for pool, part in listed
        if pool is not None
    ]
    taken += [(pool, missing_ms, missing_ms != int(missing_ms)) for pool, missing_ms in unreported.items()]
    for name in terms.document.get("sites") or ():
        site = terms.site(name, hour_ms)
        if site is None:
            continue
        (facility, left), slip = site, ZERO
        for pool, ms, is_divided in taken:
            rate = terms.rate(pool, hour_ms)
            if rate is None or terms.facility_name(pool) != facility:
                continue
            space_per_ms = rate.per_gpu_hour.get("facility", ZERO) / HOUR_MS
            left -= space_per_ms * ms
            slip += 4 * space_per_ms if is_divided else ZERO
        if left > 0:
            yield UnusedSite(name, left, slip)
