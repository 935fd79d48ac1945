"""What each workload did over a stretch of time, slot by slot, as diagnoses need it. Pure.

In: rows of the ledger (`WorkSlot`, `MadeSlot`). Out: a `WorkloadHistory` for each workload, with means over the whole
of it. A mean is None where nothing was reported.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tokenyield_collector.ledger.facts import MadeSlot, WorkSlot
from tokenyield_collector.statements.lines import sum_of_known

AT_WORK = 0.9
"""A step in which GPUs were active for this part of the time shows a pace."""


@dataclass(kw_only=True)
class HistorySlot:
    """One step of time."""

    gpus: int = 0
    active_ms: int = 0
    idle_ms: int = 0
    active_mj: int = 0
    completion: int = 0

    @property
    def held_ms(self) -> int:
        return self.active_ms + self.idle_ms


@dataclass(kw_only=True)
class WorkloadHistory:
    """One workload on the GPUs of one model."""

    cluster: str
    workload: str
    gpu_model: str
    model: str = ""
    server: str = "unknown"
    work: list[WorkSlot] = field(default_factory=list)
    made: list[MadeSlot] = field(default_factory=list)
    slots: dict[int, HistorySlot] = field(default_factory=lambda: defaultdict(HistorySlot))
    """By start (ms)."""

    def sum(self, name: str) -> int:
        return sum(getattr(row, name) or 0 for row in self.work)

    def made_sum(self, name: str) -> int | None:
        return sum_of_known(getattr(row, name) for row in self.made)

    @property
    def gpus(self) -> int:
        return max((slot.gpus for slot in self.slots.values()), default=0)

    @property
    def held_ms(self) -> int:
        return self.sum("active_ms") + self.sum("idle_ms")

    @property
    def busy(self) -> float:
        """Part of the time held in which kernels ran."""
        return self.sum("active_ms") / self.held_ms if self.held_ms else 0.0

    def activity(self, unit: str) -> float | None:
        """`sm`, `tensor` or `dram`: its mean while kernels ran, as far as GPM counted; None where it did not.

        GPM counts over all the time held, and idle time adds nothing: so the mean over both is divided by the busy
        part.
        """
        name = f"{unit}_ms"
        rows = [row for row in self.work if getattr(row, name) is not None and row.activity_known_ms]
        known_ms = sum(row.activity_known_ms for row in rows)
        busy = self.busy
        return min(1.0, sum(getattr(row, name) for row in rows) / known_ms / busy) if known_ms and busy else None

    def load(self, name: str) -> float | None:
        """`running_request_ms`, `waiting_request_ms` or `cache_used_ms`, on average; None where the server does
        not report it."""
        rows = [row for row in self.made if row.load_known_ms and getattr(row, name) is not None]
        known_ms = sum(row.load_known_ms or 0 for row in rows)
        return sum(getattr(row, name) for row in rows) / known_ms if known_ms else None

    def pace_to_best(self) -> float | None:
        """Its completion tokens an active GPU-second, as a part of those of its best step that was busy throughout;
        None where no step was."""
        busy = [slot for slot in self.slots.values() if slot.active_ms >= AT_WORK * slot.held_ms and slot.completion]
        best = max((slot.completion / slot.active_ms for slot in busy), default=0.0)
        active_ms = self.sum("active_ms")
        return min(1.0, (self.made_sum("completion") or 0) / active_ms / best) if best and active_ms else None

    @property
    def has_tokens(self) -> bool:
        return any(row.completion is not None or row.prompt_computed is not None for row in self.made)


def histories(work: Iterable[WorkSlot], made: Iterable[MadeSlot]) -> list[WorkloadHistory]:
    """One for each workload that held a GPU, by cluster and name. A workload on GPUs of several models is described
    on the model of which it held most."""
    by_workload: dict[tuple[str, str], dict[str, list[WorkSlot]]] = defaultdict(lambda: defaultdict(list))
    for row in work:
        by_workload[row.cluster, row.workload][row.gpu_model].append(row)
    tokens: dict[tuple[str, str], list[MadeSlot]] = defaultdict(list)
    for made_row in made:
        tokens[made_row.cluster, made_row.workload].append(made_row)
    return [_history(key, models, tokens[key]) for key, models in sorted(by_workload.items())]


def _history(key: tuple[str, str], models: dict[str, list[WorkSlot]], made: Sequence[MadeSlot]) -> WorkloadHistory:
    gpu_model = max(models, key=lambda name: (sum(row.active_ms + row.idle_ms for row in models[name]), name))
    history = WorkloadHistory(
        cluster=key[0], workload=key[1], gpu_model=gpu_model, work=models[gpu_model], made=list(made)
    )
    history.model = next((row.model for row in reversed(made) if row.model), "")
    history.server = next((row.server for row in made if row.server != "unknown"), "unknown")
    for row in history.work:
        slot = history.slots[row.slot_ms]
        slot.gpus = max(slot.gpus, row.gpus)
        slot.active_ms += row.active_ms
        slot.idle_ms += row.idle_ms
        slot.active_mj += row.active_mj
    for made_row in made:
        if made_row.slot_ms in history.slots:
            history.slots[made_row.slot_ms].completion += made_row.completion or 0
    return history
