"""Shipments of a node that lies, by the structure of the wire: every field of every record, at its bounds and beyond.

In: a seeded `random.Random`. Out: JSON documents. Most are sound, so that what they say reaches the ledger: identities
hold, and numbers, names and times are the worst that the wire takes. In the others some values are replaced, moved,
doubled or taken away. Fields come from the types of tokenyield_wire, so that a new one is in it at once.
"""

import copy
import json
import random
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import msgspec

from fuzz_documents import ODD
from hostile import NAMES
from tokenyield_wire.latency import LATENCY_BUCKETS, LATENCY_KINDS
from tokenyield_wire.window import COUNT_MAX, LABELS_MAX, Count, Demand, GpuWindow, Method, Named, Split, TokenCount

Document = dict[str, Any]
GREAT = (COUNT_MAX, COUNT_MAX - 1, COUNT_MAX // 2, 2**33, 2**32, 2**31, 2**31 - 1)
BEYOND: tuple[Any, ...] = (COUNT_MAX + 1, 2**53 + 1, 2**63, 2**64, 10**40, -1, 0.5, None, "1", [], {}, True)
LENGTHS_MS = (1, 999, 15_000, 60_000, 3_600_000)
HOUR_MS = 3_600_000
LONGEST = ("x" * 253, "x" * 254, "\u6771" * 253, "\U0001f600" * 253, "x" * 512, "x" * 513, "")


def amounts(record: type[msgspec.Struct]) -> list[str]:
    """The fields that are a number from 0 to `COUNT_MAX`, or None."""
    return [field.encode_name for field in msgspec.structs.fields(record) if field.type in (Count, Count | None)]


GPU_STATES = ("active_ms", "idle_ms", "unallocated_ms", "unknown_ms")
GPU_BOUND = {*GPU_STATES, "energy_integrated_mj", "parked_ms", "parked_mj"}
"""Those that must fit others."""
GPU_FREE = [name for name in amounts(GpuWindow) if name not in GPU_BOUND]
GPU_NAMED = [field.encode_name for field in msgspec.structs.fields(GpuWindow) if field.type == Named]


class LyingNode:
    """One node with an agent of its own; `victims` are GPUs of other nodes, which it claims from time to time, and
    `shared` names of their workloads, which its own have too."""

    def __init__(
        self, chosen: random.Random, cluster: str, node: str, victims: Sequence[str] = (), shared: Sequence[str] = ()
    ) -> None:
        self._chosen, self._victims, self._shared = chosen, victims, shared
        self.cluster, self.node = cluster, node
        self._names = [*NAMES, *LONGEST[:1], *LONGEST[2:4]]
        self._seq = 0
        self._sent: list[Document] = []

    def document(self, starts_ms: Sequence[int], breaks: float = 0.4) -> Document:
        """One shipment whose windows start in these hours; `breaks` is how often it is made unsound."""
        chosen = self._chosen
        if self._sent and chosen.random() < 0.1:
            return copy.deepcopy(chosen.choice(self._sent))  # again
        document: Document = {
            "schema": 1, "agent_id": self._name() if chosen.random() < 0.2 else self.node,
            "epoch": chosen.choice(["e", "e", "e", self._name()]), "cluster": self.cluster, "node": self.node,
            "batches": [self._batch(chosen.choice(starts_ms)) for _ in range(chosen.choice([1, 1, 2, 5]))],
            "labels": self._labels(),
        }  # fmt: skip
        self._sent.append(document)
        if chosen.random() < breaks:
            document = copy.deepcopy(document)
            for _ in range(chosen.choice([1, 1, 1, 3])):
                _break(document, chosen)
        return document

    # --- sound -------------------------------------------------------------------------------------------------------

    def _batch(self, hour_ms: int) -> Document:
        chosen = self._chosen
        self._seq += chosen.choice([1, 1, 1, 1, 7])
        self._great_left = chosen.choice([0, 0, 1, 3])
        length_ms = chosen.choice(LENGTHS_MS)
        start_ms = hour_ms // HOUR_MS * HOUR_MS
        start_ms += chosen.choice([0, HOUR_MS - length_ms, chosen.randrange(HOUR_MS - length_ms + 1)])
        gpus = [self._gpu(uuid, length_ms) for uuid in self._uuids()]
        keys = chosen.sample(self._names, chosen.randrange(5))
        if self._shared and chosen.random() < 0.5:
            keys.append(chosen.choice(self._shared))
        return {
            "seq": self._seq if chosen.random() < 0.9 else chosen.choice([1, 2**31, 2**62]),
            "start_ms": start_ms,
            "end_ms": start_ms + length_ms,
            "gpus": gpus,
            "workloads": [self._workload(key) for key in keys],
            "shares": list(self._shares(gpus, keys)),
            "demand": [self._demand() for _ in range(chosen.choice([0, 0, 1, 3]))],
            "host_energy_mj": {
                name: self._amount() for name in chosen.sample(["rapl", "dcmi", "(dark)", "\x1b[2J"], 2)
            },
        }

    def _uuids(self) -> list[str]:
        mine = [f"GPU-{self.node}-{i}" for i in range(4)]
        return self._chosen.sample([*mine, *self._victims, self._name() + "?"], self._chosen.randrange(4))

    def _name(self) -> str:
        return self._chosen.choice(self._names)

    def _labels(self) -> dict[str, str]:
        count = self._chosen.choice([0, 1, 2, LABELS_MAX])
        keys = self._chosen.sample(["team", "pod", "namespace", "product", *self._names], count)
        return {key: self._chosen.choice([*self._names, "x" * 512, "\u200f" * 512, ""]) for key in keys}

    def _amount(self) -> int:
        if self._great_left > 0 and self._chosen.random() < 0.2:
            self._great_left -= 1
            return self._chosen.choice(GREAT)
        return self._chosen.choice([0, 0, 1, 999, 1_000_000])

    def _optional(self, names: Sequence[str]) -> dict[str, int]:
        return {name: self._amount() for name in names if self._chosen.random() < 0.5}

    def _parts(self, whole: int, count: int) -> list[int]:
        """So many, which sum to `whole`."""
        cuts = sorted(self._chosen.randrange(whole + 1) for _ in range(count - 1))
        return [end - start for start, end in zip([0, *cuts], [*cuts, whole], strict=True)]

    def _named(self, whole: int) -> dict[str, int]:
        names = self._chosen.sample(self._names, self._chosen.choice([1, 2, 64]))
        return dict(zip(names, self._parts(whole, len(names)), strict=True))

    def _gpu(self, uuid: str, length_ms: int) -> Document:
        states = self._parts(length_ms, 4) if self._chosen.random() < 0.7 else [length_ms, 0, 0, 0]
        gpu: Document = {"uuid": uuid, **dict(zip(GPU_STATES, states, strict=True)), **self._optional(GPU_FREE)}
        gpu |= {name: {key: self._amount() for key in self._chosen.sample(self._names, 2)} for name in GPU_NAMED}
        integrated_mj = self._amount()
        return gpu | {
            "model": self._chosen.choice([None, "NVIDIA H100 80GB HBM3", self._name(), "x" * 512]),
            "index": self._chosen.choice([None, 0, 2**31 - 1]),
            "temperature_c_max": self._chosen.choice([None, 40, -300, 2**31 - 1]),
            "unknown_reason_ms": self._named(gpu["unknown_ms"]) if gpu["unknown_ms"] else {},
            "energy_mj": self._energy(),
            "energy_integrated_mj": integrated_mj,
            "energy_method_mj": self._named(integrated_mj) if self._chosen.random() < 0.5 else {},
            "parked_ms": self._chosen.choice([0, gpu["idle_ms"]]),
            "parked_mj": 0,
            "events": {name: self._amount() for name in self._chosen.sample(self._names, 1)},
        }

    def _energy(self) -> dict[str, int]:
        return {state: self._amount() for state in ("active", "idle", "unallocated", "unknown")}

    def _shares(self, gpus: Sequence[Document], keys: Sequence[str]) -> Iterator[Document]:
        for gpu in gpus:
            holders = self._chosen.sample(keys, min(len(keys), self._chosen.randrange(3)))
            count = len(holders) + 1
            own = {"active_ms": gpu["active_ms"], "idle_ms": gpu["idle_ms"], "active_mj": gpu["energy_mj"]["active"],
                   "idle_mj": gpu["energy_mj"]["idle"]}  # fmt: skip
            parts = {name: self._parts(whole, count) for name, whole in own.items()}
            for i, holder in enumerate(holders):
                share = {name: part[i] for name, part in parts.items()}
                share |= {"parked_ms": share["idle_ms"], "parked_mj": share["idle_mj"]}
                yield {
                    "gpu_uuid": gpu["uuid"],
                    "workload": holder,
                    "split": self._chosen.choice(get_args(Split)),
                    **share,
                }

    def _workload(self, key: str) -> Document:
        chosen = self._chosen
        methods = chosen.sample(get_args(Method), chosen.randrange(4))
        kinds = chosen.sample(LATENCY_KINDS, chosen.randrange(3))
        counts = [chosen.choice([0, 1, 2**32])] * chosen.choice([1, LATENCY_BUCKETS])
        return {
            "key": key,
            "server": chosen.choice(["vllm", self._name()]),
            "place": chosen.choice([self.node, "n0", "n1", self._name()]),
            "model": chosen.choice([None, "llama", self._name()]),
            "labels": self._labels(),
            "tokens": [{"method": method, **self._optional(amounts(TokenCount))} for method in methods],
            "latency": [
                {"kind": kind, "sum_ms": chosen.choice([0, 2**36]) if any(counts) else 0, "counts": counts}
                for kind in kinds
            ],
        }

    def _demand(self) -> Document:
        asked = {"gateway": self._name(), "model": self._name(), "asker": self._labels()}
        return asked | self._optional(amounts(Demand))


# --- unsound ---------------------------------------------------------------------------------------------------------


def _break(document: Document, chosen: random.Random) -> None:
    """Changes one value somewhere in it."""
    parent, key = chosen.choice(list(_places(document)))
    way = chosen.random()
    if way < 0.35:
        parent[key] = chosen.choice([*BEYOND, *GREAT])
    elif way < 0.55:
        parent[key] = chosen.choice([*LONGEST, *(odd for odd in ODD if isinstance(odd, str | int | float | None))])
    elif way < 0.7:
        del parent[key]
    elif way < 0.85 and isinstance(parent, list):
        parent += [copy.deepcopy(parent[key])] * chosen.choice([1, 100])
    elif isinstance(parent, dict):
        parent[chosen.choice([*NAMES, "x" * 600, ""])] = copy.deepcopy(parent[key])


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def encoded(document: Document) -> bytes:
    """Lone surrogates and numbers that JSON has not, as a careless or a hostile program writes them."""
    return json.dumps(document, ensure_ascii=True).encode()
