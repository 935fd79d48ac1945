"""Every metric of the agent, and its /metrics from the present `Status`. docs/metrics.md is made from the families."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import Metric

from tokenyield_agent.gpu.reading import GpuReading
from tokenyield_agent.status.snapshot import Status
from tokenyield_settings.families import Family
from tokenyield_wire.units import MJ_PER_JOULE, MS_PER_SECOND, mj_to_joules

_GPU = ("gpu", "index")

INFO = Family("tokenyield_agent_info", "gauge", "Version of the agent", ("version",))
UP = Family("tokenyield_agent_gpu_up", "gauge", "1 while the GPU can be read", _GPU, "hw.status (hw.type=gpu)")
MODEL = Family("tokenyield_agent_gpu_info", "gauge", "The GPU's product name", (*_GPU, "model"), "hw.model, hw.name")
ENERGY = Family(
    "tokenyield_agent_gpu_energy_joules_total", "counter", "The GPU's energy counter", _GPU, "hw.energy (hw.type=gpu)"
)
POWER = Family("tokenyield_agent_gpu_power_watts", "gauge", "Power drawn", _GPU, "hw.power (hw.type=gpu)")
BUSY = Family(
    "tokenyield_agent_gpu_utilization_ratio",
    "gauge",
    "Share of the driver's last sample period in which a kernel ran",
    _GPU,
    "hw.gpu.utilization (hw.gpu.task=general)",
)
MEMORY = Family("tokenyield_agent_gpu_memory_used_bytes", "gauge", "Memory in use", _GPU, "hw.gpu.memory.usage")
MEMORY_SIZE = Family("tokenyield_agent_gpu_memory_bytes", "gauge", "Memory there is", _GPU, "hw.gpu.memory.limit")
HEAT = Family(
    "tokenyield_agent_gpu_temperature_celsius", "gauge", "Core temperature", _GPU, "hw.temperature (hw.type=gpu)"
)
CLOCK = Family("tokenyield_agent_gpu_sm_clock_hertz", "gauge", "Clock of the SMs", _GPU)
STATE = Family(
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
    "Part of the idle time in which whoever holds the GPU had long made no token (parked_after_s)",
    _GPU,
)
USED = Family(
    "tokenyield_agent_gpu_energy_used_joules_total",
    "counter",
    "Energy as it goes into windows, by how it was got (counter, average, samples, instant, power)",
    (*_GPU, "method"),
)
USED_ERROR = Family(
    "tokenyield_agent_gpu_energy_error_joules_total",
    "counter",
    "By how much that may be off either way, from how far power moved between two samples",
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
LOST = Family(
    "tokenyield_agent_gpu_throttled_lost_seconds_total",
    "counter",
    "What of the active time was lost while clocks were held down, at most, by reason",
    (*_GPU, "reason"),
)
EVENTS = Family(
    "tokenyield_agent_gpu_events_total",
    "counter",
    "XIDs (xid_N), ECC errors, remapped rows, errors of NVLink and PCIe since the agent watches",
    (*_GPU, "event"),
    "hw.errors (hw.type=gpu, error.type)",
)
MIG_MEMORY = Family(
    "tokenyield_agent_mig_memory_used_bytes",
    "gauge",
    "Memory in use of a GPU instance (MIG)",
    (*_GPU, "instance"),
)
MIG_ACTIVITY = Family(
    "tokenyield_agent_mig_sm_activity_ratio",
    "gauge",
    "Share of a GPU instance's SMs that were busy since the poll before, by GPM",
    (*_GPU, "instance"),
)
HOST_ENERGY = Family(
    "tokenyield_agent_host_energy_joules_total",
    "counter",
    "The host's own energy by where it is from: rapl (processors and memory), dcmi or power_meter (all of the machine, "
    "GPUs included)",
    ("source",),
    "hw.energy (hw.type=power_supply or cpu)",
)
READ_SECONDS = Family("tokenyield_agent_gpu_read_seconds_total", "counter", "Time that reading the GPUs has taken")
HELD = Family(
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
}
SPOOL = {
    name: Family(f"tokenyield_agent_spool_{name}_total", "counter", help_text) for name, help_text in _SPOOL.items()
}
_SHIP = {
    "requests": "Shipments sent",
    "failures": "Shipments that failed and are tried again",
    "rejected": "Batches refused for good and set aside",
    "bytes": "Bytes of shipments sent",
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
    "requests": "Looks at servers' counters",
    "failures": "Looks that were not answered",
    "probes": "Questions whether an address shows a known server's counters",
}
SCRAPE = {
    name: Family(f"tokenyield_agent_scrape_{name}_total", "counter", help_text) for name, help_text in _SCRAPE.items()
}


def every_family() -> Iterator[Family]:
    """All families, in the order of this file."""
    for value in list(globals().values()):
        if isinstance(value, Family):
            yield value
        elif isinstance(value, dict) and value and all(isinstance(one, Family) for one in value.values()):
            yield from value.values()


class Exposition:
    """A prometheus_client collector over the present status."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        info = INFO.new()
        info.add_metric((status.version,), 1)
        yield info
        yield from _gpus(status)
        yield from _totals(status)
        faults = FAULTS.new()
        for kind, count in status.gpu_faults.items():
            faults.add_metric((kind,), count)
        yield faults
        yield READ_SECONDS.of(status.gpu_read_s)
        yield POLLS.of(status.polls)
        yield POLL_AGE.of(status.last_poll_age_s)
        yield CLOCK_STEPS.of(status.clock_steps)
        yield WINDOWS_DROPPED.of(status.windows_dropped)
        folded = NAMES_FOLDED.new()
        for kind, times in status.names_folded.items():
            folded.add_metric((kind,), times)
        yield folded
        yield SPOOL_BATCHES.of(status.spool_batches)
        yield SPOOL_BYTES.of(status.spool_bytes)
        for listed, counts in ((SPOOL, status.spool), (SHIP, status.ship)):
            for name, family in listed.items():
                yield family.of(counts.get(name, 0))
        for name, source in (*SOURCE.items(), ("counted_by_endpoint", BY_ENDPOINT)):
            found = source.new()
            for workload, by_name in status.sources.items():
                found.add_metric((workload,), by_name.get(name, 0))
            yield found
        for name, family in SCRAPE.items():
            yield family.of(status.scrapes.get(name, 0))


def _gpus(status: Status) -> Iterator[Metric]:
    up, model = UP.new(), MODEL.new()
    for gpu in status.gpus:
        up.add_metric((gpu.uuid, str(gpu.index)), 1)
        model.add_metric((gpu.uuid, str(gpu.index), gpu.model or "unknown"), 1)
    for uuid in status.gpus_lost:
        up.add_metric((uuid, status.indices.get(uuid, "")), 0)
    yield from (up, model)
    memory, activity = MIG_MEMORY.new(), MIG_ACTIVITY.new()
    for gpu in status.gpus:
        for number, one in gpu.partitions.items():
            place = (gpu.uuid, str(gpu.index), str(number))
            if one.memory_used_mib is not None:
                memory.add_metric(place, one.memory_used_mib * 2**20)
            if one.compute_bp is not None:
                activity.add_metric(place, one.compute_bp / 10_000)
    yield from (memory, activity)
    for family, value_of in _READINGS:
        found = family.new()
        for gpu in status.gpus:
            if (value := value_of(gpu)) is not None:
                found.add_metric((gpu.uuid, str(gpu.index)), value)
        yield found


def _scaled(value: int | None, factor: float) -> float | None:
    return None if value is None else value * factor


_READINGS: tuple[tuple[Family, Callable[[GpuReading], float | None]], ...] = (
    (ENERGY, lambda gpu: None if gpu.energy_mj is None else mj_to_joules(gpu.energy_mj)),
    (POWER, lambda gpu: _scaled(gpu.power_mw, 1e-3)),
    (BUSY, lambda gpu: _scaled(gpu.utilization_percent, 1e-2)),
    (MEMORY, lambda gpu: _scaled(gpu.memory_used_mib, 2**20)),
    (MEMORY_SIZE, lambda gpu: _scaled(gpu.memory_total_mib, 2**20)),
    (HEAT, lambda gpu: gpu.temperature_c),
    (CLOCK, lambda gpu: _scaled(gpu.core_clock_mhz, 1e6)),
)


def _totals(status: Status) -> Iterator[Metric]:
    totals = status.totals
    by_gpu: tuple[tuple[Family, Mapping[str, int], float], ...] = (
        (PARKED, totals.parked_ms, MS_PER_SECOND),
        (USED_ERROR, totals.energy_error_mj, MJ_PER_JOULE),
    )
    for family, sums, divisor in by_gpu:
        found = family.new()
        for uuid, sum_ in sums.items():
            found.add_metric((uuid, status.indices.get(uuid, "")), sum_ / divisor)
        yield found
    by_kind: tuple[tuple[Family, Mapping[tuple[str, str], int], float], ...] = (
        (STATE, totals.state_ms, MS_PER_SECOND),
        (THROTTLED, totals.throttled_ms, MS_PER_SECOND),
        (LOST, totals.throttled_lost_us, 1e6),
        (USED, totals.energy_mj, MJ_PER_JOULE),
        (ACTIVITY, totals.activity_bp_ms, 10_000 * MS_PER_SECOND),
        (MOVED, totals.moved_mib_ms, MS_PER_SECOND / 2**20),
        (EVENTS, totals.events, 1),
    )
    for family, values, divisor in by_kind:
        found = family.new()
        for (uuid, what), sum_ in values.items():
            found.add_metric((uuid, status.indices.get(uuid, ""), what), sum_ / divisor)
        yield found
    host = HOST_ENERGY.new()
    for source, used_mj in totals.host_mj.items():
        host.add_metric((source,), mj_to_joules(used_mj))
    yield host
    held = HELD.new()
    for (workload, uuid, state), duration_ms in totals.held_ms.items():
        labels = (workload or "(untied)", uuid, status.indices.get(uuid, ""), state)
        held.add_metric(labels, duration_ms / MS_PER_SECOND)
    yield held
