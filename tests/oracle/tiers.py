"""What tokens are sold for: the first entry of `token_prices` that fits and holds. Plain Python, from docs/money.md."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from oracle.people import matches
from oracle.terms import Terms, amount, as_list, in_force


class Tier(NamedTuple):
    """`prices`: kind -> what a token is sold for; `slips`: by how much that may be rounded. No name: nothing fits."""

    name: str = ""
    prices: Mapping[str, Decimal] = {}
    slips: Mapping[str, Decimal] = {}
    is_known: bool = True
    """False where the price has no exchange rate."""


def tier_of(terms: Terms, names: Mapping[str, str], day: date) -> Tier:
    """`names`: what is known of a piece of work, of its request and of its caller."""
    for entry in terms.document.get("token_prices") or ():
        begins, ends = entry.get("from"), entry.get("until")
        if not matches(entry.get("match") or {}, names) or (begins and day < begins) or (ends and day >= ends):
            continue
        price = in_force(
            [one if isinstance(one, dict) else {"every": one} for one in as_list(entry["per_million"])], day
        )
        if price is None:
            continue
        exchange = terms.exchange(entry.get("currency"), day)
        if exchange is None:
            return Tier(str(entry["name"]), is_known=False)
        exact = {kind: value * exchange / 10**6 for kind, value in by_kind(price).items()}
        return Tier(str(entry["name"]), exact, {kind: abs(value - round(value, 12)) for kind, value in exact.items()})
    return Tier()


def by_kind(price: Mapping[str, Any]) -> dict[str, Decimal]:
    """Of a million tokens; cached ones as prompt where nothing is said."""
    every = price.get("every", 0)
    prompt, completion = amount(price.get("prompt", every)), amount(price.get("completion", every))
    cached = amount(price["cached"]) if price.get("cached") is not None else prompt
    return {"prompt_computed": prompt, "prompt_cached": cached, "prompt_unsplit": prompt, "completion": completion}
