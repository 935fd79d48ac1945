"""What is read of others, given bytes that a fuzzer makes: shipments, spool files, logs, price books.

In: bytes. Out: nothing; each target raises only what is no refusal that it documents. `make fuzz` lets atheris, which is
guided by the branches that it reaches, make the bytes (tests/fuzz.py); the tests play the seeds and some changes to them.
"""

import contextlib
import gzip
import itertools
import json
import os
import re
import struct
import tempfile
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import msgspec
import zstandard

import tokenyield_agent.shipping.segments
from collector import samples
from recordings import FIXTURES, LOGS
from tokenyield_agent.shipping.spool import Spool
from tokenyield_agent.tokens.containers import Unwrapper
from tokenyield_agent.tokens.dialects.pattern import PatternSettings
from tokenyield_agent.tokens.dialects.registry import counters_of_page, names, new_dialect
from tokenyield_agent.tokens.endpoint import read
from tokenyield_agent.tokens.latency import read_latency
from tokenyield_agent.tokens.scrape import ScrapeResult
from tokenyield_agent.tokens.workload_tokens import WorkloadTokens
from tokenyield_agent.windows.builder import WindowBuilder
from tokenyield_agent.workloads.workload_name import WorkloadName
from tokenyield_collector.attribution.rules import load_rules
from tokenyield_collector.ingest.decompress import BodyTooLarge, UnknownEncoding, decompress
from tokenyield_collector.ledger.rows import TableRows, rows_of_batch
from tokenyield_collector.live.summary import encode
from tokenyield_collector.prices.load import load_prices
from tokenyield_collector.prices.rate_card import rate_document
from tokenyield_settings.loader import SettingsError
from tokenyield_wire.codec import Refused, decode_shipment, encode_shipment
from tokenyield_wire.window import COUNT_MAX, Batch

ROOT = Path(__file__).parents[1]
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
PATTERNS = [
    PatternSettings(
        name="counts", contains="out=", pattern=r"in=(?P<prompt>\S+) out=(?P<completion>\S+) took=(?P<took>\S+)"
    ),
    PatternSettings(
        name="rates",
        contains="throughput: ",
        pattern=r"throughput: (?P<completion>\S+)",
        units={"completion": "tokens/s"},
    ),
]
KINDS = [*names(), "auto", "counts", "rates"]
BODY_BYTES_MAX = 1 << 20
SPOOL_FILES = (f"{1:020d}.seg", f"{4:020d}.seg", "newest", "acknowledged")
_CUTS = struct.Struct("<3H")
SPAN_MS_MAX = 3 * 86_400_000
ARRIVAL_S = 1_795_435_200.0
NOW_MS = 1_795_435_200_000


def batches(data: bytes) -> None:
    """The first byte chooses the encoding; what is no stream of it is read as it is."""
    encoding = ("", "gzip", "zstd")[data[0] % 3] if data else ""
    try:
        body = decompress(data[1:], encoding, BODY_BYTES_MAX)
    except (BodyTooLarge, UnknownEncoding, ValueError):
        body = data[1:]
    assert len(body) <= BODY_BYTES_MAX or body is data[1:] or len(body) == len(data) - 1
    try:
        decoded = decode_shipment(body)
    except Refused:
        return
    rows: TableRows = defaultdict(list)
    for batch in decoded.batches:
        rows_of_batch(rows, decoded, batch, 0)
        for gpu in batch.gpus:
            assert gpu.active_ms + gpu.idle_ms + gpu.unallocated_ms + gpu.unknown_ms == batch.end_ms - batch.start_ms
    assert decode_shipment(encode_shipment(decoded)) == decoded


def spool(data: bytes) -> None:
    """A spool's files of these bytes: it opens, gives what is whole, takes more, and opens again."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        folder = Path(name)
        for file, part in zip(SPOOL_FILES, _parts(data), strict=True):
            if part:
                (folder / file).write_bytes(part)
        one = Spool(folder, bytes_max=1 << 20, keep_bytes=1 << 10)
        seq = one.next_seq
        one.append([Batch(seq=seq, start_ms=0, end_ms=15_000)], {"position": 7})
        again = Spool(folder, bytes_max=1 << 20, keep_bytes=1 << 10)
        assert again.resume == {"position": 7}
        assert again.next_seq == seq + 1
        given = []
        for _ in range(1000):
            waiting = again.waiting(batches_max=8)
            if waiting is None:
                break
            given += [batch.seq for batch in waiting.batches]
            again.acknowledge(waiting)
        assert seq in given
        assert again.depth()[0] == 0


def _parts(data: bytes) -> list[bytes]:
    """Cut where the first three pairs of bytes say."""
    body = data[_CUTS.size :]
    cuts = sorted(cut % (len(body) + 1) for cut in _CUTS.unpack_from(data.ljust(_CUTS.size, b"\0")))
    return [body[start:end] for start, end in itertools.pairwise([0, *cuts, len(body)])]


def logs(data: bytes) -> None:
    """The first two bytes choose the dialect and where the log is cut into blocks."""
    chosen, cut, *_ = (*data[:2], 0, 0)
    kind = KINDS[chosen % len(KINDS)]
    body = data[2:]
    dialect, unwrapper = new_dialect(kind, patterns=PATTERNS), Unwrapper()
    at = body.rfind(b"\n", 0, cut * len(body) // 255) + 1
    for block in (body[:at], body[at:] + b"\n"):
        for counts in dialect.feed(unwrapper.feed(block), ARRIVAL_S):
            assert all(0 <= count < COUNT_MAX for count in (counts.kinds() | counts.load()).values()), counts
            assert 0 <= counts.span_ms <= SPAN_MS_MAX, counts
            if counts.at_s is not None:
                datetime.fromtimestamp(counts.at_s, UTC)
        state = json.loads(json.dumps(dialect.state()))
        dialect = new_dialect(kind, patterns=PATTERNS)
        dialect.restore(state)
        json.dumps(unwrapper.state())
    dialect.finish()


def endpoints(data: bytes) -> None:
    """Two scrapes of a server, cut where the second byte says; what lies between goes into a batch that the wire takes."""
    chosen, cut, *_ = (*data[:2], 0, 0)
    body = data[2:]
    at = body.rfind(b"\n", 0, cut * len(body) // 255) + 1
    if (counters := counters_of_page(body)) is None:
        return
    workload = WorkloadTokens("w", None, has_endpoint=True, is_new=chosen % 2 == 1, mark=None)
    builder = WindowBuilder(length_ms=15_000, settle_ms=0)
    builder.jump(NOW_MS)
    for i, scrape in enumerate((body[:at], body[at:])):
        reading = read(scrape, counters)
        waits = read_latency(scrape, counters.latency)
        answer = ScrapeResult(target="w", scraped_mono_s=15.0 * i, names=counters, reading=reading, latency=waits)
        for event in workload.from_endpoint(answer, NOW_MS + 15_000 * i):
            builder.add(event)
        builder.extend(NOW_MS + 15_000 * (i + 1), [])
        msgspec.json.encode((workload.mark(), builder.state()))
    for event in workload.finish():
        builder.add(event)
    name = WorkloadName(server=workload.server, place="n", model=workload.model)
    made = builder.batches(builder.ready(flush=True), {"w": name}, 1)
    decode_shipment(encode_shipment(samples.shipment(*made)))


def prices(data: bytes) -> None:
    """A price book; what is refused is refused with its faults, what is taken can be priced with."""
    with _file(data) as path:
        try:
            book = load_prices(path)
        except SettingsError:
            return
        encode(rate_document(book, NOW_MS))


def rules(data: bytes) -> None:
    """Rules of attribution."""
    with _file(data) as path, contextlib.suppress(SettingsError):
        load_rules(path)


@contextlib.contextmanager
def _file(data: bytes):  # type: ignore[no-untyped-def]
    with tempfile.NamedTemporaryFile(dir=MEMORY, suffix=".yaml") as file:
        file.write(data)
        file.flush()
        yield Path(file.name)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "batches": batches,
    "spool": spool,
    "logs": logs,
    "endpoints": endpoints,
    "prices": prices,
    "rules": rules,
}


def seeds(target: str) -> list[bytes]:
    """Sound input to begin with."""
    if target == "batches":
        golden = (ROOT / "tests" / "golden" / "wire" / "v1-batch.json").read_bytes()
        full = encode_shipment(
            samples.shipment(samples.batch(1, samples.NOON_MS), samples.batch(2, samples.NOON_MS + 15_000))
        )
        return [b"\0" + golden, b"\0" + full, b"\1" + gzip.compress(full), b"\2" + zstandard.compress(full)]
    if target == "spool":
        return [_spooled("0f3b9c1d2e4a5b6c"), _spooled("9c1d2e4a5b6c0f3b")]
    if target == "logs":
        heads = [bytes([i, 100]) for i in range(len(KINDS))]
        own = b"in=1,024 out=12 took=0.5\nthroughput: 12.5\n" * 3
        return [head + log for log in [own, *(log.body[:8192] for log in LOGS)] for head in heads]
    if target == "endpoints":
        recorded = sorted((FIXTURES / "servers").glob("*/run/*.prom"))
        return [b"\1\x80" + (lines := _counted_lines(path)) + lines for path in recorded]
    name = {"prices": "prices.yaml", "rules": "attribution.yaml"}[target]
    return [(ROOT / "collector" / name).read_bytes()]


def _counted_lines(path: Path) -> bytes:
    """An exposition without histograms, of which there are hundreds of lines that are not read, and without its help texts."""
    return b"".join(
        line
        for line in path.read_bytes().splitlines(keepends=True)
        if not re.search(rb"_(bucket|created|sum|count)[{ ]|# HELP|histogram$", line)
    )


def _spooled(epoch: str) -> bytes:
    """Three records in each of two segments, of which the first two have their receipt."""
    with (
        tempfile.TemporaryDirectory() as name,
        patch.object(tokenyield_agent.shipping.segments, "SEGMENT_BYTES_MAX", 450),
    ):
        one = Spool(Path(name), bytes_max=1 << 20, keep_bytes=1 << 20)
        one._files.epoch = epoch
        for seq in range(1, 7):
            one.append([Batch(seq=seq, start_ms=seq, end_ms=seq + 15_000)], {"position": seq})
        waiting = one.waiting(batches_max=2)
        assert waiting is not None
        one.acknowledge(waiting)
        parts = [(Path(name) / file).read_bytes() for file in SPOOL_FILES]
    return _CUTS.pack(*itertools.accumulate(map(len, parts[:3]))) + b"".join(parts)
