"""What caches saved and cost, over a real ledger: money by hand, what is never read, the fleet beside, the program."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.fleet import Fleet, Gpu, Held, Server, ms, prices, rules
from tokenyield_collector.cli import main
from tokenyield_collector.errors import ParameterError
from tokenyield_collector.insight import caching as caching_module
from tokenyield_collector.insight.caching import caching, saved_and_extra
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.spend.list_prices import ListPrice
from tokenyield_collector.spend.slices import Layer, SpendAmounts, SpendFields, SpendKey, SpendLine, SpendSlice
from tokenyield_collector.statements.bought import BoughtCosts

DAY = "2026-11-20"
BOOK = """{pools: [], exchange_rates: {EUR: 2}, bought_prices: [
    {vendor: anthropic, model: "opus*", currency: EUR, source: contract, per_million: {
        prompt: 10, cached: 1, cache_write: 12.5, long_cache_write: 20, completion: 50}},
    {vendor: openai, model: "gpt*", per_million: {prompt: 2, cached: 0.5, completion: 8}}]}"""
MEGA = 10**6


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path / "of-the-test.duckdb")


def slice_of(*lines: SpendLine, account: str = "a", layer: Layer = "reported", day: str = DAY) -> SpendSlice:
    return SpendSlice(SpendKey("anthropic", account, ms(f"{day}T00:00"), "messages"), layer, tuple(sorted(lines)))


def used(vendor: str, model: str, *, read: int | None, written: int | None, long: int | None = None, fresh: int = MEGA,
         **keys: str) -> SpendLine:  # fmt: skip
    amounts = SpendAmounts(fresh=fresh, cache_read=read, cache_write=written, long_cache_write=long, output=5)
    return SpendLine(SpendFields(vendor, model=model, **keys), amounts)


def maker_of(tmp_path: Path, fleet: Fleet, book: str = BOOK) -> ReportMaker:
    of_team = rules(tmp_path, {"dimensions": ["team"]})
    return fleet.maker(prices(tmp_path, book), of_team, now=f"{DAY}T12:00", others=(BoughtCosts(fleet.ledger),))


def document_of(tmp_path: Path, fleet: Fleet, top: int = 100, period: str = DAY) -> Any:
    return caching(maker_of(tmp_path, fleet), fleet.ledger, period, top)


def test_money_is_that_of_the_agreed_prices(fleet: Fleet, tmp_path: Path) -> None:
    fleet.ledger.replace_spend(
        [
            slice_of(
                used("anthropic", "opus-9", read=4 * MEGA, written=2 * MEGA, long=MEGA, api_key="k1"),
                used("anthropic", "opus-9", read=0, written=MEGA, api_key="k2"),
                used("openai", "gpt-9", read=MEGA, written=None),
                used("mistral", "nobody-knows", read=7, written=None),
            )
        ],
        1,
    )
    document = document_of(tmp_path, fleet)
    rows = {row["model"]: row for row in document["rows"]}
    opus = rows["opus-9"]
    assert opus["prompt_tokens"] == (1 + 4 + 2 + 1 + 0 + 1) * MEGA
    assert opus["saved"] == 4 * (10 - 1) * 2
    assert opus["extra"] == ((12.5 - 10) + (20 - 10) + (12.5 - 10)) * 2
    assert opus["net"] == opus["saved"] - opus["extra"]
    assert (opus["never_read_tokens"], opus["never_read_extra"]) == (MEGA, 5)
    assert opus["reads_per_write"] == 4 / 3
    gpt = rows["gpt-9"]
    assert (gpt["saved"], gpt["extra"], gpt["net"], gpt["written_tokens"], gpt["never_read_tokens"]) == (
        Decimal("1.5"), None, Decimal("1.5"), None, None,
    )  # fmt: skip
    assert gpt["read_share"] == 0.5
    unknown = rows["nobody-knows"]
    assert (unknown["saved"], unknown["net"], unknown["unpriced_tokens"]) == (None, None, 7)
    total = document["total"]
    assert total["net"] == sum(row["net"] or 0 for row in document["rows"])
    assert total["unpriced_tokens"] == 7
    assert document["prices"] == ["agreed price (contract)", "agreed price (bought_prices[1])"]
    assert [row["model"] for row in document["rows"]] == ["opus-9", "gpt-9", "nobody-knows"]


def test_a_key_that_reads_on_another_day_of_the_period_has_read(fleet: Fleet, tmp_path: Path) -> None:
    fleet.ledger.replace_spend(
        [
            slice_of(used("anthropic", "opus-9", read=0, written=MEGA), day="2026-11-19"),
            slice_of(used("anthropic", "opus-9", read=MEGA, written=0)),
            slice_of(used("anthropic", "opus-9", read=MEGA, written=0), account="b"),
        ],
        1,
    )
    assert document_of(tmp_path, fleet, period="2026-11-19..2026-11-20")["total"]["never_read_tokens"] == 0
    assert document_of(tmp_path, fleet, period="2026-11-19")["total"]["never_read_tokens"] == MEGA


def test_the_fleet_stands_beside_without_money(fleet: Fleet, tmp_path: Path) -> None:
    server = Server(key="docs/llama", prompt_computed=200, prompt_cached=100, completion=9)
    fleet.hour(f"{DAY}T08:00", [Gpu(held=[Held(workload="docs/llama", active_min=60)])], [server])
    (row,) = document_of(tmp_path, fleet)["rows"]
    assert (row["vendor"], row["model"]) == ("own-fleet", "llama")
    assert row["read_tokens"] == 100
    assert (row["saved"], row["net"], row["written_tokens"]) == (None, None, None)


def test_rows_beyond_top_are_in_the_total_and_too_many_keys_are_refused(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [used("openai", f"gpt-{i}", read=MEGA * i, written=None) for i in range(1, 4)]
    fleet.ledger.replace_spend([slice_of(*lines)], 1)
    document = document_of(tmp_path, fleet, top=1)
    assert ([row["model"] for row in document["rows"]], document["more"]) == (["gpt-3"], 2)
    assert document["total"]["saved"] == 9
    monkeypatch.setattr(caching_module, "KEYS_MAX", 2)
    with pytest.raises(ParameterError, match="at most 2 keys that use caches"):
        document_of(tmp_path, fleet)


def test_the_program_prints_a_table_and_the_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = tmp_path / "ledger.duckdb"
    fleet = Fleet(ledger)
    fleet.ledger.replace_spend([slice_of(used("openai", "gpt-9\x1b[31m", read=MEGA, written=None))], 1)
    fleet.ledger.close()
    (tmp_path / "prices.yaml").write_text(BOOK)
    call = ["caching", "--period", DAY, "--ledger", str(ledger), "--prices", str(tmp_path / "prices.yaml")]
    assert main(call) == 0
    table = capsys.readouterr().out
    assert "50.0 %" in table
    assert "1.50" in table
    assert "\x1b[31m" not in table
    assert main([*call, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"]["saved"] == 1.5
    assert main([*call, "--top", "0"]) == 2


COUNTS = st.one_of(st.none(), st.integers(0, 10**12))
PRICES = st.one_of(st.none(), st.integers(0, 10**9))


@given(st.builds(SpendAmounts, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS),
       st.builds(ListPrice, st.integers(0, 10**9), PRICES, PRICES, PRICES, st.just(0)))  # fmt: skip
def test_net_is_what_the_same_prompt_costs_less_with_the_cache(amounts: SpendAmounts, price: ListPrice) -> None:
    assert price.fresh is not None
    saved, extra = saved_and_extra(price, price.fresh, amounts)
    prompt = (amounts.fresh or 0) + (amounts.cache_read or 0) + (amounts.cache_write or 0)
    with_cache = price.cost_micro(amounts)
    without = price.cost_micro(SpendAmounts(fresh=prompt, output=amounts.output))
    assert with_cache is not None
    assert without is not None
    assert abs((without - with_cache) - (saved - extra) / 10**6) <= 1
