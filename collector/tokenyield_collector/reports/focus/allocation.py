"""FOCUS 1.4's columns of a charge that was split: what the sharing policy gave to whom. Pure.

The origin charge is what a pool's capacity cost on one day and nobody used, as far as the policy shares it. The part
of a line stays with the account that carries it; its resource is the pool, and `Allocated…` name who it was given to.
"""

import json
from decimal import Decimal
from typing import Any

from tokenyield_collector.attribution.rules import SharingPolicy
from tokenyield_collector.reports.focus.columns import plain
from tokenyield_collector.targets.spreadsheet import JsonField

METHOD_ID = "tokenyield-sharing"


def allocated_columns(row: dict[str, Any], ratio: Decimal, sharing: SharingPolicy) -> dict[str, Any]:
    """`row` is as the line has it: its resource and tags become those of whoever carries the part."""
    ways = json.dumps({"x_Idle": sharing.idle, "x_Unallocated": sharing.unallocated, "x_Dark": sharing.dark})
    details = f'{{"Elements": [{{"AllocatedRatio": {plain(ratio)}}}], {ways[1:]}'
    pool = row["CapacityReservationId"]
    return {
        "AllocatedMethodDetails": JsonField(details),
        "AllocatedMethodId": METHOD_ID,
        "AllocatedResourceId": row["ResourceId"],
        "AllocatedResourceName": row["ResourceName"] or row["ResourceId"],
        "AllocatedTags": row["Tags"],
        "ResourceId": f"{pool}/-",
        "ResourceName": "",
        "ResourceType": "GPU pool",
        "Tags": "",
    }
