"""The shapes of the documents that the API answers with. mypy checks the code against them, and openapi.py describes
the API by them.

Money is in the unit that `currency` names; a ratio without a denominator is null.
"""

from decimal import Decimal
from typing import NotRequired, TypedDict

Money = Decimal
"""Sent as a number with its exact decimals, nine at most: rows sum to totals. A parser that reads numbers into decimals
reads it exactly. `shown` amounts are for people and sum as well, in cents or as many decimals as are said."""
ByName = dict[str, float | None]


class ReceiptDocument(TypedDict):
    """How many batches of a shipment were made durable, and how many were in the ledger already; and which shipment
    that was: the numbers of its first and last batch. An agent takes nothing else for a receipt."""

    accepted: int
    duplicates: int
    epoch: str
    first_seq: int
    last_seq: int
    missing: NotRequired[list[tuple[int, int]]]
    """Ranges of this agent's batch numbers that are missing though later ones are there: it may send them again."""


class EnrolRequest(TypedDict):
    """Who asks for a token of its own. The proof is the bearer token of the request: a bootstrap secret, a Kubernetes
    ServiceAccount token, or the node's own token before it ends. `claim`: what this installation of the agent has made
    up and nobody else knows, by which it is recognized when it enrols again. `current`: a token that may write for this
    node now, which says that it is no stranger."""

    cluster: str
    node: str
    claim: str
    current: NotRequired[str]


class EnrolledDocument(TypedDict):
    """The node's token, for `Authorization: Bearer`. It may write for this cluster and node alone. To be renewed well
    before its end."""

    token: str
    cluster: str
    node: str
    expires_in_s: int


class OutcomeChangeDocument(TypedDict):
    """A slice that was there with other counts; their sums."""

    slice: str
    before: int
    after: int


class OutcomesReceiptDocument(TypedDict):
    """What was understood, and what became (or would become) of the slices: source, day and name. `counts`: the sum by
    name of what was sent. `changes` has the first 50 of those replaced."""

    understood: int
    added: int
    replaced: int
    unchanged: int
    counts: dict[str, int]
    changes: list[OutcomeChangeDocument]


class SpendChangeDocument(TypedDict):
    """A slice that was there with other amounts, in words."""

    slice: str
    before: str
    after: str


class SpendReceiptDocument(TypedDict):
    """What became (or would become) of the slices: source, account, day and grain. `changes` has the first 50 of those
    replaced."""

    added: int
    replaced: int
    unchanged: int
    changes: list[SpendChangeDocument]


class OtlpPartialDocument(TypedDict, total=False):
    """How many points, events or spans were refused, as OTLP writes 64-bit integers, and why the first of them was."""

    rejectedDataPoints: str
    rejectedLogRecords: str
    rejectedSpans: str
    errorMessage: str


class OtlpAnswerDocument(TypedDict):
    """Empty where all was taken."""

    partialSuccess: NotRequired[OtlpPartialDocument]


class FieldFaultDocument(TypedDict):
    """One field that cannot be used. `field`: the parameter, or the JSON path in the body."""

    field: str
    expected: str
    found: str
    fix: NotRequired[str]


class ProblemDocument(TypedDict):
    """RFC 9457. `errors` names fields by their JSON path."""

    type: str
    title: str
    status: int
    detail: str
    errors: NotRequired[list[FieldFaultDocument]]


class HardwareCostDocument(TypedDict):
    """What the hardware itself cost: owned (amortized over its life), rented, and both."""

    total: Money
    owned: Money
    rented: Money


class IdleCapacityDocument(TypedDict):
    """Capacity that was paid for while nothing ran on it: dark, unallocated and idle. `cost` holds all components;
    `share_of_hardware_cost` is its hardware component over all hardware cost of the same time."""

    cost: Money
    cost_per_hour: Money | None
    hardware_cost: HardwareCostDocument
    share_of_hardware_cost: ByName


class ShownFleetCostDocument(TypedDict):
    """For people, with `shown_decimals`."""

    cost: Money
    idle_capacity_cost: Money
    hardware_cost: HardwareCostDocument


class FleetSummaryDocument(TypedDict):
    gpus_reporting: int
    gpu_seconds: dict[str, float]
    energy_joules: dict[str, float]
    energy_by_method: dict[str, float]
    energy_error_joules: float
    energy_missing_gpu_seconds: float
    host_energy_joules: dict[str, float]
    activity: ByName
    throttled_gpu_seconds: dict[str, float]
    throttled_lost_gpu_seconds: dict[str, float]
    events: dict[str, int]
    tokens: dict[str, int]
    tokens_per_second_per_watt: ByName
    """The same as tokens per joule: a watt is a joule a second."""
    tokens_per_joule: ByName
    cost: Money | None
    cost_per_hour: Money | None
    cost_components: dict[str, Money] | None
    idle_capacity: IdleCapacityDocument | None
    shown: ShownFleetCostDocument | None
    cost_per_million_tokens: ByName
    price_missing_gpu_seconds: float
    price_missing_tokens: int


class ContextDocument(TypedDict):
    """What can be asked of this collector, and how far its figures go."""

    start: str | None
    """Of the first hour in the ledger; null while it is empty."""
    as_of: str
    """Up to where hours are complete: later time is not in reports yet."""
    currency: str
    price_book: str | None
    dimensions: list[str]
    """Of the attribution rules; the first one is who is charged."""
    columns: list[str]
    """What reports can be grouped and filtered by: the dimensions, and those that every report has."""
    teams: list[str] | None
    """The caller's token reads what these carry alone; null: everything."""


class WaterfallStepDocument(TypedDict):
    bucket: str
    gpu_hours: float
    cost: Money
    """Of capacity and energy together."""
    capacity_cost: Money
    energy_cost: Money
    share_of_capacity: float | None
    shown: dict[str, Money]
    """`cost`, `capacity_cost` and `energy_cost` for people, with `shown_decimals`."""


class PoolCostDocument(TypedDict):
    cluster: str
    pool: str
    cost: dict[str, Money]


class LatencyDocument(TypedDict):
    """How long callers waited. A percentile is an upper bound: the edge of the bucket that it falls into; null above
    the last edge."""

    observations: int
    mean_ms: float | None
    p50_ms: int | None
    p95_ms: int | None
    p99_ms: int | None


class WorkloadSummaryDocument(TypedDict):
    cluster: str
    workload: str
    server: str
    model: str | None
    labels: dict[str, str]
    gpu_seconds: dict[str, float]
    """`parked` is part of `idle`, as `parked_cost` is of the allocated cost."""
    parked_cost: Money | None
    energy_joules: float
    tokens: dict[str, int | None]
    requests: int | None
    latency: dict[str, LatencyDocument | None]
    """To the first token, between tokens, and end to end; null where the server does not report it."""
    tokens_per_second_per_watt: ByName
    tokens_per_joule: ByName
    cost: dict[str, Money | None]
    cost_per_million_tokens: dict[str, ByName]


class DemandDocument(TypedDict):
    """Tokens and requests by caller of a gateway; null where its log does not report them."""

    cluster: str
    gateway: str
    model: str | None
    caller: dict[str, str]
    tokens: dict[str, int | None]
    requests: int | None
    requests_aborted: int | None
    requests_failed: int | None


class GapDocument(TypedDict):
    """One thing that is not known, by kind and subject: how much it is, why, and how to fix it."""

    kind: str
    subject: str
    days: str | None
    gpu_hours: float
    joules: float
    tokens: int
    requests: int
    meaning: str
    fix: str
    text: str
    """All of it in a line."""


class HistoryDocument(TypedDict):
    policy_is_current: bool
    """Whether figures to date were computed under the price book and the rules in use; else under those before."""
    months_done: int
    months: int
    """Of the months that are being computed (again), the newest first."""
    hours_to_count: int
    """Before which no counter is shown: at the first start after an upgrade."""


class BoughtDocument(TypedDict):
    """What a vendor was paid in the present month (UTC), as far as it is known, by the highest layer of each day.
    `cost_not_observed`: the part that no gateway, log or session accounts for."""

    month: str
    vendor: str
    cost: Decimal
    cost_not_observed: Decimal
    tokens: int
    requests: int | None
    price_missing_tokens: int


class SummaryDocument(TypedDict):
    start: str
    end: str
    seconds: float
    currency: str
    price_book: str | None
    dimensions: list[str]
    """Of the attribution rules; the first one is who is charged."""
    shown_decimals: int
    """Of all `shown` amounts."""
    fleet: FleetSummaryDocument
    gaps: list[GapDocument]
    """Of this stretch: what has no price."""
    gaps_to_date: list[GapDocument]
    """Of the closed hours of the present month (UTC): what has no price, and facts that do not fit each other."""
    history: HistoryDocument
    """What is being computed of the past."""
    waterfall: list[WaterfallStepDocument]
    pools: list[PoolCostDocument]
    workloads: list[WorkloadSummaryDocument]
    demand: list[DemandDocument]
    bought: list[BoughtDocument]
    """By vendor, the most expensive first; of a month, for vendors report by days."""


class GpuColumnsDocument(TypedDict):
    """One entry for each GPU in every column. node, model, state and workload are positions in the lists of
    `FleetDocument`."""

    node: list[int]
    uuid: list[str]
    model: list[int]
    state: list[int]
    active_permille: list[int]
    watts: list[int]
    workload: list[int]


class FleetDocument(TypedDict):
    start: str
    end: str
    states: list[str]
    nodes: list[list[str]]
    models: list[str]
    workloads: list[str]
    gpus: GpuColumnsDocument


class PoolRateDocument(TypedDict):
    name: str
    usd_per_gpu_hour: Money | None
    parts: dict[str, Money]
    notes: list[str]
    kind: NotRequired[str]
    count: NotRequired[int | None]
    per_gpu_hour: NotRequired[Money]
    how: NotRequired[dict[str, str]]
    energy_per_kwh: NotRequired[Money]
    pue: NotRequired[float]
    carbon_g_per_kwh: NotRequired[float | None]


class SiteRateDocument(TypedDict):
    name: str
    facility: str
    provisioned_kw: float
    committed_kw: float
    per_hour: Money | None
    how: str
    notes: list[str]


class RatesDocument(TypedDict):
    currency: str
    at: str
    price_book: str
    pools: list[PoolRateDocument]
    sites: list[SiteRateDocument]


class ForecastDocument(TypedDict):
    expected: Money
    low: Money
    high: Money


class BudgetAmountsDocument(TypedDict):
    monthly: Money
    spent: Money
    remaining: Money
    forecast: ForecastDocument | None


class BudgetDocument(BudgetAmountsDocument):
    """`unit`: tokens, or the currency. `step`: the highest of `steps` (percent of `monthly`) that was reached. `shown`:
    the amounts in cents, for people."""

    name: str
    month: str
    unit: str
    shown: BudgetAmountsDocument
    spent_percent: float
    steps: list[int]
    step: int | None
    state: str


class CoveredDocument(TypedDict):
    """An amount by whether a dimension has a value for it. `nobody`: capacity that the policy leaves apart. `percent`:
    attributed of the whole."""

    attributed: Money | int
    unattributed: Money | int
    nobody: Money | int
    percent: float | None


class DimensionCoverageDocument(TypedDict):
    dimension: str
    cost: CoveredDocument
    tokens: CoveredDocument
    revenue: CoveredDocument | None


class UnattributedDocument(TypedDict):
    """Who has no value for the dimensions `missing`. `rule`: YAML to put before the rules; else a `hint`."""

    who: str
    missing: list[str]
    cluster: str
    workload: str
    model: str
    labels: dict[str, str]
    caller: dict[str, str]
    cost: Money
    tokens: int
    revenue: Money | None
    rule: str
    hint: str


class CoverageDocument(TypedDict):
    """`unattributed`: the most expensive first."""

    period: str
    start: str
    end: str
    currency: str
    dimensions: list[DimensionCoverageDocument]
    unattributed: list[UnattributedDocument]
    unattributed_not_shown: int


class FindingDocument(TypedDict):
    """`evidence` is what was measured; `at_stake_per_hour` what an hour of the concerned part costs; `shown`, the same
    for people."""

    kind: str
    text: str
    evidence: dict[str, float]
    at_stake_per_hour: Money | None
    shown: Money | None


class DiagnosisDocument(TypedDict):
    """One workload, its most expensive finding first. `unknown`: what could not be examined, and why."""

    cluster: str
    workload: str
    server: str
    model: str | None
    gpu_model: str
    gpus: int
    cost_per_hour: Money | None
    findings: list[FindingDocument]
    unknown: list[str]


class DiagnosesDocument(TypedDict):
    """`at_stake_per_hour` sums the first finding of each workload, because findings of one workload overlap. `shown`:
    the same for people, to `shown_decimals`; theirs sum to it too."""

    start: str
    end: str
    currency: str
    loss_percent: float
    at_stake_per_hour: Money | None
    shown: Money | None
    shown_decimals: int
    workloads: list[DiagnosisDocument]


class BudgetsDocument(TypedDict):
    currency: str
    budgets: list[BudgetDocument]


class VersionDocument(TypedDict):
    """A version of a closed month. What is null is unknown of versions that older collectors made."""

    version: int
    made_at: str | None
    made_by: str | None
    """The collector that closed it."""
    engine: str | None
    """What computed it."""
    start: str | None
    end: str | None
    currency: str | None
    total: Money | None
    shown: Money | None
    changes: list[str]
    """Against the version before, every cause by its name."""


class VersionsDocument(TypedDict):
    """All versions of a month. `state`: open, closing, closed. `finding`: why the newest is not what it should be."""

    period: str
    state: str
    closes_at: str
    """When it is closed, or was to be at the earliest."""
    finding: str | None
    versions: list[VersionDocument]


class DifferenceRow(TypedDict):
    """What moved in one row. `difference` and `shown` have `cost` and a `cost_…` for each bucket."""

    by: dict[str, str]
    cost_from: Money
    cost_to: Money
    difference: dict[str, Money]
    shown: dict[str, Money]


class DifferenceDocument(TypedDict):
    """What moved between two versions of a month, and why. Rows sum exactly to the total; those in which nothing moved
    are left out."""

    period: str
    from_version: int
    to_version: int
    currency: str
    by: list[str]
    where: dict[str, str]
    changes: list[str]
    """Of each version after the first."""
    total: DifferenceRow
    rows: list[DifferenceRow]


class ExplainFigures(TypedDict):
    """`effects`: by the names of insight/effects.py, those that are not 0; they sum to `difference`."""

    cost_from: Money
    cost_to: Money
    difference: Money
    effects: dict[str, Money]


class ExplainRow(ExplainFigures):
    """Exact; `shown` is rounded for people, and sums as the exact amounts do."""

    by: dict[str, str]
    shown: ExplainFigures


class ExplainEffect(TypedDict):
    """One effect in the whole, as it is shown, with its words."""

    effect: str
    title: str
    meaning: str
    amount: Money


class ExplainCause(TypedDict):
    """One effect in one row, as it is shown. `text` follows the amount: by the volume of search."""

    by: dict[str, str]
    effect: str
    amount: Money
    text: str


class ExplainedPeriod(TypedDict):
    """What of it is known: `start` to `end`. `version`: of the month, where it is closed."""

    name: str
    start: str
    end: str
    state: str
    version: int | None


class ExplainDocument(TypedDict):
    """Why a period cost more or less than another. Rows sum to the total in every column, effects to the difference."""

    period: ExplainedPeriod
    against: ExplainedPeriod
    currency: str
    by: list[str]
    where: dict[str, str]
    text: str
    """All of it in one sentence."""
    total: ExplainRow
    effects: list[ExplainEffect]
    """In the order in which the difference is divided; they sum to the shown difference."""
    causes: list[ExplainCause]
    """The largest first."""
    rest: Money
    """What of the shown difference is no cause of these."""
    rows: list[ExplainRow]
    """Those that moved most first."""
    notes: list[str]


class ShadowFindingDocument(TypedDict):
    """Use or money that nothing explains. Names are empty where they are not known; `cost` null: unpriced. `count`: of
    what `evidence` names; bytes as the client sees them."""

    level: str
    """paid, used, connected or seen."""
    evidence: str
    vendor: str
    team: str
    workload: str
    person: str
    account: str
    first_day: str
    last_day: str
    count: int | None
    bytes_received: int | None
    bytes_sent: int | None
    tokens: int | None
    gpu_hours: float | None
    cost: Money | None
    currency: str | None


class ShadowDocument(TypedDict):
    """Shadow use in a period, the strongest level first. Levels are other evidence, perhaps of the same use: never add
    them up."""

    period: str
    start: str
    end: str
    findings: list[ShadowFindingDocument]
    more: int
    """Findings that are not listed."""
    sanctioned: int
    """How often what was found is sanctioned, and no finding."""
    hosts: str
    """Where the list of vendors' hosts is from."""
    limits: list[str]
    """What this cannot show."""


class CachingFigures(TypedDict):
    """What caches of prompts did. Money is at agreed or list prices; null where it is not
    known."""

    prompt_tokens: int
    """Read from a cache, written to one, and other prompt."""
    read_tokens: int | None
    written_tokens: int | None
    read_share: float | None
    """Of the prompt."""
    reads_per_write: float | None
    saved: Money | None
    extra: Money | None
    """What writing costs above prompt."""
    net: Money | None
    never_read_tokens: int | None
    """Written by keys that read nothing in the period: at least so much was written for nothing."""
    never_read_extra: Money | None
    unpriced_tokens: int
    """Read or written without a price."""


class CachingRow(CachingFigures):
    """Of one vendor and model; `own fleet` too."""

    vendor: str
    model: str


class CachingDocument(TypedDict):
    """What caches of prompts saved and cost in a period, the most money first."""

    period: str
    start: str
    end: str
    currency: str
    total: CachingFigures
    rows: list[CachingRow]
    more: int
    """Rows that are not listed."""
    prices: list[str]
    """Where they are from."""
    limits: list[str]
    """What this cannot show."""


class PulledAccountDocument(TypedDict):
    """An account of `spend_file`. `problems`: a line for each report that does not work at present."""

    name: str
    source: str
    pulled_at: str | None
    missing_days: int | None
    rows: int
    problems: list[str]


class WatchedFolderDocument(TypedDict):
    """A source's folder in `spend_folder`: files and folders that are imported as one. `problems`: a line for each that
    is not imported, at most 100."""

    folder: str
    imported: int
    waiting: int
    failed: int
    links: int
    rows: int
    refused: int
    problems: list[str]


class SpendSourcesDocument(TypedDict):
    """How what the collector fetches and finds of spend stands."""

    accounts: list[PulledAccountDocument]
    folders: list[WatchedFolderDocument]


class ForecastBand(TypedDict):
    """Quantiles of a total."""

    days: int
    """That are forecast."""
    p10: float
    p50: float
    p90: float


class ForecastBackTest(TypedDict):
    """How the same method did at earlier days, in totals of so many days. `median_error`: of the absolute errors, as a
    part of the total; `within`: how many origins lay within the 80 % band."""

    days: int
    origins: int
    median_error: float
    within: int


class ForecastRow(TypedDict):
    """`to_date` is what the month has up to `as_of`, exactly; `month_end` is it and the rest of the month. Where there
    is too little history, `why` says so, and nothing is forecast."""

    by: dict[str, str]
    to_date: float
    month_end: ForecastBand | None
    totals: list[ForecastBand]
    """Of the days after `as_of`."""
    method: str | None
    history_days: int
    back_test: ForecastBackTest | None
    why: str | None


class ForecastsDocument(TypedDict):
    """What is to come, in `unit`. Rows are forecast each by itself, so that their quantiles do not add up."""

    measure: str
    unit: str
    month: str
    """Of the day after `as_of`."""
    as_of: str
    """The last complete day."""
    by: list[str]
    where: dict[str, str]
    total: ForecastRow
    path: list[ForecastBand]
    """Of the total, day after day up to 91."""
    history: list[float]
    """Of the total, up to `as_of`."""
    rows: list[ForecastRow]
    notes: list[str]
