"""Which names /metrics shows: one budget of series for the whole page, and '(other)' for what is beyond it. Pure.

In: the names of each class in the order in which they were first seen, and the budget. Out: labels as they are shown.
Names are chosen by others: a client that asks for random models, a node that lies. Each class has a fixed part of the
budget, so that none takes another's place, and within it names that were there first stay: a counter does not move to
`(other)` and back. What folds first within a class is what changes most:

| class | what it names | folds, first to last |
|---|---|---|
| `caller` | who asked a gateway: cluster, gateway, model, team | model, team, gateway |
| `workload` | a workload, and each model that it serves | model, workload |
| `group` | the dimensions of the rules, with cluster, pool and model | model, the dimensions |
| `place` | a cluster and a pool | pool, cluster |
| `reported` | events, reasons and sources that nodes report | the name |
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tokenyield_collector.live.series_names import CLASS_OF_METRIC, Labels, name_of
from tokenyield_collector.statements.names import OTHER


class NameClass(NamedTuple):
    """`percent` of the budget; `series_each`: as many as one name of it can have at most, over all families."""

    percent: int
    series_each: int


CLASSES = {
    "caller": NameClass(20, 7),
    "workload": NameClass(40, 64),
    "group": NameClass(20, 20),
    "place": NameClass(15, 48),
    "reported": NameClass(5, 1),
}


class ShownNames:
    """Which names keep theirs. `first_seen`: class -> names, the first seen first; `clusters`: those of nodes, which
    have no place where no GPU is reported yet. They keep theirs after those of places."""

    def __init__(
        self, first_seen: Mapping[str, Iterable[Labels]], series_max: int, clusters: Iterable[str] = ()
    ) -> None:
        self._shown: dict[str, set[Labels]] = {}
        self._most: dict[str, int] = {}
        self.fates: dict[tuple[str, str], int] = {}
        """(class, `shown` or `folded`) -> names."""
        for name_class, (percent, series_each) in CLASSES.items():
            names = list(first_seen.get(name_class, ()))
            most = self._most[name_class] = series_max * percent // 100 // series_each
            self._shown[name_class] = set(names[:most])
            self.fates |= {
                (name_class, "shown"): min(most, len(names)),
                (name_class, "folded"): max(0, len(names) - most),
            }
        of_places = {name[0] for name in self._shown["place"]}
        of_nodes = [cluster for cluster in clusters if cluster not in of_places]
        self._clusters = of_places | set(of_nodes[: max(0, self._most["place"] - len(of_places))])
        self._workloads = {name[:2] for name in self._shown["workload"]}
        self._callers = {(cluster, gateway, team) for cluster, gateway, _, team in self._shown["caller"]}

    def has_workload(self, cluster: str, workload: str, model: str) -> bool:
        """Whether all three keep their names."""
        return (cluster, workload, model) in self._shown["workload"]

    def most(self, name_class: str) -> int:
        return self._most[name_class]

    def cluster(self, cluster: str) -> str:
        return cluster if cluster in self._clusters else OTHER

    def labels(self, metric: str, labels: Labels) -> Labels:
        """As they are shown."""
        named = name_of(metric, labels)
        if named is None or named[1] in self._shown[named[0]]:
            return labels
        count = CLASS_OF_METRIC[metric][1]
        return (*self._folded(named[0], labels[:count]), *labels[count:])

    def _folded(self, name_class: str, name: Labels) -> Labels:
        cluster, first, *rest = name
        if name_class == "workload" and ((cluster, first) in self._workloads or _is_marker(first)):
            return (cluster, first, *(model if _is_marker(model) else OTHER for model in rest))
        if name_class == "caller" and (cluster, first, rest[1]) in self._callers:
            return cluster, first, OTHER, rest[1]
        if name_class == "place" and cluster in self._clusters and _is_marker(first):
            return name
        return (self.cluster(cluster), *(OTHER for _ in name[1:]))


def _is_marker(name: str) -> bool:
    """One of ours: names that others choose never begin like this (statements/names.py)."""
    return name.startswith("(")
