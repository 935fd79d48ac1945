"""Unit prices in FOCUS files are the price list's: not what a token or an hour came to cost."""

import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from collector.fleet import HOUR_MS, Fleet, Gpu, Held, Server, ms, prices
from focus_rules import faults

HOUR = "2026-10-05T10:00"
KINDS = {"Prompt Tokens", "Cached Prompt Tokens", "Output Tokens"}


def fleet(gpu: str = "NVIDIA H100 80GB HBM3", hours: int = 1) -> Fleet:
    made = Fleet()
    for i in range(hours):
        held = [Held(workload="chat", active_min=37, idle_min=11, active_j=1_234_567, idle_j=7)]
        server = Server(key="chat", model="llama", labels={"team": "search"}, completion=1_234_567,
                        prompt_computed=7_654_321, prompt_cached=99_999)  # fmt: skip
        made.hour(ms(HOUR) + i * HOUR_MS, [Gpu(model=gpu, held=held)], [server])
    return made


def rows(fleet: Fleet, folder: Path, book: str, version: str = "1.2") -> list[dict[str, str]]:
    out = io.StringIO()
    fleet.maker(prices(folder, book), now="2026-10-05T11:30").focus("2026-10-05", out, focus_version=version)
    reader = csv.DictReader(io.StringIO(out.getvalue()))
    listed = list(reader)
    assert list(faults(list(reader.fieldnames or ()), listed, version)) == []
    return listed


def of_tokens(listed: list[dict[str, str]]) -> list[dict[str, str]]:
    found = [row for row in listed if row["ConsumedUnit"] == "Tokens"]
    assert {row["SkuMeter"] for row in found} == KINDS
    return found


OWNED = """
facilities: {a: {pue: 1.3, per_kwh: 0.08}}
pools: [{name: h100, owned: {gpu: 35040, life_years: 4}}]
"""


@pytest.mark.parametrize("version", ["1.2", "1.4"])
def test_a_flat_tier_has_one_price_for_every_kind(version: str, tmp_path: Path) -> None:
    for row in of_tokens(rows(fleet(), tmp_path, OWNED + "token_prices: [{name: standard, per_million: 3}]", version)):
        assert (row["PricingUnit"], row["ListUnitPrice"], row["ContractedUnitPrice"]) == ("1000000 Tokens", "3", "3")
        assert Decimal(row["ListCost"]) == Decimal(row["ConsumedQuantity"]) * 3 / 10**6
        assert row["SkuPriceId"] == f"{row['SkuId']}@standard"


def test_each_kind_has_its_own_price_of_the_list(tmp_path: Path) -> None:
    tier = "token_prices: [{name: x, per_million: {prompt: 2.5, cached: 0.25, completion: 10}}]"
    found = {row["SkuMeter"]: row["ListUnitPrice"] for row in of_tokens(rows(fleet(), tmp_path, OWNED + tier))}
    assert found == {"Prompt Tokens": "2.5", "Cached Prompt Tokens": "0.25", "Output Tokens": "10"}


def test_a_free_tier_has_a_price_and_it_is_0(tmp_path: Path) -> None:
    for row in of_tokens(rows(fleet(), tmp_path, OWNED + "token_prices: [{name: free, per_million: 0}]")):
        assert (row["ListUnitPrice"], row["ListCost"], row["SkuPriceId"]) == ("0", "0", f"{row['SkuId']}@free")


@pytest.mark.parametrize(
    "tiers",
    ["", "token_prices: [{name: x, match: {team: ads}, per_million: 3}]",
     "exchange_rates: {EUR: [{from: 2027-01-01, rate: 1.1}]}\ntoken_prices: [{name: x, currency: EUR, per_million: 3}]"],
)  # fmt: skip
def test_tokens_that_no_tier_prices_are_priced_by_the_gpu_hours_that_made_them(tiers: str, tmp_path: Path) -> None:
    """Which is another thing than a price of 0."""
    found = of_tokens(rows(fleet(), tmp_path, OWNED + tiers))
    for row in found:
        assert (row["PricingUnit"], row["ListUnitPrice"]) == ("Hours", "1")
        assert row["PricingQuantity"] == row["x_GpuHours"]
    assert sum(Decimal(row["PricingQuantity"]) for row in found) == Decimal("0.616666667"), "37 minutes"


@pytest.mark.parametrize(
    ("terms", "price", "category"),
    [
        ("rented: {per_gpu_hour: 2.5}", "2.5", "Standard"),
        ("rented: {kind: spot, per_gpu_hour: 0.7}", "0.7", "Dynamic"),
        ("rented: {kind: reserved, count: 1, per_instance_hour: 20, gpus_per_instance: 8}", "2.5", "Committed"),
        ("owned: {gpu: 35040, life_years: 4}", "1", "Standard"),
    ],
)
def test_an_hour_has_the_price_of_the_pools_terms(terms: str, price: str, category: str, tmp_path: Path) -> None:
    """Whatever its energy came to, which is metered and stands in x_EnergyCost."""
    book = f"facilities: {{a: {{pue: 1.3, per_kwh: 0.08}}}}\npools: [{{name: p, {terms}}}]"
    found = [row for row in rows(fleet(hours=1), tmp_path, book) if row["ServiceCategory"] == "Compute"]
    assert {row["x_CostBucket"] for row in found} == {"idle", "unallocated"}
    for row in found:
        assert (row["ContractedUnitPrice"], row["ListUnitPrice"], row["PricingCategory"]) == (price, price, category)
        contracted, energy = Decimal(row["ContractedCost"]), Decimal(row["x_EnergyCost"])
        assert abs(contracted + energy - Decimal(row["EffectiveCost"])) < Decimal("0.00000001")


def test_what_others_carry_keeps_its_price(tmp_path: Path) -> None:
    from collector.fleet import rules

    maker = fleet().maker(
        prices(tmp_path, "pools: [{name: p, rented: {per_gpu_hour: 2.5}}]"),
        rules(tmp_path, {"sharing": {"unallocated": "usage"}}),
        now="2026-10-05T11:30",
    )
    out = io.StringIO()
    maker.focus("2026-10-05", out)
    (row,) = (row for row in csv.DictReader(io.StringIO(out.getvalue())) if row["x_CostBucket"] == "unallocated")
    assert (row["EffectiveCost"], row["ContractedUnitPrice"]) == ("0", "2.5")


def test_prices_are_shown_in_the_currency_of_the_list_too(tmp_path: Path) -> None:
    book = """
exchange_rates: {EUR: [{rate: 1.1}]}
pools: [{name: p, rented: {per_gpu_hour: 2, currency: EUR}}]
token_prices: [{name: x, currency: EUR, per_million: 3}]
"""
    for row in rows(fleet(), tmp_path, book):
        in_list = "3" if row["ConsumedUnit"] == "Tokens" else "2"
        in_book = "3.3" if row["ConsumedUnit"] == "Tokens" else "2.2"
        assert (row["BillingCurrency"], row["PricingCurrency"]) == ("USD", "EUR")
        assert (row["PricingCurrencyListUnitPrice"], row["PricingCurrencyContractedUnitPrice"]) == (in_list, in_list)
        assert (row["ListUnitPrice"], row["ContractedUnitPrice"]) == (in_book, in_book)
        cost = Decimal(row["PricingCurrencyEffectiveCost"]) * Decimal("1.1")
        assert abs(cost - Decimal(row["EffectiveCost"])) < Decimal("1e-11")


def test_a_reservation_is_a_commitment_that_is_used_or_not(tmp_path: Path) -> None:
    book = "pools: [{name: res, rented: {kind: reserved, count: 2, per_gpu_hour: 2.5}}]"
    found = rows(fleet(), tmp_path, book, "1.4")
    status: dict[str, Decimal] = {"Used": Decimal(0), "Unused": Decimal(0)}
    for row in found:
        assert (row["CommitmentDiscountId"], row["CommitmentDiscountName"]) == ("gpu-fleet/res", "res")
        assert (row["CommitmentDiscountCategory"], row["CommitmentDiscountType"]) == ("Usage", "Reserved")
        assert row["CommitmentDiscountUnit"] == "Hours"
        status[row["CommitmentDiscountStatus"]] += Decimal(row["CommitmentDiscountQuantity"])
        (applied,) = json.loads(row["ContractApplied"], parse_float=Decimal)["Elements"]
        assert applied["ContractCommitmentId"] == row["CommitmentDiscountId"]
        assert applied["ContractCommitmentAppliedQuantity"] == Decimal(row["CommitmentDiscountQuantity"])
    assert status == {"Used": Decimal("0.616666667"), "Unused": Decimal("1.383333333")}, "two GPUs, 37 minutes used"


def test_time_without_a_price_has_none_and_is_counted(tmp_path: Path) -> None:
    found = rows(
        fleet("Tesla T4"), tmp_path, 'pools: [{name: p, match: {gpu: "*H100*"}, owned: {gpu: 1, life_years: 1}}]'
    )
    assert sum(Decimal(row["x_GpuHours"] or 0) for row in found) == 1
    assert sum(Decimal(row["x_Joules"] or 0) for row in found) == Decimal("1234574")
    tokens = [row for row in found if row["x_TokenKind"]]
    assert {row["ListUnitPrice"] for row in tokens} == {""}, "which is not 0"
    assert sum(int(row["x_Tokens"]) for row in tokens) == 1_234_567 + 7_654_321 + 99_999
    unpriced: list[Any] = [row for row in found if row["x_CostBucket"] == "unpriced"]
    assert sum(Decimal(row["x_GpuHours"]) for row in unpriced) == 1
    assert {(row["ChargeCategory"], row["ListUnitPrice"], row["BilledCost"]) for row in unpriced} == {
        ("Adjustment", "", "0")
    }


def test_tokens_that_weigh_nothing_have_rows_and_revenue(tmp_path: Path) -> None:
    """A server of embeddings reads prompts alone, which the price book's weights may count as nothing."""
    made = Fleet()
    held = Held(workload="embed", active_min=60, active_j=1_000)
    made.hour(ms(HOUR), [Gpu(held=[held])], [Server(key="embed", model="e5", prompt_computed=2_000_000)])
    book = OWNED + "token_weights: {prompt: 0}\ntoken_prices: [{name: x, per_million: 3}]"
    listed = rows(made, tmp_path, book)
    assert sum(int(row["x_Tokens"] or 0) for row in listed) == 2_000_000
    assert sum(Decimal(row["ListCost"] or 0) for row in listed if row["PricingUnit"] == "1000000 Tokens") == 6
    used = [row for row in listed if row["x_CostBucket"] == "used"]
    assert [row["ConsumedUnit"] for row in used] == ["Tokens"]
