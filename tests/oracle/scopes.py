"""Whose workload a name is, by decision 0016 alone. In: shipments and the scope of the token of each. Out: the same with the
names that the ledger keeps. For fleets of less than seven days, within which no name moves.

In a cluster the scope that used a name first has it. So do nodes that it was used on, and scopes that these have later.
Any other scope's is another workload, called after its node, or after its scope where that is not the node.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MADE = re.compile(r"^(.*) \((node|scope) (.*)\)$", re.DOTALL)


def kept_names(shipments: Iterable[Mapping[str, Any]], scopes: Sequence[str]) -> list[Mapping[str, Any]]:
    """A scope "" is of no token: its names stay, and are nobody's."""
    owners: dict[tuple[str, str], set[str]] = defaultdict(set)
    return [
        _renamed(shipment, scope, owners) if scope else shipment
        for shipment, scope in zip(shipments, scopes, strict=True)
    ]


def _renamed(shipment: Mapping[str, Any], scope: str, owners: dict[tuple[str, str], set[str]]) -> Mapping[str, Any]:
    node, names = shipment["node"], {}
    for name in dict.fromkeys(workload["key"] for batch in shipment["batches"] for workload in batch["workloads"]):
        sent = MADE.sub(r"\1 [\2 \3]", name)
        of_name, own = owners[shipment["cluster"], sent], {f"scope {scope}", f"node {node}"}
        if not of_name or of_name & own:
            of_name |= own
            names[name] = sent
        else:
            names[name] = f"{sent} (node {node})" if scope == node else f"{sent} (scope {scope})"
    return {**shipment, "batches": [_renamed_batch(batch, names) for batch in shipment["batches"]]}


def _renamed_batch(batch: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    workloads = [{**workload, "key": names[workload["key"]]} for workload in batch["workloads"]]
    shares = [{**share, "workload": names[share["workload"]]} for share in batch["shares"]]
    return {**batch, "workloads": workloads, "shares": shares}
