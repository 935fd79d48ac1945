"""What the agent reports of itself: only numbers, and names from the configuration."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tokenyield_agent.gpu.reading import GpuReading
from tokenyield_agent.windows.totals import GpuTotals


@dataclass(frozen=True, kw_only=True)
class Status:
    """One instant of it."""

    version: str
    gpus: tuple[GpuReading, ...] = ()
    gpus_lost: dict[str, str] = field(default_factory=dict)
    indices: dict[str, str] = field(default_factory=dict)
    """uuid -> index of every GPU seen"""
    totals: GpuTotals = field(default_factory=GpuTotals)
    gpu_read_s: float = 0.0
    """Time that reading the GPUs has taken, in all."""
    gpu_faults: dict[str, int] = field(default_factory=dict)
    polls: int = 0
    poll_cpu_s: float = 0.0
    last_poll_age_s: float = 0.0
    poll_interval_s: float = 1.0
    clock_steps: int = 0
    windows_dropped: int = 0
    names_folded: dict[str, int] = field(default_factory=dict)
    """Kind of name -> how often it was laid under a common one."""
    set_aside: int = 0
    """Batches and records that can never be shipped, since the start."""
    set_aside_reason: str | None = None
    """Of the newest, in words for people."""
    spool_batches: int = 0
    spool_bytes: int = 0
    spool: dict[str, int] = field(default_factory=dict)
    ship: dict[str, int] = field(default_factory=dict)
    ship_problem: str | None = None
    sources: dict[str, dict[str, int]] = field(default_factory=dict)
    """workload -> what its log and endpoint counted"""
    scrapes: dict[str, int] = field(default_factory=dict)
    endpoint_problems: dict[str, str] = field(default_factory=dict)
    """workload -> why its endpoint is not counted, in one word"""
    slurm_jobs: dict[str, int] = field(default_factory=dict)
    """What is known by the prolog's records -> how many; empty without Slurm."""
    poll_failures: int = 0
    poll_problem: str | None = None
    """Of the last poll, where it failed."""
    source_faults: dict[str, int] = field(default_factory=dict)
    """workload -> how often counting its tokens failed"""
    thread_restarts: dict[str, int] = field(default_factory=dict)
    threads_failing: list[str] = field(default_factory=list)
    """Threads that failed of late and were started again, in words for people."""
    unsound: list[str] = field(default_factory=list)
    """What a new process may help, in words for people."""

    def not_ready(self) -> Iterator[str]:
        """The reasons why it is not ready, in words for people."""
        if self.polls == 0:
            yield "no poll has finished yet"
        if self.ship_problem:
            yield self.ship_problem

    def notes(self) -> Iterator[str]:
        """What a person has to look at, though a restart would not help."""
        if self.ship_problem:
            yield f"batches are kept in the spool: {self.ship_problem}"
        if self.poll_problem:
            yield f"the last poll failed with {self.poll_problem}"
        yield from self.threads_failing
        for workload, faults in self.source_faults.items():
            yield f"counting the tokens of {workload} failed {faults} times; report it"
        if self.set_aside:
            yield f"{self.set_aside} records were set aside, see rejected in state_dir: {self.set_aside_reason}"

    def unhealthy(self) -> Iterator[str]:
        """The reasons why it is not healthy."""
        if self.polls and self.last_poll_age_s > 10 * max(1.0, self.poll_interval_s):
            yield f"the last poll was {self.last_poll_age_s:.0f} s ago"
        yield from self.unsound
