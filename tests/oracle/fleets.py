"""Random fleets, as their agents would send them: nodes, GPUs, servers, callers, gaps, late and repeated windows.

In: a seed. Out: shipments as JSON, and after which of them the ledger rolls up. Nothing of the product."""

import random
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

HOUR_MS = 3_600_000
GPUS = ("NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB", "NVIDIA L4")
MODELS = ("llama-3.3-70b", "qwen3-32b", "mistral-24b", "")
ALIASES = {"chat": "llama-3.3-70b", "fast": "qwen3-32b"}
TEAMS = ("search", "ads", "docs", "(dark)", "unattributed", "=cmd|x", "+1", "[/]")
PRODUCTS = ("assistant", "ranking", "summaries")
AMOUNTS = {"prompt_computed", "prompt_unsplit", "completion", "requests"}
"""That a gateway counts."""
DAYS = ("2026-10-05", "2026-10-24", "2026-10-31", "2026-03-28", "2026-02-28", "2026-12-31")
"""A Monday; clocks change the day after; a month ends, twice; a year ends."""


@dataclass
class Fleet:
    """What was sent, and when it was rolled up."""

    seed: int
    first_day: date
    days: int
    shipments: list[dict[str, Any]] = field(default_factory=list)
    roll_after: list[int] = field(default_factory=list)
    servers: list[dict[str, Any]] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)
    """Of the token of each shipment; "" where there is none."""

    @property
    def period(self) -> str:
        return self._period(self.first_day + timedelta(days=self.days - 1))

    @property
    def period_of_month(self) -> str:
        """The days of it that are of its first month."""
        month_end = (self.first_day.replace(day=1) + timedelta(days=32)).replace(day=1) - timedelta(days=1)
        return self._period(min(month_end, self.first_day + timedelta(days=self.days - 1)))

    def _period(self, last: date) -> str:
        return self.first_day.isoformat() if last == self.first_day else f"{self.first_day}..{last}"

    @property
    def start_ms(self) -> int:
        return (
            int(datetime(self.first_day.year, self.first_day.month, self.first_day.day, tzinfo=UTC).timestamp()) * 1000
        )


def fleet_of(seed: int) -> Fleet:
    rng = random.Random(f"fleet {seed}")
    fleet = Fleet(seed, date.fromisoformat(rng.choice(DAYS)), rng.choice((1, 1, 2, 3)))
    fleet.nodes = [_node(rng, number) for number in range(rng.randint(1, 4))]
    fleet.servers = [_server(rng, number) for number in range(rng.randint(0, 5))]
    hours = sorted(rng.sample(range(24 * fleet.days), rng.randint(1, min(16, 24 * fleet.days))))
    for node in fleet.nodes:
        batches = [batch for hour in hours if rng.random() < 0.85 for batch in _hour(rng, fleet, node, hour)]
        for number, batch in enumerate(batches, start=1):
            batch["seq"] = number
        while batches:
            count = rng.randint(1, 12)
            fleet.shipments.append(_shipment(node, batches[:count]))
            batches = batches[count:]
    _add_second_gateway(random.Random(f"gateways {seed}"), fleet)
    if rng.random() < 0.6:
        rng.shuffle(fleet.shipments)  # windows of one hour come late, and after those of others
    for _ in range(rng.randint(0, 2)):
        if fleet.shipments:
            fleet.shipments.insert(rng.randint(0, len(fleet.shipments)), rng.choice(fleet.shipments))
    fleet.roll_after = rng.sample(range(1, len(fleet.shipments) + 1), min(2, len(fleet.shipments)))
    fleet.scopes = _scopes(random.Random(f"scopes {seed}"), fleet)
    return fleet


def _scopes(rng: random.Random, fleet: Fleet) -> list[str]:
    """In two of three fleets nodes have tokens: of all, of a team, or of the node alone; some get another one later. And
    one workload is called as the collector would call another's."""
    if rng.random() < 1 / 3:
        return [""] * len(fleet.shipments)
    if fleet.servers and rng.random() < 0.3:
        _rename(fleet, fleet.servers[0]["key"], f"{fleet.servers[-1]['key']} (node n1)")

    def scope(node: str) -> str:
        return rng.choice(("fleet", "fleet", "team-*", "team-*", node, ""))

    of_node = {node["node"]: scope(node["node"]) for node in fleet.nodes}
    scopes = []
    for shipment in fleet.shipments:
        if rng.random() < 0.1:
            of_node[shipment["node"]] = scope(shipment["node"])
        scopes.append(of_node[shipment["node"]])
    return scopes


def _rename(fleet: Fleet, key: str, other: str) -> None:
    for batch in {id(batch): batch for one in fleet.shipments for batch in one["batches"]}.values():
        for workload in batch["workloads"]:
            workload["key"] = other if workload["key"] == key else workload["key"]
        for share in batch["shares"]:
            share["workload"] = other if share["workload"] == key else share["workload"]


def _add_second_gateway(rng: random.Random, fleet: Fleet) -> None:
    """Of some fleets all demand is what servers made, perhaps less or more: by two gateways, each with requests of its
    own, or one behind the other, which counts the same again for a caller of its own."""
    way = rng.choice(("none", "none", "behind", "own"))
    caller = rng.choice(({}, {"key": "litellm"}, {"team": "search"}))
    most = rng.choice((0.5, 1, 1, 1.2))
    for shipment in fleet.shipments if way != "none" else ():
        for batch in shipment["batches"]:
            demand: dict[tuple[str, str, str], dict[str, Any]] = {}
            for workload in batch["workloads"]:
                for made in workload.get("tokens", ()) if workload.get("model") else ():
                    asker, part = {"team": rng.choice(TEAMS)}, rng.random() * most
                    gateway = "envoy" if way == "own" and rng.random() < 0.5 else "litellm"
                    callers = [(gateway, asker), *([("envoy", caller)] if way == "behind" else ())]
                    for gateway, who in callers:
                        model = workload["model"]
                        one = {"gateway": gateway, "model": model, "asker": who}
                        one = demand.setdefault((gateway, model, str(who)), one)
                        for kind in made.keys() & AMOUNTS:
                            one[kind] = one.get(kind, 0) + int(made[kind] * part)
            batch["demand"] = list(demand.values())


def _node(rng: random.Random, number: int) -> dict[str, Any]:
    gpus = [rng.choice(GPUS)] * rng.randint(1, 4) if rng.random() < 0.8 else [rng.choice(GPUS) for _ in range(3)]
    return {
        "cluster": rng.choice(("onprem", "eks-prod")),
        "node": f"n{number}",
        "gpus": gpus,
        "labels": rng.choice(({}, {"rack": f"a{number}"}, {"rack": "b1", "contract": "c7"})),
        "host": rng.choice((None, None, "rapl", "dcmi", "power_meter")),
        "window_ms": HOUR_MS // rng.choice((1, 1, 2, 4)),
        "claims": rng.random() < 0.25,
    }


def _server(rng: random.Random, number: int) -> dict[str, Any]:
    labels = {}
    if rng.random() < 0.8:
        labels["team"] = rng.choice(TEAMS)
    if rng.random() < 0.6:
        labels["product"] = rng.choice(PRODUCTS)
    if rng.random() < 0.4:
        labels["namespace"] = rng.choice(("prod", "lab"))
    return {
        "key": f"{labels.get('namespace', 'w')}/server-{number}",
        "models": rng.sample(MODELS, rng.choice((1, 1, 1, 2))),
        "labels": labels,
        "pace": rng.randint(1, 4000),
        "kinds": rng.choice((("prompt_computed", "prompt_cached", "completion", "requests"), ("prompt_unsplit", "completion"), ("completion",), ())),
        "method": rng.choice(("counter", "count", "rate")),
    }  # fmt: skip


def _shipment(node: dict[str, Any], batches: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "schema": 1, "agent_id": f"agent-{node['node']}", "epoch": "e", "cluster": node["cluster"], "node": node["node"],
        "labels": node["labels"], "batches": batches,
    }  # fmt: skip


def _hour(rng: random.Random, fleet: Fleet, node: dict[str, Any], hour: int) -> list[dict[str, Any]]:
    length_ms, start_ms = node["window_ms"], fleet.start_ms + hour * HOUR_MS
    return [
        _batch(rng, fleet, node, start_ms + offset_ms, start_ms + offset_ms + length_ms)
        for offset_ms in range(0, HOUR_MS, length_ms)
        if rng.random() < 0.95
    ]


def _batch(rng: random.Random, fleet: Fleet, node: dict[str, Any], start_ms: int, end_ms: int) -> dict[str, Any]:
    here = rng.sample(fleet.servers, rng.randint(0, min(3, len(fleet.servers))))
    gpus, shares = [], []
    for number, model in enumerate(node["gpus"]):
        uuid = f"GPU-{node['node']}-{number}"
        if node["claims"] and not number and rng.random() < 0.6:
            uuid = "GPU-n0-0"  # of the first node
        holders = (
            rng.sample(here, rng.choice((0, 1, 1, 1, 2))) if len(here) >= 2 else (here if rng.random() < 0.8 else [])
        )
        gpu, held = _gpu(rng, uuid, model, end_ms - start_ms, [server["key"] for server in holders])
        gpus.append(gpu)
        shares += held
    batch: dict[str, Any] = {
        "seq": 0, "start_ms": start_ms, "end_ms": end_ms, "gpus": gpus, "shares": shares,
        "workloads": [_workload(rng, node, server, (end_ms - start_ms) / 1000) for server in here],
    }  # fmt: skip
    if rng.random() < 0.5:
        batch["demand"] = [_demand(rng, start_ms) for _ in range(rng.randint(1, 4))]
        batch["demand"] = list(
            {(one["gateway"], one["model"], str(one["asker"])): one for one in batch["demand"]}.values()
        )
    if node["host"]:
        batch["host_energy_mj"] = {node["host"]: rng.randint(0, 3_000) * (end_ms - start_ms)}
    return batch


def _gpu(
    rng: random.Random, uuid: str, model: str, length_ms: int, holders: list[str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    cuts = sorted(rng.randint(0, length_ms) for _ in range(3))
    if rng.random() < 0.2:
        cuts = [length_ms] * 3  # active all the time
    active, idle, unallocated, unknown = cuts[0], cuts[1] - cuts[0], cuts[2] - cuts[1], length_ms - cuts[2]
    if rng.random() < 0.7:
        unallocated, unknown = unallocated + unknown, 0
    watts = rng.randint(30, 700)
    energy = {
        "active": active * watts,
        "idle": idle * 90,
        "unallocated": unallocated * 60,
        "unknown": unknown * rng.randint(0, 60),
    }
    parked = rng.randint(0, idle) if rng.random() < 0.2 else 0
    gpu = {
        "uuid": uuid, "model": model, "active_ms": active, "idle_ms": idle, "unallocated_ms": unallocated,
        "unknown_ms": unknown, "unknown_reason_ms": {"gpu_lost": unknown} if unknown else {}, "energy_mj": energy,
        "parked_ms": parked, "parked_mj": parked * 90,
    }  # fmt: skip
    shares, left = [], {"active_ms": active, "idle_ms": idle, "active_mj": energy["active"], "idle_mj": energy["idle"]}
    for number, key in enumerate(holders):
        is_last = number == len(holders) - 1 and rng.random() < 0.8  # else some of it belongs to no known workload
        part = 1.0 if is_last else rng.random()
        share: dict[str, Any] = {name: value if is_last else int(value * part) for name, value in left.items()}
        left = {name: value - share[name] for name, value in left.items()}
        share["parked_ms"] = min(parked, share["idle_ms"]) if len(holders) == 1 else 0
        share["parked_mj"] = min(share["parked_ms"] * 90, share["idle_mj"])
        split = "exclusive" if len(holders) == 1 else rng.choice(("sm", "mig", "even"))
        shares.append({"gpu_uuid": uuid, "workload": key, "split": split, **share})
    return gpu, shares


def _workload(rng: random.Random, node: dict[str, Any], server: dict[str, Any], seconds: float) -> dict[str, Any]:
    made = int(server["pace"] * seconds * rng.random())
    amounts = {
        "prompt_computed": made * 3, "prompt_cached": made, "prompt_unsplit": made * 4, "completion": made,
        "requests": made // 350,
    }  # fmt: skip
    workload: dict[str, Any] = {
        "key": server["key"],
        "server": "vllm",
        "place": node["node"],
        "labels": server["labels"],
    }
    if model := rng.choice(server["models"]):
        workload["model"] = model
    counts = {kind: amounts[kind] for kind in server["kinds"] if rng.random() < 0.95}
    if counts:
        workload["tokens"] = [{"method": server["method"], **counts}]
    return workload


def _demand(rng: random.Random, seed: int) -> dict[str, Any]:
    made = rng.choice((0, 10**4, 10**6, 10**7))
    caller = rng.choice(({}, {"team": rng.choice(TEAMS)}, {"team": rng.choice(TEAMS), "key": "k1"}, {"key": "k2"}))
    if rng.random() < 0.4:
        caller = caller | {
            "service_tier": rng.choice(("free", "priority")),
            "context": rng.choice(("le_32k", "gt_200k")),
        }
    demand: dict[str, Any] = {
        "gateway": "litellm",
        "model": rng.choice((*ALIASES, *MODELS[:3], "bought-elsewhere")),
        "asker": caller,
    }
    for kind in rng.choice(
        (("prompt_computed", "completion", "requests"), ("prompt_unsplit", "completion"), ("completion",))
    ):
        demand[kind] = made if kind != "requests" else made // 300
    return demand
