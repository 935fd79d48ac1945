"""Random price books and rules, as a person would write them in YAML. In: a seed and a fleet. Out: two documents."""

import random
from datetime import timedelta
from typing import Any

from oracle.fleets import ALIASES, GPUS, PRODUCTS, TEAMS, Fleet

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu")


def policy_of(fleet: Fleet) -> tuple[dict[str, Any], dict[str, Any]]:
    rng = random.Random(f"policy {fleet.seed}")
    rules = rules_of(rng)
    prices = prices_of(rng, fleet, rules.get("dimensions") or ["team", "product"])
    if sites := sites_of(random.Random(f"sites {fleet.seed}"), fleet, prices["facilities"]):
        prices["sites"] = sites
    return prices, rules


def money(rng: random.Random, top: float, *, digits: int = 4) -> float:
    return round(rng.choice((rng.random() * top, rng.random() * top / 100)), digits)


def prices_of(rng: random.Random, fleet: Fleet, dimensions: list[str]) -> dict[str, Any]:
    currency = rng.choice(("USD", "USD", "EUR"))
    book: dict[str, Any] = {"version": 1, "currency": currency, "timezone": rng.choice(ZONES)}
    others = [name for name in ("USD", "EUR", "JPY") if name != currency]
    mid = fleet.first_day + timedelta(days=1)
    book["exchange_rates"] = {
        others[0]: [{"rate": money(rng, 2) + 0.1}, {"from": mid, "rate": money(rng, 2) + 0.1}],
        others[1]: {"rate": 0.0067},
        "GBP": [{"from": mid, "rate": 1.3}],  # not known before
    }
    currencies = [None, None, *others, *(["GBP"] if rng.random() < 0.3 else [])]
    sites = ["main"] if rng.random() < 0.6 else ["main", "other"]
    book["facilities"] = {name: facility(rng, fleet, currencies) for name in sites}
    names = ["first", "second", "third"][: rng.randint(0, 3)]
    book["pools"] = [pool(rng, fleet, name, sites, currencies, dimensions) for name in names]
    if rng.random() < 0.9:
        book["pools"].append({"name": "rest", "facility": "main", "rented": {"per_gpu_hour": money(rng, 9)}})
    if rng.random() < 0.5:
        book["token_weights"] = {
            "prompt": rng.choice((1, 2, 0)),
            "cached": rng.choice((0, 0.1, 1.125)),
            "completion": rng.choice((1, 4, 5.5)),
        }
    book["reference_rates"] = {"learn": rng.random() < 0.6, "learn_days": rng.choice((1, 30))}
    if rng.random() < 0.6:
        book["reference_rates"]["configured"] = [
            {
                "model": rng.choice(("*", "llama*", "qwen*")),
                "gpu": rng.choice(("*", "*H100*")),
                "tokens_per_second": money(rng, 5000) + 1,
            }
        ]
    book["token_prices"] = [
        token_price(rng, fleet, number, currencies, dimensions) for number in range(rng.randint(0, 4))
    ]
    if rng.random() < 0.5:
        book["api_prices"] = [
            {"name": "api", "model": "*", "per_million": {"prompt": money(rng, 3), "completion": money(rng, 9)}}
        ]
    return book


def facility(rng: random.Random, fleet: Fleet, currencies: list[Any]) -> Any:
    site: dict[str, Any] = {
        "pue": round(1 + rng.random(), 2),
        "per_kwh": rng.choice((0, money(rng, 0.4), money(rng, 0.4))),
    }
    if currency := rng.choice(currencies):
        site["currency"] = currency
    if rng.random() < 0.5:
        hours = rng.choice(("07:00-20:00", "22:00-06:00", "00:00-24:00", "06:30-18:45"))
        site["bands"] = [
            {"name": "a", "hours": hours, "days": rng.choice(("mon-fri", "sat,sun", "fri-mon")), "per_kwh": money(rng, 0.9) + 0.001},
            {"name": "b", "hours": "12:00-13:00", "months": rng.choice(("1-12", "10-3", "4,5")), "per_kwh": 0.5},
        ]  # fmt: skip
    ways: tuple[dict[str, Any], ...] = (
        {},
        {"per_kw_month": money(rng, 300)},
        {"per_month": money(rng, 90_000), "kw": 120},
        {"capex_per_kw": money(rng, 50000), "capex_life_years": rng.choice((10, 15))},
    )
    site |= rng.choice(ways)
    if (
        site.get("currency", "USD") == "USD"
        and not (site.keys() & {"per_kw_month", "per_month", "capex_per_kw"})
        and "USD" not in currencies
    ):
        site |= rng.choice(({}, {"preset": "gigawatt"}))
    site |= {"kw_per_gpu": money(rng, 2), "host_watts_per_gpu": rng.choice((0, 100, 250.5))}
    carbon = rng.choice((None, 0, 380, [100 + 10 * hour for hour in range(24)]))
    if carbon is not None:
        site["carbon_g_per_kwh"] = carbon
    if rng.random() < 0.1:
        return [site | {"from": fleet.first_day + timedelta(days=1)}]
    if rng.random() < 0.3:
        return [site, {"from": fleet.first_day + timedelta(days=rng.randint(0, 2)), "pue": round(1 + rng.random(), 2)}]
    return site


def sites_of(rng: random.Random, fleet: Fleet, facilities: dict[str, Any]) -> dict[str, Any]:
    """Of facilities that have a price of space, some provision more than their GPUs take, and some less."""
    sites: dict[str, Any] = {}
    for name, entries in facilities.items():
        first = entries[0] if isinstance(entries, list) else entries
        if not first.keys() & {"per_kw_month", "per_month", "capex_per_kw", "preset"} or rng.random() < 0.3:
            continue
        site: dict[str, Any] = {"facility": name, "provisioned_kw": first.get("kw") or rng.choice((0, 2.5, 12, 400))}
        if rng.random() < 0.2:
            site["until"] = fleet.first_day + timedelta(days=rng.randint(0, 2))
        sites[f"site {name}"] = site
        if rng.random() < 0.3 and "kw" not in first:
            later = {"from": fleet.first_day + timedelta(days=1), "provisioned_kw": rng.choice((1, 30))}
            sites[f"site {name}"] = rng.choice(([site, later], [site | {"from": fleet.first_day}, later]))
    return sites


def pool(
    rng: random.Random, fleet: Fleet, name: str, sites: list[str], currencies: list[Any], dimensions: list[str]
) -> dict[str, Any]:
    match: dict[str, Any] = rng.choice((
        {"gpu": "*" + rng.choice(GPUS)[7:11] + "*"}, {"cluster": "onprem"}, {"cluster": "eks-*", "gpu": "*A100*"},
        {"node": rng.choice(("n0", "n[12]"))}, {"labels": {"rack": "a*"}},
    ))  # fmt: skip
    made: dict[str, Any] = {
        "name": name,
        "match": match,
        "facility": rng.choice(sites),
        **terms(rng, fleet, currencies),
    }
    if rng.random() < 0.4:
        made["owner"] = {dimensions[0]: rng.choice(TEAMS)}
    if rng.random() < 0.3:
        made |= {"kw_per_gpu": money(rng, 2), "host_watts_per_gpu": rng.randint(0, 400)}
    return made


def terms(rng: random.Random, fleet: Fleet, currencies: list[Any]) -> dict[str, Any]:
    common: dict[str, Any] = {"currency": currency} if (currency := rng.choice(currencies)) else {}
    if rng.random() < 0.5:
        owned: dict[str, Any] = common | {
            "gpu": money(rng, 40000), "server": money(rng, 9000), "life_years": rng.choice((1, 4, 5.5)),
            "residual_fraction": rng.choice((0, 0.15)), "method": rng.choice(("straight_line", "annuity")),
            "cost_of_capital": rng.choice((0, 0.08)), "maintenance_rate": rng.choice((0, 0.05)), "per_gpu_year": rng.choice((0, 120.5)),
        }  # fmt: skip
        if rng.random() < 0.3:
            owned["in_service"] = fleet.first_day - timedelta(days=rng.choice((10, 365, 366, 1461, 2009)))
        if rng.random() < 0.15:
            owned["retired"] = fleet.first_day + timedelta(days=rng.randint(0, 2))
        if rng.random() < 0.5:
            owned["count"] = rng.randint(0, 12)
            if rng.random() < 0.3:
                owned["overflow_per_gpu_hour"] = money(rng, 9)
        return {"owned": owned}
    rented: dict[str, Any] = common | {"kind": rng.choice(("on_demand", "spot"))}
    if rng.random() < 0.7:
        rented["per_gpu_hour"] = money(rng, 12)
    else:
        rented |= {"per_instance_hour": money(rng, 90), "gpus_per_instance": rng.choice((3, 8))}
    if rng.random() < 0.4:
        rented["energy_included"] = False
    if rng.random() < 0.3:
        rented["facility_included"] = rng.random() < 0.5
    if rng.random() < 0.4:
        rented |= {"kind": "reserved", "count": rng.randint(0, 12)}
        if rng.random() < 0.4:
            rented["overflow_per_gpu_hour"] = money(rng, 9)
        if rng.random() < 0.5:
            rented |= {
                "upfront_per_gpu": money(rng, 9000),
                "starts": fleet.first_day - timedelta(days=100),
                "ends": fleet.first_day + timedelta(days=265),
            }
    if "starts" not in rented and rng.random() < 0.15:
        rented[rng.choice(("starts", "ends"))] = fleet.first_day + timedelta(days=rng.randint(0, 2))
    if rng.random() < 0.3 and "per_gpu_hour" in rented:
        later: dict[str, Any] = {"from": fleet.first_day + timedelta(days=1), "per_gpu_hour": money(rng, 12)}
        if rng.random() < 0.5:
            later |= {"per_gpu_hour": None, "per_instance_hour": 18, "gpus_per_instance": 8}
        return {"rented": [rented, later | rng.choice(({}, {"overflow_per_gpu_hour": None}, {"currency": None}))]}
    return {"rented": rented}


def token_price(
    rng: random.Random, fleet: Fleet, number: int, currencies: list[Any], dimensions: list[str]
) -> dict[str, Any]:
    match: dict[str, str] = rng.choice((
        {}, {"model": "llama*"}, {dimensions[0]: rng.choice(("search", "ads", "unattributed"))}, {dimensions[-1]: rng.choice(PRODUCTS)},
        {"service_tier": "priority"}, {"context": "gt_*"}, {"gateway.key": "k*"}, {"labels.team": "search"}, {"cluster": "eks-*"},
        {"namespace": "prod", "workload": "*-1"},
    ))  # fmt: skip
    price: dict[str, Any] = {"name": f"tier-{number}", "match": match}
    by_kind = {"prompt": money(rng, 2), "completion": 4}
    price["per_million"] = rng.choice((0, 3, money(rng, 50), {"prompt": 1, "cached": 0.25, "completion": 6}, by_kind))
    if rng.random() < 0.3:
        later = fleet.first_day + timedelta(days=1)
        price["per_million"] = rng.choice((
            [3, {"from": later, "every": 2.5}], [by_kind, {"from": later, "completion": 5}], [{"from": later, "every": 1.5}],
            [by_kind, {"from": later, "every": 7, "prompt": None, "completion": None}],
        ))  # fmt: skip
    if currency := rng.choice(currencies):
        price["currency"] = currency
    if rng.random() < 0.2:
        price["from"] = fleet.first_day + timedelta(days=1)
    if rng.random() < 0.2:
        price["until"] = fleet.first_day + timedelta(days=2)
    return price


def rules_of(rng: random.Random) -> dict[str, Any]:
    ways = ("apart", "usage", "even", "ownership")
    rules: dict[str, Any] = {
        "version": 1,
        "sharing": {bucket: rng.choice(ways) for bucket in ("idle", "unallocated", "dark")},
    }
    if rng.random() < 0.7:
        rules["gateway_models"] = dict(ALIASES)
    if rng.random() < 0.4:
        rules["dimensions"] = ["owner", "product", "env"]
        rules["rules"] = [
            {"match": {"gateway": {"key": "k1"}}, "set": {"owner": "{gateway.team}", "product": "by key"}},
            {"match": {"labels": {"team": "?*"}, "model": rng.choice(("*", "llama*"))}, "set": {"owner": "{labels.team}", "env": "{namespace}"}},
            {"match": {"cluster": "eks-*"}, "set": {"owner": "cloud {cluster}", "product": "{labels.product}"}},
        ]  # fmt: skip
    return rules
