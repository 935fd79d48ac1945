"""Every metric of the agent, and its /metrics from the present `Status`. docs/metrics.md is generated from it."""

from collections.abc import Callable, Iterator, Mapping

from tokenyield_agent.gpu.reading import GpuReading
from tokenyield_agent.status.exposition import AgentFamily as Family
from tokenyield_agent.status.exposition import MetricSamples
from tokenyield_agent.status.snapshot import Status
from tokenyield_wire.units import MJ_PER_JOULE, MS_PER_SECOND, mj_to_joules

_GPU = ("gpu", "index")

INFO = Family("tokenyield_agent_info", "gauge", "Version of the agent", ("version",))
UP = Family("tokenyield_agent_gpu_up", "gauge", "1 while the GPU can be read", _GPU, "hw.status (hw.type=gpu)")
MODEL = Family("tokenyield_agent_gpu_info", "gauge", "The GPU's product name", (*_GPU, "model"), "hw.model, hw.name")
ENERGY = Family(
    "tokenyield_agent_gpu_energy_joules_total",
    "counter",
    "The GPU's energy counter",
    _GPU,
    "hw.energy (hw.type=gpu)",
)
POWER = Family("tokenyield_agent_gpu_power_watts", "gauge", "Power drawn", _GPU, "hw.power (hw.type=gpu)")
UTILIZATION = Family(
    "tokenyield_agent_gpu_utilization_ratio",
    "gauge",
    "Share of the driver's last sample period in which a kernel ran",
    _GPU,
    "hw.gpu.utilization (hw.gpu.task=general)",
)
MEMORY = Family("tokenyield_agent_gpu_memory_used_bytes", "gauge", "Memory in use", _GPU, "hw.gpu.memory.usage")
MEMORY_SIZE = Family("tokenyield_agent_gpu_memory_bytes", "gauge", "Memory of the GPU", _GPU, "hw.gpu.memory.limit")
TEMPERATURE = Family(
    "tokenyield_agent_gpu_temperature_celsius", "gauge", "Core temperature", _GPU, "hw.temperature (hw.type=gpu)"
)
CLOCK = Family("tokenyield_agent_gpu_sm_clock_hertz", "gauge", "Clock of the SMs", _GPU)
STATE_SECONDS = Family(
    "tokenyield_agent_gpu_seconds_total",
    "counter",
    "GPU time by state (active, idle, unallocated, unknown)",
    (*_GPU, "state"),
)
THROTTLED = Family(
    "tokenyield_agent_gpu_throttled_seconds_total",
    "counter",
    "Time in which the clocks were held down, by NVML's reason; reasons overlap",
    (*_GPU, "reason"),
)
PARKED = Family(
    "tokenyield_agent_gpu_parked_seconds_total",
    "counter",
    "Part of the idle time in which no workload on the GPU had made a token for parked_after_s",
    _GPU,
)
ENERGY_USED = Family(
    "tokenyield_agent_gpu_energy_used_joules_total",
    "counter",
    "Energy as it goes into windows, by how it was measured (counter, average, samples, instant, power)",
    (*_GPU, "method"),
)
ENERGY_USED_ERROR = Family(
    "tokenyield_agent_gpu_energy_error_joules_total",
    "counter",
    "Estimated error of the used energy, either way, from how far power moved between two samples",
    _GPU,
)
ACTIVITY = Family(
    "tokenyield_agent_gpu_activity_seconds_total",
    "counter",
    "Integral of the share of SMs that were busy, of tensor activity and of memory bandwidth used (unit: sm, tensor, "
    "dram), by GPM on Hopper and later",
    (*_GPU, "unit"),
)
MOVED = Family(
    "tokenyield_agent_gpu_moved_bytes_total",
    "counter",
    "Bytes over NVLink and PCIe, both directions, by GPM on Hopper and later",
    (*_GPU, "link"),
    "hw.gpu.io",
)
THROTTLED_LOST = Family(
    "tokenyield_agent_gpu_throttled_lost_seconds_total",
    "counter",
    "Upper bound of the active time lost while clocks were held down, by reason",
    (*_GPU, "reason"),
)
EVENTS = Family(
    "tokenyield_agent_gpu_events_total",
    "counter",
    "XIDs (xid_N), ECC errors, remapped rows, errors of NVLink and PCIe since the agent started",
    (*_GPU, "event"),
    "hw.errors (hw.type=gpu, error.type)",
)
PARTITION_MEMORY = Family(
    "tokenyield_agent_mig_memory_used_bytes",
    "gauge",
    "Memory in use of a GPU instance (MIG)",
    (*_GPU, "instance"),
)
PARTITION_ACTIVITY = Family(
    "tokenyield_agent_mig_sm_activity_ratio",
    "gauge",
    "Share of a GPU instance's SMs that were busy since the poll before, by GPM",
    (*_GPU, "instance"),
)
HOST_ENERGY = Family(
    "tokenyield_agent_host_energy_joules_total",
    "counter",
    "The host's own energy by source: rapl (processors and memory), dcmi or power_meter (the whole machine, GPUs "
    "included)",
    ("source",),
    "hw.energy (hw.type=power_supply or cpu)",
)
READ_SECONDS = Family("tokenyield_agent_gpu_read_seconds_total", "counter", "Time that reading the GPUs has taken")
WORKLOAD_SECONDS = Family(
    "tokenyield_agent_workload_gpu_seconds_total",
    "counter",
    "GPU time that a workload held, by state (active, idle)",
    ("workload", *_GPU, "state"),
)
FAULTS = Family(
    "tokenyield_agent_gpu_faults_total",
    "counter",
    "Faults of GPUs and driver that began, by kind",
    ("kind",),
    "hw.errors (hw.type=gpu)",
)
POLLS = Family("tokenyield_agent_polls_total", "counter", "Polls of the GPUs")
POLL_CPU = Family(
    "tokenyield_agent_poll_cpu_seconds_total",
    "counter",
    "Processor time of the polls: logs, processes and windows, without the reading of GPUs in its own thread",
)
POLL_FAILURES = Family("tokenyield_agent_poll_failures_total", "counter", "Polls that failed in an unforeseen way")
SOURCE_FAULTS = Family(
    "tokenyield_agent_source_faults_total",
    "counter",
    "Times that counting a workload's tokens failed in an unforeseen way",
    ("workload",),
)
THREAD_RESTARTS = Family(
    "tokenyield_agent_thread_restarts_total",
    "counter",
    "Times that a thread failed in an unforeseen way and was started again (gpus, scrape, ship, status, pods, dcmi)",
    ("thread",),
)
POLL_AGE = Family("tokenyield_agent_last_poll_age_seconds", "gauge", "How long ago the last poll was")
CLOCK_STEPS = Family("tokenyield_agent_clock_steps_total", "counter", "Steps of the wall clock noticed")
WINDOWS_DROPPED = Family("tokenyield_agent_windows_dropped_total", "counter", "Windows given up in memory")
NAMES_FOLDED = Family(
    "tokenyield_agent_names_folded_total",
    "counter",
    "Times that something was laid under (other) because a window held too many names (kind: caller, workload, event)",
    ("kind",),
)
SPOOL_BATCHES = Family("tokenyield_agent_spool_batches", "gauge", "Batches without a receipt")
SPOOL_BYTES = Family("tokenyield_agent_spool_bytes", "gauge", "Bytes of the spool on disk")
_SPOOL = {
    "appended": "Batches written to the spool",
    "acknowledged": "Batches with a receipt or set aside",
    "dropped": "Batches given up because the spool was full or they were too old",
    "corrupt": "Batches lost because the spool's files were damaged",
    "torn_tails": "Torn tails cut off at start",
    "sent_again": "Batches shipped again because the collector had lost them",
    "unsendable": "Batches and records set aside because no collector would take them",
}
SPOOL = {
    name: Family(f"tokenyield_agent_spool_{name}_total", "counter", help_text) for name, help_text in _SPOOL.items()
}
_SHIP = {
    "requests": "Shipments sent",
    "failures": "Shipments that failed and are tried again",
    "rejected": "Batches refused for good and set aside",
    "bytes": "Bytes of shipments sent",
    "connections": "Connections made to the collector; one is kept for many shipments",
}
SHIP = {name: Family(f"tokenyield_agent_ship_{name}_total", "counter", help_text) for name, help_text in _SHIP.items()}
_SOURCE = {
    "bytes": "Bytes of logs read",
    "events": "Token events read",
    "rotations": "Rotations followed",
    "truncations": "Truncations followed",
    "lines_too_long": "Lines dropped for their length",
    "files_lost": "Rotated files that were gone before they were read",
}
SOURCE = {
    name: Family(f"tokenyield_agent_source_{name}_total", "counter", help_text, ("workload",))
    for name, help_text in _SOURCE.items()
}
BY_ENDPOINT = Family(
    "tokenyield_agent_source_counted_by_endpoint",
    "gauge",
    "1 while the workload's tokens come from its server's counters, 0 while from its log",
    ("workload",),
)
_SCRAPE = {
    "requests": "Scrapes of servers' counters",
    "failures": "Scrapes that were not answered",
    "probes": "Probes of addresses for a known server's counters",
}
SCRAPE = {
    name: Family(f"tokenyield_agent_scrape_{name}_total", "counter", help_text) for name, help_text in _SCRAPE.items()
}
ENDPOINT_PROBLEM = Family(
    "tokenyield_agent_endpoint_problem",
    "gauge",
    "1 while a workload's endpoint does not give its counters, by the reason (unauthorized, forbidden, bad_request, "
    "not_found, turned_off, redirected, status, refused, no_answer, slow, busy, cut, certificate, settings_file, "
    "no_counters, unreadable, unused, foreign); doctor and the log say what to change",
    ("workload", "reason"),
)


def every_family() -> Iterator[Family]:
    """All families, in the order of this file."""
    for value in list(globals().values()):
        if isinstance(value, Family):
            yield value
        elif isinstance(value, dict) and value and all(isinstance(item, Family) for item in value.values()):
            yield from value.values()


SLURM_JOBS = Family(
    "tokenyield_agent_slurm_jobs",
    "gauge",
    "Slurm jobs of this node by the prolog's record of them (recorded; missing: on a GPU and without one; unusable: 1 "
    "while a record, or their folder, does not count); only where there is Slurm",
    ("record",),
)


class AgentExposition:
    """All metrics of the present status."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def collect(self) -> Iterator[MetricSamples]:
        """Every family, in the order of docs/metrics.md, with its samples."""
        status = self._status()
        yield INFO.samples({(status.version,): 1})
        yield from _gpus(status)
        yield from _totals(status)
        yield FAULTS.samples({(kind,): count for kind, count in status.gpu_faults.items()})
        yield READ_SECONDS.of(status.gpu_read_s)
        yield POLLS.of(status.polls)
        yield POLL_CPU.of(status.poll_cpu_s)
        yield POLL_FAILURES.of(status.poll_failures)
        yield SOURCE_FAULTS.samples({(workload,): times for workload, times in status.source_faults.items()})
        yield THREAD_RESTARTS.samples({(thread,): times for thread, times in status.thread_restarts.items()})
        yield POLL_AGE.of(status.last_poll_age_s)
        yield CLOCK_STEPS.of(status.clock_steps)
        yield WINDOWS_DROPPED.of(status.windows_dropped)
        yield NAMES_FOLDED.samples({(kind,): times for kind, times in status.names_folded.items()})
        yield SPOOL_BATCHES.of(status.spool_batches)
        yield SPOOL_BYTES.of(status.spool_bytes)
        for families, counts in ((SPOOL, status.spool), (SHIP, status.ship)):
            for name, family in families.items():
                yield family.of(counts.get(name, 0))
        for name, family in (*SOURCE.items(), ("counted_by_endpoint", BY_ENDPOINT)):
            yield family.samples({(workload,): by_name.get(name, 0) for workload, by_name in status.sources.items()})
        for name, family in SCRAPE.items():
            yield family.of(status.scrapes.get(name, 0))
        yield ENDPOINT_PROBLEM.samples(dict.fromkeys(status.endpoint_problems.items(), 1))
        yield SLURM_JOBS.samples({(record,): jobs for record, jobs in status.slurm_jobs.items()})


def _gpus(status: Status) -> Iterator[MetricSamples]:
    up, model = UP.new(), MODEL.new()
    for gpu in status.gpus:
        up.add_metric((gpu.uuid, str(gpu.index)), 1)
        model.add_metric((gpu.uuid, str(gpu.index), gpu.model or "unknown"), 1)
    for uuid in status.gpus_lost:
        up.add_metric((uuid, status.indices.get(uuid, "")), 0)
    yield from (up, model)
    memory, activity = PARTITION_MEMORY.new(), PARTITION_ACTIVITY.new()
    for gpu in status.gpus:
        for number, partition in gpu.partitions.items():
            labels = (gpu.uuid, str(gpu.index), str(number))
            if partition.memory_used_mib is not None:
                memory.add_metric(labels, partition.memory_used_mib * 2**20)
            if partition.compute_bp is not None:
                activity.add_metric(labels, partition.compute_bp / 10_000)
    yield from (memory, activity)
    for family, value_of in _READINGS:
        metric = family.new()
        for gpu in status.gpus:
            if (value := value_of(gpu)) is not None:
                metric.add_metric((gpu.uuid, str(gpu.index)), value)
        yield metric


def _scaled(value: int | None, factor: float) -> float | None:
    return None if value is None else value * factor


_READINGS: tuple[tuple[Family, Callable[[GpuReading], float | None]], ...] = (
    (ENERGY, lambda gpu: None if gpu.energy_mj is None else mj_to_joules(gpu.energy_mj)),
    (POWER, lambda gpu: _scaled(gpu.power_mw, 1e-3)),
    (UTILIZATION, lambda gpu: _scaled(gpu.utilization_percent, 1e-2)),
    (MEMORY, lambda gpu: _scaled(gpu.memory_used_mib, 2**20)),
    (MEMORY_SIZE, lambda gpu: _scaled(gpu.memory_total_mib, 2**20)),
    (TEMPERATURE, lambda gpu: gpu.temperature_c),
    (CLOCK, lambda gpu: _scaled(gpu.core_clock_mhz, 1e6)),
)


def _totals(status: Status) -> Iterator[MetricSamples]:
    totals = status.totals
    by_gpu: tuple[tuple[Family, Mapping[str, int], float], ...] = (
        (PARKED, totals.parked_ms, MS_PER_SECOND),
        (ENERGY_USED_ERROR, totals.energy_error_mj, MJ_PER_JOULE),
    )
    for family, sums, divisor in by_gpu:
        yield family.samples({(uuid, status.indices.get(uuid, "")): sum_ / divisor for uuid, sum_ in sums.items()})
    by_kind: tuple[tuple[Family, Mapping[tuple[str, str], int], float], ...] = (
        (STATE_SECONDS, totals.state_ms, MS_PER_SECOND),
        (THROTTLED, totals.throttled_ms, MS_PER_SECOND),
        (THROTTLED_LOST, totals.throttled_lost_us, 1e6),
        (ENERGY_USED, totals.energy_mj, MJ_PER_JOULE),
        (ACTIVITY, totals.activity_bp_ms, 10_000 * MS_PER_SECOND),
        (MOVED, totals.moved_mib_ms, MS_PER_SECOND / 2**20),
        (EVENTS, totals.events, 1),
    )
    for family, values, divisor in by_kind:
        yield family.samples(
            {(uuid, status.indices.get(uuid, ""), kind): sum_ / divisor for (uuid, kind), sum_ in values.items()}
        )
    yield HOST_ENERGY.samples({(source,): mj_to_joules(used_mj) for source, used_mj in totals.host_mj.items()})
    workloads = WORKLOAD_SECONDS.new()
    for (workload, uuid, state), duration_ms in totals.held_ms.items():
        labels = (workload or "(untied)", uuid, status.indices.get(uuid, ""), state)
        workloads.add_metric(labels, duration_ms / MS_PER_SECOND)
    yield workloads
