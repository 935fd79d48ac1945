"""The price book: who is in which pool, when which price holds, and every fault at once."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tokenyield_collector.prices.book import PriceBook
from tokenyield_collector.prices.calendar import TariffBand
from tokenyield_collector.prices.load import load_prices
from tokenyield_collector.prices.rates import Rate, Rates
from tokenyield_collector.prices.reference import reference_figures
from tokenyield_settings.loader import SettingsError

ROOT = Path(__file__).parents[3]
OWNED = {"gpu": 30_000, "server": 7_500, "residual_fraction": 0.15, "life_years": 4}


def ms(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() * 1000)


def price_book(tmp_path: Path, document: Any) -> PriceBook:
    file = tmp_path / "prices.yaml"
    file.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return load_prices(file)


def rate(prices: PriceBook, at: str, pool: int = 0) -> Rate | None:
    return Rates(prices).of(prices.pools[pool], ms(at))


def test_the_first_pool_that_fits_has_the_gpu(tmp_path: Path) -> None:
    pools = [
        {"name": "lab", "match": {"node": "lab-*"}, "rented": {"per_gpu_hour": 1}},
        {"name": "leased", "match": {"labels": {"contract": "po-*"}}, "rented": {"per_gpu_hour": 3}},
        {"name": "h100", "match": {"gpu": "*H100*"}, "rented": {"per_gpu_hour": 2}},
    ]
    prices = price_book(tmp_path, {"pools": pools})

    def name(node: str, gpu: str, labels: dict[str, str]) -> str | None:
        return next((pool.name for pool in prices.pools_of("c", node, gpu, labels)), None)

    assert name("lab-1", "NVIDIA H100 80GB HBM3", {"contract": "po-1"}) == "lab"
    assert name("n1", "NVIDIA H100 80GB HBM3", {"contract": "po-1"}) == "leased"
    assert name("n1", "NVIDIA H100 80GB HBM3", {}) == "h100"
    assert name("n1", "Tesla T4", {}) is None
    assert prices.depends_on_node


def test_prices_hold_from_a_day_on_and_say_only_what_changes(tmp_path: Path) -> None:
    document = {
        "facilities": {"a": [{"pue": 1.5, "per_kwh": 0.10}, {"from": "2026-10-15", "pue": 1.2}]},
        "pools": [
            {"name": "p", "rented": [{"from": "2026-06-01", "per_gpu_hour": 2.5, "energy_included": False},
                                     {"from": "2026-10-15", "per_gpu_hour": 2}]}
        ],
    }  # fmt: skip
    prices = price_book(tmp_path, yaml.safe_load(yaml.safe_dump(document)))
    assert rate(prices, "2026-05-31T23:00") is None, "before the first price there is none, and not 0"
    before, after = rate(prices, "2026-10-14T23:00"), rate(prices, "2026-10-15T00:00")
    assert before is not None
    assert after is not None
    assert (before.per_gpu_hour, before.energy_per_kwh) == (Decimal("2.5"), Decimal("0.150"))
    assert (after.per_gpu_hour, after.energy_per_kwh) == (Decimal(2), Decimal("0.120"))


def test_days_are_local(tmp_path: Path) -> None:
    pools = [{"name": "p", "rented": [{"per_gpu_hour": 1}, {"from": "2026-10-15", "per_gpu_hour": 2}]}]
    prices = price_book(tmp_path, {"timezone": "America/New_York", "pools": pools})
    rates = [rate(prices, f"2026-10-15T{hour:02}:00") for hour in (3, 4)]  # midnight in New York is 04:00 UTC
    assert [priced.per_gpu_hour for priced in rates if priced] == [1, 2]


def test_contracts_begin_and_end(tmp_path: Path) -> None:
    rented = {"kind": "reserved", "count": 4, "per_gpu_hour": 1, "starts": "2026-06-01", "ends": "2027-06-01"}
    owned = {**OWNED, "in_service": "2026-01-01", "retired": "2026-09-01"}
    prices = price_book(tmp_path, {"pools": [{"name": "a", "rented": rented}, {"name": "b", "owned": owned}]})
    days = ("2025-12-31", "2026-05-31", "2026-06-01", "2026-08-31", "2026-09-01", "2027-06-01")
    assert [rate(prices, day) is not None for day in days] == [False, False, True, True, True, False]
    assert [rate(prices, day, 1) is not None for day in days] == [False, True, True, True, False, False]


def test_rent_of_instances_and_upfront_payments(tmp_path: Path) -> None:
    rented = {
        "kind": "reserved", "per_instance_hour": 13.9, "gpus_per_instance": 8, "upfront_per_gpu": 8760, "count": 16,
        "starts": "2026-01-01", "ends": "2027-01-01",
    }  # fmt: skip
    priced = rate(price_book(tmp_path, {"pools": [{"name": "a", "rented": rented}]}), "2026-05-05")
    assert priced is not None
    assert {part.name: part.amount for part in priced.parts} == {"rent": Decimal("1.7375"), "upfront": Decimal(1)}
    assert (priced.kind, priced.count) == ("reserved", 16)


def test_a_pool_has_its_own_power_and_names_its_facility(tmp_path: Path) -> None:
    sites = {"a": {"per_kwh": 0.1, "kw_per_gpu": 1, "per_kw_month": 74.4}, "b": {"per_kwh": 0.2, "preset": "gigawatt"}}
    pools = [
        {"name": "p", "facility": "a", "owned": OWNED},
        {"name": "q", "facility": "b", "kw_per_gpu": 2, "host_watts_per_gpu": 100, "owned": OWNED},
    ]
    prices = price_book(tmp_path, {"facilities": sites, "pools": pools})
    first, second = ({p.name: float(p.amount) for p in r.parts} for i in (0, 1) if (r := rate(prices, "2026-05-05", i)))
    assert first["facility"] == pytest.approx(0.1)
    assert second["facility"] == pytest.approx(2 * 0.304414, abs=1e-6)
    assert second["host_energy"] == pytest.approx(0.02)


def test_reference_prices_only_on_request_and_labelled(tmp_path: Path) -> None:
    assert price_book(tmp_path, "pools: []").pools_of("c", "n", "NVIDIA H100 80GB HBM3") == []
    prices = price_book(tmp_path, "reference_prices: rented")
    names = {gpu: pools[0].name for gpu in
             ("NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe", "NVIDIA L4", "NVIDIA L40S", "Tesla T4", "NVIDIA A10",
              "NVIDIA A10G", "NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-80GB", "NVIDIA GB200", "NVIDIA B200",
              "NVIDIA H200", "NVIDIA RTX 6000 Ada Generation", "AMD Instinct MI300X")
             if (pools := prices.pools_of("c", "n", gpu))}  # fmt: skip
    assert len(names) == 14
    assert names["NVIDIA H100 PCIe"] == "reference H100 PCIe 80 GB"
    assert names["NVIDIA L4"] == "reference L4 24 GB"
    assert names["NVIDIA L40S"] == "reference L40S 48 GB"
    assert names["NVIDIA A10"].startswith("reference A10 24 GB")
    assert names["NVIDIA GB200"] == "reference GB200 NVL72"
    (pool,) = prices.pools_of("c", "n", "Tesla T4")
    priced = Rates(prices).of(pool, ms("2026-05-05"))
    assert priced is not None
    assert priced.notes == ("reference figures, not your prices",)


def test_every_reference_figure_has_a_source_and_a_day() -> None:
    for gpu in reference_figures().gpus:
        for figure in (gpu.price, gpu.rent_per_hour, gpu.tdp_watts, gpu.idle_watts, gpu.kw_all_in):
            assert figure is not None
            assert figure.value > 0
            assert figure.trust in ("verified", "general knowledge", "estimate")
            assert figure.source
            assert figure.as_of.startswith("202")


@given(st.integers(0, 95), st.integers(1, 95))
def test_a_band_and_the_rest_of_the_day_never_overlap(start: int, length: int) -> None:
    end = (start + length) % 96

    def clock(quarter: int) -> str:
        return f"{quarter // 4:02}:{quarter % 4 * 15:02}"

    band = TariffBand(name="a", per_kwh=Decimal(1), hours=f"{clock(start)}-{clock(end)}")
    rest = TariffBand(name="b", per_kwh=Decimal(1), hours=f"{clock(end)}-{clock(start)}")
    quarters = [datetime(2026, 5, 4, q // 4, q % 4 * 15) for q in range(96)]
    assert all(band.holds(q) != rest.holds(q) for q in quarters)
    assert sum(band.holds(q) for q in quarters) == length


def test_the_fingerprint_follows_the_prices_and_not_the_writing(tmp_path: Path) -> None:
    one = price_book(tmp_path, "pools: [{name: p, rented: {per_gpu_hour: 2}}]").fingerprint
    assert one == price_book(tmp_path, "# a remark\npools:\n- rented: {per_gpu_hour: 2}\n  name: p\n").fingerprint
    assert one != price_book(tmp_path, "pools: [{name: p, rented: {per_gpu_hour: 2.01}}]").fingerprint


def test_all_faults_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        price_book(
            tmp_path,
            """
            facilty: {}
            timezone: Mars/Olympus
            exchange_rates: {EUR: 0}
            facilities:
              a: {pue: 0.9, per_kw_month: 1, capex_per_kw: 1, carbon_g_per_kwh: [1, 2]}
              c: {per_month: 5}
              d: {kw: 5, capex_life_years: 101, kw_per_gpu: -1, from: 0001-01-01}
              b: {bands: [{name: x, per_kwh: 1, hours: "25-26"}, {name: y, per_kwh: 1, days: mon-fry}]}
            pools:
            - {name: a}
            - {name: a, facility: z, owned: {gpu: -1, life_years: 0, residual_fraction: 1.5, cost_of_capital: 8}}
            - {name: b, owned: {gpu: many, life_years: 1}}
            - {name: c, rented: {per_gpu_hour: 1, starts: 2026-01-02, ends: 2026-01-01, currency: GBP}}
            - {name: d, rented: {kind: reserved, upfront_per_gpu: 5}}
            - {name: h, rented: {per_gpu_hour: 1, upfront_per_gpu: 5, starts: 2026-01-01, ends: 2027-01-01}}
            - {name: e, owned: {gpu: 1, life_years: 1}, oned: {}}
            - {name: f, facility: a, rented: [{per_gpu_hour: 1, from: 2026-05-01}, {per_gpu_hour: 2, from: 2026-04-01}]}
            - {name: a, rented: {per_gpu_hour: 1}}
            - {name: g, rented: []}
            token_weights: {completion: 0}
            token_prices: [{name: x, per_million: -3}]
            reference_rates: {configured: [{tokens_per_second: 0}]}
            reference_prices: stolen
            api_prices: [{name: x, per_million: {completion: .nan}}]
            bought_prices: [{vendor: Anthropic, currency: XYZ, per_million: {prompt: -1, cached: 0.1234567}},
                            {vendor: openai, per_million: [{from: 2026-10-01}, {from: 2026-11-01, prompt: .nan}]},
                            {vendor: openai}, 7]
            """,
        )
    message = str(error.value)
    for expected in (
        "facilty: unknown entry, did you mean 'facilities'?",
        "timezone: expected the name of a time zone, found 'Mars/Olympus'; write Europe/Berlin or UTC",
        "exchange_rates.EUR.rate: expected a number greater than 0, found 0",
        "facilities.a.pue: expected at least 1, found 0.9",
        "expected one of per_kw_month or per_month (colocation), capex_per_kw (own building) or preset, "
        "found per_kw_month and capex_per_kw",
        "carbon_g_per_kwh: expected one figure, or 24 by local hour, found 2 figures",
        "bands[0].hours: expected quarters of an hour, found '25-26'; write 07:00-20:00",
        "bands[1].days: expected days of the week, found 'mon-fry'; write mon-fri or sat,sun",
        "pools[0] (a): expected either owned or rented, found neither",
        "(a).facility: expected one of facilities, found 'z'",
        "(a).name: expected a name of its own, found that of an earlier pool",
        "gpu: expected at least 0, found -1",
        "life_years: expected a number greater than 0, at most 100, found 0",
        "residual_fraction: expected a part of the price, at most 1, found 1.5",
        "cost_of_capital: expected a fraction, at most 1, found 8; write 8 % as 0.08",
        "pools[2] (b).owned: ",
        "rented.ends: expected a day after starts, found 2026-01-01",
        "currency: expected a currency with an exchange rate, found 'GBP'; add exchange_rates.GBP",
        "expected either per_gpu_hour, or per_instance_hour with gpus_per_instance, found neither",
        "upfront_per_gpu: expected starts and ends beside it, found none",
        "count: expected a number of GPUs, found nothing; write how many are committed",
        "(e).oned: unknown entry, did you mean 'owned'?",
        "(e).facility: expected one of a, b, c, d, found nothing",
        "facilities.c.kw: expected a number greater than 0 beside per_month, found nothing; write how many kW",
        "facilities.d.kw: expected per_month beside it, found none; write the site's fee per month, or leave kw out",
        "facilities.d.capex_life_years: expected a number greater than 0, at most 100, found 101",
        "facilities.d.kw_per_gpu: expected at least 0, found -1",
        "facilities.d.from: expected a day of the years 1971 to 9000, found 0001-01-01",
        "upfront_per_gpu: expected a reservation, found on_demand; write kind: reserved and the count",
        "expected 'from' days that grow from entry to entry, found 2026-05-01, 2026-04-01",
        "pools[9] (g).rented: expected at least one entry, found an empty list",
        "token_weights.completion: expected a number greater than 0, found 0",
        "token_prices[0].per_million: expected at least 0, found -3",
        "reference_rates.configured[0].tokens_per_second: expected a number greater than 0, found 0",
        "reference_prices: expected owned or rented, found 'stolen'",
        "api_prices[0].per_million.completion: expected an amount, found nan",
        "bought_prices[0].vendor: expected a name in small letters, found 'Anthropic'; write 'anthropic'",
        "bought_prices[0].currency: expected a currency with an exchange rate, found 'XYZ'",
        "bought_prices[0].per_million.prompt: expected 0 to 1000000, with at most six decimals, found -1",
        "bought_prices[0].per_million.cached: expected 0 to 1000000, with at most six decimals, found 0.1234567",
        "bought_prices[1].per_million[1].prompt: expected an amount, found nan",
        "bought_prices[2].per_million: expected prices of a million tokens, found nothing; write {prompt: 3,",
        "bought_prices[3]: expected a mapping, found int",
    ):
        assert expected in message, expected


def test_the_annotated_example_is_sound() -> None:
    prices = load_prices(ROOT / "collector" / "prices.yaml")
    assert [pool.name for pool in prices.pools] == [
        "h100-owned",
        "cloud-reserved",
        "cloud-reserved (overflow)",
        "cloud",
    ]


SITE = {"pue": 1.5, "per_kw_month": 144, "kw_per_gpu": 1, "host_watts_per_gpu": 200}  # 0.2 an hour in April, 720 h


@pytest.mark.parametrize(
    ("site", "pool", "expected"),
    [
        # a colocation whose fee includes the power: the fee is paid, the energy costs 0
        ({"per_kwh": 0}, {"rented": {"per_gpu_hour": 1, "energy_included": False}}, {"rent": "1", "facility": "0.2"}),
        ({"per_kwh": 0}, {"owned": {"gpu": 0, "life_years": 1}}, {"depreciation": "0", "facility": "0.2"}),
        # a band of 0: 200 W x 1.5 x 0 outside of it too, at 0.1 a kWh
        (
            {"per_kwh": 0.1, "bands": [{"name": "sun", "hours": "00:00-12:00", "per_kwh": 0}]},
            {"rented": {"per_gpu_hour": 1, "energy_included": False}},
            {"rent": "1", "facility": "0.2"},
        ),
        # a tariff below 0: 0.2 kW x 1.5 x -0.1
        (
            {"per_kwh": -0.1},
            {"rented": {"per_gpu_hour": 1, "energy_included": False}},
            {"rent": "1", "facility": "0.2", "host_energy": "-0.03"},
        ),
        # a cloud's rent includes space and energy, unless the pool names a facility, or says so
        ({"per_kwh": 0.1}, {"rented": {"per_gpu_hour": 1}}, {"rent": "1"}),
        ({"per_kwh": 0.1}, {"facility": "a", "rented": {"per_gpu_hour": 1}}, {"rent": "1", "facility": "0.2"}),
        ({"per_kwh": 0.1}, {"facility": "a", "rented": {"per_gpu_hour": 1, "facility_included": True}}, {"rent": "1"}),
        (
            {"per_kwh": 0.1},
            {"rented": {"per_gpu_hour": 1, "facility_included": False}},
            {"rent": "1", "facility": "0.2"},
        ),
        (
            {"per_kwh": 0.1},
            {"rented": {"per_gpu_hour": 1, "energy_included": False, "facility_included": True}},
            {"rent": "1", "host_energy": "0.03"},
        ),
    ],
)
def test_who_pays_for_space_and_energy(
    tmp_path: Path, site: dict[str, Any], pool: dict[str, Any], expected: dict[str, str]
) -> None:
    prices = price_book(tmp_path, {"facilities": {"a": SITE | site}, "pools": [{"name": "p"} | pool]})
    priced = rate(prices, "2026-04-05T06:00")
    assert priced is not None
    assert {part.name: part.amount for part in priced.parts} == {k: Decimal(v) for k, v in expected.items()}


def test_a_facility_that_does_not_hold_yet_leaves_no_price(tmp_path: Path) -> None:
    """Before its first entry a facility has no price, which is not a price of 0."""
    sites = {"a": [{"from": "2026-06-01", "per_kwh": 0.1}]}
    prices = price_book(
        tmp_path,
        {"facilities": sites, "pools": [{"name": "p", "owned": OWNED}, {"name": "q", "rented": {"per_gpu_hour": 1}}]},
    )
    assert rate(prices, "2026-05-31") is None
    assert rate(prices, "2026-06-01") is not None
    assert rate(prices, "2026-05-31", 1) is not None, "the rent includes what the facility costs"
