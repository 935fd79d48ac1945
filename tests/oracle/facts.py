"""What nodes sent, summed hour by hour. Plain Python on the wire's JSON; nothing of the product.

In: shipments as the agents send them (`docs/wire-v1.schema.json`), read as dicts. Out: `HourFacts` by hour.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
STATES = ("active", "idle", "unallocated", "unknown")
KINDS = ("prompt_computed", "prompt_cached", "prompt_unsplit", "completion", "requests")
TOKENS = KINDS[:4]
WHOLE_MACHINE = ("dcmi", "power_meter")


Node = tuple[str, str]
"""Cluster and name."""


class GpuPlace(NamedTuple):
    """GPUs of one product in one node."""

    cluster: str
    node: str
    gpu: str


class Server(NamedTuple):
    """A workload of a cluster, on however many nodes."""

    cluster: str
    workload: str


@dataclass
class Held:
    """What a workload held of the GPUs of one place."""

    active_ms: int = 0
    idle_ms: int = 0
    active_mj: int = 0
    idle_mj: int = 0
    parked_ms: int = 0
    parked_mj: int = 0
    gpus: set[str] = field(default_factory=set)


@dataclass
class Made:
    """Tokens and requests by kind; `known` are those that somebody reported."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    known: set[str] = field(default_factory=set)

    def add(self, entry: Mapping[str, Any]) -> None:
        for kind in KINDS:
            if entry.get(kind) is not None:
                self.counts[kind] += entry[kind]
                self.known.add(kind)


@dataclass
class HourFacts:
    """Of one UTC hour."""

    time_ms: dict[GpuPlace, dict[str, int]] = field(
        default_factory=lambda: defaultdict(lambda: dict.fromkeys(STATES, 0))
    )
    reported: set[GpuPlace] = field(default_factory=set)
    """Also those whose GPUs count for another node."""
    energy_mj: dict[GpuPlace, dict[str, int]] = field(
        default_factory=lambda: defaultdict(lambda: dict.fromkeys(STATES, 0))
    )
    held: dict[Server, dict[GpuPlace, Held]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Held)))
    made: dict[Server, dict[str, Made]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Made)))
    carried: dict[Server, dict[str, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    """Labels (JSON) -> for how long."""
    asked: dict[tuple[str, str], dict[tuple[str, str], Made]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Made))
    )
    """(cluster, model as the gateway calls it) -> (gateway, caller as JSON) -> what was requested."""
    hosts: dict[tuple[str, str, str], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0]))
    """(cluster, node, sensor) -> mJ of the host, time and mJ of its GPUs meanwhile."""

    def labels_of(self, server: Server) -> dict[str, str]:
        """Those that it carried longest."""
        carried = self.carried.get(server)
        return json.loads(max(carried, key=lambda text: (carried[text], text))) if carried else {}


@dataclass
class Facts:
    """Of a whole ledger."""

    hours: dict[int, HourFacts] = field(default_factory=lambda: defaultdict(HourFacts))
    node_labels: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)

    @property
    def served(self) -> set[tuple[str, str]]:
        """(cluster, model) of every server that ever ran."""
        return {
            (server.cluster, model)
            for hour in self.hours.values()
            for server, made in hour.made.items()
            for model in made
        }


def json_text(labels: Mapping[str, str]) -> str:
    return json.dumps(labels, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def facts_of(shipments: Iterable[Mapping[str, Any]]) -> Facts:
    """In the order in which they arrived; a batch that came twice counts once, and so does a GPU of two nodes."""
    facts, seen = Facts(), set()
    batches: list[tuple[Node, dict[str, Any]]] = []
    for shipment in shipments:
        place = shipment["cluster"], shipment["node"]
        facts.node_labels[place] = shipment.get("labels", {})
        for batch in shipment["batches"]:
            number = (shipment["agent_id"], shipment["epoch"], *place, batch["seq"])
            if number not in seen:
                seen.add(number)
                batches.append((place, batch))
    owners = _owners(batches)
    for place, batch in batches:
        hour_ms = batch["start_ms"] // HOUR_MS * HOUR_MS
        foreign = {gpu for (at_ms, gpu), owner in owners.items() if at_ms == hour_ms and owner != place}
        _add(facts.hours[hour_ms], *place, batch, foreign)
    return facts


def _owners(batches: Iterable[tuple[Node, Mapping[str, Any]]]) -> dict[tuple[int, str], Node]:
    """(hour, GPU) that several nodes reported for over a minute more than an hour -> the node whose GPU it is: the one
    that has reported it for longest without a break of a day; of two, the one with more of the hour in which both
    began."""
    spent: dict[tuple[str, Node], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for place, batch in batches:
        for gpu in batch.get("gpus", ()):
            hour_ms = batch["start_ms"] // HOUR_MS * HOUR_MS
            spent[gpu["uuid"], place][hour_ms] += sum(gpu.get(f"{state}_ms", 0) for state in STATES)
    by_hour: dict[tuple[int, str], list[Node]] = defaultdict(list)
    for (gpu, place), hours in spent.items():
        for hour_ms in hours:
            by_hour[hour_ms, gpu].append(place)
    owners = {}
    for (hour_ms, gpu), places in by_hour.items():
        if len(places) > 1 and sum(spent[gpu, place][hour_ms] for place in places) > HOUR_MS + 60_000:
            owners[hour_ms, gpu] = min(places, key=lambda place: (*_since(spent[gpu, place], hour_ms), place))
    return owners


def _since(hours: Mapping[int, int], until_ms: int) -> tuple[int, int]:
    """The hour since which a GPU was reported without a break of a day, and less for more time in it."""
    since_ms = until_ms
    for hour_ms in sorted(hours, reverse=True):
        if since_ms - DAY_MS <= hour_ms < since_ms:
            since_ms = hour_ms
    return since_ms, -min(hours[since_ms], HOUR_MS)


def _add(hour: HourFacts, cluster: str, node: str, batch: Mapping[str, Any], foreign: set[str]) -> None:
    """`foreign`: GPUs that count for another node in this hour."""
    length_ms = batch["end_ms"] - batch["start_ms"]
    place_of, gpus_mj = {}, 0
    for gpu in batch.get("gpus", ()):
        energy = gpu.get("energy_mj", {})
        gpus_mj += sum(energy.get(state, 0) for state in STATES)
        place = GpuPlace(cluster, node, gpu.get("model") or "")
        hour.reported.add(place)
        if gpu["uuid"] in foreign:
            continue
        place_of[gpu["uuid"]] = place
        for state in STATES:
            hour.time_ms[place][state] += gpu.get(f"{state}_ms", 0)
            hour.energy_mj[place][state] += energy.get(state, 0)
    for share in batch.get("shares", ()):
        if share["gpu_uuid"] in foreign:
            continue
        held = hour.held[Server(cluster, share["workload"])][place_of[share["gpu_uuid"]]]
        held.gpus.add(share["gpu_uuid"])
        for name in ("active_ms", "idle_ms", "active_mj", "idle_mj", "parked_ms", "parked_mj"):
            setattr(held, name, getattr(held, name) + share.get(name, 0))
    for workload in batch.get("workloads", ()):
        server = Server(cluster, workload["key"])
        if workload.get("tokens") or workload.get("model"):
            made = hour.made[server][workload.get("model") or ""]
            for count in workload.get("tokens", ()):
                made.add(count)
        if workload.get("labels"):
            hour.carried[server][json_text(workload["labels"])] += length_ms
    for demand in batch.get("demand", ()):
        caller = json_text(demand.get("asker", {}))
        hour.asked[cluster, demand.get("model") or ""][demand["gateway"], caller].add(demand)
    for sensor, used_mj in batch.get("host_energy_mj", {}).items():
        measured = hour.hosts[cluster, node, sensor]
        for i, amount in enumerate((used_mj, len(batch.get("gpus", ())) * length_ms, gpus_mj)):
            measured[i] += amount
