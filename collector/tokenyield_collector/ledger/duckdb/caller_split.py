"""How work is split among those who requested it through gateways, when a report is made.

In: what callers requested of each model in each hour and cluster (`demand_hours`) through gateways that count, and what
was served. Out: temporary
tables `t_callers`, the stretch [lo, hi) of all that was served for each caller, and `t_caller_groups`, their groups;
and SQL that joins them. What nobody requested through a gateway stays with the workload itself.
"""

from collections.abc import Callable

from tokenyield_collector.ledger.contradictions import GatewayDay
from tokenyield_collector.ledger.duckdb.query_tables import QueryTables, weighted_tokens
from tokenyield_collector.ledger.duckdb.splits import part
from tokenyield_collector.ledger.sql import between
from tokenyield_collector.ledger.tables import STORED_NAMES
from tokenyield_collector.ledger.usage import REPORTED, USAGE_KINDS, WORK_SUMS, UsageQuery, WorkIdentity
from tokenyield_wire.units import MS_PER_DAY
from tokenyield_wire.window import TOKEN_KINDS

NO_CALLER = "{}"
_PROMPT_KINDS = [kind for kind in TOKEN_KINDS if kind.startswith("prompt")]
_MEASURE_OF = {**dict.fromkeys(_PROMPT_KINDS, "prompt"), "completion": "completion", "requests": "requests"}
"""Kind -> by what callers share it: tokens each by their own, time and energy by weighted tokens (`units`)."""
SPLIT_SUMS = WORK_SUMS[: -len(REPORTED)]
assert set(_MEASURE_OF) == set(USAGE_KINDS) <= set(SPLIT_SUMS)


def split_callers(tables: QueryTables, query: UsageQuery) -> bool:
    """Makes `t_callers`; whether there are any."""
    where = f"WHERE {between('hour_ms', query.start_ms, query.end_ms)}"
    tables.give("t_aliases", ("name", "real_name"), list(query.gateway_models.items()))
    measures = {
        "units": weighted_tokens(query.weights),
        "prompt": " + ".join(f"coalesce({kind}, 0)" for kind in _PROMPT_KINDS),
        "completion": "coalesce(completion, 0)",
        "requests": "coalesce(requests, 0)",
    }
    demand = ", ".join(f"sum({sql})::HUGEINT AS {name}" for name, sql in measures.items())
    tables.make(
        "t_demand",
        f"""
        WITH named AS (
          SELECT hour_ms, cluster, coalesce(real_name, model) AS model, gateway, {STORED_NAMES["caller"]} AS caller,
                 {", ".join((*TOKEN_KINDS, "requests"))}
          FROM demand_hours LEFT JOIN t_aliases ON name = model {where}),
        d AS (
          SELECT hour_ms, cluster, model, caller, {demand} FROM named {_counted(tables, query)} GROUP BY 1, 2, 3, 4),
        s AS (SELECT DISTINCT served, cluster, model FROM t_identities)
        SELECT hour_ms, served, caller, {", ".join(measures)} FROM d JOIN s USING (cluster, model) WHERE units > 0
        """,
    )
    if not tables.rows("SELECT 1 FROM t_demand LIMIT 1"):
        return False
    made = ", ".join(f"sum({sql})::HUGEINT AS {name}_made" for name, sql in measures.items())
    whole, upto = "OVER (PARTITION BY hour_ms, served)", "OVER (PARTITION BY hour_ms, served ORDER BY caller)"
    spans = ", ".join(
        f"sum(d.{name}) {upto} - d.{name} AS {name}_lo, sum(d.{name}) {upto} AS {name}_hi, "
        f"sum(d.{name}) {whole} AS {name}_requested, greatest(sum(d.{name}) {whole}, {name}_made) AS {name}_den"
        for name in measures
    )
    tables.make(
        "t_callers",
        f"""
        WITH made AS (
          SELECT hour_ms, served, {made}
          FROM work_hours w JOIN t_identities i ON i.id = w.identity {where}
          AND served IN (SELECT served FROM t_demand) GROUP BY 1, 2),
        spans AS (SELECT hour_ms, served, d.caller, {spans} FROM t_demand d JOIN made USING (hour_ms, served))
        SELECT hour_ms, served, caller, false AS is_rest,
               {", ".join(f"{name}_lo, {name}_hi, {name}_den" for name in measures)} FROM spans
        UNION ALL
        SELECT DISTINCT hour_ms, served, '{NO_CALLER}', true,
               {", ".join(f"{name}_requested, {name}_den, {name}_den" for name in measures)} FROM spans
        """,
    )
    return True


def _counted(tables: QueryTables, query: UsageQuery) -> str:
    """SQL that leaves out what gateways counted that another one counted too."""
    if not query.uncounted:
        return ""
    tables.give("t_uncounted", GatewayDay._fields, query.uncounted)
    return f"""WHERE NOT EXISTS (
        SELECT 1 FROM t_uncounted u WHERE u.day_ms = named.hour_ms - named.hour_ms % {MS_PER_DAY}
        AND u.cluster = named.cluster AND u.model = named.model AND u.gateway = named.gateway)"""


def group_callers(tables: QueryTables, group_of: Callable[[WorkIdentity], int]) -> list[tuple[int, int]]:
    """Makes `t_caller_groups`: the group of each piece of work that somebody requested, by caller. Returns (number of
    the identity, group)."""
    rows = tables.rows(
        "WITH c AS (SELECT DISTINCT served, caller FROM t_callers WHERE NOT is_rest) "
        "SELECT i.id, i.cluster, i.workload, i.model, i.labels, c.caller FROM identities i "
        "JOIN t_identities t ON t.id = i.id JOIN c ON c.served = t.served "
        "WHERE i.id IN (SELECT id FROM t_groups) ORDER BY i.id, c.caller"
    )
    groups = [(number, identity[-1], group_of(WorkIdentity(*identity))) for number, *identity in rows]
    tables.give("t_caller_groups", ("identity", "caller", "grp"), groups)
    return [(number, group) for number, _, group in groups]


def by_callers(rated: str, keys: str) -> str:
    """SQL of rated rows of work, each once for every caller and once for the rest, with their part of it."""

    def share(name: str) -> str:
        by = _MEASURE_OF.get(name, "units")
        left = f"CASE WHEN c.is_rest THEN x.{name} ELSE 0 END"  # nobody requested any, so nobody but the rest has it
        split = part(f"x.{name}", f"c.{by}_lo", f"c.{by}_hi", f"c.{by}_den")
        return f"CASE WHEN c.caller IS NULL THEN x.{name} WHEN c.{by}_den = 0 THEN {left} ELSE {split} END AS {name}"

    return f"""
        SELECT {keys}, coalesce(g.grp, x.grp) AS grp,
               {", ".join(share(name) for name in SPLIT_SUMS)}, {", ".join(f"x.{name}" for name in REPORTED)}
        FROM ({rated}) x LEFT JOIN t_callers c ON c.hour_ms = x.hour_ms AND c.served = x.served
        LEFT JOIN t_caller_groups g ON g.identity = x.identity AND g.caller = c.caller
    """
