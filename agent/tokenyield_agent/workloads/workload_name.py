"""How a workload is called. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tokenyield_wire.window import NAME_CHARS_MAX

OWN_NAME_CHARS_MAX = NAME_CHARS_MAX - 12
"""Of a workload that is in no settings: Kubernetes allows 274 characters of namespace, pod and container. A process's
number may come behind it."""


def slurm_workload(job: str) -> str:
    """How the workload of a Slurm job is called."""
    return f"slurm/{job}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadName:
    """How a workload is called on the wire; `labels` are what is known beyond its name."""

    server: str
    place: str
    model: str | None
    labels: Mapping[str, str] = field(default_factory=dict)
