"""Which pools surely match all GPUs of another: where its GPUs go, and who takes them from it. Pure."""

from collections.abc import Iterable
from datetime import date
from fnmatch import fnmatchcase

from tokenyield_collector.prices.book import PoolMatch, PriceBook, Terms, is_capped, is_paid
from tokenyield_collector.prices.calendar import in_force


class PoolOverlaps:
    """Of one price book; which patterns cover which is looked up once for each pool."""

    def __init__(self, prices: PriceBook) -> None:
        self._pools = prices.pools
        self._before: dict[int, list[int]] = {}
        self._after: dict[int, list[int]] = {}

    def next_pool(self, number: int, day: date) -> str | None:
        """The first pool after it that matches all of its GPUs, and holds."""
        if number not in self._after:
            self._after[number] = self._covering(number, range(number + 1, len(self._pools)))
        return next((self._pools[i].name for i in self._after[number] if self._held(i, day) is not None), None)

    def taker(self, number: int, day: date) -> str | None:
        """A pool before it that takes all of its GPUs."""
        if number not in self._before:
            self._before[number] = self._covering(number, range(number))
        for i in self._before[number]:
            terms = self._held(i, day)
            if terms is not None and not is_capped(terms):
                return self._pools[i].name
        return None

    def _covering(self, number: int, others: Iterable[int]) -> list[int]:
        return [i for i in others if covers(self._pools[i].match, self._pools[number].match)]

    def _held(self, number: int, day: date) -> Terms | None:
        terms = in_force(self._pools[number].terms, day)
        return terms if terms is not None and is_paid(terms, day) else None


def covers(wide: PoolMatch, narrow: PoolMatch) -> bool:
    """Whether all that `narrow` matches is surely matched by `wide`."""
    return (
        _covers(wide.node, narrow.node)
        and _covers(wide.gpu, narrow.gpu)
        and _covers(wide.cluster, narrow.cluster)
        and all(
            name in narrow.labels and _covers(pattern, narrow.labels[name]) for name, pattern in wide.labels.items()
        )
    )


def _covers(wide: str, narrow: str) -> bool:
    return wide == narrow or ("*" in wide and "?" not in wide and "[" not in wide and fnmatchcase(narrow, wide))
