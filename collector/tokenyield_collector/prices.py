"""The price book: what a GPU-hour costs, per pool, with its parts.

In: `prices.yaml`. Out: a `PriceBook`, or `SettingsError` with every fault. All arithmetic is in Decimal US dollars.

Formulas (design.md section 5, numbers checked in tests/collector/test_prices.py):
* depreciation, straight line: (price - residual) / (life x 8760 h), price = GPU + server share + network share
* financing: (price + residual) / 2 x rate / 8760, while it is depreciated
* maintenance: price x rate / 8760
* facility: kW x $ per kW-month x 12 / 8760, or kW x $ per kW / (life x 8760)
* host energy: watts / 1000 x PUE x $ per kWh
The hours are all calendar hours owned, not busy ones: idle shows as cost, not as a hidden higher rate.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec

from tokenyield_settings.loader import SettingsError, nearest, read_yaml

HOURS_PER_YEAR = 8760
NANO_PER_USD = 10**9

_ZERO = Decimal(0)


class Match(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which GPUs a pool holds: shell patterns, all of which must fit."""

    cluster: str = "*"
    node: str = "*"
    gpu: str = "*"


class Facility(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Space, cooling and electricity. Exactly one of the two ways to pay for capacity, or none."""

    pue: Decimal = Decimal("1.0")
    usd_per_kwh: Decimal = _ZERO
    usd_per_kw_month: Decimal | None = None
    capex_usd_per_kw: Decimal | None = None
    capex_life_years: Decimal = Decimal(15)
    kw_per_gpu: Decimal = _ZERO
    host_watts_per_gpu: Decimal = _ZERO


class Owned(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hardware on our books. Prices are per GPU."""

    gpu_usd: Decimal
    server_usd: Decimal = _ZERO
    network_usd: Decimal = _ZERO
    residual_fraction: Decimal = _ZERO
    life_years: Decimal
    cost_of_capital: Decimal = _ZERO
    maintenance_rate: Decimal = _ZERO
    in_service: date | None = None
    count: int | None = None


class Rented(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Capacity paid by the hour. The landlord pays the energy unless `energy_included` is false."""

    usd_per_gpu_hour: Decimal
    energy_included: bool = True
    count: int | None = None
    starts: date | None = None
    ends: date | None = None


class Pool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """GPUs that share a price."""

    name: str
    match: Match = Match()
    owned: Owned | None = None
    rented: Rented | None = None
    facility: Facility | None = None

    @property
    def count(self) -> int | None:
        """GPUs paid for whether they report or not; None: those that report."""
        terms = self.owned or self.rented
        return terms.count if terms else None


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: int = 1
    currency: str = "USD"
    facility: Facility = Facility()
    pools: tuple[Pool, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What one GPU-hour of a pool costs at one moment. Integers are nano-dollars, so that sums are exact."""

    pool: str
    kind: str
    parts: dict[str, Decimal]
    energy_usd_per_kwh: Decimal
    """Per kWh at the GPU, PUE included; 0 where the rent includes it."""

    @property
    def usd_per_gpu_hour(self) -> Decimal:
        return sum(self.parts.values(), _ZERO)

    @property
    def nano_usd_per_gpu_hour(self) -> int:
        return round(self.usd_per_gpu_hour * NANO_PER_USD)

    @property
    def nano_usd_per_kwh(self) -> int:
        return round(self.energy_usd_per_kwh * NANO_PER_USD)


@dataclass(frozen=True, kw_only=True)
class PriceBook:
    """The pools, in the order in which they are tried. `fingerprint` changes when any price does."""

    currency: str = "USD"
    facility: Facility = field(default_factory=Facility)
    pools: tuple[Pool, ...] = ()
    fingerprint: str = ""

    @property
    def tells_nodes_apart(self) -> bool:
        """Whether a price can depend on the node; if not, facts may be summed over nodes before they are priced."""
        return any(pool.match.node != "*" for pool in self.pools)

    def pool_of(self, cluster: str, node: str, gpu_model: str) -> Pool | None:
        """The first pool that fits; None when none does, which is shown as a missing price."""
        for pool in self.pools:
            match = pool.match
            if (
                fnmatchcase(cluster, match.cluster)
                and fnmatchcase(node, match.node)
                and fnmatchcase(gpu_model, match.gpu)
            ):
                return pool
        return None

    def rate(self, pool: Pool, at_ms: int) -> Rate:
        """The pool's rate at `at_ms` (Unix ms)."""
        facility = pool.facility or self.facility
        at = datetime.fromtimestamp(at_ms / 1000, UTC).date()
        if pool.rented is not None:
            energy = _ZERO if pool.rented.energy_included else facility.pue * facility.usd_per_kwh
            parts = {"rent": pool.rented.usd_per_gpu_hour}
            return Rate(pool=pool.name, kind="rented", parts=parts, energy_usd_per_kwh=energy)
        assert pool.owned is not None, "the book's check lets no pool through without terms"
        parts = {**_owned_parts(pool.owned, at), **_facility_parts(facility)}
        energy = facility.pue * facility.usd_per_kwh
        return Rate(pool=pool.name, kind="owned", parts=parts, energy_usd_per_kwh=energy)

    def owned_at(self, pool: Pool, at_ms: int) -> bool:
        """Whether the pool's GPUs are paid for at `at_ms`."""
        at = datetime.fromtimestamp(at_ms / 1000, UTC).date()
        if pool.owned is not None:
            return pool.owned.in_service is None or pool.owned.in_service <= at
        assert pool.rented is not None, "the book's check lets no pool through without terms"
        starts, ends = pool.rented.starts, pool.rented.ends
        return (starts is None or starts <= at) and (ends is None or at < ends)


def _owned_parts(owned: Owned, at: date) -> dict[str, Decimal]:
    price = owned.gpu_usd + owned.server_usd + owned.network_usd
    residual = price * owned.residual_fraction
    age_years = Decimal((at - owned.in_service).days) / Decimal("365.25") if owned.in_service else _ZERO
    on_the_books = age_years < owned.life_years
    return {
        "depreciation": (price - residual) / (owned.life_years * HOURS_PER_YEAR) if on_the_books else _ZERO,
        "financing": (price + residual) / 2 * owned.cost_of_capital / HOURS_PER_YEAR if on_the_books else _ZERO,
        "maintenance": price * owned.maintenance_rate / HOURS_PER_YEAR,
    }


def _facility_parts(facility: Facility) -> dict[str, Decimal]:
    capacity = _ZERO
    if facility.usd_per_kw_month is not None:
        capacity = facility.kw_per_gpu * facility.usd_per_kw_month * 12 / HOURS_PER_YEAR
    elif facility.capex_usd_per_kw is not None:
        capacity = facility.kw_per_gpu * facility.capex_usd_per_kw / (facility.capex_life_years * HOURS_PER_YEAR)
    host = facility.host_watts_per_gpu / 1000 * facility.pue * facility.usd_per_kwh
    return {"facility": capacity, "host_energy": host}


def load_prices(path: Path) -> PriceBook:
    """Raises `SettingsError` with every fault found."""
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise SettingsError([f"{path}: wanted a mapping with 'pools', found {type(raw).__name__}"])
    faults = [
        f"{path}: unknown entry '{name}'{nearest(name, _fields(_Document))}"
        for name in raw
        if name not in _fields(_Document)
    ]
    pools: list[Pool] = []
    listed = raw.get("pools") or []
    if not isinstance(listed, list):
        faults.append(f"{path}: pools: wanted a list, found {type(listed).__name__}")
        listed = []
    for i, entry in enumerate(listed):
        try:
            pools.append(msgspec.convert(entry, Pool))
        except msgspec.ValidationError as error:
            faults.append(f"{path}: pools[{i}]: {error}")
    head = {name: value for name, value in raw.items() if name in _fields(_Document) and name != "pools"}
    try:
        document = msgspec.convert(head, _Document)
    except msgspec.ValidationError as error:
        faults.append(f"{path}: {error}")
        document = _Document()
    faults += [f"{path}: {fault}" for fault in _faults(document, pools)]
    if faults:
        raise SettingsError(faults)
    return PriceBook(
        currency=document.currency,
        facility=document.facility,
        pools=tuple(pools),
        fingerprint=hashlib.sha256(msgspec.json.encode([document, pools])).hexdigest()[:16],
    )


def _fields(kind: Any) -> set[str]:
    return {field.name for field in msgspec.structs.fields(kind)}


def _faults(document: _Document, pools: list[Pool]) -> Iterator[str]:
    if document.version != 1:
        yield f"version: {document.version} is unknown, this collector reads 1"
    if document.currency != "USD":
        yield f"currency: '{document.currency}' cannot be used yet, only USD; convert the prices"
    yield from _facility_faults("facility", document.facility)
    seen: set[str] = set()
    for i, pool in enumerate(pools):
        at = f"pools[{i}] ({pool.name})"
        if not 1 <= len(pool.name) <= 100:
            yield f"pools[{i}].name: wants 1 to 100 characters"
        if pool.name in seen:
            yield f"{at}.name: stands twice; every pool needs its own"
        seen.add(pool.name)
        if (pool.owned is None) == (pool.rented is None):
            yield f"{at}: wants either owned or rented"
        if pool.facility is not None:
            yield from _facility_faults(f"{at}.facility", pool.facility)
        if pool.owned is not None:
            yield from _owned_faults(f"{at}.owned", pool.owned)
        if pool.rented is not None:
            yield from _negative(f"{at}.rented", pool.rented)
            if pool.rented.starts and pool.rented.ends and pool.rented.ends <= pool.rented.starts:
                yield f"{at}.rented.ends: {pool.rented.ends} is not after starts"


def _owned_faults(at: str, owned: Owned) -> Iterator[str]:
    yield from _negative(at, owned)
    if owned.life_years <= 0:
        yield f"{at}.life_years: {owned.life_years} wants to be above 0"
    if owned.residual_fraction > 1:
        yield f"{at}.residual_fraction: {owned.residual_fraction} is more than the whole price"
    for name in ("cost_of_capital", "maintenance_rate"):
        if getattr(owned, name) > 1:
            yield f"{at}.{name}: {getattr(owned, name)} is above 1; write 8 % as 0.08"


def _facility_faults(at: str, facility: Facility) -> Iterator[str]:
    yield from _negative(at, facility)
    if facility.pue < 1:
        yield f"{at}.pue: {facility.pue} is below 1, which no site can reach"
    if facility.capex_life_years <= 0:
        yield f"{at}.capex_life_years: {facility.capex_life_years} wants to be above 0"
    if facility.usd_per_kw_month is not None and facility.capex_usd_per_kw is not None:
        yield f"{at}: give usd_per_kw_month (colocation) or capex_usd_per_kw (own building), not both"


def _negative(at: str, terms: msgspec.Struct) -> Iterator[str]:
    for name in _fields(type(terms)):
        value = getattr(terms, name)
        if isinstance(value, (Decimal, int)) and not isinstance(value, bool) and value < 0:
            yield f"{at}.{name}: {value} is negative"
