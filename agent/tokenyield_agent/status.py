"""The agent's own /metrics, /healthz and /readyz.

In: a function that gives the agent's present `Status`. Out: HTTP answers, on loopback unless configured otherwise.
Only numbers and the names from the configuration are shown.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from tokenyield_agent.errors import SetUpError
from tokenyield_agent.gpu.reading import GpuReading
from tokenyield_wire.units import mj_to_joules

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Status:
    """What the agent shows of itself."""

    version: str
    gpus: tuple[GpuReading, ...] = ()
    gpus_lost: dict[str, str] = field(default_factory=dict)
    gpu_faults: dict[str, int] = field(default_factory=dict)
    polls: int = 0
    last_poll_age_s: float = 0.0
    poll_interval_s: float = 1.0
    clock_steps: int = 0
    windows_dropped: int = 0
    spool_batches: int = 0
    spool_bytes: int = 0
    spool: dict[str, int] = field(default_factory=dict)
    ship: dict[str, int] = field(default_factory=dict)
    ship_problem: str | None = None
    sources: dict[str, dict[str, int]] = field(default_factory=dict)
    """workload -> what its log and endpoint counted"""
    scrapes: dict[str, int] = field(default_factory=dict)

    def not_ready(self) -> Iterator[str]:
        if self.polls == 0:
            yield "no poll has finished yet"
        if self.ship_problem:
            yield self.ship_problem

    def unhealthy(self) -> Iterator[str]:
        if self.polls and self.last_poll_age_s > 10 * max(1.0, self.poll_interval_s):
            yield f"the last poll was {self.last_poll_age_s:.0f} s ago"


class _Exposition:
    """A prometheus_client collector over the present status."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        yield _gauge("tokenyield_agent_info", "Version of the agent", {"version": status.version}, 1)
        yield from self._gpus(status)
        yield _counter("tokenyield_agent_polls", "Polls of the GPUs", status.polls)
        yield _counter("tokenyield_agent_clock_steps", "Steps of the wall clock noticed", status.clock_steps)
        yield _counter("tokenyield_agent_windows_dropped", "Windows given up in memory", status.windows_dropped)
        yield _gauge("tokenyield_agent_spool_batches", "Batches without a receipt", {}, status.spool_batches)
        yield _gauge("tokenyield_agent_spool_bytes", "Bytes of the spool on disk", {}, status.spool_bytes)
        for name, help_text in (
            ("appended", "Batches written to the spool"),
            ("acknowledged", "Batches with a receipt or set aside"),
            ("dropped", "Batches given up because the spool was full or they were too old"),
            ("torn_tails", "Torn tails cut off at start"),
        ):
            yield _counter(f"tokenyield_agent_spool_{name}", help_text, status.spool.get(name, 0))
        for name, help_text in (
            ("requests", "Shipments sent"),
            ("failures", "Shipments that failed and are tried again"),
            ("rejected", "Batches refused for good and set aside"),
            ("bytes", "Bytes of shipments sent"),
        ):
            yield _counter(f"tokenyield_agent_ship_{name}", help_text, status.ship.get(name, 0))
        for name, help_text in (
            ("bytes", "Bytes of logs read"),
            ("events", "Token events read"),
            ("rotations", "Rotations followed"),
            ("truncations", "Truncations followed"),
            ("lines_too_long", "Lines dropped for their length"),
            ("files_lost", "Rotated files that were gone before they were read"),
        ):
            family = CounterMetricFamily(f"tokenyield_agent_source_{name}", help_text, labels=["workload"])
            for workload, counts in status.sources.items():
                family.add_metric([workload], counts.get(name, 0))
            yield family

        endpoint = GaugeMetricFamily(
            "tokenyield_agent_source_counted_by_endpoint",
            "1 while the workload's tokens come from its server's counters, 0 while from its log",
            labels=["workload"],
        )
        for workload, counts in status.sources.items():
            endpoint.add_metric([workload], counts.get("counted_by_endpoint", 0))
        yield endpoint
        for name, help_text in (
            ("requests", "Looks at servers' counters"),
            ("failures", "Looks that were not answered"),
            ("probes", "Questions whether an address shows a known server's counters"),
        ):
            yield _counter(f"tokenyield_agent_scrape_{name}", help_text, status.scrapes.get(name, 0))

    def _gpus(self, status: Status) -> Iterator[Metric]:
        up = GaugeMetricFamily("tokenyield_agent_gpu_up", "1 while the GPU can be read", labels=["gpu"])
        energy = CounterMetricFamily("tokenyield_agent_gpu_energy_joules", "The GPU's energy counter", labels=["gpu"])
        power = GaugeMetricFamily("tokenyield_agent_gpu_power_watts", "Power drawn", labels=["gpu"])
        busy = GaugeMetricFamily(
            "tokenyield_agent_gpu_utilization_ratio", "Share of time in which a kernel ran", labels=["gpu"]
        )
        memory = GaugeMetricFamily("tokenyield_agent_gpu_memory_used_bytes", "Memory in use", labels=["gpu"])
        heat = GaugeMetricFamily("tokenyield_agent_gpu_temperature_celsius", "Core temperature", labels=["gpu"])
        for gpu in status.gpus:
            up.add_metric([gpu.uuid], 1)
            if gpu.energy_mj is not None:
                energy.add_metric([gpu.uuid], mj_to_joules(gpu.energy_mj))
            if gpu.power_mw is not None:
                power.add_metric([gpu.uuid], gpu.power_mw / 1000)
            if gpu.utilization_percent is not None:
                busy.add_metric([gpu.uuid], gpu.utilization_percent / 100)
            if gpu.memory_used_mib is not None:
                memory.add_metric([gpu.uuid], gpu.memory_used_mib * 2**20)
            if gpu.temperature_c is not None:
                heat.add_metric([gpu.uuid], gpu.temperature_c)
        for uuid in status.gpus_lost:
            up.add_metric([uuid], 0)
        faults = CounterMetricFamily("tokenyield_agent_gpu_faults", "Faults that began, by kind", labels=["kind"])
        for kind, count in status.gpu_faults.items():
            faults.add_metric([kind], count)
        yield from (up, energy, power, busy, memory, heat, faults)


def _counter(name: str, help_text: str, value: float) -> Metric:
    return CounterMetricFamily(name, help_text, value=value)


def _gauge(name: str, help_text: str, labels: dict[str, str], value: float) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


class StatusServer:
    """Serves the status in a thread of its own."""

    def __init__(self, address: tuple[str, int], status: Callable[[], Status]) -> None:
        registry = CollectorRegistry()
        registry.register(_Exposition(status))

        class Handler(BaseHTTPRequestHandler):
            timeout = REQUEST_TIMEOUT_S

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                    self._answer(200, encode(registry), content_type)
                elif path in ("/healthz", "/readyz"):
                    present = status()
                    reasons = list(present.unhealthy() if path == "/healthz" else present.not_ready())
                    text = "".join(f"{reason}\n" for reason in reasons) or "ok\n"
                    self._answer(503 if reasons else 200, text.encode(), "text/plain; charset=utf-8")
                else:
                    self._answer(404, b"try /metrics, /healthz or /readyz\n", "text/plain; charset=utf-8")

            def _answer(self, code: int, body: bytes, content_type: str) -> None:
                self.send_response(code)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                log.debug(format, *args)

        try:
            self._server = ThreadingHTTPServer(address, Handler)
        except OSError as error:
            raise SetUpError(
                f"status_listen: cannot listen on {address[0]}:{address[1]} ({error}); choose a free port or stop "
                "the program that holds it"
            ) from error
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="status", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
