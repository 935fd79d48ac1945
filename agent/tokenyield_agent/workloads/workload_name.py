"""How a workload is called. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadName:
    """How a workload is called on the wire; `labels` are what is known beyond its name."""

    server: str
    place: str
    model: str | None
    labels: Mapping[str, str] = field(default_factory=dict)
