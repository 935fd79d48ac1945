"""Shipping against a real HTTP server that answers as told."""

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness import wait_until
from tokenyield_agent.config import Settings
from tokenyield_agent.shipping import shipper as ship
from tokenyield_agent.shipping.shipper import Shipper, full_jitter_s, retry_after_s, spread_s
from tokenyield_agent.shipping.spool import Spool
from tokenyield_wire.codec import decode_shipment
from tokenyield_wire.window import Batch, Shipment


def receipt(shipment: Shipment) -> dict[str, Any]:
    numbers = {"first_seq": shipment.batches[0].seq, "last_seq": shipment.batches[-1].seq}
    return {"accepted": len(shipment.batches), "duplicates": 0, "epoch": shipment.epoch, **numbers}


class Collector:
    """Answers from a list, then 200; remembers what it got. `bad_seq` is refused for good wherever it stands."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.bad_seq: int | None = None
        self.bodies: list[Any] = []
        """What the next requests are answered with 200, and not taken."""
        self.refusals: list[tuple[int, bytes]] = []
        self.connections = 0
        self.open: list[socket.socket] = []
        self.received: list[int] = []
        self.headers: list[dict[str, str]] = []
        self.at_s: list[float] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer.connections += 1
                outer.open.append(self.connection)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                shipment = decode_shipment(gzip.decompress(body))
                outer.at_s.append(time.monotonic())
                outer.headers.append(dict(self.headers))
                status, headers = outer.answers.pop(0) if outer.answers else (200, {})
                seqs = [batch.seq for batch in shipment.batches]
                said: Any = receipt(shipment)
                if outer.refusals:
                    status, said = outer.refusals.pop(0)
                if outer.bad_seq in seqs:
                    status = 422
                    faults = [{"field": f"batches[{seqs.index(outer.bad_seq)}].gpus[0]", "expected": "x", "found": "y"}]
                    said = {"status": 422, "title": "Invalid batches", "detail": "no", "errors": faults}
                if status == 200 and outer.bodies:
                    said = outer.bodies.pop(0)
                elif status == 200:
                    outer.received += seqs
                self.send_response(status)
                data = said if isinstance(said, bytes) else msgspec.json.encode(said)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    started = Collector()
    yield started
    started.server.shutdown()
    started.server.server_close()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "spool", bytes_max=1 << 30)
    for n in range(1, 11):
        made.append([Batch(seq=n, start_ms=n * 1000, end_ms=n * 1000 + 1000)], {})
    return made


def shipper(spool: Spool, url: str, tmp_path: Path, **settings: object) -> Shipper:
    made = Settings(collector_url=url, node="n1", state_dir=str(tmp_path), **settings)  # type: ignore[arg-type]
    started = Shipper(made, spool, "agent-1")
    started.start()
    return started


def shipped(collector: Collector, count: int = 10) -> list[int]:
    wait_until(lambda: len(collector.received) >= count, what="all batches arrive")
    return collector.received


def test_all_arrive_in_order(collector: Collector, spool: Spool, tmp_path: Path) -> None:
    started = shipper(spool, collector.url, tmp_path, ship_batches_max=3)
    assert shipped(collector) == list(range(1, 11))
    started.stop(5)
    assert spool.depth()[0] == 0


def test_failures_are_tried_again_and_reported_once(
    collector: Collector,
    spool: Spool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(ship, "BACKOFF_FIRST_S", 0.01)
    collector.answers = [(500, {}), (503, {}), (401, {}), (429, {})]
    started = shipper(spool, collector.url, tmp_path)
    assert shipped(collector) == list(range(1, 11))
    started.stop(5)
    assert started.counts["failures"] == 4
    assert started.problem is None
    assert sum("kept in the spool" in message for message in caplog.messages) == 1


def test_retry_after_is_obeyed_and_spread(collector: Collector, spool: Spool, tmp_path: Path) -> None:
    collector.answers = [(503, {"Retry-After": "1"})]
    started = shipper(spool, collector.url, tmp_path)
    shipped(collector)
    started.stop(5)
    assert collector.at_s[1] - collector.at_s[0] >= 1.0
    assert [spread_s(10, uniform) for uniform in (0.0, 0.5)] == [10, 12.5]


PROXY = [b"<html>too large</html>", b"{}", b'{"status":413,"title":"x"}', b'{"status":502,"title":"x","detail":"y"}']


@pytest.mark.parametrize("said", PROXY)
@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_only_the_collector_refuses_for_good(
    status: int, said: bytes, collector: Collector, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ship, "BACKOFF_FIRST_S", 0.01)
    collector.refusals = [(status, said)] * 8
    started = shipper(spool, collector.url, tmp_path)
    assert shipped(collector) == list(range(1, 11))
    started.stop(5)
    assert started.counts["rejected"] == 0
    assert started.counts["failures"] > 0


def test_a_head_that_the_collector_refuses_costs_no_batch(
    collector: Collector, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older collector does not know the schema: each batch was set aside, one by one."""
    monkeypatch.setattr(ship, "BACKOFF_FIRST_S", 0.01)
    fault = {"field": "schema", "expected": "1", "found": "2"}
    problem = {"status": 422, "title": "Invalid batches", "detail": "no", "errors": [fault]}
    collector.refusals = [(422, msgspec.json.encode(problem))] * 8
    started = shipper(spool, collector.url, tmp_path)
    assert shipped(collector) == list(range(1, 11))
    started.stop(5)
    assert started.counts["rejected"] == 0


def test_a_connection_that_the_collector_has_closed_is_made_anew(
    collector: Collector, spool: Spool, tmp_path: Path
) -> None:
    started = shipper(spool, collector.url, tmp_path, ship_batches_max=1)
    shipped(collector)
    assert collector.connections == 1
    for connection in collector.open:
        connection.shutdown(socket.SHUT_RDWR)
    spool.append([Batch(seq=11, start_ms=1, end_ms=2)], {})
    assert shipped(collector, 11) == list(range(1, 12))
    started.stop(5)
    assert collector.connections == 2
    assert started.counts["failures"] == 0


def test_one_bad_batch_is_set_aside_and_the_others_arrive(collector: Collector, spool: Spool, tmp_path: Path) -> None:
    collector.bad_seq = 6
    started = shipper(spool, collector.url, tmp_path)
    assert shipped(collector, 9) == [1, 2, 3, 4, 5, 7, 8, 9, 10]
    started.stop(5)
    (kept,) = (tmp_path / "rejected").iterdir()
    assert [batch.seq for batch in decode_shipment(kept.read_bytes()).batches] == [6]
    assert started.counts["rejected"] == 1


def test_the_token_is_read_for_every_shipment(collector: Collector, spool: Spool, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    started = shipper(spool, collector.url, tmp_path, collector_token_file=str(token))
    shipped(collector)
    token.write_text("second\n")
    spool.append([Batch(seq=11, start_ms=1, end_ms=2)], {})
    shipped(collector, 11)
    started.stop(5)
    assert [headers["Authorization"] for headers in collector.headers] == ["Bearer first", "Bearer second"]


def test_a_collector_that_is_not_there_costs_nothing(spool: Spool, tmp_path: Path) -> None:
    started = shipper(spool, "http://127.0.0.1:9", tmp_path)
    wait_until(lambda: started.counts["failures"] > 0)
    started.stop(5)
    assert spool.depth()[0] == 10


def test_back_off_grows_to_its_bound() -> None:
    assert [full_jitter_s(n, 1.0) for n in (1, 2, 3, 7, 50)] == [1, 2, 4, 60, 60]
    assert full_jitter_s(5, 0.0) == 0


@pytest.mark.parametrize(
    ("header", "date", "wanted"),
    [
        (None, None, None),
        ("7", None, 7.0),
        ("100000", None, 600.0),
        ("Mon, 23 Nov 2026 12:00:30 GMT", "Mon, 23 Nov 2026 12:00:00 GMT", 30.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", "Mon, 23 Nov 2026 12:00:00 GMT", 0.0),
        ("soon", "Mon, 23 Nov 2026 12:00:00 GMT", None),
    ],
)
def test_retry_after_forms(header: str | None, date: str | None, wanted: float | None) -> None:
    assert retry_after_s(header, date) == wanted
