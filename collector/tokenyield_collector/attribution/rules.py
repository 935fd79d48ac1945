"""Who carries a cost: rules over what is known of a workload and of who asked it. Pure.

In: facts (cluster, namespace, pod labels, unit, model, gateway team/key/user/tags). Out: a value for every dimension
that the rules name (team, product, ...). The first rule that matches holds; what none matches is `unattributed`.
"""

import re
import string
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import msgspec

from tokenyield_settings.loader import SettingsError, nearest, read_yaml

UNATTRIBUTED = "unattributed"
BUILT_IN = ("hour", "day", "cluster", "pool", "node", "workload", "model")
"""Columns that a report can always be made by, beside the dimensions."""
_FACTS = ("cluster", "workload", "model", "namespace", "unit")
"""What a rule may match by its plain name."""
_LABELS_TAKEN = ("bucket", "currency", "kind", "job", "instance", "le")
"""Label names of the metrics, which a dimension would hide."""
DIMENSIONS_MAX = 12
RULES_MAX = 1000
VALUE_CHARS_MAX = 200

Sharing = Literal["apart", "even", "usage", "ownership"]


class Match(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shell patterns, all of which must fit; a pattern never fits what is not known."""

    cluster: str | None = None
    workload: str | None = None
    model: str | None = None
    namespace: str | None = None
    unit: str | None = None
    labels: dict[str, str] = {}
    gateway: dict[str, str] = {}
    """team, key, user, end_user, project, org, tags: as the gateway's log tells."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`set` gives dimensions their values; `{namespace}`, `{labels.team}`, `{gateway.key}` stand for what is known."""

    name: str = ""
    match: Match = Match()
    set: dict[str, str]


class SharingPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who carries what makes no tokens, by day and pool.

    apart: a line of its own. usage: those who used the pool that day, by their active cost. even: each value of the
    first dimension alike. ownership: for idle who held it, for the others the pool's `owner`.
    """

    idle: Sharing = "ownership"
    unallocated: Sharing = "apart"
    dark: Sharing = "apart"


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What those whose dimensions fit `match` may cost in a calendar month (UTC), in the price book's currency."""

    name: str
    match: dict[str, str] = {}
    monthly: Decimal
    from_: date | None = msgspec.field(name="from", default=None)
    until: date | None = None


class FocusSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names in FOCUS files: who bills whom."""

    billing_account_id: str = "gpu-fleet"
    billing_account_name: str = "GPU fleet"
    provider: str = "Platform Engineering"
    region_id: str | None = None
    region_name: str | None = None


class Attribution(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rules and what goes with them. The first dimension is who is charged."""

    version: int = 1
    dimensions: tuple[str, ...] = ("team", "product")
    rules: tuple[Rule, ...] = (
        Rule(name="who asked the gateway", match=Match(gateway={"team": "?*"}), set={"team": "{gateway.team}"}),
        Rule(
            name="labels of the workload",
            match=Match(labels={"team": "?*"}),
            set={"team": "{labels.team}", "product": "{labels.product}"},
        ),
    )
    gateway_models: dict[str, str] = {}
    """A gateway's name of a model -> the name under which its server runs it."""
    sharing: SharingPolicy = SharingPolicy()
    budgets: tuple[Budget, ...] = ()
    focus: FocusSettings = FocusSettings()

    @property
    def document(self) -> str:
        return msgspec.json.encode(self, order="sorted").decode()

    def attribute(self, known: Mapping[str, str]) -> tuple[str, ...]:
        """A value for each of `dimensions`. `known` is flat: `cluster`, `labels.team`, `gateway.key`, ..."""
        for rule in self.rules:
            if fits(_patterns(rule.match), known):
                return tuple(_value(rule.set.get(name, ""), known) for name in self.dimensions)
        return (UNATTRIBUTED,) * len(self.dimensions)


def known_of(
    *, cluster: str, workload: str, model: str, labels: Mapping[str, str], asker: Mapping[str, str]
) -> dict[str, str]:
    """Facts under the names that rules use."""
    flat = {"cluster": cluster, "workload": workload, "model": model}
    flat |= {name: labels[name] for name in ("namespace", "unit") if name in labels}
    flat |= {f"labels.{name}": value for name, value in labels.items()}
    flat |= {f"gateway.{name}": value for name, value in asker.items()}
    return {name: value for name, value in flat.items() if value}


def fits(patterns: Mapping[str, str], known: Mapping[str, str]) -> bool:
    """Whether every pattern fits; one never fits what is not known."""
    return all(name in known and fnmatchcase(known[name], pattern) for name, pattern in patterns.items())


def _patterns(match: Match) -> dict[str, str]:
    found = {name: pattern for name in _FACTS if (pattern := getattr(match, name)) is not None}
    found |= {f"labels.{name}": pattern for name, pattern in match.labels.items()}
    return found | {f"gateway.{name}": pattern for name, pattern in match.gateway.items()}


def _value(template: str, known: Mapping[str, str]) -> str:
    """The template with what is known put in; `unattributed` when nothing is left of it."""
    text = "".join(
        literal + (known.get(name, "") if name else "") for literal, name, _, _ in string.Formatter().parse(template)
    ).strip()
    return text[:VALUE_CHARS_MAX] or UNATTRIBUTED


def load_attribution(path: Path | None) -> Attribution:
    """Raises `SettingsError` with every fault. Without a file: team and product of gateways and labels."""
    if path is None:
        return Attribution()
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise SettingsError([f"{path}: wanted a mapping with 'rules', found {type(raw).__name__}"])
    faults: list[str] = []
    names = {field.encode_name for field in msgspec.structs.fields(Attribution)}
    faults += [f"{name}: unknown entry{nearest(str(name), names)}" for name in raw if name not in names]
    kept: dict[str, Any] = {name: value for name, value in raw.items() if name in names}
    for part, kind in (("rules", Rule), ("budgets", Budget)):
        if not isinstance(kept.get(part, []), list):
            faults.append(f"{part}: wanted a list, found {type(kept.pop(part)).__name__}")
            continue
        sound = []
        for i, entry in enumerate(kept.get(part, [])):
            try:
                sound.append(msgspec.to_builtins(msgspec.convert(entry, kind)))
            except msgspec.ValidationError as error:
                faults.append(f"{part}[{i}]: {error}")
        if part in kept:
            kept[part] = sound
    found = Attribution()
    try:
        found = msgspec.convert(kept, Attribution)
    except msgspec.ValidationError as error:
        faults.append(str(error))
    faults += list(_faults(found))
    if faults:
        raise SettingsError([f"{path}: {fault}" for fault in faults])
    return found


def _faults(found: Attribution) -> Iterator[str]:
    if found.version != 1:
        yield f"version: {found.version} is unknown, this collector reads 1"
    if not 1 <= len(found.dimensions) <= DIMENSIONS_MAX:
        yield f"dimensions: {len(found.dimensions)} are outside 1 to {DIMENSIONS_MAX}"
    if len(set(found.dimensions)) != len(found.dimensions):
        yield "dimensions: one stands twice"
    for name in found.dimensions:
        taken = (*BUILT_IN, *_LABELS_TAKEN)
        if name in taken or not re.fullmatch("[a-z][a-z0-9_]*", name):
            wanted = f"lower case letters, digits and _, a letter first, and none of {', '.join(taken)}"
            yield f"dimensions: '{name}' cannot be used; write {wanted}"
    if len(found.rules) > RULES_MAX:
        yield f"rules: {len(found.rules)} are more than {RULES_MAX}"
    for i, rule in enumerate(found.rules):
        at = f"rules[{i}]" + (f" ({rule.name})" if rule.name else "")
        for name, template in rule.set.items():
            if name not in found.dimensions:
                yield f"{at}.set.{name}: is none of dimensions{nearest(name, found.dimensions)}"
            yield from _template_faults(f"{at}.set.{name}", template)
    for i, budget in enumerate(found.budgets):
        at = f"budgets[{i}] ({budget.name})"
        if budget.monthly <= 0:
            yield f"{at}.monthly: {budget.monthly} wants to be above 0"
        for name in budget.match:
            if name not in (*found.dimensions, "model", "cluster"):
                yield f"{at}.match.{name}: is none of dimensions, model or cluster{nearest(name, found.dimensions)}"


def _template_faults(at: str, template: str) -> Iterator[str]:
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        yield f"{at}: '{template}' cannot be read ({error}); write {{namespace}} or {{labels.team}}"
        return
    for name in names:
        if name not in _FACTS and not name.startswith(("labels.", "gateway.")):
            yield f"{at}: {{{name}}} is not known; known are {', '.join(_FACTS)}, labels.NAME, gateway.NAME"
