"""SQL that sums roll-ups of a ClickHouse ledger as a `UsageQuery` asks, on its servers, to the same figures as DuckDB.

In: rows that stand as they are, of workloads with one model that nobody requested through a gateway. What is
divided further goes to DuckDB (usage.py). Everything is in 64 bits, which ClickHouse does not check: `are_safe` says
whether the amounts of an hour allow it.

What a policy says of GPUs, hours and work is in the statement itself, as lists: a join of old servers costs more than
all else.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from tokenyield_collector.ledger.clickhouse.names import GroupName, IdentityName
from tokenyield_collector.ledger.clickhouse.rollup import NOBODY
from tokenyield_collector.ledger.usage import CAPACITY_SUMS, REPORTED, USAGE_KINDS, WORK_SUMS, UsageQuery
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR

GPUS_MAX = 2**20
"""GPUs of one instance that has a reference pace."""
PRODUCT_MAX = 2**61
QUOTIENT_MAX = 2**49
"""A quotient below is exact within 1 in floating point."""
NO_PACE = -1

KEYS = ("day_ms", "segment", "chain", "node_no")


def are_safe(numbers: Mapping[str, int], weights: Mapping[str, int], pace_max: int, rows: int) -> bool:
    """Whether no step of the arithmetic with an hour's amounts leaves 64 bits. `rows`: all that are summed."""
    times, tokens, capacity = numbers["times_max"], numbers["tokens_max"], numbers["capacity_max"]
    return (
        times < QUOTIENT_MAX
        and times * max(pace_max, 1) < PRODUCT_MAX
        and tokens * max(sum(weights.values()), 1) * 1000 < PRODUCT_MAX
        and max(times, tokens, capacity) * max(rows, 1) < PRODUCT_MAX
    )


def units_of(weights: Mapping[str, int]) -> str:
    """Thousandths of weighted tokens of a row."""
    return "(" + " + ".join(f"{int(weight)} * {kind}" for kind, weight in weights.items()) + ")"


def lookup(key: str, values: Mapping[int, int], default: int | None = None) -> str:
    """What a number stands for. Without a default all of them are there, and the most common is left out."""
    if default is None:
        ((default, _),) = Counter(values.values()).most_common(1) or [(0, 0)]
    listed = {number: value for number, value in values.items() if value != default}
    if not listed:
        return f"toInt64({default})"
    keys, found = ", ".join(map(str, listed)), ", ".join(map(str, listed.values()))
    return f"toInt64(transform({key}, [{keys}], [{found}], {default}))"


class Numbering:
    """What keys of rows stand for, under one query."""

    def __init__(
        self,
        query: UsageQuery,
        groups: Mapping[int, GroupName],
        identities: Mapping[int, IdentityName],
        chain_of: Mapping[int, str],
        group_of: Mapping[int, int],
    ) -> None:
        """`chain_of`: of each gpu_group, `NOBODY` among them; `group_of`: of each identity."""
        self._query = query
        self._groups = groups
        self._identities = identities
        self._group_of = group_of
        self.chains = sorted(query.segments)
        numbers = {chain: i for i, chain in enumerate(self.chains)}
        self._chain_no = {group: numbers.get(chain, -1) for group, chain in chain_of.items()}
        self.nodes = [("", ""), *sorted({name[:2] for name in groups.values()})]
        node_numbers = {node: i for i, node in enumerate(self.nodes)}
        self._node_no = {NOBODY: 0, **{group: node_numbers[name[:2]] for group, name in groups.items()}}

    def keys(self) -> str:
        """Columns `KEYS`."""
        hours = (self._query.end_ms - self._query.start_ms) // MS_PER_HOUR
        segments = {
            i * hours + hour: segment
            for i, chain in enumerate(self.chains)
            for hour, segment in enumerate(self._query.segments[chain][:hours])
        }
        place = f"chain * {hours} + intDiv(hour_ms - {self._query.start_ms}, {MS_PER_HOUR})"
        columns = {
            "day_ms": f"intDiv(hour_ms, {MS_PER_DAY}) * {MS_PER_DAY}",
            "chain": lookup("gpu_group", self._chain_no),
            "segment": f"if(chain < 0, toInt64(0), {lookup(place, segments)})",
            "node_no": lookup("gpu_group", self._node_no) if self._query.by_node else "toInt64(0)",
        }
        return ", ".join(f"{columns[key]} AS {key}" for key in ("day_ms", "chain", "segment", "node_no"))

    def group(self) -> str:
        return lookup("identity", self._group_of)

    def pace(self) -> str | None:
        """The reference pace of a row, `NO_PACE` where it has none; None where nothing has one."""
        query = self._query
        of_all = self._paces({("", "", *instance): pace for instance, pace in query.references.items()}, by_node=False)
        paces = {(cluster, node, *instance): pace for (cluster, node, instance), pace in query.node_references.items()}
        of_nodes = self._paces(paces, by_node=True)
        if of_all and of_nodes:
            return f"if({of_all} != {NO_PACE}, {of_all}, {of_nodes})"
        return of_all or of_nodes

    def _paces(self, paces: Mapping[tuple[str, str, str, str, int], int], *, by_node: bool) -> str | None:
        models = {model: i + 1 for i, model in enumerate(sorted({key[2] for key in paces}))}
        places = {place: i + 1 for i, place in enumerate(sorted({(*key[:2], key[3]) for key in paces}))}
        model_no = {number: models.get(name.model, 0) for number, name in self._identities.items()}
        place_no = {
            number: places.get((name.cluster, name.node, name.gpu_model) if by_node else ("", "", name.gpu_model), 0)
            for number, name in self._groups.items()
        }
        place_no[NOBODY] = places.get(("", "", ""), 0)
        of = {
            (models[key[2]] * (len(places) + 1) + places[*key[:2], key[3]]) * GPUS_MAX + key[4]: pace
            for key, pace in paces.items()
            if 0 <= key[4] < GPUS_MAX
        }
        if not of or not any(model_no.values()) or not any(place_no.values()):
            return None
        key = f"({lookup('identity', model_no)} * {len(places) + 1} + {lookup('gpu_group', place_no)}) * {GPUS_MAX}"
        return f"if(gpus < {GPUS_MAX}, {lookup(f'{key} + gpus', of, NO_PACE)}, toInt64({NO_PACE}))"


def work_sql(numbering: Numbering, weights: Mapping[str, int], source: str, where: str) -> str:
    """Rows of `KEYS`, the group and `WORK_SUMS`, in that order and sorted."""
    pace, units = numbering.pace(), units_of(weights)
    rated = "active_ms AS productive, active_mj AS productive_of_mj, active_ms AS unrated"
    if pace is not None:
        whole = "units * 1000 >= expected AND (expected > 0 OR units > 0)"
        # The quotient in floating point is off by 1 at most; what is left over shows by how much.
        about = "toInt64(floor(toFloat64(active_mj) * (toFloat64(units * 1000) / toFloat64(greatest(expected, 1)))))"
        left = "(toUInt64(active_mj) * toUInt64(units * 1000) - toUInt64(about) * toUInt64(expected))"
        rated = (
            f"{pace} AS pace, {units} AS units, active_ms * greatest(pace, toInt64(0)) AS expected, "
            f"pace = {NO_PACE} OR ({whole}) AS is_whole, {about} AS about, {left} AS left_over, "
            "if(is_whole, active_ms, if(pace > 0, intDiv(units * 1000, greatest(pace, toInt64(1))), toInt64(0))) "
            "AS productive, "
            "if(is_whole, active_mj, if(expected > 0, about - (left_over < 0) + (left_over >= expected), toInt64(0))) "
            f"AS productive_of_mj, if(pace = {NO_PACE}, active_ms, toInt64(0)) AS unrated"
        )
    columns = {
        "productive_ms": "productive",
        "under_yield_ms": "active_ms - productive",
        "unrated_ms": "unrated",
        "productive_mj": "productive_of_mj",
        "under_yield_mj": "active_mj - productive_of_mj",
    }
    sums = ", ".join(f"sum({columns.get(name, name)})" for name in WORK_SUMS)
    own = ", ".join(("active_ms", "active_mj", "idle_ms", "idle_mj", "parked_ms", "parked_mj", *USAGE_KINDS, *REPORTED))
    by = ", ".join((*KEYS, "grp"))
    return (
        f"SELECT {by}, {sums} FROM (SELECT {numbering.keys()}, {numbering.group()} AS grp, {rated}, {own} "
        f"FROM {source} WHERE {where}) GROUP BY {by} ORDER BY {by}"
    )


def capacity_sql(numbering: Numbering, source: str, where: str) -> str:
    """Rows of `KEYS` and `CAPACITY_SUMS`, sorted."""
    by, sums = ", ".join(KEYS), ", ".join(f"sum({name})" for name in CAPACITY_SUMS)
    return (
        f"SELECT {by}, {sums} FROM (SELECT {numbering.keys()}, {', '.join(CAPACITY_SUMS)} FROM {source} "
        f"WHERE {where}) GROUP BY {by} ORDER BY {by}"
    )


def listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "NULL"
