"""What a statement does not know, by name: the one catalogue of kinds of gaps, their wording and how to fix them. Pure.

A gap never changes what anybody is charged, and is never a price of 0: time and tokens in it leave the ratios, and the
gap says how much they are. Reports, /v1/summary, metrics, `verify` and `check` show the same gaps in the same words.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import add
from typing import NamedTuple

from tokenyield_collector.http.schemas import GapDocument
from tokenyield_collector.prices.period import day_of
from tokenyield_wire.units import JOULES_PER_KWH, MJ_PER_JOULE, MS_PER_HOUR

GAPS_MAX = 100
"""Gaps that are listed by name; what is beyond stands together, kind by kind."""
SUBJECTS_MAX = 1000
"""What a statement distinguishes; what is beyond is `OTHERS`."""
SUBJECT_CHARS_MAX = 300
OTHERS = "(other)"
_MEGA = 10**6


class GapKind(NamedTuple):
    """`meaning` and `fix` are clauses: they follow what the gap is about and how much it is."""

    name: str
    title: str
    meaning: str
    fix: str


NO_POOL = GapKind(
    "no_pool",
    "GPUs in no pool",
    "no pool of the price book fits them, so that their cost is unknown",
    "add a pool whose match fits them to the price book (prices_file)",
)
NO_TERMS = GapKind(
    "no_terms",
    "pool without a price",
    "the pool fits, but none of its terms holds on these days",
    "add terms from an earlier day, or for later days, to the pool, or let another pool match",
)
BEYOND_COUNT = GapKind(
    "beyond_count",
    "GPUs beyond a pool's count",
    "the pools that fit take no more GPUs than their count, so that the cost of the others is unknown",
    "correct the count, set overflow_per_gpu_hour, or add a pool that takes the rest",
)
NO_FACILITY = GapKind(
    "no_facility",
    "facility without an entry",
    "the pool's facility has no entry that holds on these days, so that space and energy have no price",
    "let the first entry of the facility hold from an earlier day",
)
NO_EXCHANGE_RATE = GapKind(
    "no_exchange_rate",
    "currency without an exchange rate",
    "a price in this currency has no exchange rate on these days, so that the cost is unknown",
    "add an entry to exchange_rates of the price book that holds from an earlier day",
)
NO_GPU = GapKind(
    "no_gpu",
    "tokens made on no GPU that is known",
    "their server held no GPU that an agent reported, so that their cost and energy are unknown",
    "run an agent on the node of the server, or let it see the server's process",
)
NO_TOKEN_PRICE = GapKind(
    "no_token_price",
    "tokens without a token price",
    "no entry of token_prices fits them, so that their revenue is unknown",
    "add an entry to token_prices that fits them; what is given away has a price of 0",
)
NO_TOKEN_EXCHANGE_RATE = GapKind(
    "no_token_exchange_rate",
    "token price without an exchange rate",
    "their token price is in a currency without an exchange rate on these days, so that their revenue is unknown",
    "add an entry to exchange_rates of the price book that holds from an earlier day",
)
NO_API_PRICE = GapKind(
    "no_api_price",
    "API without a price",
    "the API has no price on these days, so that these tokens are not compared",
    "let the first entry of its per_million in api_prices hold from an earlier day",
)
NO_API_EXCHANGE_RATE = GapKind(
    "no_api_exchange_rate",
    "API price without an exchange rate",
    "it is in a currency without an exchange rate on these days, so that these tokens are not compared",
    "add an entry to exchange_rates of the price book that holds from an earlier day",
)
NOT_SERVED = GapKind(
    "not_served",
    "demand that no server made",
    "no server of the cluster ran the model in these hours: it was bought, or runs under another name; nobody is "
    "charged for it",
    "name the model under which its server runs it in gateway_models of the attribution rules, or run an agent on the "
    "server's node; what is bought needs nothing",
)
BEYOND_SERVED = GapKind(
    "beyond_served",
    "demand above what was served",
    "the gateway counted more tokens than servers made; callers carry what was made, by their parts of the demand",
    "look for servers without an agent, for answers from a cache, and for a log that is read twice",
)
GATEWAYS_CHAINED = GapKind(
    "gateways_chained",
    "requests counted by two gateways",
    "both counted the same requests; those of the gateway with more callers count, once, and what the one behind it "
    "counted is left out",
    "leave the gateway behind out of the agents' gateways; if it is not behind, look for answers from a cache",
)
GPU_TWICE = GapKind(
    "gpu_twice",
    "GPU reported twice",
    "the same GPU was reported for more time than there is: this much of its time, energy and cost counts twice",
    "stop the second agent, or give each machine its own node name",
)
GPU_CONTESTED = GapKind(
    "gpu_contested",
    "GPU of another node",
    "several nodes report the same GPU for the same time: it counts once, for the node that reported it first; what "
    "the others report of it in those hours is left out",
    "find out which node has it, and take the token of the other away; a copied machine must not report the same GPU",
)
WORKLOAD_FOREIGN = GapKind(
    "workload_foreign",
    "workload of another scope",
    "nodes whose tokens do not share workloads used the name first, so that it counts as a workload of its own",
    "where it is one workload, give the tokens of its nodes the same workloads=; else rename it, or revoke the token "
    "of the node that claims it; `verify` names both",
)
BOUGHT_UNPRICED = GapKind(
    "bought_unpriced",
    "bought tokens without a price",
    "nobody billed them, and the list of prices does not have them, so that their cost is unknown",
    "import the vendor's bill or cost report for the same account",
)
LIST_PRICED = GapKind(
    "list_priced",
    "bought tokens at list or agreed price",
    "the vendor's bill is not there for these days, so that their cost is that of a public list or of bought_prices",
    "import the bill or cost report for the same account",
)
BEYOND_BILLED = GapKind(
    "beyond_billed",
    "used beyond what was billed or reported",
    "the bill of the same account and day does not have them; they are in no figure",
    "look for requests that the vendor bills later or to another account (--account), and for a log that is read twice",
)
KINDS = (
    NO_POOL,
    NO_TERMS,
    BEYOND_COUNT,
    NO_FACILITY,
    NO_EXCHANGE_RATE,
    NO_GPU,
    NO_TOKEN_PRICE,
    NO_TOKEN_EXCHANGE_RATE,
    NO_API_PRICE,
    NO_API_EXCHANGE_RATE,
    NOT_SERVED,
    BEYOND_SERVED,
    GATEWAYS_CHAINED,
    GPU_TWICE,
    GPU_CONTESTED,
    WORKLOAD_FOREIGN,
    BOUGHT_UNPRICED,
    LIST_PRICED,
    BEYOND_BILLED,
)
"""In the order in which gaps are shown."""
BY_NAME = {kind.name: kind for kind in KINDS}
OF_SPEND = (BOUGHT_UNPRICED, LIST_PRICED, BEYOND_BILLED)
"""Of what is bought, which is known by days and later than what the fleet does."""


class GapAmounts(NamedTuple):
    """How much is in a gap. What does not apply is 0."""

    gpu_ms: int = 0
    energy_mj: int = 0
    tokens: int = 0
    requests: int = 0

    def plus(self, other: "GapAmounts") -> "GapAmounts":
        return GapAmounts(*map(add, self, other))


NOTHING = GapAmounts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """One thing that is not known. `subject` is what it is about, as people write it."""

    kind: GapKind
    subject: str
    amounts: GapAmounts = NOTHING
    first_ms: int = 0
    last_ms: int = 0
    """Start of the first and of the last day that have it; 0 where it has no days."""

    @property
    def days(self) -> str:
        """'2026-10-01..2026-10-15', or one day."""
        if not self.last_ms:
            return ""
        first, last = day_of(self.first_ms).isoformat(), day_of(self.last_ms).isoformat()
        return first if first == last else f"{first}..{last}"

    @property
    def text(self) -> str:
        """One line for people: what, how much, when, why, and the fix."""
        parts = [f"{self.kind.title}: {self.subject}"]
        if much := self.much:
            parts.append(much)
        when = f" ({self.days})" if self.days else ""
        return f"{', '.join(parts)}{when}: {self.kind.meaning}; {self.kind.fix}"

    @property
    def much(self) -> str:
        amounts = self.amounts
        parts = [f"{amounts.gpu_ms / MS_PER_HOUR:,.1f} GPU-hours"] if amounts.gpu_ms else []
        if amounts.energy_mj:
            parts.append(f"{amounts.energy_mj / MJ_PER_JOULE / JOULES_PER_KWH:,.2f} kWh")
        if amounts.tokens:
            parts.append(f"{amounts.tokens / _MEGA:,.2f} Mtok" if amounts.tokens >= _MEGA // 100 else
                         f"{amounts.tokens:,} tokens")  # fmt: skip
        if amounts.requests:
            parts.append(f"{amounts.requests:,} requests")
        return ", ".join(parts)

    def document(self) -> GapDocument:
        """For JSON and for the metadata of files."""
        amounts = self.amounts
        return {
            "kind": self.kind.name,
            "subject": self.subject,
            "days": self.days or None,
            "gpu_hours": amounts.gpu_ms / MS_PER_HOUR,
            "joules": amounts.energy_mj / MJ_PER_JOULE,
            "tokens": amounts.tokens,
            "requests": amounts.requests,
            "meaning": self.kind.meaning,
            "fix": self.kind.fix,
            "text": self.text,
        }


class DayGap(NamedTuple):
    """What of one gap is on one day. `kind` is the name of one of `KINDS`; 0 as the day of what has no days."""

    kind: str
    subject: str
    day_ms: int
    amounts: GapAmounts


class GapSums:
    """Gaps as they are found, summed by kind, subject and day."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str, int], GapAmounts] = {}
        self._subjects: set[tuple[str, str]] = set()

    def add(self, kind: GapKind, subject: str, day_ms: int, amounts: GapAmounts) -> None:
        if (kind.name, subject) not in self._subjects:
            if len(self._subjects) >= SUBJECTS_MAX:
                subject = OTHERS
            self._subjects.add((kind.name, subject))
        at = (kind.name, subject, day_ms)
        before = self._sums.get(at)
        self._sums[at] = amounts if before is None else before.plus(amounts)

    def by_day(self) -> list[DayGap]:
        return [DayGap(*at, amounts) for at, amounts in self._sums.items()]


def gaps_of(parts: Iterable[DayGap]) -> list[Gap]:
    """Over all days: by kind, and the greatest first; at most `GAPS_MAX` by name, the rest of each kind together."""
    days: dict[tuple[str, str], list[DayGap]] = defaultdict(list)
    for part in parts:
        days[part.kind, part.subject].append(part)
    gaps = [_gap(kind, subject, listed) for (kind, subject), listed in days.items()]
    gaps.sort(key=lambda gap: (KINDS.index(gap.kind), [-amount for amount in gap.amounts], gap.subject))
    rest: dict[str, list[DayGap]] = defaultdict(list)
    for gap in gaps[GAPS_MAX:]:
        rest[gap.kind.name] += days[gap.kind.name, gap.subject]
    return [*gaps[:GAPS_MAX], *(_gap(kind, OTHERS, listed) for kind, listed in rest.items())]


def _gap(kind: str, subject: str, days: Sequence[DayGap]) -> Gap:
    amounts = NOTHING
    for day in days:
        amounts = amounts.plus(day.amounts)
    listed = [day.day_ms for day in days]
    return Gap(kind=BY_NAME[kind], subject=subject, amounts=amounts, first_ms=min(listed), last_ms=max(listed))


def subject_of(names: Sequence[str], shown: int = 5) -> str:
    """Names in a line: the first few, and how many more."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    text = ", ".join(names[:shown]) + more
    return text if len(text) <= SUBJECT_CHARS_MAX else text[: SUBJECT_CHARS_MAX - 1] + "…"
