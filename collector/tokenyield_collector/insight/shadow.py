"""Shadow use: AI that is used or paid for, and that no sanctioned gateway, registered server or explained bill shows.

In: slices of spend and of evidence, a statement of the own fleet, what is sanctioned. Out: findings, the strongest
level first. Levels, each with other evidence, and never added up:

* `paid`: money that nothing observed being used: invoices and card lines, and what a bill has beyond what was observed
* `used`: tokens that no bill accounts for, and own GPUs held by what no registered server or rule explains, at cost
* `connected`: connections to a vendor, of proxies' logs
* `seen`: lookups of a vendor's name, refused connections, variables with the name of a vendor's key

Money of one thing stands in one finding; where it is not known it is unpriced: bytes are no tokens. A vendor or host
that is sanctioned is counted, and is no finding. Pure but for what the ledger reads.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple

from tokenyield_collector.errors import ParameterError
from tokenyield_collector.http.schemas import ShadowDocument, ShadowFindingDocument
from tokenyield_collector.insight.spend_days import SpendReader, spend_days
from tokenyield_collector.prices.money import decimal
from tokenyield_collector.prices.period import day_of, iso, parse_period
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.spend.egress.rules import EgressRules
from tokenyield_collector.spend.layers import spend_of_day
from tokenyield_collector.spend.people import People
from tokenyield_collector.spend.slices import EVIDENCE_SOURCE, SpendSlice, sum_of_two
from tokenyield_collector.spend.sources import grain_of_slice
from tokenyield_collector.spend.sources.egress import CONNECTIONS, RECEIVED, SENT
from tokenyield_collector.spend.token_costs import UnbilledPrices
from tokenyield_collector.spend.vendors import OWN_FLEET
from tokenyield_collector.statements.bought import SOURCE as BOUGHT
from tokenyield_collector.statements.bought import unbilled_prices
from tokenyield_collector.statements.buckets import BUCKETS
from tokenyield_collector.statements.lines import LineKey, Sums
from tokenyield_collector.statements.names import own_name
from tokenyield_collector.statements.source import Grain
from tokenyield_wire.window import TOKEN_KINDS

Level = Literal["paid", "used", "connected", "seen"]
LEVELS: tuple[Level, ...] = ("paid", "used", "connected", "seen")
FINDINGS_MAX = 10_000
"""Of one answer; `more` counts those beyond."""
SUBJECTS_MAX = 200_000
"""Findings that are put together; a longer period than has so many is refused."""
TABLE_SOURCE = "csv"
CARD, UNOBSERVED, UNBILLED, OWN_GPUS = "invoice or card", "billed, not observed", "observed, not billed", "own GPUs"
MS_PER_HOUR = 3_600_000
_COST_DIGITS = 6
_BYTES = {RECEIVED: "received", SENT: "sent"}
LIMITS = (
    "DNS: a lookup is no use; answers in a cache are not looked up again, and DNS over HTTPS, fixed addresses and "
    "resolvers of others are not seen",
    "proxies: what goes around them is not seen; inside TLS neither tokens nor models are, and bytes are no tokens",
    "addresses: behind NAT or a shared proxy many clients are one, and an address may have had another pod before",
    "hosts: the list is not complete; hosts of clouds serve sanctioned use too; gateways hide the vendor behind them",
    "keys: a variable's name shows who could call a vendor, not who did; names that are not listed are not found",
    "devices and networks that are not the company's, and what people pay themselves, leave no trace here",
)
"""What none of this can show: part of every answer."""


class FindingKey(NamedTuple):
    """What one finding is about; empty where it is not known."""

    level: Level
    evidence: str
    vendor: str
    team: str = ""
    workload: str = ""
    person: str = ""
    account: str = ""
    currency: str = ""


@dataclass
class Finding:
    """`count`: of what the evidence is; bytes as the client sees them; None where it is not known."""

    first_ms: int
    last_ms: int
    count: int | None = None
    received: int | None = None
    sent: int | None = None
    tokens: int | None = None
    gpu_ms: int | None = None
    cost: Decimal | None = None


class ShadowFindings:
    """Put together over days. `sanctioned`: how often what was found is sanctioned."""

    def __init__(self, rules: EgressRules, people: People) -> None:
        self._rules = rules
        self._keeps_person = people in ("pseudonym", "name")
        self.findings: dict[FindingKey, Finding] = {}
        self.sanctioned = 0

    def of(self, key: FindingKey, day_ms: int) -> Finding:
        """Raises `ParameterError` where there are too many."""
        if not self._keeps_person:
            key = key._replace(person="")
        finding = self.findings.get(key)
        if finding is None:
            if len(self.findings) >= SUBJECTS_MAX:
                raise ParameterError("period", expected=f"at most {SUBJECTS_MAX} findings", found="more",
                                     fix="name a shorter period")  # fmt: skip
            finding = self.findings[key] = Finding(day_ms, day_ms)
        finding.first_ms, finding.last_ms = min(finding.first_ms, day_ms), max(finding.last_ms, day_ms)
        return finding

    def add_evidence(self, slices: Iterable[SpendSlice]) -> None:
        """Slices of the source egress."""
        for slice_key, _, lines in slices:
            for fields, amounts in lines:
                count = amounts.requests or 0
                if self._rules.is_sanctioned(fields.vendor, fields.product):
                    self.sanctioned += count if fields.service not in _BYTES else 0
                    continue
                is_connected = fields.service == CONNECTIONS or fields.service in _BYTES
                evidence = CONNECTIONS if is_connected else fields.service
                key = FindingKey("connected" if is_connected else "seen", evidence, own_name(fields.vendor),
                                 own_name(fields.team), own_name(fields.workload), fields.person)  # fmt: skip
                finding = self.of(key, slice_key.day_ms)
                if fields.service in _BYTES:
                    name = _BYTES[fields.service]
                    setattr(finding, name, (getattr(finding, name) or 0) + count)
                else:
                    finding.count = (finding.count or 0) + count

    def add_bought(self, day_ms: int, slices: Sequence[SpendSlice], prices: UnbilledPrices) -> None:
        """Of one day."""
        tables = {(line.fields.vendor, key.account) for key, layer, lines in slices
                  if key.source == TABLE_SOURCE and layer == "billed" for line in lines}  # fmt: skip
        spend = spend_of_day(slices, grain_of_slice, prices)
        for line in spend.lines:
            fields, amounts = line.fields, line.amounts
            if not line.is_unseen or fields.vendor == OWN_FLEET:
                continue
            is_table = (fields.vendor, line.account) in tables
            if is_table and self._rules.is_sanctioned(fields.vendor):
                self.sanctioned += 1
                continue
            has_cost = amounts.cost_micro is not None
            key = FindingKey("paid" if has_cost else "used", CARD if is_table else UNOBSERVED, own_name(fields.vendor),
                             own_name(fields.team), own_name(fields.workload), fields.person, own_name(line.account),
                             fields.currency if has_cost else "")  # fmt: skip
            finding = self.of(key, day_ms)
            finding.tokens = sum_of_two(finding.tokens, amounts.tokens)
            finding.count = sum_of_two(finding.count, amounts.requests)
            if amounts.cost_micro is not None:
                finding.cost = (finding.cost or Decimal()) + Decimal(amounts.cost_micro).scaleb(-6)
        for one in spend.beyond:
            key = FindingKey("used", UNBILLED, own_name(one.vendor), account=own_name(one.account))
            finding = self.of(key, day_ms)
            finding.tokens = sum_of_two(finding.tokens, one.tokens)
            finding.count = sum_of_two(finding.count, one.requests)

    def add_fleet(self, lines: Iterable[tuple[LineKey, Sums]], currency: str) -> None:
        """Own GPUs of processes that are no known workload's, and of workloads of which no server reports tokens and no
        rule knows whose they are."""
        held: dict[str, tuple[Sums, list[int]]] = {}
        is_explained: set[str] = set()
        for key, sums in lines:
            carrier = key.carrier
            if key.source == BOUGHT or carrier.kind not in ("work", "untied"):
                continue
            name = own_name(carrier.workload)
            if any(value is not None for value in carrier.values) or any(
                sums.reported(kind) is not None for kind in TOKEN_KINDS
            ):
                is_explained.add(name)
            whole, days = held.setdefault(name, (Sums(), []))
            whole.take(sums)
            days.append(key.start_ms)
        for name, (sums, days) in held.items():
            gpu_ms = sum(sums.get(f"{bucket}_ms") for bucket in BUCKETS)
            if name in is_explained or not gpu_ms:
                continue
            finding = self.of(FindingKey("used", OWN_GPUS, OWN_FLEET, workload=name, currency=currency), min(days))
            finding.last_ms = max(days)
            finding.gpu_ms = gpu_ms
            finding.cost = decimal(sums.total, _COST_DIGITS) if sums.total else None

    def ordered(self) -> list[tuple[FindingKey, Finding]]:
        """The strongest level first, then the most money, then what was found most often."""
        return sorted(self.findings.items(), key=lambda one: (
            LEVELS.index(one[0].level), -(one[1].cost or 0), -(one[1].gpu_ms or 0), -(one[1].tokens or 0),
            -(one[1].count or 0), one[0]))  # fmt: skip


def shadow(
    maker: ReportMaker, ledger: SpendReader, period: str, rules: EgressRules, people: People, top: int
) -> ShadowDocument:
    """All findings of a period; at most `top` are listed. Raises `ParameterError`, `LedgerError`."""
    asked = parse_period(period)
    found = ShadowFindings(rules, people)
    read = maker.read(period, Grain(workload=True))
    statement = read.statement
    found.add_fleet(statement.lines(), statement.policy.prices.currency)
    prices = unbilled_prices(statement.policy.prices)
    for day_ms, slices in spend_days(ledger, asked.start_ms, asked.end_ms):
        found.add_evidence(one for one in slices if one.key.source == EVIDENCE_SOURCE)
        found.add_bought(day_ms, slices, prices)
    ordered = found.ordered()
    return {
        "period": asked.name,
        "start": iso(asked.start_ms),
        "end": iso(asked.end_ms),
        "findings": [_document(key, finding) for key, finding in ordered[:top]],
        "more": max(0, len(ordered) - top),
        "sanctioned": found.sanctioned,
        "hosts": rules.text,
        "limits": list(LIMITS),
    }


def _document(key: FindingKey, finding: Finding) -> ShadowFindingDocument:
    return {
        "level": key.level,
        "evidence": key.evidence,
        "vendor": key.vendor,
        "team": key.team,
        "workload": key.workload,
        "person": key.person,
        "account": key.account,
        "first_day": day_of(finding.first_ms).isoformat(),
        "last_day": day_of(finding.last_ms).isoformat(),
        "count": finding.count,
        "bytes_received": finding.received,
        "bytes_sent": finding.sent,
        "tokens": finding.tokens,
        "gpu_hours": None if finding.gpu_ms is None else finding.gpu_ms / MS_PER_HOUR,
        "cost": finding.cost,
        "currency": key.currency or None,
    }
