"""Shipping against a real HTTP server that answers as told."""

import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness import wait_until
from tokenyield_agent.config import Settings
from tokenyield_agent.shipping import shipper as ship
from tokenyield_agent.shipping.shipper import Shipper, full_jitter_s, retry_after_s
from tokenyield_agent.shipping.spool import Spool
from tokenyield_wire.codec import decode_shipment
from tokenyield_wire.window import Batch


class Collector:
    """Answers from a list, then 200; remembers what it got. `bad_seq` is refused for good wherever it stands."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.bad_seq: int | None = None
        self.received: list[int] = []
        self.headers: list[dict[str, str]] = []
        self.at_s: list[float] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                shipment = decode_shipment(gzip.decompress(body))
                outer.at_s.append(time.monotonic())
                outer.headers.append(dict(self.headers))
                status, headers = outer.answers.pop(0) if outer.answers else (200, {})
                seqs = [batch.seq for batch in shipment.batches]
                if outer.bad_seq in seqs:
                    status = 422
                if status == 200:
                    outer.received += seqs
                self.send_response(status)
                for name, value in {**headers, "Content-Length": "0"}.items():
                    self.send_header(name, value)
                self.end_headers()

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
    made = Settings(collector_url=url, node="n1", **settings)  # type: ignore[arg-type]
    started = Shipper(made, spool, "agent-1")
    started.start()
    return started


def shipped(collector: Collector, count: int = 10) -> list[int]:
    wait_until(lambda: len(collector.received) >= count, timeout_s=20, what="all batches arrive")
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


def test_retry_after_is_obeyed(collector: Collector, spool: Spool, tmp_path: Path) -> None:
    collector.answers = [(503, {"Retry-After": "1"})]
    started = shipper(spool, collector.url, tmp_path)
    shipped(collector)
    started.stop(5)
    assert collector.at_s[1] - collector.at_s[0] >= 1.0


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
