"""The price book against hand-checked numbers (G1, G3, G5, G6, G7: finops_golden.py of the project's reference)."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from tokenyield_collector.prices import PriceBook, load_prices
from tokenyield_settings.loader import SettingsError

ROOT = Path(__file__).parents[2]
OWNED = {"gpu_usd": 30_000, "server_usd": 7_500, "residual_fraction": 0.15, "life_years": 4}


def ms(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)


def book(tmp_path: Path, document: Any) -> PriceBook:
    file = tmp_path / "prices.yaml"
    file.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return load_prices(file)


def parts(
    tmp_path: Path, *, facility: dict[str, Any] | None = None, at: str = "2026-11-23", **owned: Any
) -> dict[str, Decimal]:
    prices = book(tmp_path, {"facility": facility or {}, "pools": [{"name": "p", "owned": {**OWNED, **owned}}]})
    return prices.rate(prices.pools[0], ms(at)).parts


def near(value: float) -> Any:
    return pytest.approx(value, abs=5e-7)


def test_g1_straight_line(tmp_path: Path) -> None:
    assert float(parts(tmp_path)["depreciation"]) == near(0.909675)


def test_g3_maintenance(tmp_path: Path) -> None:
    assert float(parts(tmp_path, maintenance_rate=0.05)["maintenance"]) == near(0.214041)


def test_financing_is_on_the_mean_book_value(tmp_path: Path) -> None:
    assert float(parts(tmp_path, cost_of_capital=0.08)["financing"]) == near((37_500 + 5_625) / 2 * 0.08 / 8760)


def test_g6_colocation(tmp_path: Path) -> None:
    found = parts(tmp_path, facility={"usd_per_kw_month": 150, "kw_per_gpu": 1.275})
    assert float(found["facility"]) == near(0.261986)


def test_g7_forty_billion_a_gigawatt_over_fifteen_years(tmp_path: Path) -> None:
    found = parts(tmp_path, facility={"capex_usd_per_kw": 40_000, "kw_per_gpu": 1.0})
    assert float(found["facility"]) == near(0.304414)
    found = parts(tmp_path, facility={"capex_usd_per_kw": 40_000, "kw_per_gpu": 1.73})
    assert float(found["facility"]) == near(0.526636)


def test_g5_energy_of_a_node_is_in_the_price_of_a_kilowatt_hour(tmp_path: Path) -> None:
    facility = {"pue": 1.3, "usd_per_kwh": 0.08, "host_watts_per_gpu": 6500 / 8}
    prices = book(tmp_path, {"facility": facility, "pools": [{"name": "p", "owned": OWNED}]})
    rate = prices.rate(prices.pools[0], ms("2026-01-01"))
    assert float(rate.parts["host_energy"]) == near(0.0845)
    assert float(rate.energy_usd_per_kwh) * 6.5 / 8 == near(0.0845)


def test_after_its_life_only_what_still_runs_costs(tmp_path: Path) -> None:
    terms = {"in_service": "2020-01-01", "cost_of_capital": 0.08, "maintenance_rate": 0.05}
    facility = {"usd_per_kw_month": 150, "kw_per_gpu": 1.0}
    document = yaml.safe_load(
        yaml.safe_dump({"facility": facility, "pools": [{"name": "p", "owned": {**OWNED, **terms}}]})
    )
    prices = book(tmp_path, document)
    before, after = (prices.rate(prices.pools[0], ms(day)).parts for day in ("2023-12-30", "2024-01-02"))
    assert before["depreciation"] > 0
    assert before["financing"] > 0
    assert [after["depreciation"], after["financing"]] == [Decimal(0)] * 2
    assert after["maintenance"] == before["maintenance"] > 0
    assert after["facility"] == before["facility"] > 0


def test_rent_includes_its_energy_unless_it_says_otherwise(tmp_path: Path) -> None:
    facility = {"pue": 1.5, "usd_per_kwh": 0.1}
    pools = [
        {"name": "a", "rented": {"usd_per_gpu_hour": 2.5}},
        {"name": "b", "rented": {"usd_per_gpu_hour": 2.5, "energy_included": False, "starts": "2026-06-01"}},
    ]
    prices = book(tmp_path, {"facility": facility, "pools": pools})
    rates = [prices.rate(pool, ms("2026-11-23")) for pool in prices.pools]
    assert [rate.usd_per_gpu_hour for rate in rates] == [Decimal("2.5"), Decimal("2.5")]
    assert [rate.energy_usd_per_kwh for rate in rates] == [0, Decimal("0.15")]
    assert [prices.owned_at(prices.pools[1], ms(day)) for day in ("2026-05-31", "2026-06-01")] == [False, True]


def test_the_first_pool_that_fits_has_the_gpu(tmp_path: Path) -> None:
    pools = [
        {"name": "lab", "match": {"node": "lab-*"}, "rented": {"usd_per_gpu_hour": 1}},
        {"name": "h100", "match": {"gpu": "*H100*"}, "rented": {"usd_per_gpu_hour": 2}},
    ]
    prices = book(tmp_path, {"pools": pools})
    names = [p.name if (p := prices.pool_of("c", node, gpu)) else None for node, gpu in
             (("lab-1", "NVIDIA H100 80GB HBM3"), ("n1", "NVIDIA H100 80GB HBM3"), ("n1", "Tesla T4"))]  # fmt: skip
    assert names == ["lab", "h100", None]


def test_the_fingerprint_follows_the_prices(tmp_path: Path) -> None:
    one = book(tmp_path, {"pools": [{"name": "p", "owned": OWNED}]}).fingerprint
    assert one == book(tmp_path, {"pools": [{"name": "p", "owned": OWNED}], "currency": "USD"}).fingerprint
    assert one != book(tmp_path, {"pools": [{"name": "p", "owned": {**OWNED, "gpu_usd": 30_001}}]}).fingerprint


def test_all_faults_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        book(
            tmp_path,
            """
            currency: EUR
            facilty: {}
            facility: {pue: 0.9, usd_per_kw_month: 1, capex_usd_per_kw: 1}
            pools:
            - {name: a}
            - {name: a, owned: {gpu_usd: -1, life_years: 0, residual_fraction: 1.5, cost_of_capital: 8}}
            - {name: b, owned: {gpu_usd: many, life_years: 1}}
            - {name: c, rented: {usd_per_gpu_hour: 1, starts: 2026-01-02, ends: 2026-01-01}}
            """,
        )
    said = str(error.value)
    for wanted in (
        "unknown entry 'facilty', did you mean 'facility'?",
        "currency: 'EUR' cannot be used yet",
        "facility.pue: 0.9 is below 1",
        "give usd_per_kw_month (colocation) or capex_usd_per_kw (own building), not both",
        "pools[0] (a): wants either owned or rented",
        "pools[1] (a).name: stands twice",
        "gpu_usd: -1 is negative",
        "life_years: 0 wants to be above 0",
        "residual_fraction: 1.5 is more than the whole price",
        "cost_of_capital: 8 is above 1; write 8 % as 0.08",
        "pools[2]: ",
        "rented.ends: 2026-01-01 is not after starts",
    ):
        assert wanted in said


def test_the_annotated_example_is_sound() -> None:
    assert [pool.name for pool in load_prices(ROOT / "collector" / "prices.yaml").pools] == ["h100-owned", "cloud"]
