"""How much of a period's cost, tokens and revenue each dimension covers, and the rules that would cover the rest. Pure.

In: a statement whose policy is `identifying(policy)`. Out: sums by dimension, and the identities (workload, labels,
caller) that no rule gives a value, those that cost most first, each with a rule to paste. A rule is put before those
that are there, because the first one that matches counts; so it sets what is known already as well.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import yaml

from tokenyield_collector.policy import Policy
from tokenyield_collector.reports.closed_statement import ReportedStatement
from tokenyield_collector.statements.lines import Sums
from tokenyield_collector.statements.names import own_name

_IDENTITY = "identity_of_what_is_unattributed"
UNATTRIBUTED_MAX = 10_000
"""Identities that are kept apart; those beyond it are one."""
_APPLICATION_LABELS = ("app.kubernetes.io/part-of", "app.kubernetes.io/name", "app", "application", "service")
"""What names a dimension's value where no label has the dimension's own name, in this order."""
_CALLER_LABELS = ("team", "project", "org", "key", "agent", "user")
"""By which a rule recognizes a caller."""
NO_WORKLOAD = "GPUs held by processes of no known workload: name them under `workloads` in agent.yaml, or see doctor"
NO_OWNER = "capacity given to the owner of its pool: name the rest of its `owner` in the price book"
_HINTS = {
    "untied": NO_WORKLOAD,
    "work": "of a cost source beside the fleet: name them there",
    "others": "all others: attribute those above first",
}


class _IdentifyingPolicy(Policy):
    """One dimension more: who it is that the rules give no value for some dimension."""

    def dimension_values(
        self, cluster: str, workload: str, model: str, labels: str, caller: str
    ) -> tuple[str | None, ...]:
        *values, _ = super().dimension_values(cluster, workload, model, labels, caller)
        if None not in values:
            return (*values, None)
        return (*values, msgspec.json.encode((cluster, workload, model, labels, caller)).decode())


def identifying(policy: Policy) -> Policy:
    """The same policy for the statement of `coverage`."""
    rules = msgspec.structs.replace(policy.rules, dimensions=(*policy.rules.dimensions, _IDENTITY))
    return _IdentifyingPolicy(prices=policy.prices, rules=rules)


class Covered(NamedTuple):
    """An amount by whether a dimension has a value: attributed; not; of capacity that nobody carries."""

    attributed: int = 0
    unattributed: int = 0
    nobody: int = 0

    def plus(self, at: str, amount: int) -> "Covered":
        return self._replace(**{at: getattr(self, at) + amount})

    @property
    def percent(self) -> float | None:
        """Of the whole; None where there is none."""
        return 100 * self.attributed / sum(self) if sum(self) else None


NOTHING = Covered()


@dataclass
class DimensionCoverage:
    """Cost and revenue in quanta."""

    dimension: str
    cost: Covered = NOTHING
    tokens: Covered = NOTHING
    revenue: Covered = NOTHING


@dataclass
class Unattributed:
    """Who or what has no value for `missing`, and the rule that gives one, or else a hint."""

    missing: tuple[str, ...]
    cluster: str = ""
    workload: str = ""
    model: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    caller: Mapping[str, str] = field(default_factory=dict)
    rule: str = ""
    hint: str = ""
    cost: int = 0
    tokens: int = 0
    revenue: int = 0


@dataclass
class Coverage:
    """`unattributed`: the most expensive first."""

    dimensions: list[DimensionCoverage]
    unattributed: list[Unattributed]


def coverage(statement: ReportedStatement) -> Coverage:
    """Of all lines of the statement."""
    names = statement.policy.rules.dimensions[:-1]
    dimensions = [DimensionCoverage(name) for name in names]
    missing: dict[tuple[str, str | None, tuple[str | None, ...]], Unattributed] = {}
    for key, sums in statement.lines():
        carrier = key.carrier
        values, identity = carrier.values[: len(names)], "".join(filter(None, carrier.values[len(names) :])) or None
        for one, value in zip(dimensions, values, strict=True):
            _count(one, "nobody" if carrier.is_lost else "unattributed" if value is None else "attributed", sums)
        if carrier.is_lost or None not in values:
            continue
        who: tuple[str, str | None, tuple[str | None, ...]] = (carrier.kind, identity, tuple(values))
        if who not in missing and len(missing) >= UNATTRIBUTED_MAX:
            who = ("others", None, ())
        if who not in missing:
            missing[who] = _unattributed(*who, names)
        _add(missing[who], sums)
    in_use = (one for one in missing.values() if one.cost or one.tokens or one.revenue)
    listed = sorted(in_use, key=lambda one: (-one.cost, -one.tokens, one.rule, one.hint))
    return Coverage(dimensions, listed)


def _count(one: DimensionCoverage, at: str, sums: Sums) -> None:
    one.cost = one.cost.plus(at, sums.total)
    one.tokens = one.tokens.plus(at, sums.tokens)
    one.revenue = one.revenue.plus(at, sums.get("revenue"))


def _add(one: Unattributed, sums: Sums) -> None:
    one.cost += sums.total
    one.tokens += sums.tokens
    one.revenue += sums.get("revenue")


def _unattributed(
    kind: str, identity: str | None, values: tuple[str | None, ...], names: tuple[str, ...]
) -> Unattributed:
    missing = tuple(name for name, value in zip(names, values, strict=bool(values)) if value is None)
    if identity is None:
        hint = _HINTS.get(kind, NO_OWNER)
        return Unattributed(missing or names, hint=hint)
    cluster, workload, model, labels, caller = msgspec.json.decode(identity)
    one = Unattributed(missing, cluster, workload, model, _texts(labels), _texts(caller))
    one.rule = _rule(one, dict(zip(names, values, strict=True)))
    return one


def _texts(document: str) -> dict[str, str]:
    return {name: str(value) for name, value in msgspec.json.decode(document).items()}


def _rule(one: Unattributed, values: Mapping[str, str | None]) -> str:
    """YAML of an entry of `rules`: three lines."""
    parts = {"name": _name(one), "match": _match(one), "set": dict(_set(one, values))}
    lines = [f"{name}: {_flow(value)}" for name, value in parts.items()]
    return "- " + "\n  ".join(lines)


def _flow(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def _name(one: Unattributed) -> str:
    by = next((f"{name} {one.caller[name]}" for name in _CALLER_LABELS if name in one.caller), "")
    return " on ".join(part for part in (by, one.workload or one.model) if part)[:120]


def _match(one: Unattributed) -> dict[str, Any]:
    match: dict[str, Any] = {}
    if label := next((name for name in _CALLER_LABELS if name in one.caller), None):
        match["gateway"] = {label: _literal_pattern(one.caller[label])}
    if namespace := one.labels.get("namespace"):
        match["namespace"] = _literal_pattern(namespace)
    elif one.workload:
        match["workload"] = _literal_pattern(one.workload)
    if not match:
        match = {"model": _literal_pattern(one.model)} if one.model else {"cluster": _literal_pattern(one.cluster)}
    return match


def _set(one: Unattributed, values: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    charged = next(iter(values))
    for name, value in values.items():
        if value is None:
            yield name, _template(one, name, is_charged=name == charged)
        elif one.caller.get(name) == value:
            yield name, f"{{gateway.{name}}}"
        elif one.labels.get(name) == value:
            yield name, f"{{labels.{name}}}"
        else:
            yield name, _literal(value)


def _template(one: Unattributed, dimension: str, *, is_charged: bool) -> str:
    """What is most likely meant: the value under the dimension's own name; else who called or whose namespace it is for
    the dimension that is charged, and the application's name for the others."""
    for kind, known in (("gateway", one.caller), ("labels", one.labels)):
        if known.get(dimension):
            return f"{{{kind}.{dimension}}}"
    label = next((name for name in one.labels if name.endswith(f"/{dimension}") and one.labels[name]), None)
    caller = next((name for name in _CALLER_LABELS if one.caller.get(name)), None)
    application = next((name for name in _APPLICATION_LABELS if one.labels.get(name)), None)
    names = [
        f"labels.{application}" if application else "",
        "namespace" if one.labels.get("namespace") else "",
        f"gateway.{caller}" if caller else "",
    ]
    guesses = [f"labels.{label}" if label else "", *(reversed(names) if is_charged else names)]
    best = next((name for name in guesses if name), "")
    return f"{{{best}}}" if best else _literal(one.workload or one.model or one.cluster)


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _literal_pattern(text: str) -> str:
    return "".join(f"[{one}]" if one in "*?[" else one for one in text)


def shown_identity(one: Unattributed) -> str:
    """For people: the workload or what else there is of it, and the caller."""
    by = ", ".join(f"{name} {value}" for name, value in one.caller.items())
    place = own_name(one.workload) or own_name(one.model) or own_name(one.cluster)
    return f"{place} for {by}" if by and place else place or by
