"""OTLP requests become points. Pure.

In: a decoded request, and which days may be counted. Out: points, and how many were refused and why. What is not of a
dialect is left out without a word: senders report much else. Of attributes only those of `FIELDS` are kept.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from tokenyield_collector.spend.otlp.dialects import (
    EVENTS,
    GEN_AI,
    METRICS,
    Dialect,
    Effect,
    MetricRule,
    RecordRule,
    agent_of,
)
from tokenyield_collector.spend.otlp.document import (
    KeyValue,
    LogRecord,
    LogsRequest,
    MetricsRequest,
    OtlpRequest,
    Point,
    Points,
    Resource,
    Span,
)
from tokenyield_collector.spend.otlp.points import (
    NANO_PER_USD,
    ObservedAmounts,
    ObservedPoint,
    PointKey,
    Signal,
    digest,
)
from tokenyield_collector.spend.slices import FIELD_CHARS_MAX, SpendFields
from tokenyield_collector.spend.vendors import OWN_FLEET, vendor_of
from tokenyield_wire.bounded import fitting_name
from tokenyield_wire.units import MS_PER_DAY, NS_PER_MS
from tokenyield_wire.window import COUNT_MAX

Attributes = dict[str, Any]
People = Callable[[SpendFields, int], SpendFields]
DELTA, CUMULATIVE = 1, 2
ATTRIBUTES_MAX = 256
"""Of one point with its resource; senders have some tens."""
COST_NANO_MAX = 10**15
"""A million dollars in one point."""
_TIME_NS_MAX = 2**62
_NO_VALUE = 1
"""A flag of a point: it has no value."""
FIELDS: dict[str, tuple[str, ...]] = {
    "team": ("team.id", "team.name", "team", "department"),
    "product": ("product.id", "product"),
    "project": ("project.id", "project", "cost_center.id", "cost_center"),
    "workload": ("gen_ai.agent.name", "gen_ai.agent.id", "agent.name"),
    "agent_task": ("agent_task", "task.id", "workflow.run_id", "gen_ai.workflow.name"),
    "session": ("session.id", "conversation.id", "gen_ai.conversation.id"),
    "person": ("user.email", "user.account_id", "user.account_uuid", "user.id", "enduser.id"),
    "model": ("gen_ai.response.model", "gen_ai.request.model", "model"),
}
"""Field -> the attributes that say it, of the point or else of its resource; the first that is there."""
ACCOUNT = "tokenyield.account"
_PROVIDERS = ("gen_ai.provider.name", "gen_ai.system")
_VENDORS = {
    "aws.bedrock": "aws",
    "az.ai.inference": "azure",
    "az.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "google_genai": "google",
}
_ADDRESSES = ("server.address", *_PROVIDERS)
_INSTANCE = ("service.namespace", "service.name", "service.instance.id", "host.name", "k8s.pod.name")
"""Of a resource: which process of an application it is."""


@dataclass(frozen=True, kw_only=True)
class ReceiverRules:
    """`own_fleet`: patterns of server addresses and provider names that are not bought. [first_ms, last_ms): what may
    be counted. `key`: of digests of clients."""

    first_ms: int
    last_ms: int
    people: People = lambda fields, day_ms: fields
    keeps_sessions: bool = True
    own_fleet: tuple[str, ...] = ()
    key: bytes = b""


@dataclass
class ReceivedPoints:
    """`refused`: points of a dialect that cannot be counted; `why` is of the first."""

    points: list[ObservedPoint] = field(default_factory=list)
    refused: int = 0
    why: str = ""

    def refuse(self, why: str) -> None:
        self.refused += 1
        self.why = self.why or why[:300]


class UnusablePoint(ValueError):
    """Says what was expected and found, without any value that a sender chose."""


def read_request(request: OtlpRequest, rules: ReceiverRules) -> ReceivedPoints:
    received = ReceivedPoints()
    for read in _readings(request):
        try:
            point = read(rules)
        except UnusablePoint as error:
            received.refuse(str(error))
        else:
            if point is not None:
                received.points.append(point)
    return received


def _readings(request: OtlpRequest) -> Iterator[Callable[[ReceiverRules], ObservedPoint | None]]:
    """One for each point, event or span that may count."""
    if isinstance(request, MetricsRequest):
        for of_resource in request.resource_metrics:
            head = _Sender(of_resource.resource)
            for scope in of_resource.scope_metrics:
                for metric in scope.metrics:
                    known = METRICS.get(metric.name)
                    if known is None or not head.speaks(known[0]):
                        continue
                    is_sum = metric.sum is not None
                    points = metric.sum or metric.histogram or metric.exponential_histogram or Points()
                    name = (scope.scope.name if scope.scope else "", metric.name)
                    for point in points.data_points:
                        yield _MetricPoint(head, known, name, points, point, is_sum).read
    elif isinstance(request, LogsRequest):
        for of_logs in request.resource_logs:
            head = _Sender(of_logs.resource)
            for scope_logs in of_logs.scope_logs:
                for record in scope_logs.log_records:
                    yield _Event(head, record).read
    else:
        for of_spans in request.resource_spans:
            head = _Sender(of_spans.resource)
            for scope_spans in of_spans.scope_spans:
                for span in scope_spans.spans:
                    yield _Span(head, span).read


class _Sender:
    """A resource."""

    def __init__(self, resource: Resource | None) -> None:
        self.attributes = _attributes((resource.attributes if resource else ())[:ATTRIBUTES_MAX])
        self.agent = agent_of(_text(self.attributes, ("service.name",)))

    def speaks(self, dialect: Dialect) -> bool:
        return self.agent is None or self.agent is dialect


@dataclass
class _MetricPoint:
    sender: _Sender
    known: tuple[Dialect, MetricRule]
    name: tuple[str, str]
    points: Points
    point: Point
    is_sum: bool

    def read(self, rules: ReceiverRules) -> ObservedPoint | None:
        dialect, rule = self.known
        attributes = _attributes(self.point.attributes)
        effect = self._effect(rule, attributes)
        if effect is not None and not effect:
            return None
        if self.point.flags & _NO_VALUE:
            return None
        temporality = self.points.aggregation_temporality
        if temporality not in (DELTA, CUMULATIVE):
            raise UnusablePoint("aggregationTemporality: expected 1 (delta) or 2 (cumulative), found another")
        if self.is_sum and not self.points.is_monotonic:
            raise UnusablePoint("isMonotonic: expected true, found false; tokens are never taken back")
        start_ns, time_ns = _time_ns(self.point.start_time_unix_nano), _time_ns(self.point.time_unix_nano)
        day_ms = _day_ms(time_ns, rules)
        if self.point.value is None:
            raise UnusablePoint("asInt, asDouble or sum: expected a value, found none")
        if effect is None:
            total = _amount(self.point.value, NANO_PER_USD // rule.cost_per_usd, COST_NANO_MAX)
            amounts = ObservedAmounts(cost_nano=total)
        else:
            total = _amount(self.point.value, 1, COUNT_MAX)
            amounts = ObservedAmounts(**{name: sign * total for name, sign in effect.items()})
        own = tuple(sorted(attributes.items())), tuple(sorted(self.sender.attributes.items()))
        is_total = temporality == CUMULATIVE
        series = digest(self.name, own, start_ns if is_total else "")
        key = PointKey(int(is_total), day_ms, series, start_ns, 0 if is_total else time_ns)
        return _observed(
            self.sender, dialect, attributes, rules, key, time_ns, total if is_total else 0, "metrics", amounts
        )

    def _effect(self, rule: MetricRule, attributes: Attributes) -> Effect | None:
        """None: money."""
        if rule.cost_per_usd:
            return None
        kind = _text(attributes, (rule.by,)) if rule.by else ""
        effect = rule.effects.get(kind)
        if effect is None:
            raise UnusablePoint(f"{rule.by}: expected one of {', '.join(rule.effects)}, found another")
        return effect


@dataclass
class _Event:
    sender: _Sender
    record: LogRecord

    def read(self, rules: ReceiverRules) -> ObservedPoint | None:
        attributes = _attributes(self.record.attributes)
        name = self.record.event_name or _text(attributes, ("event.name",))
        agent = self.sender.agent
        known = EVENTS.get(name)
        if known is None and agent is not None:  # events of Claude Code have their name with and without its prefix
            known = EVENTS.get(f"{agent.name.replace('-', '_')}.{name}")
        if known is None or not self.sender.speaks(known[0]):
            return None
        time_ns = _time_ns(self.record.time_unix_nano) or _time_ns(self.record.observed_time_unix_nano)
        identity = _identity(known[1], attributes) or digest(time_ns, sorted(attributes.items()))
        return _request_point(self.sender, *known, attributes, rules, time_ns, identity, "events")


@dataclass
class _Span:
    sender: _Sender
    span: Span

    def read(self, rules: ReceiverRules) -> ObservedPoint | None:
        if not self.sender.speaks(GEN_AI) or GEN_AI.spans is None:
            return None
        attributes, time_ns = _attributes(self.span.attributes), _time_ns(self.span.end_time_unix_nano)
        identity = digest(self.span.trace_id.lower(), self.span.span_id.lower())
        return _request_point(self.sender, GEN_AI, GEN_AI.spans, attributes, rules, time_ns, identity, "spans")


def _request_point(
    sender: _Sender,
    dialect: Dialect,
    rule: RecordRule,
    attributes: Attributes,
    rules: ReceiverRules,
    time_ns: int,
    identity: str,
    signal: Signal,
) -> ObservedPoint | None:
    if any(_text(attributes, (name,)) not in values for name, values in rule.where.items()):
        return None
    counts: dict[str, int] = {}
    for names, effect in rule.counts:
        value = next((attributes[name] for name in names if name in attributes), None)
        if value is None:
            continue
        amount = _amount(value, 1, COUNT_MAX)
        for count, sign in effect.items():
            counts[count] = counts.get(count, 0) + sign * amount
    cost = next(
        (
            _amount(attributes[name], NANO_PER_USD // unit, COST_NANO_MAX)
            for name, unit in rule.cost
            if name in attributes
        ),
        None,
    )
    if not counts and cost is None:
        return None
    if any(count < 0 for count in counts.values()):
        raise UnusablePoint("input tokens: expected at least those of the cache, which it includes, found fewer")
    tokens = sum(count for name, count in counts.items() if name != "reasoning")
    if rule.total in attributes and _amount(attributes[rule.total], 1, COUNT_MAX) != tokens:
        raise UnusablePoint(f"{rule.total}: expected the sum of its parts, found another")
    key = PointKey(0, _day_ms(time_ns, rules), digest(dialect.name, signal, identity), 0, 0)
    amounts = ObservedAmounts(**counts, requests=1, cost_nano=cost)
    return _observed(sender, dialect, attributes, rules, key, time_ns, 0, signal, amounts)


def _observed(
    sender: _Sender,
    dialect: Dialect,
    attributes: Attributes,
    rules: ReceiverRules,
    key: PointKey,
    time_ns: int,
    total: int,
    signal: Signal,
    amounts: ObservedAmounts,
) -> ObservedPoint:
    merged = sender.attributes | attributes
    fields = _fields(dialect, merged, rules)
    account = fitting_name(_text(merged, (ACCOUNT,)), FIELD_CHARS_MAX)
    instance = tuple(_text(sender.attributes, (name,)) for name in _INSTANCE)
    client: object = instance
    if dialect is not GEN_AI:
        client = fields.person or fields.session or instance
    kept = rules.people(fields, key.day_ms)
    if not rules.keeps_sessions:
        kept = kept._replace(session="", person="")
    whose = digest(dialect.name, client, key=rules.key)
    return ObservedPoint(key, time_ns, total, account, dialect.name, signal, whose, kept, amounts)


def _fields(dialect: Dialect, attributes: Attributes, rules: ReceiverRules) -> SpendFields:
    named = {name: fitting_name(_text(attributes, keys), FIELD_CHARS_MAX) for name, keys in FIELDS.items()}
    provider = _text(attributes, _PROVIDERS).casefold()
    vendor = dialect.vendor or _VENDORS.get(provider) or (vendor_of(provider) if provider else "unknown")
    if _is_own(attributes, rules.own_fleet):
        vendor = OWN_FLEET
    named["product"] = named["product"] or dialect.product or _text(attributes, ("service.name",))
    return SpendFields(
        fitting_name(vendor, FIELD_CHARS_MAX),
        **{name: fitting_name(value, FIELD_CHARS_MAX) for name, value in named.items()},
    )


def _is_own(attributes: Attributes, patterns: tuple[str, ...]) -> bool:
    names = [_text(attributes, (name,)).casefold() for name in _ADDRESSES]
    if names[0] and (port := _text(attributes, ("server.port",))):
        names.append(f"{names[0]}:{port}")
    return any(name and fnmatchcase(name, pattern.casefold()) for name in names for pattern in patterns)


# --- values ----------------------------------------------------------------------------------------------------------


def _attributes(pairs: tuple[KeyValue, ...]) -> Attributes:
    if len(pairs) > ATTRIBUTES_MAX:
        raise UnusablePoint(f"attributes: expected at most {ATTRIBUTES_MAX}, found more")
    return {pair.key: value for pair in pairs if pair.value is not None and (value := pair.value.value) is not None}


def _text(attributes: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((str(attributes[name]) for name in names if attributes.get(name) not in (None, "")), "")


def _identity(rule: RecordRule, attributes: Attributes) -> str:
    return _text(attributes, rule.identity)


def _time_ns(value: int | str) -> int:
    try:
        time_ns = int(value)
    except ValueError:
        time_ns = -1
    if not 0 <= time_ns <= _TIME_NS_MAX:
        raise UnusablePoint("time: expected nanoseconds since 1970, found another")
    return time_ns


def _day_ms(time_ns: int, rules: ReceiverRules) -> int:
    time_ms = time_ns // NS_PER_MS
    if not rules.first_ms <= time_ms < rules.last_ms:
        raise UnusablePoint("time: expected one that is still counted and not in the future, found another")
    return time_ms - time_ms % MS_PER_DAY


def _amount(value: object, factor: int, most: int) -> int:
    """A value that is not negative, times `factor`, as a whole number."""
    try:
        number = int(value) if isinstance(value, int | str) and not _has_fraction(value) else float(str(value))
    except ValueError:
        raise UnusablePoint("value: expected a number, found another") from None
    if isinstance(number, float) and not math.isfinite(number):
        raise UnusablePoint("value: expected a finite number, found another")
    amount = round(number * factor)
    if not 0 <= amount <= most:
        raise UnusablePoint(f"value: expected from 0 to {most // factor}, found another")
    return amount


def _has_fraction(value: int | str) -> bool:
    return isinstance(value, str) and not value.isdecimal()
