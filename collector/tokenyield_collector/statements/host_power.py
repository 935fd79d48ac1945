"""What hosts were measured to draw, instead of the price book's watts. Pure.

In: the measured energy of hosts by node and day (`HostDay`), which chain of pools (placement.py) a node's GPUs match,
and how long a chain's GPUs reported. Out: for each chain and day the watts of host that a GPU carries, in mW: the
measured energy over the GPU time of the nodes that measure, and the price book's watts for the rest,

    (measured + (reported - covered) x price book) / reported.

So the cost is the same however a report is cut, and GPUs that do not report are priced by the price book. A node whose
GPUs match different chains is priced by the price book too. What such watts cost is in rates.py (`with_host`).

`rapl` is the host's own; of the whole machine (`dcmi`, `power_meter`) the draw of its GPUs is subtracted.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from tokenyield_collector.ledger.usage import GpuGroup, HostDay

WHOLE_MACHINE = ("dcmi", "power_meter")


class MeasuredHosts(NamedTuple):
    """Of one chain over one day."""

    own_uj: int = 0
    covered_ms: int = 0
    """GPU time of the nodes that measure."""

    def mw(self, reported_ms: int, price_book_mw: int) -> int:
        """Draw of the host that a GPU carries, mW."""
        if not self.covered_ms or not reported_ms:
            return price_book_mw
        rest_ms = max(0, reported_ms - self.covered_ms)
        return round((self.own_uj + rest_ms * price_book_mw) / (self.covered_ms + rest_ms))


NOTHING_MEASURED = MeasuredHosts()


def own_uj(source: str, host_mj: int, gpu_mj: int) -> int:
    """The host's own part of a measured energy, in uJ."""
    return max(0, host_mj - gpu_mj if source in WHOLE_MACHINE else host_mj) * 1000


def measured_by_day(
    days: Iterable[HostDay], groups: Sequence[GpuGroup], chain_of: Callable[[GpuGroup], str]
) -> Mapping[tuple[str, int], MeasuredHosts]:
    """(chain, day) -> what was measured."""
    chains: dict[tuple[str, str], set[str]] = defaultdict(set)
    for group in groups:
        chains[group.cluster, group.node].add(chain_of(group))
    measured: dict[tuple[str, int], MeasuredHosts] = {}
    for day in days:
        of_node = chains.get((day.cluster, day.node), set())
        if len(of_node) != 1 or not (chain := next(iter(of_node))):
            continue
        so_far = measured.get((chain, day.day_ms), NOTHING_MEASURED)
        measured[chain, day.day_ms] = MeasuredHosts(
            so_far.own_uj + own_uj(day.source, day.host_mj, day.gpu_mj), so_far.covered_ms + day.gpu_ms
        )
    return measured
