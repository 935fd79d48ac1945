"""Who carries a cost: rules over what is known about a workload and about the caller that it worked for. Pure.

In: names (cluster, namespace, pod labels, unit, model, what a gateway logged about the caller). Out: a value for every
dimension that the rules name, None where no rule gives one (shown as unattributed). The first rule that matches holds.
Dimensions are whatever the rules name; the first one is who is charged.
"""

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import msgspec

from tokenyield_collector.attribution.taken import BUILT_IN, OUTCOME_FIGURES, TAKEN
from tokenyield_settings.loader import SettingsError, nearest, read_yaml
from tokenyield_wire.bounded import bounded

DEFAULT_DIMENSIONS = ("team", "product")
_FACTS = ("cluster", "workload", "model", "namespace", "unit")
"""Facts that a rule may match by their plain names."""
DIMENSIONS_MAX = 12
RULES_MAX = 1000
VALUE_CHARS_MAX = 200
BUDGET_TOKENS_MAX = 10**18
STEPS_MAX = 10
DEFAULT_STEPS = (50, 80, 100)
TOKENS = "tokens"
"""Unit of a budget that is not of money."""

Sharing = Literal["apart", "even", "usage", "ownership"]


class RuleMatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shell patterns, all of which must fit; a pattern never fits what is unknown."""

    cluster: str | None = None
    workload: str | None = None
    model: str | None = None
    namespace: str | None = None
    unit: str | None = None
    labels: dict[str, str] = {}
    gateway: dict[str, str] = {}
    """team, key, user, end_user, project, org, tags, agent_task, session, agent: as in the gateway's log."""


class AttributionRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`set` gives dimensions their values; `{namespace}`, `{labels.team}`, `{gateway.key}` stand for what is known, and
    `{gateway.product|labels.product}` for the first of both that is."""

    name: str = ""
    match: RuleMatch = RuleMatch()
    set: dict[str, str]


class SharingPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who carries the cost of capacity that made no tokens, by day and pool.

    apart: a line of its own. usage: those who used the pool that day, by their active cost. even: each value of the
    first dimension alike. ownership: idle by its holder, the others by the pool's `owner`.
    """

    idle: Sharing = "ownership"
    unallocated: Sharing = "apart"
    dark: Sharing = "apart"


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What everything that fits `match` may spend in a calendar month (UTC): money (`monthly`, in the price book's
    currency), tokens of all kinds, or both."""

    name: str
    match: dict[str, str] = {}
    monthly: Decimal | None = None
    tokens: int | None = None
    steps: tuple[int, ...] = DEFAULT_STEPS
    """Percent of it at which an alert fires."""
    from_: date | None = msgspec.field(name="from", default=None)
    until: date | None = None


class FocusSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names in FOCUS files."""

    billing_account_id: str = "gpu-fleet"
    billing_account_name: str = "GPU fleet"
    provider: str = "Platform Engineering"
    region_id: str | None = None
    region_name: str | None = None


def default_rules(dimensions: Sequence[str]) -> tuple[AttributionRule, ...]:
    """The rules where a file has none: what the gateway logged about the caller under the first dimension's name, else
    the workload's labels under the names of the dimensions. What the gateway does not say of the others is the
    workload's."""
    first, *others = dimensions
    return (
        AttributionRule(
            name="caller of the gateway",
            match=RuleMatch(gateway={first: "?*"}),
            set={first: f"{{gateway.{first}}}", **{name: f"{{gateway.{name}|labels.{name}}}" for name in others}},
        ),
        AttributionRule(
            name="labels of the workload",
            match=RuleMatch(labels={first: "?*"}),
            set={name: f"{{labels.{name}}}" for name in dimensions},
        ),
    )


class AttributionRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rules, and settings beside them. The first dimension is who is charged."""

    version: int = 1
    dimensions: tuple[str, ...] = DEFAULT_DIMENSIONS
    rules: tuple[AttributionRule, ...] | None = None
    """None is replaced by the `default_rules` of the dimensions."""
    gateway_models: dict[str, str] = {}
    """A gateway's name of a model -> the name under which its server runs it."""
    sharing: SharingPolicy = SharingPolicy()
    budgets: tuple[Budget, ...] = ()
    focus: FocusSettings = FocusSettings()

    def __post_init__(self) -> None:
        if self.rules is None and self.dimensions:
            msgspec.structs.force_setattr(self, "rules", default_rules(self.dimensions))

    @property
    def document(self) -> str:
        return msgspec.json.encode(self, order="sorted").decode()

    def attribute(self, names: Mapping[str, str]) -> tuple[str | None, ...]:
        """A value for each of `dimensions`, None where no rule gives one. `names` is flat, see `names_for_rules`."""
        for rule in self.rules or ():
            if fits(_patterns(rule.match), names):
                return tuple(_value(rule.set.get(name, ""), names) for name in self.dimensions)
        return (None,) * len(self.dimensions)


def names_for_rules(
    *, cluster: str, workload: str, model: str, labels: Mapping[str, str], caller: Mapping[str, str]
) -> dict[str, str]:
    """What is known about a piece of work, under the names that rules use: `cluster`, `labels.app`, `gateway.key`."""
    flat = {"cluster": cluster, "workload": workload, "model": model}
    flat |= {name: labels[name] for name in ("namespace", "unit") if name in labels}
    flat |= {f"labels.{name}": value for name, value in labels.items()}
    flat |= {f"gateway.{name}": value for name, value in caller.items()}
    return {name: value for name, value in flat.items() if value}


def fits(patterns: Mapping[str, str], names: Mapping[str, str]) -> bool:
    """Whether every pattern fits; none fits what is unknown."""
    return all(name in names and fnmatchcase(names[name], pattern) for name, pattern in patterns.items())


def _patterns(match: RuleMatch) -> dict[str, str]:
    patterns = {name: pattern for name in _FACTS if (pattern := getattr(match, name)) is not None}
    patterns |= {f"labels.{name}": pattern for name, pattern in match.labels.items()}
    return patterns | {f"gateway.{name}": pattern for name, pattern in match.gateway.items()}


def _value(template: str, names: Mapping[str, str]) -> str | None:
    """The template with known values put in; None when the result is empty. Spaces of the template at its ends, which
    an unknown value leaves, are cut; those of a value are its own."""
    pieces: list[tuple[str, bool]] = []  # text, whether it is a value
    for literal, field, _, _ in string.Formatter().parse(template):
        value = next((names[name] for name in (field or "").split("|") if name in names), "")
        pieces += [(text, is_value) for text, is_value in ((literal, False), (value, True)) if text]
    for at, cut in ((0, str.lstrip), (-1, str.rstrip)):
        while pieces and not pieces[at][1]:
            if text := cut(pieces[at][0]):
                pieces[at] = (text, False)
                break
            pieces.pop(at)
    return bounded("".join(text for text, _ in pieces), VALUE_CHARS_MAX) or None


def load_rules(path: Path | None) -> AttributionRules:
    """Raises `SettingsError` with every fault. Without a file: the defaults."""
    if path is None:
        return AttributionRules()
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise SettingsError([f"{path}: expected a mapping with 'rules', found {type(raw).__name__}"])
    faults: list[str] = []
    names = {field.encode_name for field in msgspec.structs.fields(AttributionRules)}
    faults += [f"{name}: unknown entry{nearest(str(name), names)}" for name in raw if name not in names]
    kept: dict[str, Any] = {name: value for name, value in raw.items() if name in names}
    for part, kind in (("rules", AttributionRule), ("budgets", Budget)):
        if part in kept:
            kept[part] = _sound_entries(part, kept[part], kind, faults)
    rules = AttributionRules()
    try:
        rules = msgspec.convert(kept, AttributionRules)
    except msgspec.ValidationError as error:
        faults.append(str(error))
    faults += _faults(rules)
    if faults:
        raise SettingsError([f"{path}: {fault}" for fault in faults])
    return rules


def _sound_entries(part: str, entries: Any, kind: type[msgspec.Struct], faults: list[str]) -> list[Any]:
    """The entries that can be read; faults of the others are added to `faults`."""
    if not isinstance(entries, list):
        faults.append(f"{part}: expected a list, found {type(entries).__name__}")
        return []
    sound = []
    for i, entry in enumerate(entries):
        try:
            sound.append(msgspec.to_builtins(msgspec.convert(entry, kind)))
        except msgspec.ValidationError as error:
            faults.append(f"{part}[{i}]: {error}")
    return sound


def _faults(rules: AttributionRules) -> Iterator[str]:
    dimensions = rules.dimensions
    if rules.version != 1:
        yield f"version: expected 1, found {rules.version}; this collector reads no other"
    yield from dimension_faults(dimensions)
    listed = rules.rules or ()
    if len(listed) > RULES_MAX:
        yield f"rules: expected at most {RULES_MAX}, found {len(listed)}"
    for i, rule in enumerate(listed):
        at = f"rules[{i}]" + (f" ({rule.name})" if rule.name else "")
        for name, template in rule.set.items():
            if name not in dimensions:
                yield f"{at}.set.{name}: expected one of the dimensions, found '{name}'{nearest(name, dimensions)}"
            yield from _template_faults(f"{at}.set.{name}", template)
    for i, budget in enumerate(rules.budgets):
        at = f"budgets[{i}] ({budget.name})"
        yield from _amount_faults(at, budget)
        for name in budget.match:
            if name not in (*dimensions, "model", "cluster"):
                close = nearest(name, dimensions)
                yield f"{at}.match.{name}: expected a dimension, model or cluster, found '{name}'{close}"


def _amount_faults(at: str, budget: Budget) -> Iterator[str]:
    if budget.monthly is None and budget.tokens is None:
        yield f"{at}: expected monthly (money) or tokens, found neither; write what a month may spend"
    if budget.monthly is not None and not (budget.monthly.is_finite() and budget.monthly > 0):
        yield f"{at}.monthly: expected a number greater than 0, found {budget.monthly}"
    if budget.tokens is not None and not 0 < budget.tokens <= BUDGET_TOKENS_MAX:
        yield f"{at}.tokens: expected a whole number from 1 to {BUDGET_TOKENS_MAX}, found {budget.tokens}"
    steps = budget.steps
    if len(steps) > STEPS_MAX or len(set(steps)) != len(steps) or not all(1 <= step <= 100 for step in steps):
        found = ", ".join(map(str, steps))
        yield f"{at}.steps: expected up to {STEPS_MAX} different percentages (1 to 100), found {found}; correct them"


def dimension_faults(dimensions: Sequence[str]) -> Iterator[str]:
    if not 1 <= len(dimensions) <= DIMENSIONS_MAX:
        yield f"dimensions: expected 1 to {DIMENSIONS_MAX}, found {len(dimensions)}"
    if len(set(dimensions)) != len(dimensions):
        yield f"dimensions: expected each once, found {', '.join(dimensions)}; remove the repeated one"
    for name in dimensions:
        if not re.fullmatch("[a-z][a-z0-9_]*", name):
            expected = f"lower case letters, digits and _, a letter first, and none of {', '.join(BUILT_IN)}"
            yield f"dimensions: expected {expected}, found '{name}'; rename it"
        elif (of_what := TAKEN.get(name)) is not None:
            yield f"dimensions: expected a name that is not {of_what} already, found '{name}'; rename it"
        elif name.startswith(OUTCOME_FIGURES):
            begun = " or ".join(OUTCOME_FIGURES)
            yield f"dimensions: expected a name that does not begin with {begun}, found '{name}'; rename it"


def _template_faults(at: str, template: str) -> Iterator[str]:
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
    except ValueError as error:
        yield f"{at}: expected a template, found '{template}' ({error}); write {{namespace}} or {{labels.team}}"
        return
    for name in (name for field in fields for name in field.split("|")):
        if name not in _FACTS and not name.startswith(("labels.", "gateway.")):
            yield f"{at}: expected one of {', '.join(_FACTS)}, labels.NAME, gateway.NAME, found {{{name}}}"
