"""What tokens are sold for, tier by tier, and what an API asks for them; what of it holds on a day. Pure.

A tier is the first entry of `token_prices` that fits a piece of work and has begun; its price may change from a day on.
Days are UTC days, as those of reports. A price of 0 is a price; tokens that no tier fits have none.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from itertools import combinations
from typing import Any, Protocol, TypeVar

import msgspec

from tokenyield_collector.prices.calendar import AnyDated, in_force

ZERO = Decimal(0)
FACTS = ("workload", "namespace", "unit", "service_tier", "context")
"""What a tier may be matched by beside dimensions, model, cluster, `labels.NAME` and `gateway.NAME`. The last two are
what a gateway reported of its caller, under plain names."""
OF_CALLER = ("service_tier", "context")
_PREFIXES = ("labels.", "gateway.")


class PerMillion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices of a million tokens by kind, or of `every` kind alike."""

    from_: date | None = msgspec.field(name="from", default=None)
    every: Decimal | None = None
    prompt: Decimal | None = None
    cached: Decimal | None = None
    """None: as prompt."""
    completion: Decimal | None = None

    def by_kind(self) -> dict[str, Decimal]:
        """By kind of the ledger."""
        prompt, completion = (self._of(self.prompt), self._of(self.completion))
        cached = prompt if self.cached is None else self.cached
        return {
            "prompt_computed": prompt,
            "prompt_cached": cached,
            "prompt_unsplit": prompt,
            "completion": completion,
        }

    def _of(self, amount: Decimal | None) -> Decimal:
        return self.every or ZERO if amount is None else amount


class TokenPrice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tier: what callers pay for tokens. `match`: shell patterns, all of which must fit."""

    name: str
    match: dict[str, str] = {}
    from_: date | None = msgspec.field(name="from", default=None)
    until: date | None = None
    currency: str | None = None
    per_million: tuple[PerMillion, ...] = ()

    def on(self, day: date) -> PerMillion | None:
        """None where it does not hold on that day."""
        if (self.from_ is not None and day < self.from_) or (self.until is not None and day >= self.until):
            return None
        return in_force(self.per_million, day)


class ApiPrice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the same tokens cost at an API."""

    name: str
    model: str = "*"
    currency: str | None = None
    per_million: tuple[PerMillion, ...] = ()
    source: str = ""
    as_of: date | None = None


Priced = TypeVar("Priced", TokenPrice, ApiPrice)
AnyRecord = TypeVar("AnyRecord")


class RecordReader(Protocol):
    """The part of the reader of a price book (load.py) that is needed here."""

    faults: list[str]

    def one(self, at: str, value: Any, kind: type[AnyRecord]) -> AnyRecord | None: ...

    def dated(self, at: str, value: Any, kind: type[AnyDated]) -> tuple[AnyDated, ...]: ...

    def list(self, at: str, value: Any) -> list[Any]: ...


def read_priced(reader: RecordReader, at: str, value: Any, kind: type[Priced]) -> tuple[Priced, ...]:
    """The entries of `token_prices` or `api_prices`. `per_million` is a number, a mapping, or a list of either by
    day."""
    entries = []
    for i, raw in enumerate(reader.list(at, value)):
        here = f"{at}[{i}]"
        if not isinstance(raw, dict):
            reader.faults.append(f"{here}: expected a mapping, found {type(raw).__name__}")
            continue
        if raw.get("per_million") is None:
            fix = "write 3, or {prompt: 1, completion: 6}; free is 0"
            reader.faults.append(f"{here}.per_million: expected a price of a million tokens, found nothing; {fix}")
            prices: tuple[PerMillion, ...] = ()
        else:
            prices = reader.dated(f"{here}.per_million", _as_mappings(raw["per_million"]), PerMillion)
        rest = {name: entry for name, entry in raw.items() if name != "per_million"}
        head = reader.one(here, rest, kind)
        if head is not None and prices:
            entries.append(msgspec.structs.replace(head, per_million=prices))
    return tuple(entries)


def _as_mappings(value: Any) -> Any:
    """3 as {every: 3}, alone and in a list, in which an entry may say {from: 2026-11-01, every: 3}."""
    if isinstance(value, list):
        return [_as_mappings(entry) for entry in value]
    return value if isinstance(value, dict) else {"every": value}


def price_faults(at: str, prices: Sequence[PerMillion]) -> Iterator[str]:
    for i, price in enumerate(prices):
        here = f"{at}.per_million[{i}]" if len(prices) > 1 else f"{at}.per_million"
        by_kind = {name: getattr(price, name) for name in ("prompt", "cached", "completion")}
        stated = {name: amount for name, amount in by_kind.items() if amount is not None}
        for name, amount in {"every": price.every, **stated}.items():
            if amount is not None and amount < 0:
                yield f"{here}{'' if name == 'every' else f'.{name}'}: expected at least 0, found {amount}"
        if price.every is not None and stated:
            fix = f"set every: null where {', '.join(stated)} begin"
            yield f"{here}: expected either one price of every kind or prices by kind, found both; {fix}"
        if price.every is None and price.prompt is None and price.completion is None:
            yield f"{here}: expected prompt or completion, found neither; free is 0"


def tier_faults(listed: Sequence[TokenPrice]) -> Iterator[str]:
    """A tier is known by its name and the day: entries of one name that hold at once must ask the same."""
    for i, tier in enumerate(listed):
        at = f"token_prices[{i}]"
        if not tier.name:
            yield f"{at}.name: expected a name of the tier, found ''"
        if tier.from_ is not None and tier.until is not None and tier.until <= tier.from_:
            yield f"{at}.until: expected a day after from, found {tier.until}"
    for (i, one), (j, other) in combinations(enumerate(listed), 2):
        is_at_once = _begins_before_end(one, other) and _begins_before_end(other, one)
        if one.name == other.name and is_at_once and _asked(one) != _asked(other):
            fix = "name it otherwise, or let the first end (until) where the second begins (from)"
            yield (
                f"token_prices[{j}].name: expected a name of its own, or the price of token_prices[{i}], "
                f"found '{one.name}' at another price; {fix}"
            )


def _begins_before_end(one: TokenPrice, other: TokenPrice) -> bool:
    return one.from_ is None or other.until is None or one.from_ < other.until


def _asked(tier: TokenPrice) -> tuple[object, ...]:
    return tier.currency, tier.per_million


def match_faults(listed: Sequence[TokenPrice], dimensions: Sequence[str]) -> Iterator[str]:
    """Names that no piece of work has, so that the tier would never fit. The dimensions are those of the rules."""
    known = (*dimensions, "model", "cluster", *FACTS)
    for i, tier in enumerate(listed):
        for name in tier.match:
            if name not in known and not name.startswith(_PREFIXES):
                expected = f"one of {', '.join(known)}, labels.NAME, gateway.NAME"
                yield f"token_prices[{i}] ({tier.name}).match.{name}: expected {expected}, found '{name}'; correct it"


def names_matched(listed: Sequence[TokenPrice]) -> tuple[str, ...]:
    """All names that any tier is matched by."""
    return tuple(sorted({name for tier in listed for name in tier.match}))


def with_plain_names(names: Mapping[str, str]) -> dict[str, str]:
    """What is known of a piece of work (`names_for_rules`), with what its caller's gateway reported under plain
    names."""
    plain = {name: names[f"gateway.{name}"] for name in OF_CALLER if f"gateway.{name}" in names}
    return {**names, **plain}
