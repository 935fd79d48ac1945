"""SQL that sums roll-ups of a ClickHouse ledger as a `UsageQuery` asks, on its servers, to the same figures as DuckDB.

In: rows that stand as they are, of workloads with one model that nobody requested through a gateway. What is
divided further goes to DuckDB (usage.py). Everything is in 64 bits, which ClickHouse does not check: `are_safe` says
whether the amounts of an hour allow it.

What a policy says of GPUs, hours and work is in the statement itself, as lists: a join of old servers costs more than
all else. A long list is there once, in a subquery of its own: servers put what a name stands for wherever the name is,
and to analyze a statement with many copies of a list costs as much as to run it. So does each level of subqueries.
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
OWN = ("active_ms", "active_mj", "idle_ms", "idle_mj", "parked_ms", "parked_mj", *USAGE_KINDS, *REPORTED)
"""Amounts of a row of work that are summed as they are, beside those by a reference pace."""


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
        self.query = query
        self.chains = sorted(query.segments)
        self.nodes = [("", ""), *sorted({name[:2] for name in groups.values()})]
        chain_numbers = {chain: i for i, chain in enumerate(self.chains)}
        chain_no = {group: chain_numbers.get(chain, -1) for group, chain in chain_of.items()}
        self._of_group, self._of_identity = {"chain": chain_no}, {"grp": dict(group_of)}
        """Column -> number of a GPU group, or of an identity -> what the column has."""
        if query.by_node:
            node_numbers = {node: i for i, node in enumerate(self.nodes)}
            self._of_group["node_no"] = {NOBODY: 0, **{group: node_numbers[name[:2]] for group, name in groups.items()}}
        self._paces: dict[str, str] = {}
        of_all = {("", "", *instance): pace for instance, pace in query.references.items()}
        of_nodes = {(one.cluster, one.node, *one.instance): pace for one, pace in query.node_references.items()}
        self._find("pace_of_all", of_all, groups, identities, by_node=False)
        self._find("pace_of_node", of_nodes, groups, identities, by_node=True)

    def numbers(self, *, of_work: bool) -> tuple[dict[str, str], dict[str, str]]:
        """Columns of raw rows, and of these: what is known of their GPUs and, `of_work`, of their work. There is one
        long list for all that a number stands for."""
        places, of_places = _packed("gpu_group", self._of_group)
        if not self.query.by_node:
            of_places["node_no"] = "toInt64(0)"
        if not of_work:
            return {"places": places}, of_places
        instances, of_instances = _packed("identity", self._of_identity)
        return {"places": places, "instances": instances}, of_places | of_instances

    def hours(self) -> dict[str, str]:
        """Columns `day_ms` and `segment` of rows of hours with these numbers."""
        hours = (self.query.end_ms - self.query.start_ms) // MS_PER_HOUR
        segments = {
            i * hours + hour: segment
            for i, chain in enumerate(self.chains)
            for hour, segment in enumerate(self.query.segments[chain][:hours])
        }
        place = f"chain * {hours} + intDiv(hour_ms - {self.query.start_ms}, {MS_PER_HOUR})"
        return {
            "day_ms": f"intDiv(hour_ms, {MS_PER_DAY}) * {MS_PER_DAY}",
            "segment": f"if(chain < 0, toInt64(0), {lookup(place, segments)})",
        }

    def paces(self) -> dict[str, str]:
        """Columns of rows of work with these numbers: paces that hold for all nodes, and for one; none where nothing
        has such a pace."""
        return dict(self._paces)

    @property
    def pace(self) -> str | None:
        """The reference pace of a row with these columns, `NO_PACE` where it has none; None where nothing has one."""
        if len(self._paces) < 2:
            return next(iter(self._paces), None)
        return f"if(pace_of_all != {NO_PACE}, pace_of_all, pace_of_node)"

    def _find(
        self,
        name: str,
        paces: Mapping[tuple[str, str, str, str, int], int],
        groups: Mapping[int, GroupName],
        identities: Mapping[int, IdentityName],
        *,
        by_node: bool,
    ) -> None:
        """Columns of the instances with such a pace, and of the paces."""
        models = {model: i + 1 for i, model in enumerate(sorted({key[2] for key in paces}))}
        places = {place: i + 1 for i, place in enumerate(sorted({(*key[:2], key[3]) for key in paces}))}
        model_no = {number: models.get(name.model, 0) for number, name in identities.items()}
        place_no = {
            number: places.get((name.cluster, name.node, name.gpu_model) if by_node else ("", "", name.gpu_model), 0)
            for number, name in groups.items()
        }
        place_no[NOBODY] = places.get(("", "", ""), 0)
        of = {
            (models[key[2]] * (len(places) + 1) + places[*key[:2], key[3]]) * GPUS_MAX + key[4]: pace
            for key, pace in paces.items()
            if 0 <= key[4] < GPUS_MAX
        }
        if not of or not any(model_no.values()) or not any(place_no.values()):
            return
        self._of_identity[f"{name}_model"], self._of_group[f"{name}_place"] = model_no, place_no
        key = f"({name}_model * {len(places) + 1} + {name}_place) * {GPUS_MAX} + gpus"
        self._paces[name] = f"if(gpus < {GPUS_MAX}, {lookup(key, of, NO_PACE)}, toInt64({NO_PACE}))"


def _packed(key: str, columns: Mapping[str, Mapping[int, int]]) -> tuple[str, dict[str, str]]:
    """A column with one number for all that these have of a key, and the columns out of it; named by the key."""
    name = {"gpu_group": "places", "identity": "instances"}[key]
    values = {number: tuple(of[number] for of in columns.values()) for number in next(iter(columns.values()))}
    codes = {value: i for i, value in enumerate(sorted({*values.values()}))}
    return lookup(key, {number: codes[value] for number, value in values.items()}), {
        column: lookup(name, {code: value[i] for value, code in codes.items()}) for i, column in enumerate(columns)
    }


def work_sql(numbering: Numbering, weights: Mapping[str, int], source: str, where: str) -> str:
    """Rows of `KEYS`, the group and `WORK_SUMS`, in that order and sorted."""
    pace, units = numbering.pace, units_of(weights)
    rated = {"productive": "active_ms", "productive_of_mj": "active_mj", "unrated": "active_ms"}
    if pace is not None:
        whole = "units * 1000 >= expected AND (expected > 0 OR units > 0)"
        # The quotient in floating point is off by 1 at most; what is left over shows by how much.
        about = "toInt64(floor(toFloat64(active_mj) * (toFloat64(units * 1000) / toFloat64(greatest(expected, 1)))))"
        left_over = "(toUInt64(active_mj) * toUInt64(units * 1000) - toUInt64(about) * toUInt64(expected))"
        rated = {
            "pace": pace,
            "units": units,
            "expected": "active_ms * greatest(pace, toInt64(0))",
            "is_whole": f"pace = {NO_PACE} OR ({whole})",
            "about": about,
            "left_over": left_over,
            "productive": (
                "if(is_whole, active_ms, if(pace > 0, intDiv(units * 1000, greatest(pace, toInt64(1))), toInt64(0)))"
            ),
            "productive_of_mj": (
                "if(is_whole, active_mj, "
                "if(expected > 0, about - (left_over < 0) + (left_over >= expected), toInt64(0)))"
            ),
            "unrated": f"if(pace = {NO_PACE}, active_ms, toInt64(0))",
        }
    by = (*KEYS, "grp")
    levels = (*numbering.numbers(of_work=True), {**numbering.hours(), **numbering.paces()}, rated)
    return summed(by, work_columns(), ("hour_ms", "gpus", *OWN), levels, f"{source} WHERE {where}")


def summed(
    by: Sequence[str], sums: Sequence[str], raw: Sequence[str], levels: Sequence[Mapping[str, str]], rows: str
) -> str:
    """Sums of rows, sorted by their keys. `levels`: columns made of those of the levels before, and of the raw ones."""
    inner = f"SELECT {', '.join((*raw, *_named(levels[0])))} FROM {rows}"
    for level in filter(None, levels[1:]):
        inner = f"SELECT {', '.join(('*', *_named(level)))} FROM ({inner})"
    keys = ", ".join(by)
    return f"SELECT {keys}, {', '.join(f'sum({one})' for one in sums)} FROM ({inner}) GROUP BY {keys} ORDER BY {keys}"


def _named(columns: Mapping[str, str]) -> list[str]:
    return [f"{sql} AS {name}" for name, sql in columns.items()]


def work_columns(ending: str = "") -> list[str]:
    """What `WORK_SUMS` are sums of, of amounts whose names have this ending."""
    columns = {
        "productive_ms": f"productive{ending}",
        "under_yield_ms": f"active_ms{ending} - productive{ending}",
        "unrated_ms": f"unrated{ending}",
        "productive_mj": f"productive_of_mj{ending}",
        "under_yield_mj": f"active_mj{ending} - productive_of_mj{ending}",
    }
    return [columns.get(name, f"{name}{ending}") for name in WORK_SUMS]


def capacity_sql(numbering: Numbering, source: str, where: str) -> str:
    """Rows of `KEYS` and `CAPACITY_SUMS`, sorted."""
    levels = (*numbering.numbers(of_work=False), numbering.hours())
    return summed(KEYS, CAPACITY_SUMS, ("hour_ms", *CAPACITY_SUMS), levels, f"{source} WHERE {where}")


def listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "NULL"
