"""The live view: a statement over the newest windows, where cost is caused and before anything is shared.

In: a ledger, the policy, a stretch of time. Out: what each pool and each workload cost and made in it.

A workload's cost has three bases, always labelled:
* direct: the time and energy in which its kernels ran
* allocated: and the idle time that it held
* loaded: and its share of what its pool lost (unallocated, dark, and GPUs held by untied processes), in proportion to
  its allocated cost there; what a pool without workloads lost is shared by all. Summed over all workloads the loaded
  cost is the whole cost. A ratio without a denominator is None, never 0.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger.facts import Facts
from tokenyield_collector.ledger.latency import LatencyHistogram, histograms
from tokenyield_collector.live.window_usage import Stretch, WindowUsage, Workload, server_of_workloads
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.components import COMPONENTS, POWER_BILL
from tokenyield_collector.prices.money import amount
from tokenyield_collector.statements.buckets import ACTIVE_BUCKETS, BUCKETS, LIVE_BUCKETS
from tokenyield_collector.statements.gaps import Gap, gaps_of
from tokenyield_collector.statements.lines import Sums, sum_of_sums
from tokenyield_collector.statements.names import own_name
from tokenyield_collector.statements.placement import cut_at_hours
from tokenyield_collector.statements.source import Grain, OtherCosts, Span
from tokenyield_collector.statements.statement import Statement, fleet_statement
from tokenyield_wire.latency import LatencyKind
from tokenyield_wire.units import MJ_PER_JOULE, MS_PER_HOUR
from tokenyield_wire.window import TOKEN_KINDS

TOKEN_SUMS = ("completion", "total")
"""`total` is every token known: prompt computed, cached and unsplit, and completion."""
GRAIN = Grain(workload=True, cluster=True)


def live_cost(sums: Sums, bucket: str) -> int:
    """Quanta of one of `LIVE_BUCKETS`."""
    return sum(sums.cost(name) for name in ACTIVE_BUCKETS) if bucket == "active" else sums.cost(bucket)


def live_costs(sums: Sums, bucket: str) -> list[int]:
    """The same, in the order of `COMPONENTS`."""
    names = ACTIVE_BUCKETS if bucket == "active" else (bucket,)
    return [sum(cells) for cells in zip(*(sums.components(name) for name in names), strict=True)]


def live_energy_cost(sums: Sums, bucket: str) -> int:
    """The power bill: of GPUs and hosts, PUE included."""
    costs = dict(zip(COMPONENTS, live_costs(sums, bucket), strict=True))
    return sum(costs[component] for component in POWER_BILL)


def live_duration_ms(sums: Sums, bucket: str) -> int:
    return sums.active_ms if bucket == "active" else sums.get(f"{bucket}_ms")


def tokens_of(sums: Sums, kind: str) -> int:
    """Tokens of one of `TOKEN_SUMS`."""
    return sum(sums.get(name) for name in TOKEN_KINDS) if kind == "total" else sums.get(kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveWorkload:
    """One workload over one stretch of time."""

    cluster: str
    workload: str
    server: str
    model: str
    sums: Sums
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, str, str]:
        """Cluster, workload and model, as they are shown."""
        return own_name(self.cluster), own_name(self.workload), own_name(self.model)

    def quanta(self, basis: str) -> int | None:
        """Its cost on one of `BASES`; None where it held nothing, or GPUs that have no price."""
        has_cost = self.sums.total or (self.sums.held_ms or self.sums.get("gpu_mj"))
        if self.sums.has_unpriced or not has_cost:
            return None
        return self.sums.on_basis(basis)

    @property
    def parked_quanta(self) -> int | None:
        """Part of the allocated cost, see `parked_ms` of its sums."""
        return None if self.quanta("allocated") is None else self.sums.get("parked")

    def tokens(self, kind: str) -> int:
        return tokens_of(self.sums, kind)

    def reported(self, kind: str) -> int | None:
        """Tokens of one kind, or requests; None where its server does not report them."""
        return self.sums.reported(kind)

    def tokens_per_joule(self, kind: str) -> float | None:
        """Over all energy of the GPUs while the workload held them, idle included."""
        energy_mj, tokens = self.sums.get("gpu_mj"), self.tokens(kind)
        return tokens * MJ_PER_JOULE / energy_mj if energy_mj and tokens else None

    def cost_per_million_tokens(self, kind: str, basis: str) -> float | None:
        quanta, tokens = self.quanta(basis), self.tokens(kind)
        return amount(quanta) / (tokens / 1e6) if quanta is not None and tokens else None


@dataclass(frozen=True, kw_only=True)
class LiveView:
    """One stretch of time, priced. `facts` are those that it was computed from."""

    span: Span
    facts: Facts = field(default_factory=Facts)
    places: Mapping[tuple[str, str | None], Sums] = field(default_factory=dict)
    """(cluster, pool) -> what it cost. What is paid for and not reported is with the cluster that reports most. No pool
    (None) is that of GPUs that none of the price book fits; they have no cost."""
    gaps: Sequence[Gap] = ()
    workloads: Sequence[LiveWorkload] = ()

    @property
    def elapsed_ms(self) -> int:
        return self.span.end_ms - self.span.start_ms

    @property
    def whole(self) -> Sums:
        return sum_of_sums(self.places.values())

    @property
    def latency(self) -> dict[tuple[Workload, LatencyKind], LatencyHistogram]:
        """How long callers of each workload waited, of all its models."""
        return histograms(self.facts.latency, lambda row: (row.cluster, row.workload))

    def per_hour(self, quanta: int) -> float:
        """A cost of the stretch at the same pace, in units of the currency an hour."""
        return amount(quanta) * MS_PER_HOUR / self.elapsed_ms if self.elapsed_ms else 0.0

    def tokens(self, kind: str) -> int:
        return sum(row.tokens(kind) for row in self.workloads)

    def metered_tokens(self, kind: str) -> int:
        """Without those whose energy nobody measures, which no ratio of energy may count."""
        return sum(row.tokens(kind) for row in self.workloads if not row.sums.unmetered)

    def priced_tokens(self, kind: str) -> int:
        """Without those whose cost is not known, which no ratio of cost may count."""
        names = TOKEN_KINDS if kind == "total" else (kind,)
        return sum(row.sums.priced(name) for row in self.workloads for name in names)


def read_live_view(
    ledger: Ledger, policy: Policy, start_ms: int, end_ms: int, others: Sequence[OtherCosts] = ()
) -> LiveView:
    """The view of [start_ms, end_ms) and its facts, both of one state of the ledger. Raises `LedgerError`."""
    whole, hours = (start_ms, end_ms), cut_at_hours(start_ms, end_ms)
    wanted = [whole] if hours in ([], [whole]) else [whole, *hours]
    facts, *parts = ledger.facts_of_stretches(wanted, by_node=policy.prices.depends_on_node)
    stretches = [
        Stretch(part, start, end - start)
        for (start, end), part in zip(hours, parts or [facts] * len(hours), strict=True)
    ]
    return live_view(stretches, facts, policy, others)


def live_view(
    stretches: Sequence[Stretch], facts: Facts, policy: Policy, others: Sequence[OtherCosts] = ()
) -> LiveView:
    """Of stretches that follow each other, without a gap; `facts` are those of all of them together."""
    if not stretches:
        return LiveView(span=Span(0, 0), facts=facts)
    span = Span(stretches[0].start_ms, stretches[-1].start_ms + stretches[-1].elapsed_ms)
    usage = WindowUsage(stretches)
    statement = fleet_statement(usage, policy, span, GRAIN, others)
    sums_of: dict[Workload, Sums] = defaultdict(Sums)
    models: dict[Workload, str] = {}
    for key, sums in statement.unshared_lines():
        carrier = key.carrier
        if carrier.kind == "work":
            sums_of[carrier.cluster, carrier.workload].take(sums)
            models[carrier.cluster, carrier.workload] = carrier.model
    servers = server_of_workloads(facts)
    rows = [
        LiveWorkload(
            cluster=workload[0],
            workload=workload[1],
            server=servers.get(workload, "unknown"),
            model=models[workload],
            sums=sums,
            labels=msgspec.json.decode(usage.labels.get(workload, "{}")),
        )
        for workload, sums in sorted(sums_of.items())
    ]
    return LiveView(span=span, facts=facts, places=_places(statement), gaps=gaps_of(statement.gaps), workloads=rows)


def _places(statement: Statement) -> dict[tuple[str, str | None], Sums]:
    """What each cluster's GPUs of each pool did and cost."""
    places: dict[tuple[str, str | None], Sums] = defaultdict(Sums)
    unreported: dict[str, Sums] = defaultdict(Sums)
    for (cluster, _, pool), sums in statement.before_sharing.items():
        if cluster or pool is None:
            places[cluster, pool].take(sums)
        else:
            unreported[pool].take(sums)
    for pool, sums in unreported.items():
        clusters = sorted(cluster for cluster, other in places if other == pool)
        most = max(clusters, key=lambda cluster: places[cluster, pool].gpu_ms, default="")
        places[most, pool].take(sums)
    return dict(sorted(places.items(), key=lambda place: (place[0][0], place[0][1] or "")))


assert set(LIVE_BUCKETS) == {*BUCKETS} - {*ACTIVE_BUCKETS} | {"active"}
